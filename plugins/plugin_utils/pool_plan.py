"""What follows from the pools of an inventory: the lists that the role's tasks hand to modules."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from ..plugin_utils.pools import (
    APPS_ROOT,
    POOLS_ROOT,
    Pool,
    document,
    has_shared,
    is_isolated,
    socket,
    socket_unit,
    source_directory,
)
from ..plugin_utils.settings import Spec

REQUIREMENTS = "requirements.txt"
VIRTUALENV_MARK = "kechi-requirements.digest"  # the module `virtualenvs` writes it
UNITS = "/etc/systemd/system"
SERVERS = "/usr/local/lib/kechi/current"  # the code of start_server and vhost_server
CHECK_POOL_FILE = (
    f'/usr/bin/python3 -c \'import sys; sys.path.insert(0, "{SERVERS}");'
    " from supervisor_py.vhost import pool; pool.read(sys.argv[1])' %s"
)


def plan(
    pools: Sequence[Pool], *, spec: Spec, inventory: Path, server_requirements: Sequence[str]
) -> dict[str, Any]:
    """What the role's tasks work through, each a list for one module call.

    Args:
        pools: ``vhost_app_pools``, checked.
        spec: the options of one pool in ``argument_specs``, for their defaults.
        inventory: the folder that relative ``source`` paths start at.
        server_requirements: what every virtualenv holds for the vhost server.
    """
    complete = [_complete(pool, spec) for pool in pools]
    for pool in complete:
        pool["document"] = document(pool)
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
        pool["unit_environment"] = [
            _quoted_for_a_unit(f"{key}={value}")
            for key, value in pool["apps"][0]["environment"].items()
            if pool["command"]
        ]
    vhost_pools = [pool for pool in complete if not pool["command"]]
    return {
        "pools": complete,
        "directories": [directory for pool in complete for directory in _directories(pool)],
        "files": [file for pool in complete for file in _files(pool)],
        "packages": ["python3-venv", *(name for pool in complete for name in pool["packages"])],
        "trees": [
            {
                "source": str(source_directory(app["source"], inventory)),
                "destination": f"{APPS_ROOT}/{app['name']}",
            }
            for pool in complete
            for app in pool["apps"]
        ],
        "virtualenvs": [
            {
                "path": f"{POOLS_ROOT}/{pool['name']}/venv",
                "requirements": list(server_requirements),
                "files": [
                    f"{APPS_ROOT}/{app['name']}/current/{REQUIREMENTS}"
                    for app in pool["apps"]
                    if (source_directory(app["source"], inventory) / REQUIREMENTS).is_file()
                ],
            }
            for pool in vhost_pools
        ],
        "states": [_state(pool) for pool in complete],
    }


def _complete(pool: Pool, spec: Spec) -> dict[str, Any]:
    """A pool with every option, unset ones at their default."""
    full = {name: pool.get(name, option.get("default")) for name, option in spec.items()}
    app_spec: Any = spec["apps"]["options"]
    full["apps"] = [
        {name: app.get(name, option.get("default")) for name, option in app_spec.items()}
        for app in pool["apps"]
    ]
    return full


def _directories(pool: Pool) -> Iterator[dict[str, str]]:
    yield {"path": f"{UNITS}/kechi@{pool['name']}.service.d"}
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


def _files(pool: Pool) -> Iterator[dict[str, Any]]:
    name = pool["name"]
    if not pool["command"]:
        yield {
            "path": f"{POOLS_ROOT}/{name}/venv/bin/vhost_server",
            "template": "vhost_server.py.j2",
            "item": pool,
            "mode": "0755",
        }
        yield {
            "path": f"/etc/kechi/pools/{name}.toml",
            "template": "pool.toml.j2",
            "item": pool,
            "group": f"kechi-{name}",
            "mode": "0640",  # an app's environment may hold secrets
            "validate": CHECK_POOL_FILE,
        }
    for found in pool["sockets"]:
        yield {
            "path": f"{UNITS}/{found['unit']}",
            "template": "app.socket.j2",
            "item": found,
        }
    for drop_in in ("limits.conf", "pool.conf"):
        yield {
            "path": f"{UNITS}/kechi@{name}.service.d/{drop_in}",
            "template": f"{drop_in}.j2",
            "item": pool,
        }


def _state(pool: Pool) -> dict[str, Any]:
    """The files that a pool's super-daemon, and those that its generation is made of."""
    name = pool["name"]
    code = [f"{APPS_ROOT}/{app['name']}/current" for app in pool["apps"]]
    virtualenv, pool_file = f"{POOLS_ROOT}/{name}/venv", f"/etc/kechi/pools/{name}.toml"
    own = [pool_file, f"{virtualenv}/{VIRTUALENV_MARK}", SERVERS]
    check = [f"{virtualenv}/bin/vhost_server", "--check", pool_file]
    if pool["command"]:
        own = check = []
    return {
        "name": name,
        "check": check,
        "sockets": [found["unit"] for found in pool["sockets"]],
        "unit_paths": [f"{UNITS}/kechi@.service", f"{UNITS}/kechi@{name}.service.d/pool.conf"],
        "daemon_paths": ["/usr/local/bin/start_server", SERVERS],
        "generation_paths": ["/etc/kechi/env", *own, *code],
        "limits_paths": [f"{UNITS}/kechi@{name}.service.d/limits.conf"],
    }


def _quoted_for_a_unit(text: str) -> str:
    """An assignment as ``Environment=`` takes it: quoted, specifiers switched off."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"'
