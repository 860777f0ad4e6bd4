"""The command of `--log-file='| command'`: started, and started again whenever it ends."""

from __future__ import annotations

import os
import time

from . import effects, signals
from .effects import Program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .output import Log, Output
    from .poller import Poller

_PAUSE = 1.0  # seconds from one start to the next: one that fails must not keep us busy
_PATIENCE = 5.0  # seconds that it has, at the end, for what is still in its pipe


class Logger:
    """The process that takes the log in. Its pipe outlives it, so that no line is lost."""

    def __init__(
        self, log: Log, poller: Poller, output: Output, variables: Mapping[str, str]
    ) -> None:
        """Prepare; `variables` is its environment."""
        self._log = log
        self._poller = poller
        self._output = output
        self._variables = dict(variables)
        self._program = Program(("/bin/sh", "-c", log.command), None)
        self._pidfd = -1
        self.pid = 0
        self.due: float | None = None  # when it is to be started again

    def start(self) -> None:
        """Start the command, unless it runs; when that fails, it is said and tried again."""
        if self.pid:
            return
        self.due = time.monotonic() + _PAUSE
        # Its own output must not come back to it, and a listener that it held would outlive us.
        stdout, stderr = self._log.streams or (None, None)
        streams = effects.Streams(stdout, stderr, self._log.read_end, alone=True)
        try:
            self.pid = effects.spawn(self._program, self._variables, streams)
        except OSError as error:
            self._output.say(f"failed to start the log command: {error.strerror}")
            return
        try:
            self._watch(os.pidfd_open(self.pid))
        except OSError as error:  # none that can't be watched may live
            os.kill(self.pid, signals.KILL)
            os.waitpid(self.pid, 0)
            self.pid = 0
            self._output.say(f"the log command can't be watched: {error.strerror}")

    def resume(self, pid: int, streams: list[int]) -> None:
        """Take over the command of our predecessor in this process; 0 if it was not running."""
        self.due = time.monotonic()
        for fd in streams:
            os.set_inheritable(fd, False)
        self._log.streams = streams
        if pid:
            try:
                pidfd = os.pidfd_open(pid)
            except ProcessLookupError:  # ended since, and who is only checked is not its parent
                return
            self.pid = pid
            self._watch(pidfd)

    def _watch(self, pidfd: int) -> None:
        try:
            self._poller.watch(pidfd, self._ended)
        except OSError:
            os.close(pidfd)
            raise
        self._pidfd = pidfd

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
        self.start()  # it may have died a moment ago, with lines still in its pipe
        self._output.drain(_PATIENCE)
        self._log.let_go()
        if self.pid:
            wait(self._pidfd, _PATIENCE)
            self._release()
