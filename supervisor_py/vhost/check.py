"""vhost_server --check: load all apps of a pool as the server would, and say what each costs."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from .. import memory
from . import loader
from .loader import LoadError
from .pool import App, Pool

NOTE = "A library is counted with the first app that imports it."


def check(pool: Pool, out: TextIO) -> int:
    """Load the apps of a pool and print a line for each; returns 1 when one can't be served."""
    costs: dict[str, tuple[float, int]] = {}
    refusals: dict[str, LoadError] = {}

    @contextmanager
    def measured(app: App) -> Iterator[None]:
        private, began = _private_kb(), time.perf_counter()
        yield
        costs[app.name] = (time.perf_counter() - began, _private_kb() - private)

    def refused(error: LoadError) -> None:
        refusals.setdefault(error.app, error)

    loader.load(pool, loader.Loading(refused, measured))
    wide = max(len("TOTAL"), *(len(app.name) for app in pool.apps))
    rows = [("APP", "SECONDS", "MB")]
    rows += [(name, *_shown(*cost)) for name, cost in costs.items() if name not in refusals]
    total = [cost for name, cost in costs.items() if name not in refusals]
    rows.append(("TOTAL", *_shown(sum(one[0] for one in total), sum(one[1] for one in total))))
    for name, seconds, size in rows:
        out.write(f"{name:<{wide}} {seconds:>8} {size:>7}\n")
    out.write(f"{NOTE}\n")
    for error in refusals.values():
        out.write(f"\n{error}\n")
    if not refusals:
        out.write(f"All {len(pool.apps)} apps can be served.\n")
    out.flush()
    return 1 if refusals else 0


def _shown(seconds: float, kilobytes: int) -> tuple[str, str]:
    return f"{seconds:.2f}", f"{kilobytes / 1024:.1f}"


def _private_kb() -> int:
    return memory.read(os.getpid()).private
