"""What is done for one app, in a process of its own: how that ends is its alone.

An app's files are a stranger's. What they bring about here - an exception that nobody has thought
of, a crash in SQLite, more memory than there is, no end - is that app's failure, and the others are
backed up.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable
from contextlib import suppress

from .errors import BackupError

MOST_SECONDS = 3600.0
SECONDS_TO_END = 20.0
_LOOK_SECONDS = 1.0  # an interrupt that came just before a wait does not end it
_ENDING = (signal.SIGINT, signal.SIGTERM)
_DONE, _FAILED = b"+", b"-"
_CHUNK = 65536


def apart(act: Callable[[], str], seconds: float = MOST_SECONDS) -> str:
    """Do something in a forked process; return what it says, or raise its error as BackupError."""
    read_end, write_end = os.pipe()
    signals = _Signals()
    pid = os.fork()
    if pid == 0:
        os.close(read_end)
        try:
            signals.let_go()
            _answer(act, write_end)
        finally:  # nothing of what the parent has to clean up may run here
            os._exit(0)
    os.close(write_end)
    try:
        signals.let_go()
        signals.tell()
        answer = _read_all(read_end, seconds)
    except BaseException:
        _end(pid, read_end)
        raise
    finally:
        os.close(read_end)
        _, status = os.waitpid(pid, 0)
    text = answer[1:].decode("utf-8", "surrogateescape")
    if answer.startswith(_DONE):
        return text
    if answer.startswith(_FAILED):
        raise BackupError(text)
    code = os.waitstatus_to_exitcode(status)
    died = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    raise BackupError(f"the process for it has died ({died})")


class _Signals:
    """Holds back what ends a backup, from its making on.

    What a handler raises while Python looks after its own locks of a fork is printed, and lost. A
    mask of the thread would not do: the kernel takes another one of the process.
    """

    def __init__(self) -> None:
        self._came: list[int] = []
        handlers = {number: signal.getsignal(number) for number in _ENDING}
        self._handlers = {number: one for number, one in handlers.items() if one is not None}
        for number in self._handlers:
            signal.signal(number, self._note)

    def _note(self, number: int, _frame: object) -> None:
        self._came.append(number)

    def let_go(self) -> None:
        """Have the handlers of before again, in either process."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def tell(self) -> None:
        """Hear the signals that have come meanwhile."""
        for number in self._came:
            signal.raise_signal(number)


def _end(pid: int, read_end: int) -> None:
    """End the other process, with some time to remove what it has not finished."""
    os.kill(pid, signal.SIGTERM)
    try:
        with suppress(BackupError):
            _read_all(read_end, SECONDS_TO_END)
    finally:  # also where that is interrupted
        os.kill(pid, signal.SIGKILL)


def _answer(act: Callable[[], str], write_end: int) -> None:
    try:
        answer = _DONE + act().encode("utf-8", "surrogateescape")
    except (BackupError, OSError) as error:
        answer = _FAILED + str(error).encode("utf-8", "surrogateescape")
    except Exception as error:  # noqa: BLE001 - of whatever kind: it is one app's
        text = f"{type(error).__name__}: {error}"
        answer = _FAILED + text.encode("utf-8", "surrogateescape")
    with os.fdopen(write_end, "wb") as told:
        told.write(answer)


def _read_all(read_end: int, seconds: float) -> bytes:
    """Read to the end of what the other process says, which is its own end; raises BackupError."""
    answer = b""
    poll = select.poll()
    poll.register(read_end, select.POLLIN)
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        if not poll.poll(min(left, _LOOK_SECONDS) * 1000):
            continue
        data = os.read(read_end, _CHUNK)
        if not data:
            return answer
        answer += data
    raise BackupError(f"it was not over within {seconds:g} seconds")
