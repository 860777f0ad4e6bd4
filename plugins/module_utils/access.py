"""Who may read what a pool runs: the pool itself, nginx what it serves, and no neighbour.

A directory that others may not enter hides all that is in it, whatever the modes there are, and
equal files that are hard links of several pools' as well. So few modes are enough, and are looked
at by every run. All of these directories are root's, and so is the way to them.
"""

from __future__ import annotations

import grp
import os
import stat
from collections.abc import Collection
from pathlib import Path, PurePosixPath

ROOTS = 0o700
PRIVATE = 0o750  # root's, and the group's to read
PASSED = 0o751  # the same, and others get through it to what they know the name of
PASSED_BY_ALL = 0o711
PUBLIC = 0o755
RUNS = 0o111


class AccessError(Exception):
    """A group is not there; the message names it."""


def group_id(name: str) -> int:
    """The number of a group. Raises AccessError."""
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise AccessError(f"there is no group {name}") from None


def differs(path: Path, group: int, mode: int) -> bool:
    """Whether a directory or file that is there has another owner, group or mode."""
    found = path.lstat()
    return (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) != (os.geteuid(), group, mode)


def give(path: Path, group: int, mode: int) -> bool:
    """Give a directory or file its group and mode; says whether it had others. No link is one."""
    if path.is_symlink() or not differs(path, group, mode):
        return False
    os.chown(path, os.geteuid(), group, follow_symlinks=False)
    path.chmod(mode)
    return True


def top_mode(public: Collection[str]) -> int:
    """The mode of a release with such public directories."""
    return PASSED if public else PRIVATE


def restrict(top: Path, group: int, public: Collection[str]) -> None:
    """Have a release read by a group alone, but for directories of it that are everybody's.

    What lies beside the way to a public directory is closed before the way is opened.

    Args:
        top: the release.
        group: the number of the group.
        public: the directories, by their paths in it; some releases may not have them.
    """
    shown = {top / name for name in public}
    parents = {top / parent for name in public for parent in PurePosixPath(name).parents}
    ways = [way for way in parents if shown.isdisjoint((way, *way.parents)) and way.is_dir()]
    for way in sorted(ways, key=lambda path: len(path.parts), reverse=True):
        for entry in way.iterdir():
            if entry not in shown and entry not in ways:
                give(entry, group, PRIVATE if entry.is_dir() else _file(entry, PRIVATE & ~RUNS))
        give(way, group, PASSED)
    for folder in shown:
        if folder.is_dir() and not folder.is_symlink():
            _open(folder)
    give(top, group, top_mode(public))


def _file(path: Path, mode: int) -> int:
    """The mode of a file: who may read it may run it, where its owner may."""
    runs = path.lstat().st_mode & stat.S_IXUSR
    return mode | ((mode >> 2) & RUNS if runs else 0)


def _open(folder: Path) -> None:
    """Have a directory and all that is in it be everybody's to read."""
    for name, _, files in os.walk(folder):
        for file in files:
            give(Path(name, file), os.getegid(), _file(Path(name, file), PUBLIC & ~RUNS))
        give(Path(name), os.getegid(), PUBLIC)
