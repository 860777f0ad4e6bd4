"""Putting a backup in an app's place: beside it first, then swapped while nothing uses it.

An SQLite database must not be exchanged under a process that has it open: that one would go on
with the old file and the new one's journal. So the swap is a step of the unit's own start, between
its stop and its first process. Meanwhile systemd holds the sockets, and requests wait in them.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from . import database, tree
from .errors import BackupError
from .identity import Owner
from .settings import App
from .store import identifier

COMMAND = "/usr/local/bin/kechi_backup"
_UNITS = Path("/run/systemd/system")
_DROP_IN = "kechi-restore.conf"
_KEPT = ".before-"
_MODE = 0o2777  # of a directory: no bits that mean nothing there
_CANNOT_LOAD = "; can't load "  # in the status of a vhost server that serves its other apps


def stage_of(app: App) -> Path:
    """Where a backup is made ready, on the same disk: root's alone until it is put in place.

    So nobody gets at what is in it, whatever owners and modes that has by then.
    """
    return app.directory.with_name(f"{app.directory.name}.restoring")


def files_of(app: App) -> Path:
    """The files that are made ready, in the stage."""
    return stage_of(app) / "files"


def clear(app: App) -> None:
    """Remove what was made ready and not put in place."""
    shutil.rmtree(stage_of(app), ignore_errors=True)


def kept(app: App) -> list[Path]:
    """What earlier restores have replaced, the newest first."""
    parent, name = app.directory.parent, app.directory.name
    return sorted(parent.glob(f"{name}{_KEPT}*"), reverse=True)


def make_ready(app: App, needed: int, fetch: Callable[[Path], None]) -> None:
    """Have the backup beside the app's files, whole, sound and the app's own."""
    stage = stage_of(app)
    if not app.directory.is_dir():
        raise BackupError(f"{app.directory} is not there, and so has no owner: run site.yml first")
    owner = Owner.of(app.directory)
    mode = stat.S_IMODE(app.directory.stat().st_mode)
    tree.require_room(needed, app.directory.parent, 0)
    try:
        clear(app)
        stage.mkdir(mode=0o700)
        files = files_of(app)
        files.mkdir(mode=0o700)
        fetch(files)
        _require_plain(files)
        _require_sound(files)
        _give_to(owner, files)
        files.chmod(mode & _MODE)
        os.sync()
    except OSError as error:
        clear(app)
        raise BackupError(f"{error.filename or stage}: {error.strerror or error}") from error
    except BaseException:
        clear(app)
        raise


def swap(app: App) -> None:
    """Put what is ready in place; does nothing where nothing is, as in a unit's second start."""
    files = files_of(app)
    if not files.exists():
        return
    if app.directory.exists():
        app.directory.rename(app.directory.with_name(f"{app.directory.name}{_KEPT}{identifier()}"))
    files.rename(app.directory)
    stage_of(app).rmdir()


def put_in_place(app: App) -> str:
    """Swap, with the unit that uses the files restarted around it; say what was done to it."""
    if not app.unit or _show(app.unit, "ActiveState") == "inactive":
        swap(app)
        return f"{app.unit} does not run" if app.unit else "nothing was restarted"
    with _drop_in(app):
        done = subprocess.run(
            ["systemctl", "restart", app.unit], capture_output=True, text=True, check=False
        )
    if done.returncode:
        raise BackupError(f"{app.unit} does not start with it: {done.stderr.strip()}")
    _, found, missing = _show(app.unit, "StatusText").partition(_CANNOT_LOAD)
    if found:
        raise BackupError(f"{app.unit} has started with it, but can't load {missing}")
    return f"{app.unit} was restarted"


@contextmanager
def _drop_in(app: App) -> Iterator[None]:
    """Have the swap done by the unit's next start."""
    folder = _UNITS / f"{app.unit}.d"
    path = folder / _DROP_IN
    folder.mkdir(parents=True, exist_ok=True)
    # "+": as root, and outside of the unit's sandbox
    path.write_text(f"[Service]\nExecStartPre=+{COMMAND} swap {app.name}\n", encoding="ascii")
    try:
        _systemctl("daemon-reload")
        yield
    finally:
        path.unlink()
        with suppress(OSError):  # others may have a drop-in there, too
            folder.rmdir()
        _systemctl("daemon-reload")


def _show(unit: str, name: str) -> str:
    return _systemctl("show", f"--property={name}", "--value", unit).strip()


def _systemctl(*command: str) -> str:
    done = subprocess.run(["systemctl", *command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise BackupError(f"systemctl {' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


def _files(directory: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(directory):
        yield from (Path(folder) / name for name in (*folders, *names))


def _require_sound(stage: Path) -> None:
    for path in _files(stage):
        if not path.is_file() or path.is_symlink():
            continue
        with path.open("rb") as file:
            is_one = database.is_database(file.read(len(database.MAGIC)))
        fault = database.damage(path) if is_one else ""
        if fault:
            raise BackupError(f"{path.relative_to(stage)} of the backup is damaged: {fault}")


def _require_plain(stage: Path) -> None:
    """Refuse what no app can have made, and a backup of one's files doesn't have."""
    for path in _files(stage):
        mode = path.lstat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode)):
            raise BackupError(f"{path.relative_to(stage)} of the backup is no file")


def _give_to(owner: Owner, stage: Path) -> None:
    """By now users may have other numbers than on the machine that it was made on.

    To change the owner of a file takes setuid, setgid and capabilities from it, by the kernel.
    """
    for path in (*_files(stage), stage):
        os.lchown(path, owner.uid, owner.gid)
