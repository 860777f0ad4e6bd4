"""Acting as the user whom files belong to."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Owner:
    """A user and a group, by number."""

    uid: int
    gid: int

    @classmethod
    def of(cls, path: Path) -> Owner:
        """The owner of a file or directory."""
        info = path.stat()
        return cls(info.st_uid, info.st_gid)

    @classmethod
    def of_open(cls, descriptor: int) -> Owner:
        """The owner of what is open."""
        info = os.fstat(descriptor)
        return cls(info.st_uid, info.st_gid)


@contextmanager
def acting_as(owner: Owner) -> Iterator[None]:
    """Open files as the owner would: no symlink or race of an app gets at what is not its own.

    What is open stays open, so that root may write into what it has opened before.
    """
    if os.geteuid() != 0 or owner.uid == 0:
        yield
        return
    gid, groups = os.getegid(), os.getgroups()
    os.setgroups([owner.gid])
    os.setegid(owner.gid)
    os.seteuid(owner.uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(gid)
        os.setgroups(groups)
