"""vhost_server --check: load all apps of a pool as the server would, and say what each costs.

Each group is loaded in a process of its own, forked from this one, which has what is preloaded.
"""

import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from io import StringIO
from typing import TextIO

from .. import memory
from . import loader, preload
from .forked import in_child
from .loader import LoadError
from .pool import App, Pool

NOTE = "A library is counted with the first app that imports it."
ISOLATED_NOTE = "An isolated app's MB are what its process has for itself."
WORTH_KB, WORTH_MODULES = 512, 10  # less is not worth a line


@dataclass(frozen=True, slots=True)
class Refusal:
    """An app that can't be served, why, and whether an interpreter of its own is the way out."""

    app: str
    reason: str
    isolate: bool


@dataclass(slots=True)
class Loaded:
    """What has come of loading a group."""

    costs: dict[str, tuple[float, int]] = field(default_factory=dict)  # seconds, kB
    refusals: list[Refusal] = field(default_factory=list)
    modules: list[str] = field(default_factory=list)  # of no app's own, in their order
    remarks: str = ""


def check(pool: Pool, out: TextIO) -> int:
    """Load the apps of a pool and print a line for each; returns 1 when one can't be served."""
    isolated = [app for app in pool.apps if app.own is not None]
    shared = [app for app in pool.apps if app.own is None]
    groups = {app.name: _forked(pool, [app]) for app in isolated}
    together = _forked(pool, shared) if shared else Loaded()
    all_groups = [together, *groups.values()]
    refusals = {one.app: one for group in all_groups for one in group.refusals}
    costs = {name: cost for group in all_groups for name, cost in group.costs.items()}
    costs = {name: cost for name, cost in costs.items() if name not in refusals}
    wide = max(len("TOTAL"), *(len(app.name) for app in pool.apps))
    out.write(f"{'APP':<{wide}} {'SECONDS':>8} {'MB':>7}\n")
    for name, cost in costs.items():
        out.write(f"{name:<{wide}} {_shown(*cost)}{'  isolated' if name in groups else ''}\n")
    total = [*costs.values()]
    seconds, size = sum(one[0] for one in total), sum(one[1] for one in total)
    out.write(f"{'TOTAL':<{wide}} {_shown(seconds, size)}\n")
    out.write(f"{NOTE}{f' {ISOLATED_NOTE}' if isolated else ''}\n")
    for app in pool.apps:
        if app.isolation_reason:
            out.write(f"{app.name} is isolated: {app.isolation_reason}\n")
    for group in all_groups:
        out.write(group.remarks)
    for one in refusals.values():
        out.write(f"\n{one.reason}\n")
        if one.isolate:
            out.write(_alone(pool, one.app))
    if len(isolated) > 1:
        out.write(_missed(pool, {name: group.modules for name, group in groups.items()}))
    if not refusals:
        out.write(f"All {len(pool.apps)} apps can be served.\n")
    out.flush()
    return 1 if refusals else 0


def _alone(pool: Pool, name: str) -> str:
    """Return what an app would cost in an interpreter of its own: by loading it in one."""
    found = _forked(pool, [app for app in pool.apps if app.name == name])
    if found.refusals:
        return f"Isolated, it can't be loaded either:\n{found.refusals[0].reason}\n"
    seconds, size = found.costs[name]
    return (
        f"Isolated, it loads in {seconds:.2f} s, and its process has {size / 1024:.1f} MB for"
        ' itself: isolation = "process"\n'
    )


def _missed(pool: Pool, modules: dict[str, Sequence[str]]) -> str:
    """Return which modules several isolated apps import that could be preloaded, if it is much."""
    common = preload.common([frozenset(names) for names in modules.values()])
    order = list(dict.fromkeys(name for names in modules.values() for name in names))
    wanted = [name for name in order if name in common]
    names, count = in_child(lambda: _to_preload(pool, wanted), ([], 0))
    size = in_child(lambda: _cost_of(names), 0)
    if count < WORTH_MODULES or size < WORTH_KB:
        return ""
    apps = [app for app, theirs in modules.items() if not common.isdisjoint(theirs)]
    asked = json.dumps([*pool.preload, *names])
    return (
        f"\nThe isolated apps {', '.join(apps)} import {count} modules that pool.preload"
        f" misses. They would share {size / 1024:.1f} MB with\npreload = {asked}\n"
    )


def _to_preload(pool: Pool, wanted: Sequence[str]) -> tuple[list[str], int]:
    """Import modules as `preload` would; returns the names that it takes, and how many are there.

    Those that can't be imported without an app are not.
    """
    names = []
    libraries = [name for name in wanted if name.partition(".")[0] not in sys.stdlib_module_names]
    packages = dict.fromkeys(name.partition(".")[0] for name in libraries)
    # What is imported last has imported most of the others.
    for name in (*packages, *reversed(libraries)):
        if name in pool.preload or ("." in name and name in sys.modules):
            continue
        before = _private_kb()
        preload.import_whole(name)
        if name in sys.modules and _private_kb() - before >= WORTH_KB / 4:
            names.append(name)
    return names, sum(name in sys.modules for name in wanted)


def _cost_of(names: Sequence[str]) -> int:
    """Return the kB that modules take."""
    before = _private_kb()
    for name in names:
        preload.import_whole(name)
    return _private_kb() - before


def _forked(pool: Pool, apps: Sequence[App]) -> Loaded:
    """Load apps in a process of their own."""
    lost = [Refusal(app.name, f"the app {app.name}: its process has died", False) for app in apps]
    found = in_child(lambda: asdict(_load(pool, apps)), None)
    if found is None:
        return Loaded(refusals=lost)
    return Loaded(
        costs={name: (cost[0], cost[1]) for name, cost in found["costs"].items()},
        refusals=[Refusal(**one) for one in found["refusals"]],
        modules=found["modules"],
        remarks=found["remarks"],
    )


def _load(pool: Pool, apps: Sequence[App]) -> Loaded:
    found = Loaded()
    before = set(sys.modules)

    @contextmanager
    def measured(app: App) -> Iterator[None]:
        private, began = _private_kb(), time.perf_counter()
        yield
        found.costs[app.name] = (time.perf_counter() - began, _private_kb() - private)

    def refused(error: LoadError) -> None:
        found.refusals.append(Refusal(error.app, str(error), error.isolate))

    names = frozenset(app.name for app in apps)
    forks = apps[0].own is None or apps[0].own.count > 1
    loaded = loader.load(pool, loader.Loading(refused, measured, names, forks))
    remarks = StringIO()
    loader.report(loaded, remarks)
    found.remarks = remarks.getvalue()
    found.modules = [one for one in sys.modules if type(one) is str and one not in before]
    return found


def _shown(seconds: float, kilobytes: int) -> str:
    return f"{seconds:>8.2f} {kilobytes / 1024:>7.1f}"


def _private_kb() -> int:
    return memory.read(os.getpid()).private
