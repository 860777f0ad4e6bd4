"""The local backups: DIRECTORY/APP/ID, each complete or not there."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import BackupError

_ID = re.compile(r"\d{8}T\d{6}Z")
_PART = ".part"


def identifier(now: float | None = None) -> str:
    """The name of a backup made now: its time in UTC, which sorts."""
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))


class Store:
    """The backups of one app."""

    def __init__(self, directory: Path, app: str) -> None:
        self._directory = directory / app

    def names(self) -> list[str]:
        """The complete backups, the newest first."""
        try:
            found = [path.name for path in self._directory.iterdir() if _ID.fullmatch(path.name)]
        except FileNotFoundError:
            return []
        return sorted(found, reverse=True)

    def path(self, name: str) -> Path:
        """Where a backup is; raises BackupError where there is none of that name."""
        if name not in self.names():
            known = ", ".join(self.names()) or "none"
            raise BackupError(f"no backup {name} in {self._directory}; there are: {known}")
        return self._directory / name

    def newest(self) -> Path | None:
        """The newest backup, if there is one."""
        return next((self._directory / name for name in self.names()), None)

    @contextmanager
    def making(self, name: str) -> Iterator[Path]:
        """Give a name for a new directory; it becomes the backup if the block ends well."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if (self._directory / name).exists():
            raise BackupError(f"{self._directory / name} is there already")
        for leftover in self._directory.glob(f"*{_PART}"):  # a run was interrupted
            shutil.rmtree(leftover)
        part = self._directory / f"{name}{_PART}"
        try:
            yield part
            os.sync()  # what has its final name is on the disk
            part.rename(self._directory / name)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise

    def prune(self, keep: int) -> list[str]:
        """Remove all but the newest, and name what was removed."""
        old = self.names()[keep:]
        for name in old:
            # not half of it under its name, should this be interrupted
            part = (self._directory / name).rename(self._directory / f"{name}{_PART}")
            shutil.rmtree(part)
        return old
