"""What is wrong with the pools of an inventory, each alone and between them.

The rules of a pool file are the vhost server's own (``supervisor_py.vhost.pool``), asked here
before anything on a host changes; this module adds what only the inventory knows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...supervisor_py.vhost import hosts
from ...supervisor_py.vhost import pool as pool_file
from ..plugin_utils import site_problems
from ..plugin_utils.memory_budget import POOL_MB
from ..plugin_utils.pools import (
    APP_OPTIONS,
    POOL_OPTIONS,
    SOURCES,
    Pool,
    document,
    is_isolated,
    is_present,
    sites,
    source_directory,
)
from ..plugin_utils.settings import MISSING, problem, where_set

PLAIN_WORD = re.compile(r"^[^\s\"'\\$%]+$")  # what systemd passes on as one argument, unchanged
SMALLEST_POOL_MB = 32
TEMPORARY = 3  # directories of temporary files, which have to fit into a pool's memory together
FEWEST_TASKS = 16  # two generations of the smallest pool
BUILDS = "build"
CPU_WEIGHTS = (1, 10_000)  # systemd.resource-control(5)
HEALTH_PATH = re.compile(r"^/[!-~]*$")
APP = re.compile(r"\bapps\[(\d+)\]")
STEP = re.compile(r"\w+|\[\d+\]")


def problems(pools: Sequence[Pool], *, memory_mb: int | None, inventory: Path) -> Iterator[str]:
    """Every problem of the pools, each alone and between them.

    Args:
        pools: ``vhost_app_pools`` as the inventory has it, types already right.
        memory_mb: the target's memory in MB; None where it is not known.
        inventory: the folder that relative ``source`` paths start at.
    """
    for number, pool in enumerate(pools):
        if not is_present(pool):
            continue
        at = f"vhost_app_pools[{number}]"
        apps = {place: app for place, app in enumerate(pool["apps"]) if is_present(app)}
        for sentence in pool_file.problems(document({**pool, "apps": [*apps.values()]})):
            yield _as_in_the_inventory(at, pool, _numbered(sentence, [*apps]))
        yield from _command(at, pool) if pool.get("command") else _sockets(at, pool)
        yield from _memory(at, pool, memory_mb)
        if pool["apps"] and not apps:
            yield problem(
                f"{at}.apps",
                [app["name"] for app in pool["apps"]],
                "are all absent; allowed: `state: absent` for the pool itself",
                pool,
            )
        for place, app in apps.items():
            yield from _source(f"{at}.apps[{place}]", app, inventory)
            yield from _gate(f"{at}.apps[{place}]", app)
            yield from site_problems.problems(f"{at}.apps[{place}]", app, inventory, absolute=False)
    clashes = list(_clashes(pools))
    yield from clashes or _shadowed(pools)


def _numbered(sentence: str, places: Sequence[int]) -> str:
    """A sentence about the apps that are present, which have other numbers among all."""

    def place(found: re.Match[str]) -> str:
        return f"apps[{places[int(found[1])]}]"

    return APP.sub(place, sentence)


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
    """A command pool is one app and its own server, which knows nothing of the vhost server's."""
    command = pool["command"]
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
    mute = [(at, key, pool) for key in POOL_OPTIONS]
    for place, app in enumerate(pool["apps"]):
        mute += [(f"{at}.apps[{place}]", key, app) for key in ("wsgi", "asgi", *APP_OPTIONS)]
    for path, key, container in mute:
        if container.get(key):
            yield problem(
                f"{path}.{key}",
                container[key],
                "has no meaning in a pool with `command`; allowed: one or the other",
                container,
            )


def _sockets(at: str, pool: Pool) -> Iterator[str]:
    """The vhost server tells sockets apart by their files' names."""
    for place, app in enumerate(pool["apps"]):
        if is_isolated(app) and app["name"] == pool["name"]:
            yield problem(
                f"{at}.apps[{place}].name",
                app["name"],
                "is the pool's name, too, and so of two sockets; allowed with isolation, or asgi:"
                " another",
                app,
            )


