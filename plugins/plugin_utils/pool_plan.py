"""What follows from the pools of an inventory: the lists that the role's tasks hand to modules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ..module_utils import environments
from ..plugin_utils.pools import (
    ABSENT,
    APPS_ROOT,
    POOLS_ROOT,
    SOURCES,
    Pool,
    check,
    document,
    has_shared,
    is_isolated,
    is_present,
    present,
    routes,
    socket,
    socket_unit,
    source_directory,
    static_directories,
)
from ..plugin_utils.settings import Spec

UNITS = "/etc/systemd/system"
SERVERS = "/usr/local/lib/kechi/current"  # the code of start_server and vhost_server
CHECK_POOL_FILE = (
    f'/usr/bin/python3 -c \'import sys; sys.path.insert(0, "{SERVERS}");'
    " from supervisor_py.vhost import pool; pool.read(sys.argv[1])' %s"
)
CURRENT = "current"  # the release that is there


@dataclass(frozen=True)
class Choice:
    """What is deployed: everything, one app, or one of its releases that are there.

    With `only`, an app, its pool alone is looked at, and the others there keep their release. With
    `release`, that app gets this one instead of its source.
    """

    only: str = ""
    release: str = ""


def plan(
    pools: Sequence[Pool],
    *,
    spec: Spec,
    inventory: Path,
    server_requirements: Sequence[str],
    choice: Choice,
) -> dict[str, Any]:
    """What the role's tasks work through, each a list for one module call.

    Args:
        pools: ``vhost_app_pools``, checked.
        spec: the options of one pool in ``argument_specs``, for their defaults.
        inventory: the folder that relative paths of sources start at.
        server_requirements: what every virtualenv holds for the vhost server.
        choice: which code is taken.
    """
    absent = [{"name": pool["name"], "state": ABSENT} for pool in pools if not is_present(pool)]
    complete = [_complete(pool, spec) for pool in present(pools)]
    if choice.only:
        absent = []
        complete = [
            pool for pool in complete if choice.only in [app["name"] for app in pool["apps"]]
        ]
    for pool in complete:
        pool["sockets"] = [
            {
                "unit": socket_unit(pool, app),
                "path": socket(pool, app),
                "pool": pool["name"],
                "app": app["name"],
            }
            for app in pool["apps"]
            if is_isolated(app)
        ]
        pool["environment_file"] = (
            f"{_drop_ins(pool)}/{environments.FILE}" if pool["command"] else ""
        )
    return {
        "pools": complete,
        "known": [app["name"] for pool in pools for app in pool["apps"]],
        "known_pools": [pool["name"] for pool in pools],
        "directories": [directory for pool in complete for directory in _directories(pool)],
        "files": [_limits(pool) for pool in complete],
        "packages": ["python3-venv", *(name for pool in complete for name in pool["packages"])],
        "trees": [
            {**_tree(app, inventory, choice), **_readers(pool, app)}
            for pool in complete
            for app in pool["apps"]
        ],
        "server_requirements": list(server_requirements),
        "states": [*absent, *(_state(pool, rolled_back=bool(choice.release)) for pool in complete)],
    }


def virtualenvs(plan_: dict[str, Any], releases: Mapping[str, str]) -> list[dict[str, Any]]:
    """The virtualenvs for releases, as the module `release` returns them."""
    return [
        {
            "folder": f"{POOLS_ROOT}/{pool['name']}/venvs",
            "group": f"kechi-{pool['name']}",
            "hidden": list(_hidden_from_builds(pool)),
            "requirements": plan_["server_requirements"],
            "releases": list(_releases(pool, releases).values()),
        }
        for pool in plan_["pools"]
        if not pool["command"]
    ]


def release_sets(
    plan_: dict[str, Any], releases: Mapping[str, str], paths: Mapping[str, str]
) -> list[dict[str, Any]]:
    """The release set of each pool, of releases and virtualenvs as their modules return them."""
    return [
        {
            "pool": pool["name"],
            "apps": _releases(pool, releases),
            "virtualenv": paths.get(f"{POOLS_ROOT}/{pool['name']}/venvs", ""),
            "routes": routes(pool),
            "static": static_directories(pool),
            "files": list(_set_files(pool, _releases(pool, releases))),
        }
        for pool in plan_["pools"]
    ]


def _releases(pool: Pool, releases: Mapping[str, str]) -> dict[str, str]:
    folders = {app["name"]: f"{APPS_ROOT}/{app['name']}" for app in pool["apps"]}
    return {app: f"{folder}/releases/{releases[folder]}" for app, folder in folders.items()}


def _tree(app: Mapping[str, Any], inventory: Path, choice: Choice) -> dict[str, Any]:
    """Where the code of an app comes from this time."""
    destination = {"destination": f"{APPS_ROOT}/{app['name']}"}
    if choice.only and app["name"] != choice.only:
        return {**destination, "release": CURRENT}
    if choice.release:
        return {**destination, "release": choice.release}
    (kind,) = (kind for kind in SOURCES if app[kind])
    if kind == "git":
        return {**destination, "git": str(app["git"]), "version": str(app["version"])}
    return {**destination, kind: str(source_directory(app[kind], inventory))}


def _readers(pool: Pool, app: Mapping[str, Any]) -> dict[str, Any]:
    """Who may read an app's code: its pool, and everybody what nginx serves of it."""
    public = [entry["directory"] for entry in app["static"] if not has_shared(entry)]
    return {"group": f"kechi-{pool['name']}", "public": sorted(set(public))}


