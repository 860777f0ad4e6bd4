"""Becoming a new version of oneself: the same process, with other code.

The new version is tried out first, in a process of its own that reads what it would be handed and
then ends. So one that can't even start, or can't read what this one knows, leaves all as it is.
"""

from __future__ import annotations

import os
import sys
import time

from . import effects, handover, output, signals
from .effects import Program, Streams
from .events import UpgradeChecked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .events import Event
    from .handover import Handover
    from .output import Output, Relay
    from .poller import Poller

PATIENCE = 30.0  # seconds that the new version has to read what it is handed
_PIECES = 16  # reads of a pipe: it can't hold more


class _Check:
    """The process that tries the new version out."""

    def __init__(self, pid: int, relay: Relay) -> None:
        self.pid = pid
        self.pidfd = handover.NO_FD
        self.relay = relay
        self.ends: float | None = time.monotonic() + PATIENCE  # None: it has been killed


class Upgrader:
    """Checks the new version, and becomes it. `happened` takes UpgradeChecked.

    `variables` is the environment that start_server itself was started with.
    """

    def __init__(
        self,
        poller: Poller,
        out: Output,
        variables: Mapping[str, str],
        happened: Callable[[Event], None],
    ) -> None:
        self._poller = poller
        self._output = out
        self._variables = dict(variables)
        self._happened = happened
        self._check: _Check | None = None

    def check(self, handed: Handover) -> Event | None:
        """Begin to try out the new version: its end is told later, and that it can't begin now."""
        try:
            self._begin(handed)
        except OSError as error:
            return UpgradeChecked(f"it can't be checked: {error.strerror}")
        return None

    def _begin(self, handed: Handover) -> None:
        kept = handed.fds()
        state = handover.write(handed)
        try:
            read_end, write_end = output.pipe()
        except OSError:
            os.close(state)
            raise
        relay = output.Relay(read_end)
        try:
            variables = self._given(state) | {handover.CHECK_VARIABLE: "1"}
            _set_inheritable([*kept, state], True)
            pid = effects.spawn(Program(_command(), None), variables, Streams(write_end, write_end))
        except OSError:
            relay.close()
            raise
        finally:
            _set_inheritable(kept, False)
            os.close(state)
            os.close(write_end)
        self._check = _Check(pid, relay)
        try:
            self._check.pidfd = os.pidfd_open(pid)
            self._poller.watch(self._check.pidfd, self._checked)
            self._poller.watch(read_end, self._heard)
        except OSError:
            self.close()
            raise

    def _heard(self) -> None:
        if self._check:
            self._check.relay.pump(self._output)
            if not self._check.relay.open:
                self._poller.forget(self._check.relay.read_end)

    def _checked(self) -> None:
        check = self._check
        if check is None:
            return
        pid, status = os.waitpid(check.pid, os.WNOHANG)
        if pid == 0:
            return
        check.relay.pump(self._output, most=_PIECES)
        self._forget(check)
        trouble = ""
        if check.ends is None:
            trouble = f"the new version was not up within {PATIENCE:g} seconds"
        elif status:
            words = (check.relay.last_lines() or ["it did not say why"])[-1]
            trouble = f"the new version would not run: {words}"
        self._happened(UpgradeChecked(trouble))

    def _forget(self, check: _Check) -> None:
        self._check = None
        self._poller.forget(check.relay.read_end)
        check.relay.close()
        if check.pidfd != handover.NO_FD:
            self._poller.forget(check.pidfd)
            os.close(check.pidfd)

    @property
    def pid(self) -> int:
        """Return the process that tries the new version out; 0 when there is none."""
        return self._check.pid if self._check else 0

    def deadline(self) -> float | None:
        """Return when `tick` has something to do, or None."""
        return self._check.ends if self._check else None

    def tick(self) -> None:
        """End a check that takes too long: `_checked` hears of its death."""
        check = self._check
        if check and check.ends is not None and check.ends <= time.monotonic():
            check.ends = None
            signals.send(check.pidfd, signals.KILL)

    def close(self) -> None:
        """End a check under way: it holds the sockets."""
        if self._check:
            os.kill(self._check.pid, signals.KILL)
            os.waitpid(self._check.pid, 0)
            self._forget(self._check)

    def replace(self, handed: Handover, put_back: Callable[[], None]) -> str:
        """Become the new version. Returns only if that is impossible, with the reason.

        `put_back` sends us again the signals that came in and were not acted on.
        """
        kept = handed.fds()
        # None may come in between: a new program has no handlers yet. They wait until it has.
        signals.block_all()
        put_back()
        state = handover.NO_FD
        try:
            state = handover.write(handed)
            _set_inheritable([*kept, state], True)
            command = _command()
            os.execve(command[0], command, self._given(state))  # noqa: S606
        except OSError as error:
            _set_inheritable(kept, False)
            if state != handover.NO_FD:
                os.close(state)
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
