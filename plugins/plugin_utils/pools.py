"""The pools of an inventory: what is wrong with them, and what follows from them.

The rules of a pool file are the vhost server's own (``supervisor_py.vhost.pool``), asked here
before anything on a host changes; this module adds what only the inventory knows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...supervisor_py.vhost import pool as pool_file
from ..plugin_utils.settings import Spec, problem, where_set

Pool = Mapping[str, Any]

POOL_KEYS = ("name", "workers", "threads", "max_requests")
APPS_ROOT = "/srv/www"
POOLS_ROOT = "/srv/kechi"
REQUIREMENTS = "requirements.txt"
VIRTUALENV_MARK = "kechi-requirements.digest"  # the module `virtualenvs` writes it
CHECK_POOL_FILE = (
    '/usr/bin/python3 -c \'import sys; sys.path.insert(0, "/usr/local/lib/kechi/current");'
    " from supervisor_py.vhost import pool; pool.read(sys.argv[1])' %s"
)
SOCKETS_ROOT = "/run/kechi"
PLAIN_WORD = re.compile(r"^[^\s\"'\\$%]+$")  # what systemd passes on as one argument, unchanged
SMALLEST_POOL_MB = 32
STEP = re.compile(r"\w+|\[\d+\]")


def document(pool: Pool) -> dict[str, Any]:
    """The pool file's content for a pool of the inventory."""
    return {
        "pool": {key: pool[key] for key in POOL_KEYS if pool.get(key) is not None},
        "apps": [
            {
                "name": app.get("name"),
                "hosts": app.get("hosts"),
                "directory": f"{APPS_ROOT}/{app.get('name')}/current",
                # a command pool has no WSGI object: its one app is held to the other rules
                "wsgi": "command:command" if pool.get("command") else app.get("wsgi"),
                "environment": app.get("environment") or {},
            }
            for app in pool.get("apps") or []
        ],
    }


def sites(pools: Sequence[Pool]) -> list[dict[str, Any]]:
    """The front end's sites: one for each app, on the socket of its pool."""
    return [
        {
            "name": app["name"],
            "hosts": list(app["hosts"]),
            "socket": f"{SOCKETS_ROOT}/{pool['name']}.sock",
        }
        for pool in pools
        for app in pool["apps"]
    ]


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
    yield {"path": f"/etc/systemd/system/kechi@{pool['name']}.service.d"}
    user = f"kechi-{pool['name']}"
    for app in pool["apps"]:
        path = f"{APPS_ROOT}/{app['name']}/shared"
        yield {"path": path, "owner": user, "group": user, "mode": "0750"}


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
    for drop_in in ("limits.conf", "pool.conf"):
        yield {
            "path": f"/etc/systemd/system/kechi@{name}.service.d/{drop_in}",
            "template": f"{drop_in}.j2",
            "item": pool,
        }


def _state(pool: Pool) -> dict[str, Any]:
    """The files that a pool's super-daemon, and those that its generation is made of."""
    name = pool["name"]
    code = [f"{APPS_ROOT}/{app['name']}/current" for app in pool["apps"]]
    own = [] if pool["command"] else [
        f"/etc/kechi/pools/{name}.toml",
        f"{POOLS_ROOT}/{name}/venv/{VIRTUALENV_MARK}",
    ]  # fmt: skip
    return {
        "name": name,
        "unit_paths": [
            "/etc/systemd/system/kechi@.service",
            f"/etc/systemd/system/kechi@{name}.service.d/pool.conf",
            "/usr/local/bin/start_server",
            "/usr/local/lib/kechi/current",
        ],
        "generation_paths": ["/etc/kechi/env", *own, *code],
    }


def _quoted_for_a_unit(text: str) -> str:
    """An assignment as ``Environment=`` takes it: quoted, specifiers switched off."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"'


def source_directory(source: str, inventory: Path) -> Path:
    """Where an app's source lies on the control machine; relative ones start at the inventory."""
    return (inventory / Path(source).expanduser()).resolve()


