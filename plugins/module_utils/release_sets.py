"""A pool's release sets on the target: what runs together, and is switched together.

A set is a directory, ``/srv/kechi/POOL/sets/ID``, with all that a generation is made of: a symlink
to each app's release, one to the virtualenv, the pool file, and the units that go with it. One
symlink, ``/srv/kechi/POOL/current``, says which set is in use; what others look at (the pool
file in /etc, ``venv``, each app's ``current``) leads through it. ``good`` is the last set that has
passed the health gate: what a failed deploy goes back to.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from . import access, environments, releases

ROOT = Path("/srv/kechi")
APPS = Path("/srv/www")
POOL_FILES = Path("/etc/kechi/pools")
UNITS = Path("/etc/systemd/system")
ABOUT = "set.json"  # written last: a set without it is not whole
POOL_FILE = "pool.toml"
DROP_IN = "pool.conf"
NAME = re.compile(r"^[0-9a-f]{12}$")


def identity(parts: dict[str, Any]) -> str:
    """The name of a set: twelve hex digits for all that it is made of."""
    text = json.dumps(parts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def path_mode(path: Path) -> int:
    """The permissions of a file."""
    return stat.S_IMODE(path.stat().st_mode)


class Sets:
    """The sets of one pool."""

    def __init__(self, pool: str, root: Path = ROOT, apps: Path = APPS,
                 pool_files: Path = POOL_FILES, units: Path = UNITS) -> None:  # fmt: skip
        self.pool = pool
        self.folder = root / pool
        self._apps, self._pool_files, self._units = apps, pool_files, units

    def path(self, name: str) -> Path:
        """A set's directory."""
        return self.folder / "sets" / name

    @property
    def active(self) -> str:
        """The set in use, "" where there is none."""
        return self._named("current")

    @property
    def good(self) -> str:
        """The last set that has passed the health gate, "" where there is none."""
        return self._named("good")

    def _named(self, link: str) -> str:
        path = self.folder / link
        name = path.readlink().name if path.is_symlink() else ""
        return name if name and (self.path(name) / ABOUT).is_file() else ""

    def about(self, name: str) -> dict[str, Any]:
        """What a set says of itself."""
        path = self.path(name) / ABOUT
        found: dict[str, Any] = json.loads(path.read_text()) if name and path.is_file() else {}
        return found

    def releases(self, name: str) -> dict[str, str]:
        """The release of each app in a set."""
        return {app: Path(path).name for app, path in self.about(name).get("apps", {}).items()}

    @property
    def served(self) -> list[str]:
        """The apps of the set in use."""
        return sorted(self.releases(self.active))

    def sockets(self, name: str) -> list[str]:
        """The units of the sockets that a set's isolated apps have."""
        return sorted(path.name for path in self.path(name).glob("units/*.socket"))

    def unit_files(self, name: str) -> dict[Path, Path]:
        """Where each unit file of a set goes, and where it is."""
        drop_ins = self._units / f"kechi@{self.pool}.service.d"
        return {
            (drop_ins if path.name in (DROP_IN, environments.FILE) else self._units)
            / path.name: path
            for path in sorted(self.path(name).glob("units/*"))
        }

    def link(self, name: str, apps: dict[str, str], virtualenv: str) -> None:
        """Have the symlinks of a set."""
        wanted = {Path("apps") / app: Path(release) for app, release in apps.items()}
        if virtualenv:
            wanted[Path("venv")] = Path(virtualenv)
        (self.path(name) / "apps").mkdir(parents=True, exist_ok=True)
        for link, target in wanted.items():
            releases.point(self.path(name) / link, target)

    def _modes(self) -> Iterator[tuple[Path, int]]:
        """The directories and files whose modes keep neighbours out, each with its own.

        Others get through to a release's public directories by names, and list none.
        """
        yield self.folder, access.PASSED_BY_ALL
        yield self.folder / "sets", access.PASSED_BY_ALL
        for path in self._made("sets"):
            yield path, access.PASSED_BY_ALL
            yield path / "apps", access.PASSED_BY_ALL
            yield path / "units", access.ROOTS
            yield path / ABOUT, access.ROOTS & ~access.RUNS

    @property
    def readable(self) -> list[Path]:
        """What neighbours of the pool can read of its sets, or what it can't read itself."""
        return [path for path, mode in self._modes()
                if path.exists() and access.differs(path, os.getegid(), mode)]  # fmt: skip

    def restrict(self) -> None:
        """Have nobody but root read or list what pools don't read themselves."""
        for path, mode in self._modes():
            if path.exists():
                access.give(path, os.getegid(), mode)

    def activate(self, name: str) -> bool:
        """Use a set: its units, then, in one step, all else; says whether units have changed."""
        changed = False
        for target, source in self.unit_files(name).items():
            content = source.read_text(encoding="utf-8")
            if not target.is_file() or target.read_text(encoding="utf-8") != content:
                target.parent.mkdir(exist_ok=True)
                releases.write_atomically(target, content, path_mode(source))
                changed = True
        current = self.folder / "current"
        for app in self.releases(name):
            releases.point(self._apps / app / releases.CURRENT, current / "apps" / app)
        if (self.path(name) / POOL_FILE).is_file():
            releases.point(self.folder / "venv", Path("current") / "venv")
            releases.point(self._pool_files / f"{self.pool}.toml", current / POOL_FILE)
        releases.point(current, Path("sets") / name)
        return changed

    def deactivate(self) -> None:
        """Use no set: what leads through it leads nowhere."""
        (self.folder / "current").unlink(missing_ok=True)

    def confirm(self, name: str) -> None:
        """Note that a set has passed the health gate."""
        os.utime(self.path(name))
        releases.point(self.folder / "good", Path("sets") / name)

    def prune(self, keep: int) -> None:
        """Remove old sets, and the virtualenvs and releases that no set needs any more."""
        sets = self._made("sets")
        kept = [path for path in sets if path.name in (self.active, self.good)]
        others = [path for path in sets if path not in kept and (path / ABOUT).is_file()]
        others.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        kept += others[: max(keep - 1, 0)]
        for path in sets:
            if path not in kept:
                shutil.rmtree(path)
        virtualenvs = {
            (path / "venv").readlink().name for path in kept if (path / "venv").is_symlink()
        }
        for path in self._made("venvs"):
            if path.name not in virtualenvs:
                shutil.rmtree(path)
        for app in self.releases(self.active):
            # another pool may have had the app
            used = self.folder.parent.glob(f"*/sets/*/apps/{app}")
            releases.prune(self._apps / app, keep, {path.readlink().name for path in used})

    def _made(self, folder: str) -> list[Path]:
        """The directories that this collection has made: they have names as it gives them."""
        return [path for path in (self.folder / folder).glob("*") if NAME.match(path.name)]
