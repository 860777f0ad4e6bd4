"""Processes that hold our listening sockets, found in /proc by what they hold and were given.

A process is told by its environment: start_server gives each generation variables of its own, and
whatever a generation forks inherits them. Nobody is judged by a name or by a pid alone.
"""

from __future__ import annotations

import os

from .sdnotify import NOTIFY_SOCKET

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_PROC = "/proc"


def socket_inodes(fds: Iterable[int]) -> frozenset[int]:
    """Return what tells these sockets from all others on the host; raises OSError."""
    return frozenset(os.fstat(fd).st_ino for fd in fds)


def left_behind(notify_address: str, inodes: frozenset[int], stderr: int) -> list[int]:
    """Return the processes, but for us, of one generation that hold one of these sockets.

    A generation is known by its NOTIFY_SOCKET, which no other one ever had, and by the pipe (an
    inode) that it got as stderr: what sets the title of a process wipes its environment out.
    """
    given = os.fsencode(f"{NOTIFY_SOCKET}={notify_address}")
    return [
        pid
        for pid in processes()
        if (given in environment(pid) or _stderr(pid) == stderr)
        and not inodes.isdisjoint(held_by(pid).values())
    ]


def _stderr(pid: int) -> int:
    """Return the inode of the pipe that is a process's stderr; -1 when it is none."""
    try:
        target = os.readlink(f"{_PROC}/{pid}/fd/2")
    except OSError:
        return -1
    return int(target[len("pipe:[") : -1]) if target.startswith("pipe:[") else -1


def held_by(pid: int) -> dict[int, int]:
    """Return a process's sockets: inode by fd; none when it is gone, or not ours to look into."""
    found: dict[int, int] = {}
    try:
        fds = os.listdir(f"{_PROC}/{pid}/fd")
    except OSError:
        return found
    for fd in fds:
        try:
            target = os.readlink(f"{_PROC}/{pid}/fd/{fd}")
        except OSError:
            continue  # closed since we looked
        if target.startswith("socket:["):
            found[int(fd)] = int(target[len("socket:[") : -1])
    return found


def processes() -> Iterator[int]:
    """Return the pids of all processes but us."""
    ours = os.getpid()
    return (pid for pid in map(int, filter(str.isdecimal, os.listdir(_PROC))) if pid != ours)


def read(pid: int, name: str) -> bytes:
    """Return a file of a process; empty when it is gone, or not ours to look into."""
    try:
        with open(f"{_PROC}/{pid}/{name}", "rb", buffering=0) as file:
            return file.readall()
    except OSError:
        return b""


def environment(pid: int) -> list[bytes]:
    """Return what a process was started with, as NAME=VALUE."""
    return read(pid, "environ").split(b"\0")
