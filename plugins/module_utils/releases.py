"""One app's releases on the target: which there are, in which order they were deployed.

``DESTINATION/releases.json`` has them by their names. What is not in it, this collection has not
made: it is neither used nor removed.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

RECORD = "releases.json"
CURRENT = "current"

Record = dict[str, dict[str, Any]]


class ReleaseError(Exception):
    """A release is not there, or a directory is not ours; the message says what is."""


def write_atomically(path: Path, text: str, mode: int = 0o644, group: str = "") -> None:
    """Write a file whole or not at all: an interrupted run or a full disk leaves the old one."""
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    try:
        new.touch(mode=0o600)  # it may hold secrets
        new.write_text(text, encoding="utf-8")
        if group:
            shutil.chown(new, group=group)
        new.chmod(mode)
        new.rename(path)
    except OSError:
        new.unlink(missing_ok=True)
        raise


def point(link: Path, target: Path) -> bool:
    """Have a symlink point somewhere, in one atomic step; says whether it did not before.

    Raises ReleaseError where there is something else, which is not taken away.
    """
    if link.is_symlink():
        if link.readlink() == target:
            return False
    elif link.exists():
        raise ReleaseError(f"{link} is no symlink, and not this role's: move it away")
    new = link.with_name(f".{link.name}.new")
    new.unlink(missing_ok=True)
    new.symlink_to(target)
    new.rename(link)
    return True


def read(destination: Path) -> Record:
    """The releases that have been made here, and are there."""
    return {
        name: entry for name, entry in _noted(destination).items() if present(destination, name)
    }


def _noted(destination: Path) -> Record:
    path = destination / RECORD
    found: Record = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found


def present(destination: Path, name: str) -> bool:
    """Whether a release is there, whole."""
    return bool(name) and (destination / "releases" / name).is_dir()


def note(destination: Path, name: str, **facts: Any) -> None:
    """Add to what is known of a release."""
    record = {**read(destination), name: {**_noted(destination).get(name, {}), **facts}}
    _write(destination, record)


def _write(destination: Path, record: Record) -> None:
    text = json.dumps(record, indent=1, sort_keys=True) + "\n"
    write_atomically(destination / RECORD, text, mode=0o600)  # no neighbour's to read


def current(destination: Path) -> str:
    """The name of the release that is in use, "" where there is none."""
    link = destination / CURRENT
    if not link.is_symlink() or not link.is_dir():
        return ""
    return Path(os.path.realpath(link)).name


def newest_first(record: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The names by the time of their last deploy."""
    return sorted(record, key=lambda name: record[name].get("deployed", 0.0), reverse=True)


def choose(wanted: str, record: Mapping[str, Mapping[str, Any]], now: str) -> str:
    """The release that "current", "previous" or a name means.

    Raises ReleaseError, which lists what is there.
    """
    if wanted == "current":
        if not now:
            raise ReleaseError("it has no release yet: deploy it, or all apps, first")
        return now
    names = newest_first(record)
    if wanted in names:
        return wanted
    found = [name for name in names if wanted != "previous" and name.startswith(wanted)]
    if wanted == "previous":
        older = names[names.index(now) + 1 :] if now in names else []
        older = [name for name in older if not record[name].get("failed")]
        if older:
            return older[0]
        raise ReleaseError(
            f"no release that has served is older than the current one; {listing(record, now)}"
        )
    if len(found) == 1:
        return found[0]
    fault = f'"{wanted}" is the begin of {len(found)} names' if found else f'no release "{wanted}"'
    raise ReleaseError(f"{fault}; {listing(record, now)}")


def listing(record: Mapping[str, Mapping[str, Any]], now: str) -> str:
    """What is there, for people, the newest first."""
    lines = []
    for name in newest_first(record):
        entry = record[name]
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(entry.get("deployed", 0)))
        origin = f", {entry['origin']}" if entry.get("origin") else ""
        marks = ", failed" if entry.get("failed") else ""
        marks += ", current" if name == now else ""
        lines.append(f"{name} ({at} UTC{origin}{marks})")
    return f"there is: {'; '.join(lines)}" if lines else "there is none"


def refuse_foreign(destination: Path) -> None:
    """Raise ReleaseError where a directory holds what this collection has not put there."""
    if not destination.is_dir() or (destination / RECORD).is_file():
        return
    link = destination / CURRENT
    ours = {"releases", "shared", f".{RECORD}.new"}
    if link.is_symlink() and link.readlink().parent.name == "releases":
        ours.add(CURRENT)
    found = sorted(path.name for path in destination.iterdir())
    if not set(found) <= ours:
        raise ReleaseError(
            f"{destination} is there already, and not this role's; it holds {', '.join(found[:5])}:"
            " move it away, or give the app another name"
        )


def prune(destination: Path, keep: int, needed: Collection[str]) -> None:
    """Remove the oldest releases, but none that is needed."""
    record = read(destination)
    names = newest_first(record)
    kept = {*names[:keep], *needed, current(destination)}
    gone = [name for name in names if name not in kept]
    for name in gone:
        shutil.rmtree(destination / "releases" / name)
        del record[name]
    if gone:
        _write(destination, record)
