"""start_server beside its peers: memory, start, and what a restart costs those who wait.

    python -m benchmarks.supervisor

Prints one Markdown table. Takes three minutes, uses loopback only. All take turns, so that what
else the machine does hits each of them. What is restarted is gunicorn, with an application that
takes longer to load than start_server's default interval of 1 second: the case that Perl's needs a
guessed KILL_OLD_DELAY for.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import select
import signal
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from .load import CLIENTS, Load
from .peers import Peer, Run, all_peers
from .processes import PATIENCE, PAUSE, running, wait_until

MEMORY_ROUNDS = 3
START_ROUNDS = 9
TURNS = 2  # each of RESTARTS / TURNS restarts
RESTARTS = 10
BOOT_SECONDS = 1.5
SETTLE = 0.5  # seconds from the child's start to the reading of memory

APPLICATION = f"""
import os
import time
time.sleep({BOOT_SECONDS})  # what a larger application spends on imports
LOADED_BY = str(os.getpid()).encode()
def application(environ, start_response):
    start_response("200 OK", [("Content-Length", str(len(LOADED_BY)))])
    return [LOADED_BY]
"""


@dataclass
class Contender:
    """A super-daemon, and what was measured of it."""

    peer: Peer
    dirty_kb: list[float] = field(default_factory=list)
    start_ms: list[float] = field(default_factory=list)
    slowest_ms: list[float] = field(default_factory=list)
    requests: int = 0
    failed: int = 0


@contextlib.contextmanager
def idle(peer: Peer, directory: Path) -> Iterator[tuple[int, float]]:
    """Run a super-daemon with a child that sleeps; give its pid, and the time to that child."""
    run, fifo = Run(directory), directory / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    command = peer.idle(run, fifo)
    before = time.perf_counter()
    with running(peer.name, [command], directory) as (process,):
        run.pid = process.pid
        if not select.select([reader], [], [], PATIENCE)[0]:
            raise TimeoutError("the child did not start")
        took = time.perf_counter() - before
        os.close(reader)
        yield run.pid, took


def measure_memory(one: Contender, directory: Path) -> None:
    """Take the dirty memory of an idle super-daemon with one child.

    What it shares with a child that it forked without exec, as gunicorn does, is its own all the
    same: the others share nothing dirty.
    """
    with idle(one.peer, directory) as (pid, _took):
        time.sleep(SETTLE)
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        dirty = (line for line in rollup if line.startswith(("Private_Dirty", "Shared_Dirty")))
        one.dirty_kb.append(float(sum(int(line.split()[1]) for line in dirty)))


def measure_start(one: Contender, directory: Path) -> None:
    """Take the time from our exec of the super-daemon to the first that its child does."""
    with idle(one.peer, directory) as (_pid, took):
        one.start_ms.append(took * 1000)


def measure_restarts(one: Contender, directory: Path, restarts: int) -> None:
    """Restart a real server under load, and note the slowest request of each restart."""
    (directory / "app.py").write_text(APPLICATION)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    load, run = Load(port), Run(directory)

    def loaded_by() -> int:
        try:
            return load.once()
        except (OSError, http.client.HTTPException):
            return 0  # nobody serves

    def replaced(old: int) -> bool:
        return loaded_by() not in (0, old) and not _alive(old)

    with running(one.peer.name, [one.peer.web(run, port)], directory) as (process,):
        run.pid = process.pid
        wait_until(loaded_by, "the first answer")
        with load:
            time.sleep(20 * PAUSE)
            for _ in range(restarts):
                old = load.once()
                began = time.perf_counter()
                one.peer.restart(run)
                wait_until(partial(replaced, old), "the new application alone")
                time.sleep(20 * PAUSE)
                one.slowest_ms.append(load.slowest_ms(began, time.perf_counter()))
        one.requests += len(load.answers)
        one.failed += load.failed


def _alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def table(measured: Sequence[Contender]) -> str:
    """Return all figures as a Markdown table, with the number of runs behind each."""
    rows = [
        ["", *(one.peer.name for one in measured)],
        ["---", *("---:" for _ in measured)],
        [
            f"dirty memory of its own, idle (median of {MEMORY_ROUNDS})",
            *(f"{statistics.median(one.dirty_kb):,.0f} kB" for one in measured),
        ],
        [
            f"start to the child's exec (median of {START_ROUNDS})",
            *(f"{statistics.median(one.start_ms):.0f} ms" for one in measured),
        ],
        [
            f"slowest request in a restart (median of {RESTARTS} restarts)",
            *(f"{statistics.median(one.slowest_ms):,.0f} ms" for one in measured),
        ],
        [
            f"slowest request in {RESTARTS} restarts",
            *(f"{max(one.slowest_ms):,.0f} ms" for one in measured),
        ],
        ["failed requests", *(f"{one.failed:,} of {one.requests:,}" for one in measured)],
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main() -> None:
    """Measure, and print the table."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what runs is ended on the way out
    began = time.monotonic()
    measured = [Contender(peer) for peer in all_peers()]
    with tempfile.TemporaryDirectory() as top:
        number = 0

        def take_turns(rounds: int, measure: Callable[[Contender, Path], None]) -> None:
            nonlocal number
            for _ in range(rounds):
                for one in measured:
                    number += 1
                    directory = Path(top, str(number))
                    directory.mkdir()
                    measure(one, directory)

        take_turns(1, measure_start)  # not counted: files come into the cache, ours are compiled
        for one in measured:
            one.start_ms.clear()
        take_turns(START_ROUNDS, measure_start)
        take_turns(MEMORY_ROUNDS, measure_memory)
        take_turns(TURNS, lambda one, at: measure_restarts(one, at, RESTARTS // TURNS))
    print(table(measured))
    print(
        f"\nServed by gunicorn with 2 sync workers and --preload, an application that loads in "
        f"{BOOT_SECONDS} s; {CLIENTS} clients with a new connection for each request. A request "
        "that failed was answered at once: it counts as failed, not as slow.\n\nA restart is:\n"
    )
    for one in measured:
        print(f"- {one.peer.name}: {one.peer.restart_is}")
    print(
        "\ngunicorn's memory is its arbiter's, with what that shares with its worker; its start is "
        f"to the worker's import.\nTook {time.monotonic() - began:.0f} s."
    )


if __name__ == "__main__":
    main()
