"""An app's persistent files as a tree: what is in it, its copy, and what a copy needs.

The app may change the tree while it is looked at. So directories are opened one inside the other,
as the app's user, and no link is followed; nothing is copied of a file but what was there when the
tree was surveyed, for which there was room.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from . import database, safe_paths
from .errors import BackupError
from .identity import Owner, acting_as

MB = 1024 * 1024
MOST_LEVELS = 200
MOST_ENTRIES = 200_000  # so many fit into the memory that a backup has
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # no waiting at a pipe
_DIRECTORY = _READ | os.O_DIRECTORY
_LOOK = os.O_PATH | os.O_DIRECTORY
_LOOK_AT_ROOM = 16  # after so many MB


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
        with _opened(self.source) as top, _opened(previous) as before:
            return sum(
                _size(top, entry)
                for entry in self.entries
                if not (entry.is_directory or entry.is_link or _is_unchanged(entry, before))
            )


def survey(source: Path, excluded: Callable[[Path], bool]) -> Survey:
    """Look at a tree as its owner; raises BackupError where that owner can't.

    Sockets and pipes are left out, and what SQLite keeps beside a database.
    """
    found: list[Entry] = []
    try:
        with _opened(source) as top:
            owner = Owner.of_open(top)
            with acting_as(owner):
                _Looking(source, excluded, found).walk(top, Path())
    except OSError as error:
        raise BackupError(f"{error.filename or source}: {error.strerror}") from error
    databases = {entry.path for entry in found if entry.is_database}
    beside = {
        path.with_name(path.name + suffix) for path in databases for suffix in database.BESIDE
    }
    return Survey(source, owner, tuple(entry for entry in found if entry.path not in beside))


def copy(found: Survey, stage: Path, previous: Path | None, min_free_mb: int = 0) -> None:
    """Copy a tree into the new directory `stage`, sharing unchanged files with `previous`.

    Raises:
        BackupError: something of it can't be copied, or less than `min_free_mb` would stay free.
    """
    stage.mkdir(mode=0o700, exist_ok=True)
    at = found.source
    try:
        with _opened(found.source) as top, _opened(previous) as before:
            copying = _Copying(found, top, stage, before, min_free_mb)
            for entry in found.entries:
                at = found.source / entry.path
                with suppress(_GoneError):  # an app may remove what it likes while we look
                    copying.entry(entry)
        for entry in reversed(found.entries):
            at = stage / entry.path
            if entry.is_directory and at.is_dir():
                _attributes(at, entry.info)
    except OSError as error:
        raise BackupError(f"{at}: {error.strerror}") from error


def require_room(needed: int, directory: Path, min_free_mb: int) -> None:
    """Raise BackupError, with the numbers, where a disk has no room."""
    free = _free(directory)
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


def _free(directory: Path) -> int:
    room = os.statvfs(directory)
    return room.f_bavail * room.f_frsize


@contextmanager
def _opened(directory: Path | None) -> Iterator[int]:
    """A descriptor of a directory that is in one of root's; -1 for none."""
    if directory is None:
        yield -1
        return
    descriptor = safe_paths.open_directory(str(directory))
    try:
        yield descriptor
    finally:
        os.close(descriptor)


class _Looking:
    """A survey on its way: which tree, what of it is left out, and what was found."""

    def __init__(self, source: Path, excluded: Callable[[Path], bool], found: list[Entry]) -> None:
        self._source, self._excluded, self._found = source, excluded, found

    def walk(self, folder: int, inside: Path) -> None:
        if len(inside.parts) > MOST_LEVELS:
            raise BackupError(
                f"{self._source / inside}: directories are nested more than {MOST_LEVELS} deep"
            )
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries)
        for name in names:
            path = inside / name
            if self._excluded(path):
                continue
            if len(self._found) >= MOST_ENTRIES:
                raise BackupError(
                    f"{self._source} has more than {MOST_ENTRIES} files; backup_exclude leaves some"
                    " out"
                )
            try:
                self._look(folder, name, path)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise BackupError(f"{self._source / path}: {error.strerror}") from error

    def _look(self, folder: int, name: str, path: Path) -> None:
        info = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if stat.S_ISLNK(info.st_mode):
            self._found.append(Entry(path, info))
        elif stat.S_ISDIR(info.st_mode):
            below = os.open(name, _DIRECTORY, dir_fd=folder)
            try:
                self._found.append(Entry(path, os.fstat(below)))
                self.walk(below, path)
            finally:
                os.close(below)
        elif stat.S_ISREG(info.st_mode):
            descriptor = os.open(name, _READ, dir_fd=folder)
            try:
                info = os.fstat(descriptor)
                if stat.S_ISREG(info.st_mode):
                    head = os.read(descriptor, len(database.MAGIC))
                    self._found.append(Entry(path, info, database.is_database(head)))
            finally:
                os.close(descriptor)


