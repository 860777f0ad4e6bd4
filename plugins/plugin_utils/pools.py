"""The pools of an inventory: where things of theirs are, and what a pool file says of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...supervisor_py.vhost import hosts
from ...supervisor_py.vhost import pool as pool_file
from ...supervisor_py.vhost.pool import COUNTS, IDLE, REQUEST_TIMEOUT, TIMEOUTS

Pool = Mapping[str, Any]

# what the pool file takes, and nothing but the vhost server knows
POOL_OPTIONS = (*COUNTS, *TIMEOUTS, REQUEST_TIMEOUT, "preload", "memory")
APP_OPTIONS = ("import_roots", "warm_up", "isolation", REQUEST_TIMEOUT, IDLE, *COUNTS)
# what the front end takes, beside an app's static files
SITE_OPTIONS = ("certificate", "client_max_body_mb", "requests_per_second")
HEAD_OPTIONS = ("limit_request_line", "limit_request_field_size")  # an app's, or its pool's
APPS_ROOT = "/srv/www"
POOLS_ROOT = "/srv/kechi"
SOCKETS_ROOT = "/run/kechi"
ABSENT = "absent"
SOURCES = ("source", "git", "archive", "wheel")  # where an app's code comes from: one of them


def is_present(entry: Mapping[str, Any]) -> bool:
    """Whether a pool or an app is to be there, which it is if nothing is said."""
    return entry.get("state") != ABSENT


def present(pools: Sequence[Pool]) -> list[dict[str, Any]]:
    """The pools and apps that are to be there."""
    return [
        {**pool, "apps": [app for app in pool.get("apps") or [] if is_present(app)]}
        for pool in pools
        if is_present(pool)
    ]


def document(pool: Pool, releases: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The pool file's content for a pool of the inventory, with its apps' releases."""
    return {
        "pool": {key: pool[key] for key in ("name", *POOL_OPTIONS) if pool.get(key) is not None},
        "apps": [
            {
                "name": app.get("name"),
                "hosts": app.get("hosts"),
                "directory": (releases or {}).get(
                    str(app.get("name")), f"{APPS_ROOT}/{app.get('name')}/current"
                ),
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
    return pool_file.is_isolated(app)


def speaks_websockets(app: Mapping[str, Any]) -> bool:
    """Whether a visitor may have a WebSocket with an app: by default, if it speaks ASGI."""
    asked = app.get("websockets")
    return bool(app.get("asgi") is not None if asked is None else asked)


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
            **{
                key: value
                for key in HEAD_OPTIONS
                if (value := _of_app_or_pool(key, pool, app)) is not None
            },
            **({"static": _static(app)} if app.get("static") else {}),
            **({"websockets": True} if speaks_websockets(app) else {}),
        }
        for pool in present(pools)
        for app in pool["apps"]
    ]


def _of_app_or_pool(key: str, pool: Pool, app: Mapping[str, Any]) -> Any:
    return app[key] if app.get(key) is not None else pool.get(key)


def backups(pools: Sequence[Pool]) -> list[dict[str, str]]:
    """What is backed up: each app's persistent files, and the unit that uses them."""
    return [
        {
            "name": app["name"],
            "directory": f"{APPS_ROOT}/{app['name']}/shared",
            "unit": f"kechi@{pool['name']}.service",
        }
        for pool in present(pools)
        for app in pool["apps"]
    ]


def _static(app: Mapping[str, Any]) -> list[dict[str, Any]]:
    """An app's directories of files that nginx answers itself, as absolute paths."""
    folder = f"{APPS_ROOT}/{app['name']}"
    return [
        {
            **{key: entry[key] for key in ("url", "max_age_seconds") if key in entry},
            "directory": f"{folder}/{'shared' if has_shared(entry) else 'current'}"
            f"/{entry['directory']}",
            # all that is in it is the app's to replace, this very directory too
            **({"untrusted_below": f"{folder}/shared"} if has_shared(entry) else {}),
        }
        for entry in app["static"]
    ]


def has_shared(entry: Mapping[str, Any]) -> bool:
    """Whether static files are the app's persistent ones, not its release's."""
    return entry.get("inside") == "shared"


def check(pool: Pool, app: Mapping[str, Any]) -> dict[str, Any] | None:
    """The health gate's request to an app; None where it gets none.

    By default one that may sleep is not woken: it has been loaded, and many at once may not fit.
    """
    path = app.get("health_path")
    if path is None:
        path = "" if app.get(IDLE) else "/"
    if not path:
        return None
    exact = [host for host in app["hosts"] if "*" not in str(host)]
    name = str((exact or app["hosts"])[0])
    site = hosts.site(name)
    assert site is not None
    return {
        "app": app["name"],
        "site": name,
        # a name that a wildcard covers
        "host": site.host.replace("*", "kechi-health" if "." in site.host else "kechi-health.test"),
        "path": f"{site.prefix}{path}",
        "statuses": list(app.get("health_statuses") or []),
        "socket": socket(pool, app),
    }


def routes(pool: Pool) -> dict[str, str]:
    """The socket of each host, as the front end is to know it."""
    return {str(host): socket(pool, app) for app in pool["apps"] for host in app["hosts"]}


def of_other_roles(pool: Pool) -> dict[str, Any]:
    """What nginx, robots.txt and backups take from a pool, as its release set has it, too.

    What of its settings only one role knows, such as a limit of nginx, is not in it.
    """
    return {
        "apps": sorted(app["name"] for app in pool["apps"]),
        "routes": routes(pool),
        "static": static_directories(pool),
    }


def static_directories(pool: Pool) -> dict[str, list[str]]:
    """The directories of each app's static files: one role makes them, another serves them."""
    return {
        app["name"]: sorted({entry["directory"] for entry in _static(app)})
        for app in pool["apps"]
        if app.get("static")
    }


def source_directory(source: str, inventory: Path) -> Path:
    """Where a path lies on the control machine; relative ones start at the inventory."""
    return (inventory / Path(source).expanduser()).resolve()
