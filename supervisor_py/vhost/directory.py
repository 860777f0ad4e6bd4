"""A working directory per thread, so that each request runs in its app's directory.

Linux keeps the working directory in a structure that a thread may have for itself:
unshare(CLONE_FS), see unshare(2). It needs no privilege.
"""

import os
import threading
from pathlib import Path

CLONE_FS = 0x00000200  # linux/sched.h

_thread = threading.local()


class DirectoryError(RuntimeError):
    """The kernel, or a container's filter of system calls, refuses what this module needs."""


def open_directory(path: Path) -> int:
    """Return a descriptor of a directory for change_to(); raises OSError where it is none.

    It goes on naming the same directory when a symlink of the path is switched to another.
    """
    return os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def change_to(descriptor: int) -> None:
    """Make a directory the calling thread's working directory, and no other thread's."""
    if not getattr(_thread, "has_its_own", False):
        _unshare(CLONE_FS)
        _thread.has_its_own = True
    os.fchdir(descriptor)


def check() -> None:
    """Raise DirectoryError where threads can't have a working directory each."""
    failures: list[OSError] = []

    def attempt() -> None:
        try:
            _unshare(CLONE_FS)
        except OSError as error:
            failures.append(error)

    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join()
    if failures:
        raise DirectoryError(
            f"unshare(CLONE_FS) is refused ({failures[0].strerror}), and without it the apps of a"
            " pool can't have a working directory each: allow that system call in the container's"
            " or unit's filter"
        )


def _unshare(flags: int) -> None:
    if hasattr(os, "unshare"):  # Python 3.12
        os.unshare(flags)
        return
    import ctypes  # noqa: PLC0415  # 1 MB that newer Pythons do without

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(flags) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
