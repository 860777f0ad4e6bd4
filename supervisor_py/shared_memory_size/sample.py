"""One look at processes: the memory of each, and what their server says of them."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .. import memory
from ..errors import FatalError
from ..memory import Reading
from ..status_files import read_pid, require_owner
from ..text import visible
from ..vhost import ledger

RUN = Path("/run")  # where systemd makes a pool's runtime directory
_PREFIX = "kechi-"
_MOST_NAME = 64  # characters of what a process calls itself


@dataclass(frozen=True, slots=True)
class Process:
    """A process, its memory, and, if it is vhost_server's, what it works for.

    `group` is an isolated app's name, "(shared)" or "(parent)"; `requests` are those that it has
    served, an arbiter's those that were served by its workers that have gone.
    """

    memory: Reading
    name: str
    worker: bool
    group: str | None = None
    requests: int | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """Processes that belong together, at one time; `pool` is None for those given by their ids."""

    time: float  # Unix time
    pool: str | None
    processes: tuple[Process, ...]

    @property
    def pss_kb(self) -> int:
        """What all of them cost, with shared pages counted once."""
        return sum(one.memory.pss for one in self.processes)

    @property
    def workers_shared_percent(self) -> float | None:
        """How much of their memory the workers share; None where there are none."""
        workers = [one.memory for one in self.processes if one.worker]
        rss = sum(one.rss for one in workers)
        return round(100 * sum(one.shared for one in workers) / rss, 1) if rss else None

    @property
    def requests(self) -> int | None:
        """How many requests the living generations have served; None where nobody counts."""
        counts = [one.requests for one in self.processes if one.requests is not None]
        return sum(counts) if counts else None

    @property
    def groups_pss_kb(self) -> dict[str, int]:
        """What each group of apps costs."""
        sums: dict[str, int] = {}
        for one in self.processes:
            if one.group is not None:
                sums[one.group] = sums.get(one.group, 0) + one.memory.pss
        return sums


def pools(run: Path) -> list[str]:
    """Return the names of the pools that run on this machine."""
    return sorted(file.parent.name.removeprefix(_PREFIX) for file in run.glob(f"{_PREFIX}*/pid"))


def of_pool(name: str, run: Path) -> Sample:
    """Measure a pool: its super-daemon and all below; raises FatalError when it isn't there."""
    file = run / f"{_PREFIX}{name}" / "pid"
    if "/" in name or not os.path.lexists(file):
        there = ", ".join(pools(run))
        known = f"there are: {there}" if there else f"none runs here ({run}/{_PREFIX}*/pid)"
        raise FatalError(f'"{name}" is neither a process id nor a pool ({known})')
    pid = read_pid(str(file))
    require_owner(str(file), pid, file.parent.stat().st_uid)
    if not Path(f"/proc/{pid}").exists():
        raise FatalError(f"the pool {name} does not run: process {pid} of {file} has gone")
    return of_tree([pid], name)


def of_tree(roots: Sequence[int], pool: str | None = None) -> Sample:
    """Measure processes and all that descend from them; raises FatalError for a root.

    A descendant may end while it is looked at: it is left out then.
    """
    children = memory.children()
    pids = list(dict.fromkeys(roots))
    for pid in pids:
        pids += [one for one in sorted(children.get(pid, [])) if one not in pids]
    readings = []
    for pid in pids:
        try:
            readings.append(memory.read(pid))
        except FatalError:
            if pid in roots:
                raise
    return _sample(pool, readings, children)


def of_processes(pids: Sequence[int]) -> Sample:
    """Measure these processes alone; raises FatalError when there is none of that id."""
    return _sample(None, [memory.read(pid) for pid in dict.fromkeys(pids)], memory.children())


def _sample(
    pool: str | None, readings: Sequence[Reading], children: dict[int, list[int]]
) -> Sample:
    entries = {one.pid: entry for one in readings if (entry := ledger.read(one.pid)) is not None}
    processes = []
    for one in readings:
        below = children.get(one.pid, [])
        # Without entries, it is another server's: a worker is what has nothing below it.
        leads = any(pid in entries for pid in below) if entries else bool(below)
        worker = not leads and (one.pid in entries if entries else one is not readings[0])
        entry = entries.get(one.pid)
        group = visible(entry.group, _MOST_NAME) if entry is not None else None
        requests = entry.requests if entry is not None else None
        processes.append(Process(one, _name(one.pid), worker, group, requests))
    return Sample(round(time.time(), 3), pool, tuple(processes))


def _name(pid: int) -> str:
    try:
        comm = Path(f"/proc/{pid}/comm").read_text("utf-8", "replace").removesuffix("\n")
        return visible(comm, _MOST_NAME)
    except OSError:
        return "-"
