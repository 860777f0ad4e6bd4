"""The plan of a pool: which of its apps with `isolation = "auto"` get a process of their own.

A plan is made at deploy, and is a file beside the pool file: a restart takes the same decisions,
and a rollback has those of its time. Pure but for read(), and standard library only.
"""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from .pool import AUTO, PROCESS, SHARED, Pool, PoolError

SUFFIX = ".isolation.json"
REASON_CHARACTERS = 400


@dataclass(frozen=True, slots=True)
class Decision:
    """Where an app lives, and why."""

    isolation: str  # SHARED or PROCESS
    reason: str = ""  # a sentence on what its neighbours would feel


Plan = Mapping[str, Decision]  # by the apps' names


@dataclass(frozen=True, slots=True)
class Seen:
    """What has been found of an app that was loaded alone."""

    felt: Sequence[str] = ()  # what any neighbour would feel, a sentence each
    log: str = ""  # how its root logger writes to the process's own streams
    private: frozenset[str] = frozenset()  # the loggers whose lines go elsewhere, as to a file
    loggers: frozenset[str] = frozenset()  # all that it has
    once: Mapping[str, Sequence[str]] | None = None  # by a sentence: what a process has once
    patched: Mapping[str, Sequence[str]] | None = None  # by library: what the app replaces of it
    libraries: frozenset[str] = frozenset()  # that it has imported


def place(pool_file: Path | str) -> Path:
    """Where the plan of a pool file is: beside the file itself, whatever symlink leads there."""
    return Path(os.path.realpath(pool_file)).with_suffix(SUFFIX)


def read(pool_file: Path | str) -> Plan | None:
    """Return the plan of a pool file, None where there is none; raises PoolError."""
    file = place(pool_file)
    try:
        return parse(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise PoolError(
            [f"{file}: is not a plan ({error}): make it anew by vhost_server --plan, or remove it"]
        ) from error


def parse(text: str) -> Plan:
    """Return what a plan says; raises ValueError for what is none."""
    document = json.loads(text)
    apps = document.get("apps") if isinstance(document, dict) else None
    if not isinstance(apps, dict):
        raise ValueError('"apps" is missing')  # noqa: TRY004  # of a file, not of a caller
    return {name: _decision(name, one) for name, one in apps.items()}


def _decision(name: str, one: object) -> Decision:
    found = one if isinstance(one, dict) else {}
    isolation, reason = found.get("isolation"), found.get("reason", "")
    if isolation not in (SHARED, PROCESS) or not isinstance(reason, str):
        raise ValueError(f'the app {name}: its isolation must be "{SHARED}" or "{PROCESS}"')
    return Decision(isolation, one_line(reason))


def text(plan: Plan, failed: Mapping[str, str]) -> str:
    """Return the content of a plan's file; `failed`: the apps that could not be looked at."""
    told = {name: one_line(why) for name, why in failed.items()}
    apps = {name: {"isolation": one.isolation, "reason": one.reason} for name, one in plan.items()}
    return json.dumps({"apps": apps, "failed": told}, indent=1) + "\n"


def one_line(sentence: str) -> str:
    """Return a sentence for a log or a terminal: one line of printable characters."""
    shown = "".join(c if c.isprintable() else " " for c in " ".join(sentence.split()))
    return shown if len(shown) <= REASON_CHARACTERS else f"{shown[: REASON_CHARACTERS - 1]}…"


def apply(pool: Pool, plan: Plan) -> Pool:
    """Return a pool whose apps live where a plan says; one that it does not know shares."""
    alone = replace(pool.shared, count=1)
    apps = []
    for app in pool.apps:
        found = plan.get(app.name)
        isolate = found and app.isolation == AUTO and found.isolation == PROCESS
        if found and isolate and app.own is None:
            app = replace(app, own=alone, isolation_reason=found.reason)  # noqa: PLW2901
        apps.append(app)
    return replace(pool, apps=tuple(apps))


def needs_plan(pool: Pool) -> bool:
    """Whether there is anything to decide: an app alone in its process has nobody to feel it."""
    sharing = [app for app in pool.apps if app.own is None]
    return len(sharing) > 1 and any(app.isolation == AUTO for app in sharing)


def decide(pool: Pool, seen: Mapping[str, Seen]) -> dict[str, Decision]:
    """Return the decisions about a pool's apps of which none has a say, from what was seen of each.

    Who comes first in the pool file shares; before them come those that insist on it.
    """
    sharing = [app for app in pool.apps if app.own is None]
    kept = {app.name: seen.get(app.name, Seen()) for app in sharing if app.isolation == SHARED}
    plan = {}
    for app in sharing:
        if app.isolation != AUTO:
            continue
        found = seen.get(app.name, Seen())
        beside = (one for name, other in kept.items() for one in _between(found, name, other))
        reasons = list(dict.fromkeys([*found.felt, *beside]))
        plan[app.name] = Decision(
            PROCESS if reasons else SHARED, one_line("; ".join(reasons)) if reasons else ""
        )
        if not reasons:
            kept[app.name] = found
    if plan and not kept:  # whoever is alone in the process of those that share is felt by nobody
        plan[next(iter(plan))] = Decision(SHARED)
    return plan


def _between(one: Seen, name: str, other: Seen) -> Iterable[str]:
    """Yield what two apps would feel of each other."""
    if one.log and other.log and one.log != other.log:
        yield (
            f"it sets up the root logger, as does the app {name}, in another way: a process has one"
            f" ({one.log}; {other.log})"
        )
    for mine, theirs in ((one, other), (other, one)):
        for logger in sorted(mine.private):
            below = f"{logger}."
            if any(own == logger or own.startswith(below) for own in theirs.loggers):
                yield (
                    f'the logger "{logger}" is the app {name}\'s, too, and one of the two writes'
                    " its lines to a file or a service of its own: it would get the other's"
                )
        for library, names in (mine.patched or {}).items():
            if library in theirs.libraries:
                yield f"{', '.join(names)} would be replaced for both it and the app {name}"
    for sentence, mine_has in (one.once or {}).items():
        theirs_has = (other.once or {}).get(sentence)
        if theirs_has is not None and _same(mine_has, theirs_has):
            yield f"{sentence}; the app {name} has one, too"


def _same(one: Sequence[str], other: Sequence[str]) -> bool:
    """Whether two apps meet: at a name that both have, or, where there are none, in any case."""
    return (not one and not other) or not set(one).isdisjoint(other)
