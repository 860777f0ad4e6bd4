"""Unpack tar and zip files of strangers, by rules that are the same on any Python.

An archive is read twice: first its names, of which each has to be allowed, then its contents. While
files are written there is no link in the folder; links come last, and only to what the archive has.
`tarfile`'s own filter "data" could be led outside before Python 3.11.13, 3.12.11 and 3.13.4
(CVE-2025-4517), so that nothing here leans on it.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

# more than any app has that one VPS of 1 GB serves
MOST_MEMBERS = 50_000
MOST_BYTES = 1 << 30
MOST_LINK_BYTES = 4096  # as long as a path may be (PATH_MAX)
_MOST_HEADER_BYTES = 1 << 20  # what tarfile reads at once: a long name, extended attributes
_CHUNK_BYTES = 1 << 16
_EXTENSIONS = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)
_UNIX = 3  # zipfile.ZipInfo.create_system of archives that have modes
_OPENERS: tuple[tuple[bytes, Callable[[Path], Any]], ...] = (
    (b"\x1f\x8b", gzip.open),
    (b"BZh", bz2.open),
    (b"\xfd7zXZ\x00", lzma.open),
)


class ArchiveError(Exception):
    """An archive is damaged, too large, or holds what is not allowed; the message says which."""


@dataclass(frozen=True)
class Limits:
    """How much an archive may hold: files, directories and links together, and their bytes."""

    members: int = MOST_MEMBERS
    bytes: int = MOST_BYTES


@dataclass(frozen=True)
class _Member:
    """One name of an archive: a directory, a file with its content, or a link with its target."""

    name: str
    size: int = 0
    position: int = 0  # of the content: read in this order, a stream is decompressed once
    executable: bool = False
    content: Callable[[], IO[bytes]] | None = None
    link: str | None = None

    @property
    def parts(self) -> tuple[str, ...]:
        return _parts(self.name)


def unpack(archive: Path, folder: Path, limits: Limits | None = None) -> None:
    """Unpack a tar (plain, gzip, bzip2, xz) or zip file into an empty folder.

    Files are 0644, or 0755 where their owner may run them; hard links become copies.

    Args:
        archive: the file.
        folder: an empty directory that nobody else writes to.
        limits: how much it may hold; by default MOST_MEMBERS and MOST_BYTES.

    Raises:
        ArchiveError: absolute names or ones with "..", two members of one name, links to outside
            or to nothing, devices, pipes, encrypted or damaged content, or more than is allowed.
            What had been unpacked by then stays in the folder.
        OSError: the archive can't be read, or the folder not be written to.
    """
    limits = limits or Limits()
    with ExitStack() as opened:
        try:
            if zipfile.is_zipfile(archive):
                members = _zip_members(opened.enter_context(zipfile.ZipFile(archive)))
            else:
                members = _tar_members(opened.enter_context(_tar(archive, opened, limits)))
            _write(_allowed(members, limits), folder, limits)
        except (
            tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError,
            NotImplementedError, RuntimeError, UnicodeError, ValueError,
        ) as error:  # fmt: skip
            raise ArchiveError(f"it is damaged, or no archive: {error}") from error


class _Header(tarfile.TarInfo):
    """One header of a tar stream; what extends it is refused before all of that is in memory."""

    def _proc_member(self, stream: tarfile.TarFile) -> tarfile.TarInfo:
        # newer Pythons read it piece by piece, of which each is small
        if self.type in _EXTENSIONS and self.size > _MOST_HEADER_BYTES:
            raise ArchiveError(f"a header of {self.size} bytes; {_MOST_HEADER_BYTES} are allowed")
        member: tarfile.TarInfo = super()._proc_member(stream)  # type: ignore[misc]
        return member


class _Bounded:
    """A tar stream of which only so much is read, and no more than a header's size at once."""

    def __init__(self, stream: IO[bytes], most_bytes: int) -> None:
        self._stream = stream
        self._most_bytes = most_bytes

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _MOST_HEADER_BYTES:
            raise ArchiveError(f"{size} bytes at once; {_MOST_HEADER_BYTES} are allowed")
        if self._stream.tell() + size > self._most_bytes:
            raise ArchiveError(f"it is longer than {self._most_bytes} bytes when decompressed")
        return self._stream.read(size)

    def seek(self, position: int) -> int:
        if position > self._most_bytes:
            raise ArchiveError(f"it is longer than {self._most_bytes} bytes when decompressed")
        return self._stream.seek(position)

    def tell(self) -> int:
        return self._stream.tell()


def _tar(archive: Path, opened: ExitStack, limits: Limits) -> tarfile.TarFile:
    with archive.open("rb") as file:
        magic = file.read(8)
    opener: Callable[[Path], Any] = next(
        (opener for begin, opener in _OPENERS if magic.startswith(begin)),
        lambda path: path.open("rb"),
    )
    stream = opened.enter_context(opener(archive))
    # a header and the rest of its last block for each member, and its extended header
    most_bytes = limits.bytes + limits.members * 8 * tarfile.BLOCKSIZE
    bounded = cast("IO[bytes]", _Bounded(stream, most_bytes))
    return tarfile.open(fileobj=bounded, mode="r:", errorlevel=2, tarinfo=_Header)


