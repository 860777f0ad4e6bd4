"""The locks of root's programs on a machine: whoever acts on something holds the lock of that name.

Files in /run/kechi/locks, held by flock(2), which ends with its holder, whatever that dies of. A
timer's program reads its settings once it holds its lock; a play writes them, and then waits for
that lock. So what began by old settings has ended before the play goes on, and what begins later
sees the new ones. Modules import this file, and it is installed beside each program that needs it.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

DIRECTORY = Path("/run/kechi/locks")
BACKUP, CERTIFICATES, CRAWLERS, FIREWALL = "backup", "certificates", "crawlers", "firewall"
TASK = "task"  # of whatever changes pools and files, a module's or a restore's

_POLL_SECONDS = 0.1
_MOST_BYTES = 4096


@dataclass(frozen=True)
class Holder:
    """Who holds a lock, or has held it last."""

    what: str
    pid: int
    since: float

    def __str__(self) -> str:
        since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(self.since))
        return f"{self.what} (pid {self.pid}, since {since})"


class Busy(Exception):  # noqa: N818  # what it says is no error of the program
    """Another one holds the lock; the message says who, and since when."""

    def __init__(self, holder: Holder | None) -> None:
        super().__init__(str(holder or "another program"))


def opened(name: str) -> int:
    """A lock's file, which root alone can reach."""
    for folder, mode in ((DIRECTORY.parent, 0o755), (DIRECTORY, 0o700)):
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        folder.chmod(mode)  # whatever the umask
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(DIRECTORY / name, flags, 0o600)


@contextmanager
def held(
    name: str,
    what: str,
    *,
    wait_seconds: float | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> Iterator[None]:
    """Hold a lock while the block runs; see `keep`."""
    handle = keep(name, what, wait_seconds=wait_seconds, tell=tell)
    try:
        yield
    finally:
        write(handle, "")
        os.close(handle)


def keep(
    name: str,
    what: str,
    *,
    wait_seconds: float | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> int:
    """Hold a lock until this process ends, or closes what is returned.

    Args:
        name: which one.
        what: how others will know who has it.
        wait_seconds: how long to wait for another one's end; for ever, if None.
        tell: hears whom it waits for.

    Raises:
        Busy: another one has not ended by then.
    """
    handle = opened(name)
    try:
        _acquire(handle, wait_seconds, tell)
    except BaseException:
        os.close(handle)
        raise
    write(handle, json.dumps(asdict(Holder(what, os.getpid(), time.time()))))
    return handle


def write(handle: int, text: str) -> None:
    """Replace what a lock's file says."""
    os.ftruncate(handle, 0)
    os.pwrite(handle, text.encode(), 0)


def read(handle: int) -> str:
    """What a lock's file says."""
    return os.pread(handle, _MOST_BYTES, 0).decode("utf-8", "replace")


def _holder(handle: int) -> Holder | None:
    try:
        return Holder(**json.loads(read(handle)))
    except (ValueError, TypeError):  # it is just being written
        return None


def _acquire(handle: int, wait_seconds: float | None, tell: Callable[[str], None]) -> None:
    deadline = None if wait_seconds is None else time.monotonic() + wait_seconds
    waited_for = ""
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            busy = Busy(_holder(handle))
        else:
            return
        if deadline is not None and time.monotonic() >= deadline:
            raise busy
        if not waited_for:
            waited_for = str(busy)
            tell(f"waiting for the end of {waited_for}")
        time.sleep(_POLL_SECONDS)
