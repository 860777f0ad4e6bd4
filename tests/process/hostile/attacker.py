"""A hostile app's moves, made by a process of a user that owns nothing else on the machine."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

UID = 64_713  # nobody's
OTHER = 64_714  # a neighbour's
_EXCHANGE = 2  # RENAME_EXCHANGE of renameat2(2)
_HERE = -100  # AT_FDCWD
_PR_SET_PDEATHSIG = 1  # of prctl(2)


def exchange(one: str, other: str) -> None:
    """Swap two names in one step, so that there is always something at both."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(_HERE, one.encode(), _HERE, other.encode(), _EXCHANGE):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), one)


def _end_with(parent: int) -> None:
    """Have the kernel kill us when our parent ends, however that does.

    To be called after the change of user, which forgets it.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    if os.getppid() != parent:  # it has ended already
        os._exit(1)


@contextmanager
def _process(does: Callable[[], None]) -> Iterator[int]:
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setresgid(UID, UID, UID)
            os.setresuid(UID, UID, UID)
            _end_with(parent)
            does()
        except BaseException as error:  # noqa: BLE001 - it must not get out of the child
            sys.stderr.write(f"{error!r}\n")
            os._exit(1)
        os._exit(0)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def as_the_app(does: Callable[[], object]) -> None:
    """Do something as the attacker; it has to work."""
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setresgid(UID, UID, UID)
            os.setresuid(UID, UID, UID)
            does()
        except BaseException as error:  # noqa: BLE001 - it must not get out of the child
            sys.stderr.write(f"{error!r}\n")
            os._exit(1)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0


@contextmanager
def looping(does: Callable[[], None]) -> Iterator[None]:
    """Do something as the attacker, again and again, for as long as the block runs."""
    read_end, write_end = os.pipe()

    def loop() -> None:
        os.write(write_end, b"x")
        while True:
            with suppress(OSError):
                does()

    with _process(loop):
        assert os.read(read_end, 1) == b"x"
        yield
    os.close(read_end)
    os.close(write_end)


@contextmanager
def swapping(one: Path, other: Path) -> Iterator[None]:
    """Swap two names, thousands of times a second, for as long as the block runs."""
    first_read, first_write = os.pipe()

    def swap() -> None:
        exchange(str(one), str(other))
        os.write(first_write, b"x")
        while True:
            exchange(str(one), str(other))

    with _process(swap):
        assert os.read(first_read, 1) == b"x"
        yield
    os.close(first_read)
    os.close(first_write)
