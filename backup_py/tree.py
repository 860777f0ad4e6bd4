"""An app's persistent files as a tree: what is in it, its copy, and what a copy needs."""

from __future__ import annotations

import filecmp
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from . import database
from .errors import BackupError
from .identity import Owner, acting_as

MB = 1024 * 1024
_HEAD_BYTES = 16
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK  # no link, and no waiting at a pipe


@dataclass(frozen=True)
class Entry:
    """One directory, link or regular file, by its path inside the tree."""

    path: Path
    info: os.stat_result
    is_database: bool = False

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory."""
        return stat.S_ISDIR(self.info.st_mode)

    @property
    def is_link(self) -> bool:
        """Whether it is a symbolic link."""
        return stat.S_ISLNK(self.info.st_mode)


@dataclass(frozen=True)
class Survey:
    """What a tree holds, directories before what is in them."""

    source: Path
    owner: Owner
    entries: tuple[Entry, ...]

    def new_bytes(self, previous: Path | None) -> int:
        """How much a backup adds that shares what has not changed with the previous one."""
        return sum(
            _size(self.source, entry)
            for entry in self.entries
            if not (entry.is_directory or entry.is_link or _is_unchanged(entry, previous))
        )


def survey(source: Path, excluded: Callable[[Path], bool]) -> Survey:
    """Look at a tree as its owner; raises BackupError where that owner can't.

    Sockets and pipes are left out, and what SQLite keeps beside a database.
    """
    try:
        owner = Owner.of(source)
        with acting_as(owner):
            found = list(_walk(source, Path(), excluded))
    except OSError as error:
        raise BackupError(f"{error.filename}: {error.strerror}") from error
    databases = {entry.path for entry in found if entry.is_database}
    beside = {
        path.with_name(path.name + suffix) for path in databases for suffix in database.BESIDE
    }
    return Survey(source, owner, tuple(entry for entry in found if entry.path not in beside))


def copy(found: Survey, stage: Path, previous: Path | None) -> None:
    """Copy a tree into the new directory `stage`, sharing unchanged files with `previous`.

    Raises:
        BackupError: something of it can't be copied.
    """
    stage.mkdir(mode=0o700)
    try:
        for entry in found.entries:
            with suppress(_GoneError):  # an app may remove what it likes while we look
                _copy_entry(found, entry, stage, previous)
        for entry in reversed(found.entries):
            if entry.is_directory and (stage / entry.path).is_dir():
                _attributes(stage / entry.path, entry.info)
    except OSError as error:
        raise BackupError(f"{error.filename or found.source}: {error.strerror}") from error


def require_room(needed: int, directory: Path, min_free_mb: int) -> None:
    """Raise BackupError, with the numbers, where a disk has no room."""
    room = os.statvfs(directory)
    free = room.f_bavail * room.f_frsize
    if free - needed < min_free_mb * MB:
        stay = f", of which {min_free_mb} MB are to stay free" if min_free_mb else ""
        raise BackupError(
            f"needs {mb(needed)} MB in {directory}, which has {free // MB} MB free{stay}"
        )


def size(directory: Path) -> int:
    """How many bytes all files below a directory have."""
    return sum(
        (Path(folder) / name).lstat().st_size
        for folder, _, names in os.walk(directory)
        for name in names
    )


def mb(count: int) -> int:
    """Bytes as MB, rounded up."""
    return -(-count // MB)


class _GoneError(Exception):
    """A file was removed, or became something else, after it had been listed."""


def _walk(source: Path, inside: Path, excluded: Callable[[Path], bool]) -> Iterator[Entry]:
    for name in sorted(child.name for child in (source / inside).iterdir()):
        path = inside / name
        if excluded(path):
            continue
        try:
            info = (source / path).lstat()
            if stat.S_ISDIR(info.st_mode):
                below = list(_walk(source, path, excluded))
                yield Entry(path, info)
                yield from below
            elif stat.S_ISREG(info.st_mode):
                yield Entry(path, info, database.is_database(_head(source / path)))
            elif stat.S_ISLNK(info.st_mode):
                yield Entry(path, info)
        except FileNotFoundError:
            continue


def _head(path: Path) -> bytes:
    descriptor = os.open(path, _READ)
    try:
        return os.read(descriptor, _HEAD_BYTES)
    finally:
        os.close(descriptor)


def _size(source: Path, entry: Entry) -> int:
    beside = 0
    if entry.is_database:
        with suppress(OSError):
            log = source / entry.path.with_name(entry.path.name + database.BESIDE[0])
            beside = log.lstat().st_size
    return entry.info.st_size + beside


def _is_unchanged(entry: Entry, previous: Path | None) -> bool:
    """Whether a backup has this very file, by its time and size; a database never counts."""
    if previous is None or entry.is_database:
        return False
    try:
        before = (previous / entry.path).lstat()
    except OSError:
        return False
    return _looks(before) == _looks(entry.info)


def _looks(info: os.stat_result) -> tuple[int, ...]:
    return info.st_mode, info.st_uid, info.st_gid, info.st_size, info.st_mtime_ns


def _copy_entry(found: Survey, entry: Entry, stage: Path, previous: Path | None) -> None:
    source, target = found.source / entry.path, stage / entry.path
    if entry.is_directory:
        target.mkdir(mode=0o700)
    elif entry.is_link:
        try:
            with acting_as(found.owner):
                leads_to = source.readlink()
        except OSError:
            raise _GoneError from None
        target.symlink_to(leads_to)
        os.lchown(target, entry.info.st_uid, entry.info.st_gid)
    elif _is_unchanged(entry, previous):
        assert previous is not None
        target.hardlink_to(previous / entry.path)
    elif entry.is_database:
        database.copy(source, target, found.owner)
        _attributes(target, entry.info)
        if previous is not None:
            _share_if_equal(target, previous / entry.path)
    else:
        _copy_file(source, target, found.owner)
        _attributes(target, entry.info)


def _copy_file(source: Path, target: Path, owner: Owner) -> None:
    try:
        with acting_as(owner):
            descriptor = os.open(source, _READ)
    except FileNotFoundError:
        raise _GoneError from None
    with os.fdopen(descriptor, "rb") as read:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise _GoneError
        with target.open("xb") as made:
            shutil.copyfileobj(read, made, MB)


def _share_if_equal(target: Path, before: Path) -> None:
    """Have one copy on the disk of a database that nobody has written to."""
    if not before.is_file() or before.is_symlink():
        return
    if _looks(before.lstat()) == _looks(target.lstat()) and filecmp.cmp(before, target, False):
        target.unlink()
        target.hardlink_to(before)


def _attributes(target: Path, info: os.stat_result) -> None:
    os.chown(target, info.st_uid, info.st_gid)
    target.chmod(stat.S_IMODE(info.st_mode))
    os.utime(target, ns=(info.st_atime_ns, info.st_mtime_ns))
