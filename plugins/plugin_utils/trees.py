"""Directory trees as content: which files count, their digest, and an archive that repeats."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterator
from pathlib import Path

IGNORED = frozenset({".git", ".venv", "__pycache__", "node_modules", ".mypy_cache", ".ruff_cache"})
IGNORED_SUFFIXES = frozenset({".pyc", ".sqlite3", ".sqlite3-wal", ".sqlite3-shm"})


def files(source: Path) -> Iterator[Path]:
    """The files of a tree in a fixed order, without what a checkout or a run leaves behind."""
    for path in sorted(source.iterdir()):
        if path.name in IGNORED or path.suffix in IGNORED_SUFFIXES:
            continue
        if path.is_dir() and not path.is_symlink():
            yield from files(path)
        else:
            yield path


def _mode(path: Path) -> int:
    return 0o755 if path.stat().st_mode & 0o100 else 0o644


def digest(source: Path, inside: str = "") -> str:
    """Twelve hex digits for the names, run bits and contents of a tree.

    Raises:
        OSError: a file that can't be read.
    """
    sum_ = hashlib.sha256(inside.encode())
    for path in files(source):
        name = path.relative_to(source).as_posix()
        content = path.read_bytes()
        sum_.update(f"{name}\0{_mode(path):o}\0{len(content)}\0".encode())
        sum_.update(content)
    return sum_.hexdigest()[:12]


def archive(source: Path, target: Path, inside: str = "") -> None:
    """Pack a tree: symlinks as what they point at, root as owner, no times."""

    def cleaned(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = 0
        member.uname = member.gname = "root"
        member.mtime = 0
        member.mode = 0o755 if member.mode & 0o100 else 0o644
        return member

    with tarfile.open(target, "w:gz", compresslevel=1, dereference=True) as tar:
        for path in files(source):
            name = Path(inside) / path.relative_to(source)
            tar.add(path, arcname=name.as_posix(), filter=cleaned)
