"""How many workers and threads a group gets where the pool file doesn't say.

Few processes with some threads each: on a small machine memory is what there is least of, and a
thread costs a fraction of a process. More processes than cores bring nothing that threads don't.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from .. import room
from .pool import WORKERS, Workers

Read = Callable[[str], str | None]

MB_PER_WORKER = 900  # a machine that is sold with 1 GB shows some 950 MB
THREADS = 8  # they are started when requests come at once, and cost little before


@dataclass(frozen=True, slots=True)
class Machine:
    """What this process may use of the machine."""

    cores: float  # a quota may be a part of one
    memory_mb: float


def sized(asked: Workers) -> Workers:
    """Return what was asked for, with every 0 replaced by what suits the machine."""
    if asked.count and asked.threads:
        return asked
    machine = look(room.read_file, len(os.sched_getaffinity(0)))
    return replace(asked, count=asked.count or workers(machine), threads=asked.threads or THREADS)


def workers(machine: Machine) -> int:
    """Return how many processes can work at once there without taking much of its memory. Pure."""
    most = min(machine.cores, machine.memory_mb / MB_PER_WORKER)
    return min(max(int(most), WORKERS[0]), WORKERS[-1])


def look(read: Read, cores: int) -> Machine:
    """Return the machine as the limits of our cgroups leave it to us; `cores` are those allowed."""
    memory = room.table(read("/proc/meminfo") or "").get("MemTotal", 0)
    return Machine(min([float(cores), *_quotas(read)]), min([memory, *_limits_kb(read)]) / 1024)


def _limits_kb(read: Read) -> Iterator[int]:
    for version, groups in room.cgroups(read, "memory"):
        name = "memory.max" if version == room.V2 else "memory.limit_in_bytes"
        yield from (kb for group in groups if (kb := room.kb(read(f"{group}/{name}"))) is not None)


def _quotas(read: Read) -> Iterator[float]:
    """Yield how many cores' time our cgroups allow, each that sets a limit."""
    for version, groups in room.cgroups(read, "cpu"):
        for group in groups:
            if version == room.V2:
                said = (read(f"{group}/cpu.max") or "").split()
            else:
                said = [
                    (read(f"{group}/{name}") or "").strip()
                    for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us")
                ]
            # No limit is "max", or -1.
            if len(said) == 2 and all(map(str.isdecimal, said)) and int(said[1]):  # noqa: PLR2004
                yield int(said[0]) / int(said[1])
