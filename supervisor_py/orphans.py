"""Processes that should be gone, found in /proc by their ancestors, and by what they were given.

Whatever a generation forks inherits what start_server gave to it: its environment, its stderr, and
a mark that outlives both. Nobody is judged by a name or by a pid alone.
"""

from __future__ import annotations

import os

from .record import Record
from .sdnotify import NOTIFY_SOCKET

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Set

_PROC = "/proc"
# A limit that no kernel has heeded since 2.4.25, and that each process still inherits.
_RLIMIT_LOCKS = 10
_LOCKS = b"Max file locks"


class Process(Record):
    """A process as it stands in the table: its parent, and when it began, in ticks since boot."""

    parent: int
    began: int


class Main(Record):
    """A generation's main process; it is gone, but for the time when it began."""

    pid: int
    began: int


def socket_inodes(fds: Iterable[int]) -> frozenset[int]:
    """Return what tells these sockets from all others on the host; raises OSError."""
    return frozenset(os.fstat(fd).st_ino for fd in fds)


def table() -> dict[int, Process]:
    """Return all processes of the host but the dead ones that nobody has waited for."""
    found = {}
    for pid in (*processes(), os.getpid()):
        one = look(pid)
        if one:
            found[pid] = one
    return found


def look(pid: int) -> Process | None:
    """Return a process as it is now; None when it has ended."""
    # The command's name, in parentheses, may hold anything: count from its end.
    fields = read(pid, "stat").rpartition(b")")[2].split()
    return None if fields[:1] in ([], [b"Z"]) else Process(int(fields[1]), int(fields[19]))


def is_stopped(pid: int) -> bool:
    """Tell whether a process is stopped, by SIGSTOP or its like, and not by a debugger."""
    return read(pid, "stat").rpartition(b")")[2].split()[:1] == [b"T"]


def below(
    known: Mapping[int, Process], roots: Iterable[int], but: Set[int] = frozenset()
) -> set[int]:
    """Return the descendants of some processes, but for those that `but` are the ancestors of."""
    children: dict[int, list[int]] = {}
    for pid, one in known.items():
        children.setdefault(one.parent, []).append(pid)
    found: set[int] = set()
    due = list(roots)
    while due:
        for pid in children.get(due.pop(), ()):
            if pid not in but and pid not in found:
                found.add(pid)
                due.append(pid)
    return found


class Given(Record):
    """What one generation was given that tells what it has forked.

    Its main process, its NOTIFY_SOCKET, which no other one ever had, and the pipe (an inode) that
    it got as stderr: what sets the title of a process wipes its environment out.
    """

    main: Main
    notify_address: str
    stderr: int


def left_behind(
    given: Given,
    inodes: frozenset[int],
    others: Iterable[Main] = (),
    helpers: Set[int] = frozenset(),
    since: int = 0,
) -> dict[int, Process]:
    """Return the processes that a generation has left behind, whose main process has ended.

    `others` are the main processes of other generations that are alive, `helpers` what we forked
    for ourselves. What is below none of them has come to us, as the reaper of all that descends
    from us: it is this generation's if it has its mark, or if it is older than all others and not
    older than our first generation (`since`). What got away holds one of our sockets (`inodes`).
    """
    known, us = table(), os.getpid()
    mains = {one.pid: one.began for one in others}
    roots = mains.keys() | helpers
    accounted = below(known, roots) | roots | {us}
    # as the first process of a container, we get what others have left, too
    ours = below(known, (us,), roots) if us != 1 else set()
    environment_line = os.fsencode(f"{NOTIFY_SOCKET}={given.notify_address}")
    main = given.main

    def is_left(pid: int, one: Process) -> bool:
        marked = mark(pid)
        if marked == main.pid and one.began >= main.began:
            return True
        if marked in mains and one.began >= mains[marked]:
            return False
        if pid in ours and one.began >= since and all(one.began < at for at in mains.values()):
            return True
        return (
            environment_line in environment(pid) or _stderr(pid) == given.stderr
        ) and not inodes.isdisjoint(held_by(pid).values())

    return {pid: one for pid, one in known.items() if pid not in accounted and is_left(pid, one)}


def set_mark() -> None:
    """Mark ourselves, and what we will fork, with our pid; in a forked child, before its exec."""
    try:
        import resource  # noqa: PLC0415  only the child pays for it

        hard = resource.getrlimit(_RLIMIT_LOCKS)[1]
        resource.setrlimit(_RLIMIT_LOCKS, (os.getpid(), hard))
    except (ImportError, OSError, ValueError):
        pass  # a limit that somebody has lowered: what is forked is known by the rest


def mark(pid: int) -> int:
    """Return the pid that a process was marked with by us; -1 when it has no mark."""
    _, _, rest = read(pid, "limits").partition(_LOCKS)
    word = rest.split(None, 1)[:1]
    return int(word[0]) if word and word[0].isdigit() else -1


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
