"""Reading the pid file and the status file of a server, which may be a hostile app's.

Links are followed only where root alone can make them, what is no small file is an error, and no
process is believed to be the server that is another user's.
"""

from __future__ import annotations

import errno
import os

from . import safe_paths
from .errors import FatalError, from_os_error
from .text import visible

_MOST_BYTES = 65536


def read_pid(path: str) -> int:
    """Return the pid in a pid file; raises FatalError."""
    return _pid(path, _content(path))


def read_generations(path: str) -> list[int]:
    """Return the generations in a status file, lowest first; raises FatalError."""
    heads = [line.partition(":")[0] for line in _content(path).split("\n") if ":" in line]
    return sorted({int(head) for head in heads if head.isdecimal()})


def open_pid(path: str) -> tuple[int, int]:
    """Open a pid file to be locked; return its fd and the pid in it. Raises FatalError."""
    try:
        fd = safe_paths.open_file(path, os.O_RDWR)
    except OSError as error:
        raise from_os_error(f"failed to open file:{path}", error) from error
    try:
        pid = _pid(path, os.pread(fd, _MOST_BYTES, 0).decode("ascii", "replace"))
        require_owner(path, pid, os.fstat(fd).st_uid)
    except BaseException:
        os.close(fd)
        raise
    return fd, pid


def require_owner(path: str, pid: int, owner: int) -> None:
    """Refuse a pid that its writer, who is no root, can't have as a server; raises FatalError."""
    of = _user_of(pid)
    if owner and of not in (None, owner):
        raise FatalError(
            f"pid file {path}: process {pid} is user {of}'s, and the file is user {owner}'s",
            errno.EPERM,
        )


def _pid(path: str, content: str) -> int:
    line = content.partition("\n")[0].strip()
    if not line.isdecimal() or int(line[:20]) < 1:
        raise FatalError(f'pid file {path}: "{visible(line, 40)}" is not a process id')
    return int(line[:20])


def _user_of(pid: int) -> int | None:
    """Return whose a process is; None when it has gone."""
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            (line,) = (line for line in file if line.startswith(b"Uid:"))
    except (OSError, ValueError):
        return None
    return int(line.split()[1])


def _content(path: str) -> str:
    try:
        return safe_paths.read_regular(path, _MOST_BYTES).decode("ascii", "replace")
    except OSError as error:
        raise from_os_error(f"failed to open file:{path}", error) from error