def _hidden_from_builds(pool: Pool) -> Iterator[str]:
    """What a pool may read, and a build for it may not: pool files, and what apps keep."""
    yield f"{POOLS_ROOT}/{pool['name']}/sets"
    for app in pool["apps"]:
        yield f"{APPS_ROOT}/{app['name']}/shared"


def _complete(pool: Pool, spec: Spec) -> dict[str, Any]:
    """A pool with every option, unset ones at their default."""
    full = {name: pool.get(name, option.get("default")) for name, option in spec.items()}
    app_spec: Any = spec["apps"]["options"]
    full["apps"] = [
        {name: app.get(name, option.get("default")) for name, option in app_spec.items()}
        for app in pool["apps"]
    ]
    for app, given in zip(full["apps"], pool["apps"], strict=True):
        if app["asgi"] is not None:  # it has a process of its own, and the default is not said
            app["isolation"] = given.get("isolation")
    return full


def _directories(pool: Pool) -> Iterator[dict[str, str]]:
    yield {"path": _drop_ins(pool)}
    user = f"kechi-{pool['name']}"
    for app in pool["apps"]:
        path = f"{APPS_ROOT}/{app['name']}/shared"
        public = [entry["directory"] for entry in app["static"] if has_shared(entry)]
        # nginx gets through to what it serves, and reads there what the app writes under its umask
        group = {"group": "www-data", "mode": "0710"} if public else {"group": user, "mode": "0750"}
        yield {"path": path, "owner": user, **group}
        for directory in public:
            for parent in (*reversed(PurePosixPath(directory).parents[:-1]), directory):
                yield {
                    "path": f"{path}/{parent}",
                    "owner": user,
                    "group": "www-data",
                    "mode": "2750",
                }


def _drop_ins(pool: Pool) -> str:
    """Where the drop-ins of a pool's unit are."""
    return f"{UNITS}/kechi@{pool['name']}.service.d"


def _limits(pool: Pool) -> dict[str, Any]:
    return {
        "path": f"{_drop_ins(pool)}/limits.conf",
        "template": "limits.conf.j2",
        "item": pool,
    }


def _set_files(pool: Pool, releases: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """What is switched together with the code."""
    name = pool["name"]
    if not pool["command"]:
        yield {
            "path": "pool.toml",
            "template": "pool.toml.j2",
            "item": {"document": document(pool, releases)},
            "group": f"kechi-{name}",
            "mode": "0640",  # an app's environment may hold secrets
            "validate": CHECK_POOL_FILE,
        }
    for found in pool["sockets"]:
        yield {"path": f"units/{found['unit']}", "template": "app.socket.j2", "item": found}
    yield {"path": "units/pool.conf", "template": "pool.conf.j2", "item": pool}
    if pool["command"]:
        # Environment= would be everybody's to read, on D-Bus; this systemd reads as root
        yield {
            "path": f"units/{environments.FILE}",
            "content": environments.lines(pool["apps"][0]["environment"]),
            "mode": "0600",
        }


def _state(pool: Pool, *, rolled_back: bool) -> dict[str, Any]:
    """What a pool's super-daemon and its generation are made of, and what the gate asks."""
    name = pool["name"]
    own = [] if pool["command"] else [SERVERS]
    checks = [check(pool, app) for app in pool["apps"]]
    return {
        "name": name,
        "memory_max_mb": pool["memory_max_mb"],
        "tasks_max": pool["tasks_max"],
        "command": list(pool["command"] or []),
        "environment": pool["apps"][0]["environment"] if pool["command"] else {},
        "checks": [found for found in checks if found],
        "hooks": [
            {
                "app": app["name"],
                "commands": app["before_switch"],
                "environment": app["environment"],
            }
            for app in pool["apps"]
            if app["before_switch"] and not rolled_back
        ],
        "unit_paths": [
            f"{UNITS}/kechi@.service",
            f"{_drop_ins(pool)}/pool.conf",
            *([pool["environment_file"]] if pool["command"] else []),
        ],
        "daemon_paths": ["/usr/local/bin/start_server", SERVERS],
        "generation_paths": ["/etc/kechi/env", *own],
        "limits_paths": [f"{_drop_ins(pool)}/limits.conf"],
    }
