"""What a worker says of itself, in a page of memory that others can read.

The page is an anonymous file (memfd) that the worker and its arbiter hold open. So whoever may look
into /proc/PID/fd, which are its user and root, can read it, and nobody is asked to answer.
"""

import mmap
import os
import struct
from typing import NamedTuple

NAME = "kechi-ledger"
# Groups that are no isolated app; no app can have such a name.
SHARED, PARENT = "(shared)", "(parent)"
_LINK = f"/memfd:{NAME} (deleted)"
_CELLS = struct.Struct("4Q32s")  # the numbers, and the group
_PID, _STAGE, _REQUESTS, _IDLE_SINCE, _GROUP = range(5)
_STUCK = _CELLS.size // 8  # behind what others read
_SIZE = _CELLS.size + 8
_PER_SECOND = 1000


class Ledger:
    """A page that is written by one process, and made before its fork."""

    def __init__(self) -> None:
        descriptor = os.memfd_create(NAME)
        try:
            os.ftruncate(descriptor, _SIZE)
            # It keeps a descriptor of its own, which ends with it.
            self._page = mmap.mmap(descriptor, _SIZE)
            self._cells = memoryview(self._page).cast("Q")
        finally:
            os.close(descriptor)

    def sign(self, group: str) -> None:
        """Say that it is about the calling process, and which group of apps that works for.

        Descriptors of siblings are inherited: the pid tells which one is a process's own.
        """
        _CELLS.pack_into(self._page, 0, os.getpid(), *self._cells[_STAGE:_GROUP], group.encode())

    @property
    def stage(self) -> int:
        """Where the process is in its life."""
        return self._cells[_STAGE]

    @stage.setter
    def stage(self, value: int) -> None:
        self._cells[_STAGE] = value

    @property
    def requests(self) -> int:
        """How many requests have been served."""
        return self._cells[_REQUESTS]

    @requests.setter
    def requests(self, value: int) -> None:
        self._cells[_REQUESTS] = value

    @property
    def idle_since(self) -> float:
        """Since when, of time.monotonic(), no connection has been open; 0.0 while one is."""
        return self._cells[_IDLE_SINCE] / _PER_SECOND

    @idle_since.setter
    def idle_since(self, value: float) -> None:
        self._cells[_IDLE_SINCE] = round(value * _PER_SECOND)

    @property
    def stuck_seconds(self) -> float:
        """For how long at least all threads have been busy that should not be; 0.0: not all are."""
        return self._cells[_STUCK] / _PER_SECOND

    @stuck_seconds.setter
    def stuck_seconds(self, value: float) -> None:
        self._cells[_STUCK] = round(value * _PER_SECOND)


class Entry(NamedTuple):
    """What a process says of itself."""

    group: str  # an isolated app's name, or that of several apps together
    requests: int  # an arbiter's: those that were served by its workers that have gone


def read(pid: int) -> Entry | None:
    """Return what a process says of itself; None for one that says nothing, or can't be asked."""
    folder = f"/proc/{pid}/fd"
    try:
        for name in os.listdir(folder):
            path = f"{folder}/{name}"
            if os.readlink(path) == _LINK:
                # what is there may be a pipe by now, at which nobody is to wait
                descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
                try:
                    cells = _CELLS.unpack(os.read(descriptor, _CELLS.size))
                finally:
                    os.close(descriptor)
                if cells[_PID] == pid:
                    group = cells[_GROUP].rstrip(b"\0").decode("utf-8", "replace")
                    return Entry(group, cells[_REQUESTS])
    except (OSError, struct.error):  # it has gone, or isn't ours to look at
        pass
    return None