def _source(at: str, app: Mapping[str, Any], inventory: Path) -> Iterator[str]:
    """The code comes from one place, and what is on the control machine is there."""
    given = [kind for kind in SOURCES if app.get(kind)]
    if len(given) != 1:
        yield problem(
            f"{at}.{given[1]}" if given else f"{at}.source",
            app[given[1]] if given else MISSING,
            f"is one source too many, beside {given[0]}; allowed: one of {', '.join(SOURCES)}"
            if given
            else f"one of {', '.join(SOURCES)} is required",
            app,
        )
        return
    (kind,) = given
    if kind == "git" and not app.get("version"):
        yield problem(f"{at}.version", MISSING, "a branch, tag or commit of git is required", app)
    if kind != "git" and app.get("version"):
        yield problem(
            f"{at}.version", app["version"], f"is for git; allowed with {kind}: none", app
        )
    if str(app.get("version") or "").startswith("-") or str(app.get("git") or "").startswith("-"):
        yield problem(f"{at}.{kind}", app[kind], 'begins with "-"', app)
    path = source_directory(str(app[kind]), inventory)
    there = {"source": path.is_dir(), "archive": path.is_file(), "wheel": path.is_file()}
    if not there.get(kind, True):
        thing = "directory" if kind == "source" else "file"
        yield problem(
            f"{at}.{kind}",
            app[kind],
            f"is no {thing} on the control machine ({path}); allowed: an absolute "
            "path, or one relative to the inventory",
            app,
        )
    elif kind == "wheel" and path.suffix != ".whl":
        yield problem(f"{at}.wheel", app[kind], "is no wheel; allowed: a file NAME.whl", app)


def _gate(at: str, app: Mapping[str, Any]) -> Iterator[str]:
    """What the health gate asks for and expects, and the hooks before it."""
    path = app.get("health_path")
    if path and not HEALTH_PATH.match(str(path)):
        yield problem(f"{at}.health_path", path, 'is no path; allowed: "/…", or "" for none', app)
    for place, status in enumerate(app.get("health_statuses") or []):
        if not 100 <= int(status) <= 599:  # noqa: PLR2004 - HTTP's own range
            yield problem(f"{at}.health_statuses[{place}]", status, "is outside 100 to 599", app)
    for place, words in enumerate(app.get("before_switch") or []):
        if not isinstance(words, list) or not words:
            yield problem(
                f"{at}.before_switch[{place}]", words, "is not a command as a list of words", app
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
    for key, least, greatest in (
        ("memory_swap_max_mb", 0, None),
        ("tasks_max", FEWEST_TASKS, None),
        ("cpu_weight", *CPU_WEIGHTS),
    ):
        yield from _within(at, pool, key, least, greatest)
    temporary = pool.get("temporary_max_mb")
    if temporary is not None:
        yield from _within(at, pool, "temporary_max_mb", 1, int(most or POOL_MB) // TEMPORARY)
    if most is not None and high is not None and not 0 < int(high) <= int(most):
        yield problem(
            f"{at}.memory_high_mb", high, f"is not from 1 to memory_max_mb ({most})", pool
        )


def _within(at: str, pool: Pool, key: str, least: int, most: int | None) -> Iterator[str]:
    value = pool.get(key)
    if value is None or (least <= int(value) and (most is None or int(value) <= most)):
        return
    allowed = f"{least} or more" if most is None else f"{least} to {most}"
    yield problem(f"{at}.{key}", value, f"is out of range; allowed: {allowed}", pool)


def _shadowed(pools: Sequence[Pool]) -> Iterator[str]:
    """Static files in the way of another app."""
    places = [
        (f"vhost_app_pools[{number}].apps[{place}]", app)
        for number, pool in enumerate(pools)
        for place, app in enumerate(pool["apps"])
        if is_present(pool) and is_present(app)
    ]
    for site, number, whose in site_problems.shadowed(sites(pools)):
        at, app = places[site]
        static = app["static"][number]
        yield problem(f"{at}.static[{number}].url", static["url"], f"covers {whose}", static)


def _clashes(pools: Sequence[Pool]) -> Iterator[str]:
    """A pool's name, an app's name and a host are each taken once on a machine."""
    taken: dict[tuple[str, str], str] = {}

    def take(kind: str, value: object, path: str, container: object) -> Iterator[str]:
        key = (kind, str(hosts.site(str(value)) or value))
        if key in taken:
            yield problem(path, value, f"is taken: {taken[key]} has this {kind} already", container)
        else:
            taken[key] = path

    for number, pool in enumerate(pools):
        at = f"vhost_app_pools[{number}]"
        yield from take("pool name", pool["name"], f"{at}.name", pool)
        if pool["name"] == BUILDS:
            yield problem(
                f"{at}.name",
                BUILDS,
                f"would be kechi-{BUILDS}, the user of all pools' builds",
                pool,
            )
        for place, app in enumerate(pool["apps"]):
            if not (is_present(pool) and is_present(app)):
                continue  # what it had may be another's now
            path = f"{at}.apps[{place}]"
            # inside one pool the pool file's own rules have already spoken
            earlier = pool["apps"][:place]
            own = [hosts.site(str(host)) for other in earlier for host in other["hosts"]]
            if app["name"] not in [other["name"] for other in earlier]:
                yield from take("app name", app["name"], f"{path}.name", app)
            for index, host in enumerate(app["hosts"]):
                if hosts.site(str(host)) not in own:
                    yield from take("host", host, f"{path}.hosts[{index}]", app)
