"""The command line of kechi_backup."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from . import __doc__ as description
from . import jobs, restore, settings
from .errors import BackupError
from .journal import complain, say
from .settings import App, Settings


def main() -> None:
    """Run the kechi_backup command, and exit: 1 when something could not be done."""
    os.umask(0o077)
    parsed = _parser().parse_args()
    try:
        sys.exit(parsed.does(settings.read(parsed.config), parsed))
    except BackupError as error:
        complain(str(error))
        sys.exit(1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="kechi_backup", description=description)
    parser.add_argument("--config", type=Path, default=settings.CONFIG, help="(%(default)s)")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(
        name: str, does: Callable[[Settings, argparse.Namespace], int], text: str
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


def _run(found: Settings, parsed: argparse.Namespace) -> int:
    apps = _apps(found, parsed.apps)
    with jobs.alone(found):
        failed = jobs.back_up(found, apps)
    if failed:
        complain(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


def _list(found: Settings, parsed: argparse.Namespace) -> int:
    rows = jobs.listed(found, _apps(found, parsed.apps), local=parsed.local)
    if parsed.json:
        say(json.dumps(rows))
    else:
        for row in rows:
            say(f"{row['app']:24} {row['backup']:18} {row['place']}")
    return 0


def _restore(found: Settings, parsed: argparse.Namespace) -> int:
    app = found.app(parsed.app)
    with jobs.alone(found):
        jobs.restore_app(found, app, parsed.backup)
    return 0


def _check(_found: Settings, _parsed: argparse.Namespace) -> int:
    return 0


def _prepare(found: Settings, _parsed: argparse.Namespace) -> int:
    if found.remote:
        there = jobs.repository(found)
        if not there.is_known():
            made = there.prepare()
            say(f"{there.name}: {'made' if made else 'opened'}")
    return 0


def _restic(found: Settings, parsed: argparse.Namespace) -> int:
    environment = jobs.repository(found).environment()
    return subprocess.run(["restic", *parsed.arguments], env=environment, check=False).returncode


def _swap(found: Settings, parsed: argparse.Namespace) -> int:
    restore.swap(found.app(parsed.app))
    return 0
