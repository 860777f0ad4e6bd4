"""--daemonize: the server goes on in the background; the command that was typed waits for it."""

from __future__ import annotations

import fcntl
import os

from .effects import say
from .errors import from_os_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

_STDIN = 0
_NOT_UP = 255


class Typed:
    """The command that was typed: it ends when it hears how the start went, or that we died."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def answer(self, code: int) -> None:
        """Let it end with this exit status, unless it has been told one already."""
        if self._fd < 0:
            return
        try:
            os.write(self._fd, bytes([code & 0xFF]))
        except OSError:
            pass  # somebody has ended it meanwhile, and we go on
        finally:
            os.close(self._fd)
            self._fd = -1


def detach(above: int) -> Typed:
    """Fork, setsid, fork, and return in the last process; the typed one waits, and never returns.

    Working directory and umask stay as they are; stdin is /dev/null, until a socket takes its
    place. The pipe to the typed command is at an fd of `above` or more. Raises FatalError when it
    can't be done.
    """
    try:
        read_end, low = os.pipe2(os.O_CLOEXEC)
        write_end = fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, above)
        os.close(low)
        child = os.fork()
    except OSError as error:
        raise from_os_error("failed to daemonize", error) from error
    if child:
        os.close(write_end)
        _wait(child, read_end)
    os.close(read_end)
    typed = Typed(write_end)
    try:
        os.setsid()
        if os.fork():
            os._exit(0)  # so that what goes on leads no session, and never gets a terminal
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        os.dup2(null, _STDIN)
        os.close(null)
    except OSError as error:
        refusal = from_os_error("failed to daemonize", error)
        typed.answer(refusal.code)
        raise refusal from error
    return typed


def _wait(child: int, read_end: int) -> NoReturn:
    code = _NOT_UP
    try:
        os.waitpid(child, 0)  # the one in between, which ends at once
        answer = os.read(read_end, 1)
        if answer:
            code = answer[0]
        else:
            say("the server ended before it was up")
    finally:
        os._exit(code)