def _tar_members(tar: tarfile.TarFile) -> Iterator[_Member]:
    files: dict[tuple[str, ...], tarfile.TarInfo] = {}
    for member in tar:
        parts = _parts(member.name)
        if member.isdir():
            yield _Member(member.name)
        elif member.issym():
            yield _Member(member.name, link=member.linkname)
        elif member.isreg() and not member.issparse():
            files[parts] = member
            yield _file(tar, member, member.name)
        elif member.islnk() and _parts(member.linkname) in files:
            yield _file(tar, files[_parts(member.linkname)], member.name)
        elif member.islnk():
            raise ArchiveError(f"{member.name!r} is a hard link to {member.linkname!r}, no file")
        else:
            kind = "sparse" if member.issparse() else "a device or a pipe"
            raise ArchiveError(f"{member.name!r} is {kind}: files, directories and links may be in")


def _file(tar: tarfile.TarFile, member: tarfile.TarInfo, name: str) -> _Member:
    def content() -> IO[bytes]:
        return cast("IO[bytes]", tar.extractfile(member))

    executable = bool(member.mode & stat.S_IXUSR)
    return _Member(name, member.size, member.offset_data, executable, content)


def _zip_members(packed: zipfile.ZipFile) -> Iterator[_Member]:
    for info in packed.infolist():
        mode = info.external_attr >> 16 if info.create_system == _UNIX else 0
        kind = stat.S_IFMT(mode)
        if info.is_dir():
            yield _Member(info.filename)
        elif kind == stat.S_IFLNK:
            with packed.open(info) as target:
                yield _Member(info.filename, link=os.fsdecode(target.read(MOST_LINK_BYTES)))
        elif kind in (0, stat.S_IFREG):
            yield _zip_file(packed, info, executable=bool(mode & stat.S_IXUSR))
        else:
            raise ArchiveError(f"{info.filename!r} is a device or a pipe")


def _zip_file(packed: zipfile.ZipFile, info: zipfile.ZipInfo, *, executable: bool) -> _Member:
    def content() -> IO[bytes]:
        return packed.open(info)

    return _Member(info.filename, info.file_size, info.header_offset, executable, content)


def _parts(name: str) -> tuple[str, ...]:
    """The components of a name, which may begin with "./"; raises ArchiveError."""
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if name.startswith("/") or ".." in parts or "\0" in name or "\\" in name:
        raise ArchiveError(f'the name {name!r} may reach outside: relative, without ".." or "\\\\"')
    return parts


def _allowed(members: Iterator[_Member], limits: Limits) -> list[_Member]:
    """All members, when each may be unpacked beside the others; raises ArchiveError."""
    kept: dict[tuple[str, ...], _Member] = {}
    total = 0
    for count, member in enumerate(members, start=1):
        if count > limits.members:
            raise ArchiveError(f"it has more than {limits.members} members")
        if member.size < 0:
            raise ArchiveError(f"{member.name!r} has a size of {member.size}")
        total += member.size
        if total > limits.bytes:
            raise ArchiveError(f"it holds more than {limits.bytes} bytes")
        parts = member.parts
        if not parts:
            continue  # the top itself
        before = kept.get(parts)
        if before is not None and not (_is_directory(before) and _is_directory(member)):
            raise ArchiveError(f"{member.name!r} is in it twice")
        kept[parts] = member
    for parts, member in kept.items():
        for length in range(1, len(parts)):
            above = kept.get(parts[:length])
            if above is not None and not _is_directory(above):
                raise ArchiveError(f"{member.name!r} is below {above.name!r}, no directory")
    return sorted(kept.values(), key=lambda member: member.position)


def _is_directory(member: _Member) -> bool:
    return member.content is None and member.link is None


def _write(members: list[_Member], folder: Path, limits: Limits) -> None:
    left = limits.bytes
    for member in members:
        path = folder.joinpath(*member.parts)
        (path if _is_directory(member) else path.parent).mkdir(parents=True, exist_ok=True)
        if member.content is not None:
            left -= _copy(member, path, left)
    links = [member for member in members if member.link is not None]
    for member in links:
        _link(member, folder)
    top = folder.resolve(strict=True)
    for member in links:
        try:
            end = folder.joinpath(*member.parts).resolve(strict=True)
        except (OSError, RuntimeError) as error:  # RuntimeError: a loop, before Python 3.13
            raise ArchiveError(f"{member.name!r} is a link to nothing: {member.link!r}") from error
        if not end.is_relative_to(top):
            raise ArchiveError(f"{member.name!r} is a link to outside: {member.link!r}")


def _link(member: _Member, folder: Path) -> None:
    target = member.link or ""
    if target.startswith("/") or not 0 < len(os.fsencode(target)) < MOST_LINK_BYTES:
        raise ArchiveError(f"{member.name!r} is a link to outside: {target[:80]!r}")
    folder.joinpath(*member.parts).symlink_to(target)


def _copy(member: _Member, path: Path, most_bytes: int) -> int:
    """Write one file that is not there yet, and return its bytes; what headers say may be wrong."""
    assert member.content is not None
    written = 0
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o755 if member.executable else 0o644)
    with open(descriptor, "wb") as file, member.content() as content:  # noqa: PTH123
        while chunk := content.read(_CHUNK_BYTES):
            written += len(chunk)
            if written > most_bytes:
                raise ArchiveError(f"{member.name!r} holds more than it says")
            file.write(chunk)
    if written != member.size:
        raise ArchiveError(f"{member.name!r} holds {written} bytes and not {member.size}")
    return written
