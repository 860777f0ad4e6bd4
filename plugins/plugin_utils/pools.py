"""The pools of an inventory: where things of theirs are, and what a pool file says of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...supervisor_py.vhost.pool import COUNTS, IDLE, PROCESS

Pool = Mapping[str, Any]

# what the pool file takes, and nothing but the vhost server knows
POOL_OPTIONS = (*COUNTS, "preload", "memory")
APP_OPTIONS = ("import_roots", "warm_up", "isolation", IDLE, *COUNTS)
# what the front end takes, beside an app's static files
SITE_OPTIONS = ("certificate", "client_max_body_mb", "requests_per_second")
APPS_ROOT = "/srv/www"
POOLS_ROOT = "/srv/kechi"
SOCKETS_ROOT = "/run/kechi"


def document(pool: Pool) -> dict[str, Any]:
    """The pool file's content for a pool of the inventory."""
    return {
        "pool": {key: pool[key] for key in ("name", *POOL_OPTIONS) if pool.get(key) is not None},
        "apps": [
            {
                "name": app.get("name"),
                "hosts": app.get("hosts"),
                "directory": f"{APPS_ROOT}/{app.get('name')}/current",
                # a command pool has no WSGI object: its one app is held to the other rules
                **({"wsgi": "command:command"} if pool.get("command") else _object(app)),
                **{key: app[key] for key in APP_OPTIONS if app.get(key) is not None},
                "environment": app.get("environment") or {},
            }
            for app in pool.get("apps") or []
        ],
    }


def _object(app: Mapping[str, Any]) -> dict[str, Any]:
    """The object that answers, under the key of the interface that it speaks."""
    found = {key: app[key] for key in ("wsgi", "asgi") if app.get(key) is not None}
    return found or {"wsgi": None}


def is_isolated(app: Mapping[str, Any]) -> bool:
    """Whether an app has processes, and so a socket, of its own."""
    return app.get("isolation") == PROCESS


def socket(pool: Pool, app: Mapping[str, Any]) -> str:
    """Where an app's requests go; the vhost server knows an isolated app's by the file's name."""
    if is_isolated(app):
        return f"{SOCKETS_ROOT}/{pool['name']}/{app['name']}.sock"
    return f"{SOCKETS_ROOT}/{pool['name']}.sock"


def socket_unit(pool: Pool, app: Mapping[str, Any]) -> str:
    """The unit that holds an isolated app's socket; no pool's name has a dot."""
    return f"kechi@{pool['name']}.{app['name']}.socket"


def sites(pools: Sequence[Pool]) -> list[dict[str, Any]]:
    """The front end's sites: one for each app, on its socket."""
    return [
        {
            "name": app["name"],
            "hosts": list(app["hosts"]),
            "socket": socket(pool, app),
            **{key: app[key] for key in SITE_OPTIONS if app.get(key) is not None},
            **({"static": _static(app)} if app.get("static") else {}),
        }
        for pool in pools
        for app in pool["apps"]
    ]


def backups(pools: Sequence[Pool]) -> list[dict[str, str]]:
    """What is backed up: each app's persistent files, and the unit that uses them."""
    return [
        {
            "name": app["name"],
            "directory": f"{APPS_ROOT}/{app['name']}/shared",
            "unit": f"kechi@{pool['name']}.service",
        }
        for pool in pools
        for app in pool["apps"]
    ]


def _static(app: Mapping[str, Any]) -> list[dict[str, Any]]:
    """An app's directories of files that nginx answers itself, as absolute paths."""
    return [
        {
            **{key: entry[key] for key in ("url", "max_age_seconds") if key in entry},
            "directory": f"{APPS_ROOT}/{app['name']}/"
            f"{'shared' if has_shared(entry) else 'current'}/{entry['directory']}",
            # what apps write may be links, to what is not theirs
            "untrusted": has_shared(entry),
        }
        for entry in app["static"]
    ]


def has_shared(entry: Mapping[str, Any]) -> bool:
    """Whether static files are the app's persistent ones, not its release's."""
    return entry.get("inside") == "shared"


def source_directory(source: str, inventory: Path) -> Path:
    """Where an app's source lies on the control machine; relative ones start at the inventory."""
    return (inventory / Path(source).expanduser()).resolve()
