"""The command line of kechi_backup."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from . import __doc__ as description
from . import jobs, locks, restore, settings
from .errors import BackupError
from .journal import complain, say
from .settings import App, Settings


def main() -> None:
    """Run the kechi_backup command, and exit: 1 when something could not be done."""
    os.umask(0o077)
    signal.signal(signal.SIGTERM, _end)
    parsed = _parser().parse_args()
    try:
        sys.exit(parsed.does(parsed))
    except BackupError as error:
        complain(str(error))
        sys.exit(1)


def _end(signal_: int, _frame: object) -> NoReturn:
    """A play that disables backups ends one that is under way: no half of it is to stay."""
    sys.exit(128 + signal_)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="kechi_backup", description=description)
    parser.add_argument("--config", type=Path, default=settings.CONFIG, help="(%(default)s)")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(
        name: str, does: Callable[[argparse.Namespace], int], text: str
    ) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.set_defaults(does=does)
        return added

    run = command("run", _run, "back up all apps, or those named")
    run.add_argument("apps", nargs="*", metavar="APP")
    listing = command("list", _list, "list the backups of all apps, or of those named")
    listing.add_argument("apps", nargs="*", metavar="APP")
    listing.add_argument("--local", action="store_true", help="do not ask the repository")
    listing.add_argument("--json", action="store_true", help="print an array of objects")
    back = command("restore", _restore, "put a backup in the place of an app's files")
    back.add_argument("app", metavar="APP")
    back.add_argument(
        "--from",
        dest="backup",
        default=jobs.LATEST,
        metavar="BACKUP",
        help="as `list` names it, latest or restic:latest (%(default)s)",
    )
    command("check", _check, "read the configuration, and do nothing")
    command("prepare", _prepare, "open the repository, and make it where there was never one")
    restic = command("restic", _restic, "run restic on the repository: kechi_backup restic -- ls")
    restic.add_argument("arguments", nargs="+", metavar="ARGUMENT")
    swap = command("swap", _swap, "put in place what a restore has made ready; a unit's start asks")
    swap.add_argument("app", metavar="APP")
    return parser


def _apps(found: Settings, names: list[str]) -> list[App]:
    return [found.app(name) for name in names] or list(found.apps)


def _run(parsed: argparse.Namespace) -> int:
    with locks.held(locks.BACKUP, "kechi_backup run", tell=say):
        found = settings.read(parsed.config)  # not before: a play may have changed it meanwhile
        failed = jobs.back_up(found, _apps(found, parsed.apps))
    if failed:
        complain(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


def _list(parsed: argparse.Namespace) -> int:
    found = settings.read(parsed.config)
    rows = jobs.listed(found, _apps(found, parsed.apps), local=parsed.local)
    if parsed.json:
        say(json.dumps(rows))
    else:
        for row in rows:
            say(f"{row['app']:24} {row['backup']:18} {row['place']}")
    return 0


def _restore(parsed: argparse.Namespace) -> int:
    try:
        with locks.held(locks.BACKUP, f"kechi_backup restore {parsed.app}", wait_seconds=0):
            found = settings.read(parsed.config)
            jobs.restore_app(found, found.app(parsed.app), parsed.backup)
    except locks.Busy as busy:
        raise BackupError(
            f"{parsed.app}: not restored, as {busy} is under way; wait for its end, or end a"
            " backup: systemctl stop kechi-backup.service"
        ) from None
    return 0


def _check(parsed: argparse.Namespace) -> int:
    settings.read(parsed.config)
    return 0


def _prepare(parsed: argparse.Namespace) -> int:
    found = settings.read(parsed.config)
    if not found.remote or jobs.repository(found).is_known():
        return 0
    # a backup by the settings of before notes what it has opened, too
    with locks.held(locks.BACKUP, "kechi_backup prepare", tell=say):
        there = jobs.repository(settings.read(parsed.config))
        say(f"{there.name}: {'made' if there.prepare() else 'opened'}")
    return 0


def _restic(parsed: argparse.Namespace) -> int:
    environment = jobs.repository(settings.read(parsed.config)).environment()
    return subprocess.run(["restic", *parsed.arguments], env=environment, check=False).returncode


def _swap(parsed: argparse.Namespace) -> int:
    restore.swap(settings.read(parsed.config).app(parsed.app))
    return 0
