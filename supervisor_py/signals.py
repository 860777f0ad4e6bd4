"""Signals by number and name; the standard `signal` module would load enum."""

from __future__ import annotations

from .errors import FatalError
from .record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Callable
else:
    import _signal

ALRM = int(_signal.SIGALRM)
CHLD = int(_signal.SIGCHLD)
CONT = int(_signal.SIGCONT)
HUP = int(_signal.SIGHUP)
INT = int(_signal.SIGINT)
KILL = int(_signal.SIGKILL)
PIPE = int(_signal.SIGPIPE)
TERM = int(_signal.SIGTERM)
USR1 = int(_signal.SIGUSR1)
USR2 = int(_signal.SIGUSR2)

_NUMBERS: dict[str, int] = {
    name[3:]: int(getattr(_signal, name))
    for name in dir(_signal)
    if name.startswith("SIG") and name[3:].isalnum() and name not in ("SIGCLD", "SIGPOLL")
}


class Signal(Record):
    """A signal as its user wrote it (`USR1`, or `10`), and its number."""

    name: str
    number: int


def parse(text: str, where: str) -> Signal:
    """Read a signal's name or number: any case, with or without SIG (as Perl's kill takes it).

    Raises FatalError (exit status 1) naming `where` it was set.
    """
    name = text.upper().removeprefix("SIG")
    if name in _NUMBERS and name not in ("BLOCK", "UNBLOCK", "SETMASK"):
        return Signal(name, _NUMBERS[name])
    if name.isdecimal() and int(name) in _NUMBERS.values():
        return Signal(name, int(name))
    raise FatalError(
        f'{where}: "{text}" is not a signal (allowed: a name such as TERM or SIGQUIT, or a number)',
        1,
    )


def name_of(number: int) -> str:
    """Return `TERM` for 15; the number itself where it has no name."""
    for name, value in _NUMBERS.items():
        if value == number:
            return name
    return str(number)


def catch(number: int, handler: Callable[[int, object], None]) -> None:
    """Install a Python-level handler."""
    _signal.signal(number, handler)


def use_default(number: int) -> None:
    """Give a signal its default action back, whatever we were started with."""
    _signal.signal(number, _signal.SIG_DFL)


def ignore(number: int) -> None:
    """Let a signal do nothing any more."""
    _signal.signal(number, _signal.SIG_IGN)


def wake(fd: int) -> None:
    """Have every caught signal write a byte to this fd (-1: none); a full pipe is no error."""
    _signal.set_wakeup_fd(fd, warn_on_full_buffer=False)


def block_all() -> None:
    """Hold all signals back, so that a forked child gets none before it is ready for them."""
    _signal.pthread_sigmask(_signal.SIG_BLOCK, _signal.valid_signals())


def unblock_all() -> None:
    """Let signals in again, also those that whoever started us had blocked."""
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())


def reset_for_child() -> None:
    """Give a forked child the default dispositions and mask, but SIGPIPE ignored as in Perl."""
    wake(-1)
    for number in _signal.valid_signals():
        if number not in (KILL, _signal.SIGSTOP, PIPE):
            _signal.signal(number, _signal.SIG_DFL)
    _signal.signal(PIPE, _signal.SIG_IGN)
    unblock_all()


def send(pidfd: int, number: int) -> bool:
    """Signal a process by its pidfd, which never names another process; a gone one is fine.

    Tells whether we may: a process of ours may have become another user's.
    """
    try:
        _signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        pass
    except PermissionError:
        return False
    return True
