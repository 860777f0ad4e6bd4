"""What the commands do, app by app: one that fails does not stop the others."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from . import locks, restore, tree
from .errors import BackupError
from .isolation import apart
from .journal import complain, say
from .restic import Repository, Snapshot
from .settings import App, Settings
from .store import Store, identifier

REMOTE = "restic:"
LATEST = "latest"


def repository(found: Settings) -> Repository:
    """The repository; raises BackupError where none is set."""
    if not found.remote:
        raise BackupError("no repository is set (backup_restic_repository)")
    return Repository(found.remote, found.host, found.state)


def back_up(found: Settings, apps: Sequence[App]) -> list[str]:
    """Back up each app, here and then elsewhere, and name those that failed."""
    name = _unused_name([Store(found.directory, app.name) for app in apps])
    failed = _each(apps, "not backed up", lambda app: apart(lambda: _keep_here(found, app, name)))
    if found.remote:
        failed += _send_all(found, [app for app in apps if app.name not in failed])
    return failed


def restore_app(found: Settings, app: App, backup: str) -> None:
    """Put a backup in place of an app's files; raises BackupError where that fails."""
    needed, name, fetch = _source(found, app, backup)
    restore.make_ready(app, needed, fetch)
    older = restore.kept(app)
    try:
        # a play's deploy restarts the same units
        with locks.held(locks.TASK, f"kechi_backup restore {app.name}", tell=say):
            done = restore.put_in_place(app)
    except BackupError as error:
        restore.clear(app)
        new = [path.name for path in restore.kept(app) if path not in older]
        back = f"kechi_backup restore {app.name} --from={new[0]}" if new else ""
        after = f"what was there before comes back by: {back}" if new else "nothing was changed"
        raise BackupError(f"{error}; {after}") from error
    say(f"{app.name}: {name} is in place; {done}")
    for before in restore.kept(app)[:1]:
        say(f"{app.name}: what was there is kept in {before}, until you remove it")


def listed(found: Settings, apps: Sequence[App], *, local: bool) -> list[dict[str, str]]:
    """Every backup that can be restored, by app, the newest first."""
    rows = []
    remote: list[Snapshot] = []
    if found.remote and not local:
        try:
            remote = repository(found).snapshots(own=False)
        except BackupError as error:  # all the more are those of the machine wanted
            complain(str(error))
    for app in apps:
        here = Store(found.directory, app.name)
        rows += [_row(app, name, str(here.path(name))) for name in here.names()]
        rows += [_row(app, path.name, str(path)) for path in restore.kept(app)]
        rows += [
            _row(app, f"{REMOTE}{one.name}", f"{one.host}, {one.time[:19]}")
            for one in remote
            if one.app == app.name
        ]
    return rows


def _row(app: App, backup: str, place: str) -> dict[str, str]:
    return {"app": app.name, "backup": backup, "place": place}


def _each(apps: Sequence[App], fault: str, act: Callable[[App], str]) -> list[str]:
    failed = []
    for app in apps:
        try:
            say(f"{app.name}: {act(app)}")
        except (BackupError, OSError) as error:
            failed.append(app.name)
            complain(f"{app.name}: {fault}: {error}")
        except Exception as error:  # noqa: BLE001 - what nobody has thought of is one app's, too
            failed.append(app.name)
            complain(f"{app.name}: {fault}: {type(error).__name__}: {error}")
    return failed


def _unused_name(stores: Sequence[Store]) -> str:
    """The name of a backup made now: that of the next second, where this one's is taken."""
    while True:
        name = identifier(time.time())
        if not any(name in store.names() for store in stores):
            return name
        time.sleep(0.05)


def _keep_here(found: Settings, app: App, name: str) -> str:
    def excluded(path: Path) -> bool:
        return any(fnmatchcase(f"{app.name}/{path}", pattern) for pattern in found.exclude)

    store = Store(found.directory, app.name)
    previous = store.newest()
    survey = tree.survey(app.directory, excluded)
    found.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = survey.new_bytes(previous)
    tree.require_room(new, found.directory, found.min_free_mb)
    with store.making(name) as part:
        tree.copy(survey, part, previous, found.min_free_mb)
    old = store.prune(found.keep)
    gone = f"; removed {', '.join(old)}" if old else ""
    databases = sum(entry.is_database for entry in survey.entries)
    return f"{store.path(name)}, {databases} databases, {tree.mb(new)} MB new at most{gone}"


def _send_all(found: Settings, apps: Sequence[App]) -> list[str]:
    there = repository(found)
    try:
        if not there.is_known():
            there.prepare()
        before = there.snapshots(own=True)
        there.clear_locks()
    except BackupError as error:
        complain(str(error))
        return [app.name for app in apps]
    failed = _each(apps, "not sent", lambda app: _send(found, there, app, before))
    try:
        there.forget(found.restic_keep)
    except BackupError as error:
        complain(str(error))
        return failed or [there.name]
    return failed


def _send(found: Settings, there: Repository, app: App, before: Sequence[Snapshot]) -> str:
    newest = Store(found.directory, app.name).newest()
    assert newest is not None, "it has just been made"
    if not any(newest.iterdir()):  # which restic can't send
        return "has no files to send"
    parent = next((one.name for one in before if one.app == app.name), "")
    return f"{REMOTE}{there.backup(app.name, newest, parent)} in {there.name}"


def _source(found: Settings, app: App, backup: str) -> tuple[int, str, Callable[[Path], None]]:
    """A backup's size, its name, and what puts its files into an empty directory."""
    if backup.startswith(REMOTE):
        there = repository(found)
        snapshot = backup.removeprefix(REMOTE)
        if snapshot == LATEST:
            own = [one for one in there.snapshots(own=True) if one.app == app.name]
            if not own:
                raise BackupError(f"{app.name}: no backup of it by {found.host} in {there.name}")
            snapshot = own[0].name
        size = there.size(snapshot)
        return size, f"{REMOTE}{snapshot}", lambda stage: there.restore(snapshot, stage)
    store = Store(found.directory, app.name)
    replaced = {path.name: path for path in restore.kept(app)}
    if backup in replaced:
        return _replaced(replaced[backup])
    if backup == LATEST:
        newest = store.newest()
        if newest is None:
            raise BackupError(f"{app.name}: no backup of it in {found.directory}")
        directory = newest
    else:
        directory = store.path(backup)
    return tree.size(directory), directory.name, lambda stage: _copy_into(directory, stage)


def _copy_into(directory: Path, stage: Path) -> None:
    shutil.copytree(directory, stage, symlinks=True, dirs_exist_ok=True)


def _replaced(directory: Path) -> tuple[int, str, Callable[[Path], None]]:
    """The same of what a restore has replaced: it is the app's still, and so read as its user."""
    survey = tree.survey(directory, lambda _path: False)
    return survey.new_bytes(None), directory.name, lambda stage: tree.copy(survey, stage, None)
