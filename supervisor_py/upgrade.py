"""Becoming a new version of oneself: the same process, with other code.

The new version is tried out first, in a process of its own that reads what it would be handed and
then ends. So one that can't even start, or can't read what this one knows, leaves all as it is.
"""

from __future__ import annotations

import os
import sys
import time

from . import effects, events, handover, output, signals
from .effects import Program, Streams

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .handover import Handover
    from .output import Output, Relay
    from .poller import Poller

PATIENCE = 30.0  # seconds that the new version has to read what it is handed
_PIECES = 16  # reads of a pipe: it can't hold more


class _Check:
    """The process that tries the new version out."""

    def __init__(self, pid: int, pidfd: int, relay: Relay) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self.relay = relay
        self.ends = time.monotonic() + PATIENCE


class Upgrader:
    """Checks the new version, and becomes it. `happened` takes UpgradeChecked.

    `variables` is the environment that start_server itself was started with.
    """

    def __init__(
        self,
        poller: Poller,
        out: Output,
        variables: Mapping[str, str],
        happened: Callable[[events.Event], None],
    ) -> None:
        self._poller = poller
        self._output = out
        self._variables = dict(variables)
        self._happened = happened
        self._check: _Check | None = None

    def check(self, handed: Handover) -> None:
        """Begin to try out the new version; answered by UpgradeChecked."""
        kept = handed.fds()
        try:
            state = handover.write(handed)
            read_end, write_end = output.pipe()
            try:
                variables = self._given(state) | {handover.CHECK_VARIABLE: "1"}
                _set_inheritable([*kept, state], True)
                program = Program(_command(), None)
                pid = effects.spawn(program, variables, Streams(write_end, write_end))
            finally:
                _set_inheritable(kept, False)
                os.close(state)
                os.close(write_end)
            pidfd = os.pidfd_open(pid)
            self._check = _Check(pid, pidfd, output.Relay(read_end))
            self._poller.watch(pidfd, self._checked)
        except OSError as error:
            self._happened(events.UpgradeChecked(f"it can't be checked: {error.strerror}"))

    def _checked(self) -> None:
        check = self._check
        if check is None:
            return
        pid, status = os.waitpid(check.pid, os.WNOHANG)
        if pid == 0:
            return
        self._check = None
        self._poller.forget(check.pidfd)
        os.close(check.pidfd)
        check.relay.pump(self._output, most=_PIECES)
        check.relay.close()
        trouble = ""
        if status:
            words = (check.relay.last_lines() or ["it did not say why"])[-1]
            trouble = f"the new version would not run: {words}"
        self._happened(events.UpgradeChecked(trouble))

    def deadline(self) -> float | None:
        """Return when `tick` has something to do, or None."""
        return self._check.ends if self._check else None

    def tick(self) -> None:
        """End a check that takes too long: `_checked` hears of its death."""
        if self._check and self._check.ends <= time.monotonic():
            self._check.ends = float("inf")
            signals.send(self._check.pidfd, signals.KILL)

    def replace(self, handed: Handover) -> str:
        """Become the new version. Returns only if that is impossible, with the reason."""
        self._output.flush()
        kept = handed.fds()
        # None may come in between: a new program has no handlers yet. They wait until it has.
        signals.block_all()
        try:
            state = handover.write(handed)
            _set_inheritable([*kept, state], True)
            command = _command()
            os.execve(command[0], command, self._given(state))  # noqa: S606
        except OSError as error:
            _set_inheritable(kept, False)
            return f"failed to exec the new version: {error.strerror}"
        finally:
            signals.unblock_all()

    def _given(self, state: int) -> dict[str, str]:
        return self._variables | {handover.VARIABLE: str(state)}


def _set_inheritable(fds: list[int], inheritable: bool) -> None:
    for fd in fds:
        os.set_inheritable(fd, inheritable)


def _command() -> tuple[str, ...]:
    """Return our own command line, with the interpreter's whole path."""
    return (sys.executable, *sys.orig_argv[1:])
