"""The role `backup`: numbers, paths, and a repository that restic can be asked for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from ..settings import MISSING, problem
from .common import Machine, Values, at_least

# what stands in a unit's line as it is
PLAIN_PATH = re.compile(r"/[^\s\"'\\%:]*")
NAME = re.compile(r"[a-z0-9][a-z0-9-]*")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
OWN_VARIABLES = {
    "RESTIC_REPOSITORY": "backup_restic_repository",
    "RESTIC_PASSWORD": "backup_restic_password",
}


def backup(values: Values, _machine: Machine) -> Iterator[str]:
    """Numbers and paths, and a repository that restic can be asked for."""
    yield from at_least(values, "backup_keep", 1, "backups")
    yield from at_least(values, "backup_min_free_mb", 0, "MB")
    yield from at_least(values, "backup_random_delay_seconds", 0, "seconds")
    yield from at_least(values, "backup_timeout_seconds", 60, "seconds")
    yield from at_least(values, "backup_memory_max_mb", 64, "MB")
    yield from _paths(values)
    yield from _restic(values)


def _paths(values: Values) -> Iterator[str]:
    plain = "is not an absolute path without spaces, quotes, \\, % and :"
    into = str(values["backup_directory"])
    if not PLAIN_PATH.fullmatch(into):
        yield problem("backup_directory", values["backup_directory"], plain)
    seen: set[str] = set()
    for number, app in enumerate(values["backup_apps"]):
        path, name = f"backup_apps[{number}]", str(app["name"])
        if not NAME.fullmatch(name):
            allowed = 'is not a name; allowed: small letters, digits and "-"'
            yield problem(f"{path}.name", app["name"], allowed, app)
        if name in seen:
            yield problem(f"{path}.name", app["name"], "is taken by an app before it", app)
        seen.add(name)
        if not PLAIN_PATH.fullmatch(str(app["directory"])):
            yield problem(f"{path}.directory", app["directory"], plain, app)
        elif Path(into).is_relative_to(str(app["directory"])):
            fault = f"holds backup_directory ({into}); allowed: one outside of the other"
            yield problem(f"{path}.directory", app["directory"], fault, app)


def _restic(values: Values) -> Iterator[str]:
    """No sentence here shows a value that may hold a password."""
    repository = str(values["backup_restic_repository"])
    password = str(values["backup_restic_password"])
    if repository and not (":" in repository or PLAIN_PATH.fullmatch(repository)):
        fault = "is neither an absolute path nor SCHEME:PLACE, as sftp:user@host:/path"
        yield problem("backup_restic_repository", repository, fault)
    if repository and not password:
        yield problem(
            "backup_restic_password", MISSING, "a repository (backup_restic_repository) needs one"
        )
    for name in values["backup_restic_environment"]:
        if name in OWN_VARIABLES:
            fault = f"is not for here; allowed: {OWN_VARIABLES[name]}"
            yield problem("backup_restic_environment", name, fault)
        elif not VARIABLE.fullmatch(str(name)):
            yield problem("backup_restic_environment", name, "is not the name of a variable")
    keep = values["backup_restic_keep"]
    for name, count in keep.items():
        if int(count) < 0:
            yield problem(f"backup_restic_keep.{name}", count, "is negative", keep)
    if not any(int(count) for count in keep.values()):
        yield problem("backup_restic_keep", keep, "keeps nothing; allowed: one of them above 0")
