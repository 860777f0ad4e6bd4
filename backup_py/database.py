"""SQLite databases: found by what is in them, copied while their app writes."""

from __future__ import annotations

import os
import resource
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

from .errors import BackupError
from .identity import Owner, acting_as

MAGIC = b"SQLite format 3\0"
BESIDE = ("-wal", "-shm", "-journal")  # what SQLite keeps beside a database

# Without a write-ahead log, writers wait while a step is copied. Up to this size one step is short
# enough for that; a bigger database is copied in steps, which begins anew when it is written to.
ONE_STEP_BYTES = 64 * 1024 * 1024
PAUSE_SECONDS = 0.05
MOST_RESTARTS = 3
LOCKED_SECONDS = 60.0
# where a file's head says what, by SQLite's "Database File Format"
_HEAD_BYTES = 100
_PAGE_SIZE_AT = 16
_LARGEST_PAGE_BYTES = 65536  # which is written as 1
_VERSION_AT = 18
_WRITE_AHEAD_LOG = 2


def copy(source: Path, target: Path, owner: Owner, most: int) -> None:
    """Make `target` a consistent copy; raises BackupError where that can't be done.

    Args:
        source: the database, which its app may write to, and exchange, meanwhile.
        target: what is not there yet.
        owner: whom it is read as.
        most: how many bytes the copy may have.
    """
    try:
        with (
            closing(sqlite3.connect(target, isolation_level=None)) as made,
            _files_of_at_most(most),
        ):
            # no journal: the copy is thrown away if it fails, and is ours alone to write to
            made.execute("pragma journal_mode = off")
            made.execute("pragma synchronous = off")
            with acting_as(owner), closing(_open(source)) as read:
                _copy(read, made, _pages_of_a_step(source))
    except sqlite3.Error as error:
        grown = target.stat().st_size >= most > 0
        why = f"it has grown to more than the {most} bytes that there is room for" if grown else ""
        raise BackupError(f"{source}: {why or error}") from error
    fault = damage(target)
    if fault:
        raise BackupError(f"{source}: the database is damaged: {fault}")


@contextmanager
def _files_of_at_most(most: int) -> Iterator[None]:
    """Let no file that is written meanwhile get bigger: SQLite itself would ask nobody."""
    before, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    allowed = [limit for limit in (max(most, 0), before, hard) if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_FSIZE, (min(allowed), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (before, hard))


def damage(path: Path) -> str:
    """What SQLite finds wrong in a database that nobody writes to; "" for nothing."""
    uri = f"file:{quote(os.fsencode(path))}?mode=ro&immutable=1"
    try:
        with closing(sqlite3.connect(uri, uri=True)) as database:
            # an app's own functions are not here to be asked
            database.execute("pragma ignore_check_constraints = on")
            found = [str(row[0]) for row in database.execute("pragma quick_check(1)")]
    except sqlite3.OperationalError as error:
        # what needs an extension of the app can't be looked at, and is no damage
        return "" if str(error).startswith("no such") else str(error)
    except sqlite3.DatabaseError as error:
        return str(error)
    return "" if found == ["ok"] else "; ".join(found)


def is_database(head: bytes) -> bool:
    """Whether a file with these first bytes is one."""
    return head.startswith(MAGIC)


def _open(source: Path) -> sqlite3.Connection:
    # mode=rw: what a crash has left, a first reader has to put right, as the app itself would
    # and no waiting in SQLite: `_copy` does that
    return sqlite3.connect(f"file:{quote(os.fsencode(source))}?mode=rw", uri=True, timeout=0)


def _pages_of_a_step(source: Path) -> int:
    """How many pages are copied at once; -1 for all."""
    # by no link, and with no waiting at what may be a pipe by now: SQLite finds out which it is
    descriptor = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        head = os.read(descriptor, _HEAD_BYTES)
        size = os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)
    # size first: a small file may end before its version
    if size <= ONE_STEP_BYTES or len(head) < _HEAD_BYTES or head[_VERSION_AT] == _WRITE_AHEAD_LOG:
        return -1
    page_bytes = int.from_bytes(head[_PAGE_SIZE_AT : _PAGE_SIZE_AT + 2], "big")
    return ONE_STEP_BYTES // 4 // (page_bytes if page_bytes > 1 else _LARGEST_PAGE_BYTES)


class _RestartedError(Exception):
    """The database was written to so often that copying in steps has no end."""


def _copy(read: sqlite3.Connection, made: sqlite3.Connection, pages: int) -> None:
    deadline = time.monotonic() + LOCKED_SECONDS
    least, restarts = -1, 0

    def watch(status: int, remaining: int, _total: int) -> None:
        nonlocal least, restarts, deadline
        if status in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            if time.monotonic() > deadline:
                raise sqlite3.OperationalError(f"locked for {LOCKED_SECONDS:g} seconds")
            return
        deadline = time.monotonic() + LOCKED_SECONDS
        restarts += remaining > least >= 0
        least = remaining
        if restarts > MOST_RESTARTS and pages > 0:
            raise _RestartedError

    try:
        read.backup(made, pages=pages, progress=watch, sleep=PAUSE_SECONDS)
    except _RestartedError:
        _copy(read, made, -1)
