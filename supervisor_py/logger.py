"""The command of `--log-file='| command'`: started, and started again whenever it ends."""

from __future__ import annotations

import os
import time

from . import effects
from .effects import Program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .output import Log, Output
    from .poller import Poller

_PAUSE = 1.0  # seconds from one start to the next: one that fails must not keep us busy
_PATIENCE = 5.0  # seconds that it has, at the end, for what is still in its pipe


class Logger:
    """The process that takes the log in. Its pipe outlives it, so that no line is lost."""

    def __init__(self, log: Log, poller: Poller, output: Output) -> None:
        self._log = log
        self._poller = poller
        self._output = output
        self._program = Program(("/bin/sh", "-c", log.command), None)
        self._pidfd = -1
        self.pid = 0
        self.due: float | None = None  # when it is to be started again

    def start(self) -> None:
        """Start the command, unless it runs; when that fails, it is said and tried again."""
        if self.pid:
            return
        self.due = time.monotonic() + _PAUSE
        try:
            self.pid = effects.spawn(
                self._program, os.environ, effects.Streams(stdin=self._log.read_end)
            )
            self._watch(os.pidfd_open(self.pid))
        except OSError as error:
            self._output.say(f"failed to start the log command: {error.strerror}")

    def resume(self, pid: int) -> None:
        """Take over the command of our predecessor in this process; 0 if it was not running."""
        self.due = time.monotonic()
        if pid:
            self.pid = pid
            self._watch(os.pidfd_open(pid))

    def _watch(self, pidfd: int) -> None:
        self._pidfd = pidfd
        self._poller.watch(pidfd, self._ended)

    def _ended(self) -> None:
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if pid:
            self._release()
            self._output.say(f"the log command {pid} died, status:{status}, restarting")

    def _release(self) -> None:
        self._poller.forget(self._pidfd)
        os.close(self._pidfd)
        self._pidfd, self.pid = -1, 0

    def deadline(self) -> float | None:
        """Return when `tick` has something to do, or None."""
        return None if self.pid else self.due

    def tick(self) -> None:
        """Start the command again when that is due."""
        due = self.deadline()
        if due is not None and due <= time.monotonic():
            self.start()

    def finish(self, wait: Callable[[int, float], None]) -> None:
        """Let it read its input to the end, for a while; `wait` waits for a pidfd, for so long."""
        self._log.let_go()
        if self.pid:
            wait(self._pidfd, _PATIENCE)
            self._release()
