"""What the role has written: which apps, where to, and how much stays."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import BackupError

CONFIG = Path("/etc/kechi/backup.json")


@dataclass(frozen=True)
class App:
    """An app's persistent files, and the unit that uses them ("" where there is none)."""

    name: str
    directory: Path
    unit: str


@dataclass(frozen=True)
class Settings:
    """All of it; `remote` is restic's environment, empty where there is no repository."""

    host: str
    apps: tuple[App, ...]
    directory: Path
    state: Path
    keep: int
    min_free_mb: int
    exclude: tuple[str, ...]
    restic_keep: Mapping[str, int]
    remote: Mapping[str, str]

    def app(self, name: str) -> App:
        """Find an app; raises BackupError where there is none of that name."""
        for app in self.apps:
            if app.name == name:
                return app
        known = ", ".join(app.name for app in self.apps) or "none"
        raise BackupError(f"{name}: no such app on this machine; known: {known}")


def read(path: Path) -> Settings:
    """Read the file, and the secrets that it names; raises BackupError where they are unusable."""
    found = _load(path)
    try:
        return Settings(
            host=str(found["host"]),
            apps=tuple(
                App(str(app["name"]), Path(app["directory"]), str(app.get("unit", "")))
                for app in found["apps"]
            ),
            directory=Path(found["directory"]),
            state=Path(found["state"]),
            keep=int(found["keep"]),
            min_free_mb=int(found["min_free_mb"]),
            exclude=tuple(map(str, found["exclude"])),
            restic_keep={str(name): int(count) for name, count in found["restic_keep"].items()},
            remote={str(name): str(value) for name, value in _load(Path(found["secrets"])).items()},
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BackupError(f"{path}: {type(error).__name__}: {error}") from error


def _load(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BackupError(f"{path}: {error}") from error
    if not isinstance(found, dict):
        raise BackupError(f"{path}: is no mapping")
    return found
