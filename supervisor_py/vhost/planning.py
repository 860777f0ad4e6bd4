"""Make the plan of a pool: load each app alone, and see what its neighbours would feel.

Each is loaded and warmed up in a process of its own, forked from this one, which has what is
preloaded. Then those that may share are loaded together, and one that can't be beside the others,
though it can alone, is isolated as well. What is decided from all that is isolation.decide's.
"""

import importlib
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

from . import loader, singletons
from .forked import in_child
from .isolation import Decision, Plan, Seen, apply, decide, needs_plan, one_line
from .loader import LoadError
from .modules import APART, ModuleKey
from .pool import AUTO, PROCESS, SHARED, App, Pool
from .process_state import (
    ADVICE,
    ROOT_HANDLERS,
    TIME_ZONE,
    Functions,
    State,
    replaced_in_libraries,
)

DIED = "its process has died while it was loaded"
# What apps like to replace a function of: it is looked at before they are there.
OFTEN_PATCHED = (
    "datetime",
    "http.client",
    "http.server",
    "json",
    "logging.handlers",
    "random",
    "smtplib",
    "socket",
    "ssl",
    "subprocess",
    "threading",
    "time",
    "urllib.request",
    "uuid",
    "zipfile",
)
# Set by a row of the table, or by what Python does itself.
COVERED = frozenset(
    {"ssl._create_default_https_context", "sys.stdout", "sys.stderr", "tempfile._gettempdir"}
)


def plan(pool: Pool) -> tuple[Plan, dict[str, str]]:
    """Return the decisions about all apps that leave them to the plan.

    With the apps that could not be looked at, as they can't be loaded at all, and why.
    """
    auto = [app for app in pool.apps if app.own is None and app.isolation == AUTO]
    if not needs_plan(pool):
        return {app.name: Decision(SHARED) for app in auto}, {}
    for name in OFTEN_PATCHED:
        importlib.import_module(name)
    looks = {app.name: _look_at(pool, app) for app in pool.apps if app.own is None}
    found = decide(pool, {name: seen for name, (seen, _) in looks.items()})
    failed = {name: fault for name, (_, fault) in looks.items() if fault}
    while True:
        refused = _refused_together(apply(pool, found))
        news = [name for name in refused if name in found and name not in failed]
        if not news:
            return found, failed
        # one at a time: it may be what others are refused for
        found[news[0]] = Decision(PROCESS, one_line(refused[news[0]]))


def _look_at(pool: Pool, app: App) -> tuple[Seen, str]:
    """Load an app alone; returns what was seen of it, and why it can't be loaded, "" if it can."""
    told = in_child(lambda: _look(pool, app), None, mute=True)
    if told is None:
        return Seen(), DIED
    return (
        Seen(
            felt=told["felt"],
            log=told["log"],
            private=frozenset(told["private"]),
            loggers=frozenset(told["loggers"]),
            once=told["once"],
            patched=told["patched"],
            libraries=frozenset(told["libraries"]),
        ),
        told["fault"],
    )


def _look(pool: Pool, app: App) -> dict[str, Any]:
    """Load an app in this process, and compare what there is before and after."""
    faults: list[str] = []
    functions: list[Functions] = []
    state = State()

    @contextmanager
    def watched(_: App) -> Iterator[None]:
        functions.append(Functions())
        yield

    loading = loader.Loading(
        lambda error: faults.append(error.reason), watched, frozenset({app.name})
    )
    loader.load(pool, loading)
    changes = state.changes()
    if TIME_ZONE in changes and "TZ" not in app.environment and _django_keeps_utc():
        changes.remove(TIME_ZONE)
    log, private = _root_logger(changes)
    own = {key: sys.modules[key] for key in list(sys.modules) if type(key) is ModuleKey}
    patched = replaced_in_libraries(iter(own.values()))
    once = list(singletons.found())
    return {
        "felt": [
            *loader.patched(),
            *(one.sentence for one, _ in once if one.felt),
            *(
                f"it has changed {what}, for its neighbours, too: {ADVICE[what]}"
                for what in changes
                if what != ROOT_HANDLERS or "" in private
            ),
            *_functions_told(functions, patched),
        ],
        "log": log,
        "private": sorted(private - {""}),
        "loggers": sorted(name for name, _ in _loggers()),
        "once": {one.sentence: names for one, names in once if not one.felt},
        "patched": {
            library: names
            for library, names in patched.items()
            if library not in sys.stdlib_module_names
        },
        "libraries": sorted({key.partition(".")[0] for key in sys.modules if type(key) is str}),
        "fault": _without_way_out(faults[0]) if faults else "",
    }


