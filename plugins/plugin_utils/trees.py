"""Directory trees as content: which files count, their digest, and an archive that repeats.

No link is followed out of a tree: its content may be a stranger's, and what is sent is readable on
the target.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

IGNORED = frozenset({".git", ".venv", "__pycache__", "node_modules", ".mypy_cache", ".ruff_cache"})
IGNORED_SUFFIXES = frozenset({".pyc", ".sqlite3", ".sqlite3-wal", ".sqlite3-shm"})
MOST_FILES = 50_000  # links to directories can multiply what a tree holds
_NAMES = "surrogateescape"  # of names that are no UTF-8


class TreeError(Exception):
    """A tree holds what can't be sent; the message names it."""


@dataclass(frozen=True)
class File:
    """A file of a tree: its name there, and the regular file that has its content."""

    name: str
    path: Path

    @property
    def mode(self) -> int:
        """0755 where its owner may run it, else 0644."""
        return 0o755 if self.path.stat().st_mode & stat.S_IXUSR else 0o644


def files(source: Path, within: Path | None = None) -> Iterator[File]:
    """The files of a tree in a fixed order, without what a checkout or a run leaves behind.

    A link counts as what it points at, in the tree, or in the directory `within` around it.

    Raises:
        TreeError: a link out of the tree, to what is left out, to nothing or to a directory that
            it is in; what is neither a file nor a directory; more than MOST_FILES.
        OSError: a directory that can't be read.
    """
    top = source.resolve(strict=True)
    bound = top if within is None else within.resolve(strict=True)
    for count, file in enumerate(_files(bound, top, Path(), (top,)), start=1):
        if count > MOST_FILES:
            raise TreeError(f"{top} has more than {MOST_FILES} files")
        yield file


def _files(top: Path, folder: Path, inside: Path, above: tuple[Path, ...]) -> Iterator[File]:
    for entry in sorted(folder.iterdir()):
        if _is_left_out(entry.name):
            continue
        name = inside / entry.name
        path = _target(top, entry, name) if entry.is_symlink() else entry
        kind = path.lstat().st_mode
        if stat.S_ISDIR(kind):
            if path in above:
                raise TreeError(f"{name} is a link to {path}, a directory that it is in")
            yield from _files(top, path, name, (*above, path))
        elif stat.S_ISREG(kind):
            yield File(name.as_posix(), path)
        else:
            raise TreeError(f"{name} is neither a file nor a directory: take it out of {top}")


def _is_left_out(name: str) -> bool:
    return name in IGNORED or Path(name).suffix in IGNORED_SUFFIXES


def _target(top: Path, link: Path, name: Path) -> Path:
    """The file or directory of the tree that a link ends at; raises TreeError."""
    shown = f"{name} is a link to {os.readlink(link)}"  # noqa: PTH115 - as it is written
    try:
        path = link.resolve(strict=True)
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop, before Python 3.13
        raise TreeError(f"{shown}, which is not there") from error
    if not path.is_relative_to(top):
        raise TreeError(f"{shown}, outside of {top}: only files of the tree are sent; copy it in")
    if any(map(_is_left_out, path.relative_to(top).parts)):
        raise TreeError(f"{shown}, which is not sent: copy it to another name")
    return path


def digest(source: Path, inside: str = "", within: Path | None = None) -> str:
    """Twelve hex digits for the names, run bits and contents of a tree.

    Raises:
        TreeError: as `files` does.
        OSError: a file that can't be read.
    """
    sum_ = hashlib.sha256(inside.encode())
    for file in files(source, within):
        content = file.path.read_bytes()
        sum_.update(f"{file.name}\0{file.mode:o}\0{len(content)}\0".encode(errors=_NAMES))
        sum_.update(content)
    return sum_.hexdigest()[:12]


def archive(source: Path, target: Path, inside: str = "", within: Path | None = None) -> None:
    """Pack a tree: regular files alone, root as owner, no times. Raises as `digest` does."""
    with tarfile.open(target, "w:gz", compresslevel=1) as tar:
        for file in files(source, within):
            member = tarfile.TarInfo((Path(inside) / file.name).as_posix())
            member.uname = member.gname = "root"
            member.mode = file.mode
            with file.path.open("rb") as content:
                member.size = os.fstat(content.fileno()).st_size
                tar.addfile(member, content)
