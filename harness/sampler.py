"""Watches the memory of pools' generations, on the machine itself, until its stdin is closed.

It asks the commands that an administrator has, and prints a sample of each pool as a line of JSON:

    $ python3 sampler.py 1 main clock

Standard library only, one file: the text of it is what a machine is sent.
"""

from __future__ import annotations

import json
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

STATUS = ("start_server", "--status", "--json")
MEMORY = ("shared_memory_size", "--json", "--tree")
SUMS = ("pss_kb", "private_kb")


def ask(*command: str) -> Any:
    """Run a command that prints JSON; raises OSError or ValueError with what it said instead."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if not done.stdout:
        raise ValueError(done.stderr.strip() or f"{command[0]}: exit code {done.returncode}")
    return json.loads(done.stdout)


def parents() -> dict[int, int]:
    """Each process's parent."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:
            continue  # it has ended meanwhile
        found[int(stat.parent.name)] = int(words[1])
    return found


def owner(pid: int, of: dict[int, int], owners: set[int]) -> int | None:
    """The one of `owners` that a process descends from, or is."""
    while pid not in owners:
        if pid not in of:
            return None
        pid = of[pid]
    return pid


def shared_percent(processes: list[dict[str, Any]]) -> float | None:
    """How much of their memory the workers share; None where there are none."""
    workers = [one for one in processes if one["worker"]]
    rss = sum(one["rss_kb"] for one in workers)
    return round(100 * sum(one["shared_kb"] for one in workers) / rss, 1) if rss else None


def summed(
    generations: list[dict[str, Any]], processes: list[dict[str, Any]], of: dict[int, int]
) -> list[dict[str, Any]]:
    """The memory of each generation, which is that of its processes."""
    owners = {int(generation["pid"]) for generation in generations if generation["pid"]}
    owned: dict[int, list[dict[str, Any]]] = {}
    for process in processes:
        found = owner(process["pid"], of, owners)
        if found is not None:
            owned.setdefault(found, []).append(process)
    return [
        {
            "number": generation["number"],
            "phase": generation["phase"],
            "processes": len(own),
            **{key: sum(process[key] for process in own) for key in SUMS},
            "workers_shared_percent": shared_percent(own),
        }
        for generation in generations
        if (own := owned.get(generation["pid"], []))
    ]


def sample(pools: list[str]) -> list[dict[str, Any]]:
    """Look at each pool."""
    samples: list[dict[str, Any]] = []
    told: dict[str, list[dict[str, Any]]] = {}
    for pool in pools:
        try:
            told[pool] = ask(*STATUS, f"--control-socket=/run/kechi-{pool}/control")["generations"]
        except (OSError, ValueError) as error:
            samples.append({"at": time.time(), "pool": pool, "error": str(error)})
    pids = [str(one["pid"]) for generations in told.values() for one in generations if one["pid"]]
    try:
        processes = ask(*MEMORY, *pids) if pids else []
    except (OSError, ValueError) as error:  # all of them have ended meanwhile
        return samples + [{"at": time.time(), "pool": pool, "error": str(error)} for pool in told]
    of = parents()
    return samples + [
        {"at": time.time(), "pool": pool, "generations": summed(generations, processes, of)}
        for pool, generations in told.items()
    ]


def main() -> None:
    """Sample at the pace that the first argument says, the pools that the others name."""
    seconds, pools = float(sys.argv[1]), sys.argv[2:]
    while True:
        for one in sample(pools):
            print(json.dumps(one), flush=True)
        if select.select([sys.stdin], [], [], seconds)[0]:
            break


if __name__ == "__main__":
    main()