def _functions_told(
    functions: Sequence[Functions], patched: Mapping[str, Sequence[str]]
) -> Iterator[str]:
    """Yield the sentence on what has been replaced of the standard library."""
    if any(True for _ in loader.patched()):
        return  # all of it is told already
    replaced = {name for one in functions for name in one.replaced()}
    for library, names in patched.items():
        if library in sys.stdlib_module_names:
            replaced.update(names)
    if names := sorted(replaced - COVERED):
        yield (
            f"it has replaced {', '.join(names[:5])}{' and more' if len(names) > 5 else ''} of the"  # noqa: PLR2004
            " standard library, for its neighbours, too: call a function of its own instead"
        )


def _django_keeps_utc() -> bool:
    """Whether the zone was changed by a Django that tells times right without that (USE_TZ)."""
    conf = sys.modules.get("django.conf")
    return conf is not None and bool(conf.settings.configured and conf.settings.USE_TZ)


def _root_logger(changes: Sequence[str]) -> tuple[str, frozenset[str]]:
    """Return how the root logger writes to the process's streams, and the loggers that do not."""
    private = frozenset(name for name, logger in _loggers() if _is_private(logger))
    if ROOT_HANDLERS not in changes:
        return "", private
    level = logging.getLevelName(logging.root.level)
    formats = sorted(
        str(getattr(one.formatter, "_fmt", None) or "lines") for one in logging.root.handlers
    )
    if _is_private(logging.root):
        private |= {""}
    return f"{level}: {', '.join(formats)}", private


def _loggers() -> list[tuple[str, logging.Logger]]:
    known = list(logging.Logger.manager.loggerDict.items())
    return [(name, one) for name, one in known if isinstance(one, logging.Logger)]


def _is_private(logger: logging.Logger) -> bool:
    """Whether a logger writes elsewhere than to the process's own streams.

    Django's mail to the admins, which it has by default, is the one Django project's anyway.
    """
    streams = {id(sys.stdout), id(sys.stderr), id(sys.__stdout__), id(sys.__stderr__)}
    return any(
        not isinstance(one, logging.NullHandler)
        and not type(one).__module__.startswith("django.")
        and not (
            isinstance(one, logging.StreamHandler)
            and not isinstance(one, logging.FileHandler)
            and (id(one.stream) in streams or type(one) is logging.StreamHandler)
        )
        for one in logger.handlers
    )


def _refused_together(pool: Pool) -> dict[str, str]:
    """Load the apps that share, in one process; returns why each one can't be, that can't be.

    Those that insist on it are loaded first, so that it is the others that are refused.
    """
    first = sorted(pool.apps, key=lambda app: app.isolation != SHARED)
    pool = replace(pool, apps=tuple(first), source=None)
    names = [app.name for app in pool.apps if app.own is None]
    if len(names) < len(("one", "another")):
        return {}

    def load() -> dict[str, str]:
        refused: dict[str, str] = {}

        def note(error: LoadError) -> None:
            why = _without_way_out(error.reason)
            if not error.isolate:
                others = ", ".join(name for name in names if name != error.app)
                why = f"it can't be loaded beside {others}, though it can alone: {why}"
            refused[error.app] = why

        loader.load(pool, loader.Loading(note, names=frozenset(names)))
        return refused

    found: dict[str, str] = in_child(load, {}, mute=True)
    return found


def _without_way_out(reason: str) -> str:
    """Return the first line of a refusal: what to do has been done by then."""
    with suppress(ValueError):
        reason = reason[: reason.index(APART)]
    lines = reason.strip().splitlines()
    return lines[0].rstrip("; ").removesuffix(", or").rstrip("; ") if lines else ""
