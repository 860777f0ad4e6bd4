"""Samples as tables, lines and JSON: pure."""

import time
from collections.abc import Sequence

from .. import tables
from .sample import Process, Sample

_COLUMNS = ("PID", "NAME", "GROUP", "RSS", "SHARED", "PSS", "PRIVATE", "REQUESTS")
_KB_PER_MB = 1024


def table(samples: Sequence[Sample]) -> str:
    """Return a table of processes for each sample, sums by app below it; in kB, sums in MB."""
    return "\n\n".join("\n".join([_processes(one), *_sums(one)]) for one in samples)


def line(sample: Sample) -> str:
    """Return a sample in one line."""
    clock = time.strftime("%H:%M:%S", time.localtime(sample.time))
    return f"{clock} {sample.pool or 'processes'}: {_in_words(sample)}"


def as_json(sample: Sample) -> dict[str, object]:
    """Return a sample as it is in a history: time in seconds, memory in kB."""
    return {
        "time": sample.time,
        "pool": sample.pool,
        "requests": sample.requests,
        "pss_kb": sample.pss_kb,
        "workers_shared_percent": sample.workers_shared_percent,
        "groups_pss_kb": sample.groups_pss_kb,
        "processes": [process_as_json(one) for one in sample.processes],
    }


def process_as_json(process: Process) -> dict[str, object]:
    """Return a process as JSON, memory in kB."""
    reading = process.memory
    return {
        "pid": reading.pid,
        "name": process.name,
        "group": process.group,
        "worker": process.worker,
        "rss_kb": reading.rss,
        "shared_kb": reading.shared,
        "shared_percent": reading.shared_percent(),
        "pss_kb": reading.pss,
        "private_kb": reading.private,
        "requests": process.requests,
    }


def _processes(sample: Sample) -> str:
    rows = [
        (
            str(one.memory.pid),
            one.name,
            one.group or "-",
            str(one.memory.rss),
            f"{one.memory.shared} ({one.memory.shared_percent()}%)",
            str(one.memory.pss),
            str(one.memory.private),
            "-" if one.requests is None else str(one.requests),
        )
        for one in sample.processes
    ]
    return tables.aligned([_COLUMNS, *rows])


def _sums(sample: Sample) -> list[str]:
    if len(sample.processes) == 1:
        return []
    lines = [f"{f'pool {sample.pool}: ' if sample.pool else ''}{_in_words(sample)}"]
    groups = sample.groups_pss_kb
    if len(groups) > 1:
        by_size = sorted(groups.items(), key=lambda item: -item[1])
        lines.append("by app: " + ", ".join(f"{name} {_mb(kb)}" for name, kb in by_size))
    return lines


def _in_words(sample: Sample) -> str:
    count = len(sample.processes)
    parts = [f"{count} process{'es' if count > 1 else ''}", f"{_mb(sample.pss_kb)} (PSS)"]
    if sample.workers_shared_percent is not None:
        parts.append(f"workers share {sample.workers_shared_percent:.1f} %")
    if sample.requests is not None:
        parts.append(f"{sample.requests} requests")
    return ", ".join(parts)


def _mb(kb: int) -> str:
    return f"{kb / _KB_PER_MB:.1f} MB"