def problems(pools: Sequence[Pool], *, memory_mb: int | None, inventory: Path) -> Iterator[str]:
    """Every problem of the pools, each alone and between them.

    Args:
        pools: ``vhost_app_pools`` as the inventory has it, types already right.
        memory_mb: the target's memory in MB; None where it is not known.
        inventory: the folder that relative ``source`` paths start at.
    """
    for number, pool in enumerate(pools):
        at = f"vhost_app_pools[{number}]"
        for sentence in pool_file.problems(document(pool)):
            yield _as_in_the_inventory(at, pool, sentence)
        yield from _command(at, pool)
        yield from _memory(at, pool, memory_mb)
        for place, app in enumerate(pool["apps"]):
            folder = source_directory(app["source"], inventory)
            if not folder.is_dir():
                yield problem(
                    f"{at}.apps[{place}].source",
                    app["source"],
                    f"is no directory on the control machine ({folder}); allowed: an absolute "
                    "path, or one relative to the inventory",
                    app,
                )
    yield from _clashes(pools)


def _as_in_the_inventory(at: str, pool: Pool, sentence: str) -> str:
    """A sentence about the pool file, told of the inventory that the file is made from."""
    path = sentence.partition(":")[0]
    found: Any = pool
    origin = ""
    for step in STEP.findall(path.removeprefix("pool.")):
        try:
            found = found[int(step[1:-1])] if step[0] == "[" else found[step]
        except (KeyError, IndexError, TypeError):
            break
        origin = where_set(found) or origin
    origin = origin or where_set(pool)
    return f"{at}.{sentence.removeprefix('pool.')}" + (f" (set in {origin})" if origin else "")


def _command(at: str, pool: Pool) -> Iterator[str]:
    """A command pool is one app and its own server; any other needs a WSGI object per app."""
    command = pool.get("command")
    if not command:
        return
    for number, word in enumerate(command):
        if not PLAIN_WORD.match(str(word)):
            yield problem(
                f"{at}.command[{number}]",
                word,
                "can't be handed on by systemd unchanged; allowed: no spaces, quotes, \\, $ or %",
                pool,
            )
    if not str(command[0]).startswith("/"):
        yield problem(f"{at}.command[0]", command[0], "is not an absolute path of a program", pool)
    if len(pool["apps"]) != 1:
        yield problem(
            f"{at}.apps",
            [app["name"] for app in pool["apps"]],
            "are too many or too few; allowed with `command`: exactly one app",
            pool,
        )
    for place, app in enumerate(pool["apps"]):
        if app.get("wsgi"):
            yield problem(
                f"{at}.apps[{place}].wsgi",
                app["wsgi"],
                "has no meaning in a pool with `command`; allowed: one or the other",
                app,
            )


def _memory(at: str, pool: Pool, memory_mb: int | None) -> Iterator[str]:
    most, high = pool.get("memory_max_mb"), pool.get("memory_high_mb")
    if most is not None and int(most) < SMALLEST_POOL_MB:
        yield problem(
            f"{at}.memory_max_mb", most, f"is too small; allowed: {SMALLEST_POOL_MB} or more", pool
        )
    if most is not None and memory_mb is not None and int(most) > memory_mb:
        yield problem(
            f"{at}.memory_max_mb",
            most,
            f"is over the machine's memory; allowed: {memory_mb} (MB) at most",
            pool,
        )
    if most is not None and high is not None and not 0 < int(high) <= int(most):
        yield problem(
            f"{at}.memory_high_mb", high, f"is not from 1 to memory_max_mb ({most})", pool
        )


def _clashes(pools: Sequence[Pool]) -> Iterator[str]:
    """A pool's name, an app's name and a host are each taken once on a machine."""
    taken: dict[tuple[str, str], str] = {}

    def take(kind: str, value: object, path: str, container: object) -> Iterator[str]:
        key = (kind, str(value).lower().rstrip("."))
        if key in taken:
            yield problem(path, value, f"is taken: {taken[key]} has this {kind} already", container)
        else:
            taken[key] = path

    for number, pool in enumerate(pools):
        at = f"vhost_app_pools[{number}]"
        yield from take("pool name", pool["name"], f"{at}.name", pool)
        for place, app in enumerate(pool["apps"]):
            path = f"{at}.apps[{place}]"
            # inside one pool the pool file's own rules have already spoken
            own = {host.lower() for other in pool["apps"][:place] for host in other["hosts"]}
            if app["name"] not in [other["name"] for other in pool["apps"][:place]]:
                yield from take("app name", app["name"], f"{path}.name", app)
            for index, host in enumerate(app["hosts"]):
                if str(host).lower() not in own:
                    yield from take("host", host, f"{path}.hosts[{index}]", app)
