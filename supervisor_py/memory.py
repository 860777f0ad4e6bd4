"""What processes cost in memory, from /proc/PID/smaps_rollup.

A worker forked from a warm parent shares its pages until it writes to them: RSS counts a shared
page in every process, PSS divides it among them, private is what the process alone holds.
"""

from __future__ import annotations

import os

from .errors import FatalError
from .record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


class Reading(Record):
    """The memory of one process, in kB as the kernel gives it (1024 bytes)."""

    pid: int
    rss: int
    shared: int
    pss: int
    private: int

    def shared_percent(self) -> int:
        """Return the share of the RSS that is shared; 0 for a process without any memory."""
        return round(100 * self.shared / self.rss) if self.rss else 0


def parse(pid: int, rollup: str) -> Reading:
    """Read the text of a smaps_rollup; raises ValueError when a figure is missing."""
    sizes: dict[str, int] = {}
    for line in rollup.splitlines():
        name, _, rest = line.partition(":")
        words = rest.split()
        if len(words) == 2 and words[1] == "kB":  # noqa: PLR2004
            sizes[name] = int(words[0])
    try:
        return Reading(
            pid,
            rss=sizes["Rss"],
            shared=sizes["Shared_Clean"] + sizes["Shared_Dirty"],
            pss=sizes["Pss"],
            private=sizes["Private_Clean"] + sizes["Private_Dirty"],
        )
    except KeyError as error:
        raise ValueError(f"smaps_rollup of process {pid} has no {error.args[0]}") from None


def read(pid: int) -> Reading:
    """Measure a process; raises FatalError when there is none, or it isn't ours to look at."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
            return parse(pid, file.read().decode())
    except (FileNotFoundError, ProcessLookupError):
        raise FatalError(f"{pid}: no such process") from None
    except PermissionError:
        raise FatalError(f"{pid}: not permitted to see its memory (be its user, or root)") from None
    except ValueError as error:  # a kernel thread, or a zombie: no memory of its own
        raise FatalError(str(error)) from None


class Whole(Record):
    """The memory of some processes together, in kB, and what the workers among them share."""

    pss: int
    shared_percent: float
    processes: int


NOTHING = Whole(0, 0.0, 0)


def whole(pids: Sequence[int]) -> Whole:
    """Measure processes together, of which the first is the workers' parent.

    Those that have gone, or aren't ours to look at, are left out.
    """
    readings = []
    for pid in pids:
        try:
            readings.append(read(pid))
        except FatalError:
            continue
    workers = [one for one in readings if one.pid != pids[0]]
    rss = sum(one.rss for one in workers)
    shared = sum(one.shared for one in workers)
    percent = round(100 * shared / rss, 1) if rss else 0.0
    return Whole(sum(one.pss for one in readings), percent, len(readings))


def children() -> dict[int, list[int]]:
    """Return the children of each process that has any."""
    found: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdecimal():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    # The command's name, in parentheses, may hold anything: count from its end.
                    parent = int(file.read().rpartition(b")")[2].split()[1])
            except OSError:
                continue
            found.setdefault(parent, []).append(int(name))
    return found


def tree(pid: int) -> list[int]:
    """Return a process and its descendants, parents first."""
    known = children()
    found = [pid]
    for one in found:
        found += sorted(known.get(one, []))
    return found
