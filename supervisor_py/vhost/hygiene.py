"""What an app has left open at load that must not be carried across a fork: found, and named.

A connection, or the position in a file, would be every worker's at once; a thread would be
nobody's; a generator of random numbers would give all workers the same ones. What is known how to
put away is put away, for the rest there is a sentence for the log.
"""

import fcntl
import gc
import os
import random
import socket
import stat
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from weakref import WeakSet

HOOK = "os.register_at_fork(after_in_child=...)"
SQLITE = b"SQLite format 3\0"
SQLITE_COMPANIONS = ("-wal", "-shm", "-journal")
ADDRESSED = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)
HARMLESS = ("/dev/", "/proc/", "/sys/")
KINDS = {  # what the kernel calls a descriptor that has no path: what it is for
    "anon_inode:[eventpoll]": "an event loop (epoll)",
    "anon_inode:inotify": "a watch over files (inotify)",
    "anon_inode:[io_uring]": "an event loop (io_uring)",
    "anon_inode:[timerfd]": "a timer (timerfd)",
}


class Watch:
    """What the process has running and open at one moment."""

    def __init__(self) -> None:
        self._threads = set(threading.enumerate())
        self._descriptors = set(_descriptors())
        self._children = set(_children())

    def left(self) -> list[str]:
        """Return what has been added since then, each as "left … open, …" or "started …".

        What known libraries keep open for the next request is closed, and not told.
        """
        if any(self._added()):
            _put_away()
        return [*self._threads_left(), *self._descriptors_left(), *self._children_left()]

    def children(self) -> list[int]:
        """Return the processes that have been started since then, and not waited for."""
        return [pid for pid in _children() if pid not in self._children]

    def _threads_left(self) -> Iterator[str]:
        for thread in threading.enumerate():
            if thread not in self._threads:
                yield (
                    f'started the thread "{thread.name}", which does not run in the workers: start'
                    f" it in each of them, with {HOOK}"
                )

    def _descriptors_left(self) -> Iterator[str]:
        for what in sorted(set(self._added())):
            yield (
                f"left {what} open, which would be all workers' together: close it at the end of"
                f" the load, or open it in each of them, with {HOOK}"
            )

    def _added(self) -> Iterator[str]:
        for descriptor, link in _descriptors():
            if (descriptor, link) not in self._descriptors and (what := _told(descriptor, link)):
                yield what

    def _children_left(self) -> Iterator[str]:
        for pid in self.children():
            yield (
                f"started the process {pid} ({_command(pid)}), which is no worker's child: start"
                f" one in each of them, with {HOOK}"
            )


def _put_away() -> None:
    """Close the connections that known libraries keep for the next request; they open new ones."""
    django = sys.modules.get("django.db")
    if django is not None:
        with suppress(Exception):  # no settings: no connections
            django.connections.close_all()
    sqlalchemy = sys.modules.get("sqlalchemy")
    if sqlalchemy is not None:
        for found in gc.get_objects():
            # Not isinstance(): that asks proxies what they stand for.
            if issubclass(type(found), sqlalchemy.Engine):
                _dispose(found, sqlalchemy.QueuePool)


def _dispose(engine: Any, kept_for_later: Any) -> None:
    # Others than a QueuePool may hold what can't be opened again: a database in memory.
    if isinstance(engine.pool, kept_for_later) and not engine.pool._is_asyncio:
        engine.dispose()


def _descriptors() -> Iterator[tuple[int, str]]:
    """Yield what is open, with what the kernel calls it."""
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # the one that lists them
            yield int(name), os.readlink(f"/proc/self/fd/{name}")


def _told(descriptor: int, link: str) -> str:
    """Return what a descriptor is in words, "" for one that forked processes can share."""
    if link.startswith("socket:"):
        return _socket_told(descriptor)
    if link.startswith("pipe:"):
        return "a pipe"
    if not link.startswith("/") or link.startswith(HARMLESS):
        return KINDS.get(link, "")
    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    if flags & (os.O_APPEND | os.O_PATH) or not stat.S_ISREG(os.fstat(descriptor).st_mode):
        return ""
    for suffix in SQLITE_COMPANIONS:
        link = link.removesuffix(suffix)
    try:
        begins = os.pread(descriptor, len(SQLITE), 0)
    except OSError:
        begins = b""
    return f"the SQLite database {link}" if begins == SQLITE else f"the file {link}"


def _socket_told(descriptor: int) -> str:
    with socket.socket(fileno=os.dup(descriptor)) as opened:
        if opened.type != socket.SOCK_STREAM or opened.family not in ADDRESSED:
            return ""  # each datagram goes by itself
        if opened.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            return f"a socket that listens at {_address(opened.getsockname())}"
        try:
            peer = opened.getpeername()
        except OSError:
            return "a socket without a connection"
        return f"a connection to {_address(peer)}" if peer else "a pair of sockets"


def _address(address: Any) -> str:
    return f"{address[0]}:{address[1]}" if isinstance(address, tuple) else str(address)


def _children() -> list[int]:
    found = []
    for task in os.listdir("/proc/self/task"):
        with suppress(OSError):  # a thread that has just ended
            found += Path(f"/proc/self/task/{task}/children").read_text("ascii").split()
    return [int(pid) for pid in found]


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text("utf-8").strip()
    except OSError:
        return "it has ended"


_seed = random.Random.seed
_unseeded: "WeakSet[random.Random]" = WeakSet()


def _seed_and_remember(self: random.Random, a: Any = None, version: int = 2) -> None:
    if a is None:
        _unseeded.add(self)
    else:
        _unseeded.discard(self)
    _seed(self, a, version)


def _seed_again() -> None:
    # The random module does it for its own generator.
    for generator in list(_unseeded):
        generator.seed()
    numpy = sys.modules.get("numpy.random")
    if numpy is not None:
        numpy.seed()


def install() -> None:
    """Let each forked process have random numbers of its own.

    A generator that an app has given a seed goes on from there in each of them, as it wants.
    """
    random.Random.seed = _seed_and_remember  # type: ignore[method-assign]
    os.register_at_fork(after_in_child=_seed_again)