def _lstat(top: int, path: Path) -> os.stat_result | None:
    """What is at a path below an open directory, by no link; None where nothing is."""
    try:
        folder = safe_paths.open_below(top, path.parts[:-1], _LOOK)
    except OSError:
        return None
    try:
        return os.stat(path.name, dir_fd=folder, follow_symlinks=False)
    except OSError:
        return None
    finally:
        os.close(folder)


def _share(top: int, path: Path, target: Path) -> None:
    """Make `target` another name of a file below an open directory."""
    folder = safe_paths.open_below(top, path.parts[:-1], _LOOK)
    try:
        os.link(path.name, target, src_dir_fd=folder, follow_symlinks=False)
    finally:
        os.close(folder)


def _size(top: int, entry: Entry) -> int:
    beside = None
    if entry.is_database:
        beside = _lstat(top, entry.path.with_name(entry.path.name + database.BESIDE[0]))
    return entry.info.st_size + (beside.st_size if beside else 0)


def _is_unchanged(entry: Entry, previous: int) -> bool:
    """Whether a backup has this very file, by its time and size; a database never counts."""
    if previous < 0 or entry.is_database:
        return False
    before = _lstat(previous, entry.path)
    return before is not None and _looks(before) == _looks(entry.info)


def _looks(info: os.stat_result) -> tuple[int, ...]:
    return info.st_mode, info.st_uid, info.st_gid, info.st_size, info.st_mtime_ns


class _Copying:
    """A copy on its way: where from, where to, and what is to stay free there."""

    def __init__(
        self, found: Survey, top: int, stage: Path, previous: int, min_free_mb: int
    ) -> None:
        self._source, self._owner, self._top = found.source, found.owner, top
        self._stage, self._previous, self._min_free_mb = stage, previous, min_free_mb

    def entry(self, entry: Entry) -> None:
        target = self._stage / entry.path
        if entry.is_directory:
            target.mkdir(mode=0o700)
        elif entry.is_link:
            target.symlink_to(self._leads_to(entry.path))
            os.lchown(target, entry.info.st_uid, entry.info.st_gid)
        elif _is_unchanged(entry, self._previous):
            _share(self._previous, entry.path, target)
        elif entry.is_database:
            self._require_room(_size(self._top, entry))
            most = _free(self._stage) - self._min_free_mb * MB
            database.copy(self._source / entry.path, target, self._owner, most)
            _attributes(target, entry.info)
            self._share_if_equal(entry.path, target)
        else:
            self._file(entry, target)
            _attributes(target, entry.info)

    def _require_room(self, needed: int) -> None:
        require_room(needed, self._stage, self._min_free_mb)

    def _leads_to(self, path: Path) -> str:
        try:
            with acting_as(self._owner):
                folder = safe_paths.open_below(self._top, path.parts[:-1], _LOOK)
                try:
                    return os.readlink(path.name, dir_fd=folder)
                finally:
                    os.close(folder)
        except FileNotFoundError:
            raise _GoneError from None

    def _file(self, entry: Entry, target: Path) -> None:
        try:
            with acting_as(self._owner):
                descriptor = safe_paths.open_below(self._top, entry.path.parts, os.O_RDONLY)
        except FileNotFoundError:
            raise _GoneError from None
        with os.fdopen(descriptor, "rb") as read:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise _GoneError
            left = entry.info.st_size  # what has been added since is the next backup's
            self._require_room(left)
            with target.open("xb") as made:
                count = 0
                while left and (data := read.read(min(MB, left))):
                    made.write(data)
                    left -= len(data)
                    count += 1
                    if count % _LOOK_AT_ROOM == 0:
                        self._require_room(left)

    def _share_if_equal(self, path: Path, target: Path) -> None:
        """Have one copy on the disk of a database that nobody has written to."""
        before = _lstat(self._previous, path) if self._previous >= 0 else None
        if before is None or _looks(before) != _looks(target.lstat()):
            return
        descriptor = safe_paths.open_below(self._previous, path.parts, os.O_RDONLY)
        with os.fdopen(descriptor, "rb") as old, target.open("rb") as new:
            same = all(_pieces_are_equal(old, new))
        if same:
            target.unlink()
            _share(self._previous, path, target)


def _pieces_are_equal(one: BinaryIO, other: BinaryIO) -> Iterator[bool]:
    while True:
        piece = one.read(MB)
        yield piece == other.read(MB)
        if not piece:
            return


def _attributes(target: Path, info: os.stat_result) -> None:
    os.chown(target, info.st_uid, info.st_gid)
    target.chmod(stat.S_IMODE(info.st_mode))
    os.utime(target, ns=(info.st_atime_ns, info.st_mtime_ns))
