"""Eight apps in memory: vhost_server beside its peers, at the start and after many requests.

    python -m benchmarks.memory                 the table of peers, and the one of Django projects
    python -m benchmarks.memory --steps         what each step of the memory recipe brings
    python -m benchmarks.memory --python=3.13 --requests=5000 --only=kechi --json=FILE

All figures are PSS of whole trees, super-daemon included; pages that are shared count once. The
apps are benchmarks/apps; each page is asked for over a new connection, five at once. The steps are
measured with those apps that fit into one interpreter.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from supervisor_py import memory
from supervisor_py.errors import FatalError

from .cgroup import NoCgroupError, limited
from .client import BadAnswerError, Browser, accepting, ask, visit
from .environment import environment, interpreter, say, versions
from .mix import DJANGOS, EIGHT, WebApp, in_one_interpreter, prepared
from .processes import marked, running, wait_until
from .report import KSM, Circumstances, markdown, write_json
from .servers import (
    Deployment,
    GunicornEach,
    GunicornPreloaded,
    Ours,
    Server,
    UwsgiDispatcher,
    UwsgiEmperor,
)

AT_ONCE = 5
EARLY, LATE = 2_000, 20_000  # requests after which is looked
SCANS, SCAN_SECONDS = 4, 30.0  # of all pages, for equal ones, before a look
LOOK_SECONDS = 0.1  # between two looks while workers are recycled
IDLE_SECONDS = 3  # until apps sleep, here
WAKES = 5  # of each app
KB = 1024
PACKAGES = ("gunicorn", "pyuwsgi", "Django", "Flask", "SQLAlchemy", "pyramid")
PRELOAD = ["django"]  # what the three Django projects have in common
STEPS = ("gc_at_load", "warm_up", "freeze", "same_page_merging", "immortal")
OFF = {"gc_at_load": True, "warm_up": False, "freeze": False, "same_page_merging": False}
ON = {key: not value for key, value in OFF.items()}


@dataclass(frozen=True)
class Look:
    """A tree of processes at one moment; sizes in MB."""

    pss: float
    processes: int
    workers: int
    private: float  # of a worker, the mean
    shared_percent: float  # of all workers' resident memory


def parents(pids: Sequence[int]) -> dict[int, int]:
    """Return the parent of each process that is still there."""
    found = {}
    for pid in pids:
        with contextlib.suppress(OSError):
            stat = Path(f"/proc/{pid}/stat").read_text()
            found[pid] = int(stat.rpartition(")")[2].split()[1])
    return found


def workers_of(parent_of: Mapping[int, int]) -> list[int]:
    """Return the processes that answer: those without children; only brothers, where there are any.

    An isolated app's process beside five forked workers is none of those.
    """
    leaves = [pid for pid in parent_of if pid not in parent_of.values()]
    brothers = Counter(parent_of[pid] for pid in leaves)
    if brothers and max(brothers.values()) > 1:
        most = brothers.most_common(1)[0][0]
        return [pid for pid in leaves if parent_of[pid] == most]
    return leaves


def look(directory: Path) -> Look:
    """Measure all processes of a run."""
    pids = marked(directory)
    readings: dict[int, memory.Reading] = {}
    for pid in pids:
        with contextlib.suppress(FatalError):
            readings[pid] = memory.read(pid)
    workers = [readings[pid] for pid in workers_of(parents(pids)) if pid in readings]
    rss = sum(one.rss for one in workers)
    return Look(
        pss=sum(one.pss for one in readings.values()) / KB,
        processes=len(readings),
        workers=len(workers),
        private=statistics.mean(one.private for one in workers) / KB if workers else 0.0,
        shared_percent=100 * sum(one.shared for one in workers) / rss if rss else 0.0,
    )


@dataclass
class Measured:
    """A way to serve, and what was seen of it."""

    name: str
    looks: list[Look] = field(default_factory=list)  # at the start, and after some requests
    milliseconds: float = 0.0  # the median of the answers


class Bench:
    """A directory with the apps, an environment, and a turn for each way to serve."""

    def __init__(self, top: Path, python: str, bin_directory: Path, apps: Sequence[WebApp]) -> None:
        self._top, self._bin = top, bin_directory
        self._turns = 0
        self.apps = {app.name: app for app in prepared(apps, python, top / "apps")}

    def chosen(self, apps: Sequence[WebApp]) -> list[WebApp]:
        """Return apps as they are here."""
        return [self.apps[app.name] for app in apps]

    @contextlib.contextmanager
    def serving(
        self, server: Server, apps: Sequence[WebApp], *, small: bool = False
    ) -> Iterator[tuple[Deployment, Path]]:
        """Run a server until it listens; `small` is a VPS of 1 GB, where that can be had."""
        self._turns += 1
        directory = self._top / str(self._turns)
        directory.mkdir()
        deployment = server.deploy(apps, directory, self._bin)
        with contextlib.ExitStack() as stack:
            if small:
                try:
                    group = stack.enter_context(limited())
                    deployment.commands = [group.wrap(one) for one in deployment.commands]
                except NoCgroupError as error:
                    say(f"{server.name}: sized by the whole machine, for {error}")
            stack.enter_context(merging(server.merged))
            stack.enter_context(running(server.name, deployment.commands, directory))
            wait_until(lambda: accepting(deployment.sockets), "all sockets")
            wait_until(lambda: answered(deployment, apps), "the first answers")
            yield deployment, directory


def answered(deployment: Deployment, apps: Sequence[WebApp]) -> bool:
    """Tell whether every group of apps answers; a host that nobody has wakes and warms nothing."""
    for path in {deployment.sockets[app.name] for app in apps}:
        try:
            ask(path, "nobody.test", "/")
        except BadAnswerError:  # uWSGI's way to say it
            continue
        except OSError:
            return False
    return True


@dataclass(frozen=True)
class Turn:
    """A way to serve some of the apps; `small` is on a VPS of 1 GB."""

    server: Server
    apps: Sequence[WebApp] = EIGHT
    small: bool = False


def measure(bench: Bench, turn: Turn, requests: Sequence[int]) -> Measured:
    """Serve apps, and look at the start and after each number of requests."""
    server = turn.server
    found = Measured(server.name)
    chosen = bench.chosen(turn.apps)
    with bench.serving(server, chosen, small=turn.small) as (deployment, directory):
        found.looks.append(look(directory))
        done, took = 0, [0.0]
        for until in requests:
            took = visit(chosen, deployment.sockets, until - done, AT_ONCE)
            done = until
            if server.merged:
                wait_for_scans()
            found.looks.append(look(directory))
        found.milliseconds = 1000 * statistics.median(took)
    say(f"{server.name}: {', '.join(f'{one.pss:.0f}' for one in found.looks)} MB")
    return found


def table_of_peers(measured: Sequence[Measured], requests: Sequence[int]) -> str:
    """Return what each way to serve the eight apps costs; the first is what all compare with."""
    head = ["whole tree, PSS", "at the start", *(f"after {number:,}" for number in requests)]
    head += ["of the first", "processes", "private per worker", "shared share", "answer, median"]
    rows = [head]
    for one in measured:
        last = one.looks[-1]
        rows.append(
            [
                one.name,
                *(f"{seen.pss:.0f} MB" for seen in one.looks),
                f"{100 * last.pss / measured[0].looks[-1].pss:.0f} %",
                str(last.processes),
                f"{last.private:.1f} MB",
                f"{last.shared_percent:.0f} %",
                f"{one.milliseconds:.0f} ms",
            ]
        )
    return markdown(rows)


@dataclass
class Recycled:
    """The memory of a tree while its workers are replaced all the time, in MB."""

    name: str
    steady: float  # median
    peak: float
    looks: int


def measure_recycling(bench: Bench, server: Server, requests: int) -> Recycled:
    """Look at a tree all the time while its workers are replaced."""
    say(f"{server.name} …")
    seen: list[float] = []
    over = threading.Event()
    chosen = bench.chosen(EIGHT)
    with bench.serving(server, chosen) as (deployment, directory):
        visit(chosen, deployment.sockets, EARLY, AT_ONCE)

        def watch() -> None:
            while not over.wait(LOOK_SECONDS):
                seen.append(look(directory).pss)

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            visit(chosen, deployment.sockets, requests, AT_ONCE)
        finally:
            over.set()
            watcher.join()
    return Recycled(server.name, statistics.median(seen), max(seen), len(seen))


def table_of_recycling(measured: Sequence[Recycled]) -> str:
    """Return how far memory rises above what is usual."""
    rows = [["while workers are recycled", "steady (median)", "peak", "peak over steady"]]
    rows += [
        [one.name, f"{one.steady:.0f} MB", f"{one.peak:.0f} MB", f"{one.peak / one.steady:.2f}"]
        for one in measured
    ]
    return markdown(rows)


@dataclass
class Projects:
    """Django projects beside each other: sizes in MB, times in seconds."""

    name: str
    awake: float
    asleep: float | None = None
    wakes: list[float] = field(default_factory=list)


def measure_projects(
    bench: Bench, server: Server, apps: Sequence[WebApp], requests: int, asleep: int
) -> Projects:
    """Serve Django projects; where they sleep, see what is left then, and how fast each wakes.

    `asleep` is the number of processes when all sleep, 0 where they never do.
    """
    say(f"{server.name}, {len(apps)} Django projects …")
    chosen = bench.chosen(apps)
    with bench.serving(server, chosen) as (deployment, directory):
        visit(chosen, deployment.sockets, requests, AT_ONCE)
        if server.merged:
            wait_for_scans()
        found = Projects(server.name, look(directory).pss)
        if asleep:
            _wait_for_sleep(directory, asleep)
            found.asleep = look(directory).pss
        for number in range(WAKES * len(chosen) if asleep else 0):
            app = chosen[number % len(chosen)]
            _wait_for_sleep(directory, asleep)
            began = time.perf_counter()
            Browser(deployment.sockets).get(app, app.pages[0])
            found.wakes.append(time.perf_counter() - began)
    return found


def _wait_for_sleep(directory: Path, processes: int) -> None:
    wait_until(lambda: len(marked(directory)) <= processes, "all apps to sleep")


def table_of_projects(measured: Sequence[Projects], beyond_kb: float) -> str:
    """Return the costs of three Django projects; `beyond_kb` is what one asleep adds."""
    first = measured[0].awake
    rows = [["three Django projects", "awake", "of the first", "asleep", "to wake one"]]
    for one in measured:
        wake = ""
        if one.wakes:
            middle, best, worst = statistics.median(one.wakes), min(one.wakes), max(one.wakes)
            wake = f"{middle:.2f} s ({best:.2f} to {worst:.2f})"
        rows.append(
            [
                one.name,
                f"{one.awake:.0f} MB",
                f"{100 * one.awake / first:.0f} %",
                "" if one.asleep is None else f"{one.asleep:.1f} MB",
                wake,
            ]
        )
    said = f"One more project asleep adds {beyond_kb:,.0f} kB to the whole tree."
    return f"{markdown(rows)}\n\n{said}"


def combinations(*, immortal: bool) -> list[dict[str, bool]]:
    """Return settings of the recipe's steps: none, each alone, all, and all but each."""
    steps = [*OFF, "immortal"] if immortal else [*OFF]
    none, every = {**OFF, "immortal": False}, {**ON, "immortal": immortal}
    found = [none, *({**none, step: every[step]} for step in steps), every]
    return found + [{**every, step: none[step]} for step in steps]


def named(settings: Mapping[str, bool]) -> str:
    """Return a combination's steps in words."""
    words = {
        "gc_at_load": "gc off at load",
        "warm_up": "warm up",
        "freeze": "freeze",
        "same_page_merging": "merge pages",
        "immortal": "immortal",
    }
    taken = [words[key] for key in STEPS if settings[key] != (key == "gc_at_load")]
    return ", ".join(taken) or "no step"


def merging_writable() -> bool:
    """Tell whether we may say whether the kernel merges equal pages."""
    return os.access(KSM, os.W_OK)


@contextlib.contextmanager
def merging(wanted: bool) -> Iterator[None]:
    """Let the kernel merge equal pages meanwhile as on a VPS of ours, or not, where we may say."""
    settings = {"run": "1", "pages_to_scan": "1000", "sleep_millisecs": "200"}
    settings = settings if wanted else {"run": "0"}
    settings = settings if merging_writable() else {}
    before = {name: KSM.with_name(name).read_text() for name in settings}
    try:
        for name, value in settings.items():
            KSM.with_name(name).write_text(value)
        yield
    finally:
        for name, value in before.items():
            KSM.with_name(name).write_text(value)


def wait_for_scans() -> None:
    """Wait until the kernel has looked at all pages often enough to know which of them rest."""
    counter = KSM.with_name("full_scans")
    ends, enough = time.monotonic() + SCAN_SECONDS, int(counter.read_text()) + SCANS
    while time.monotonic() < ends and int(counter.read_text()) < enough:
        time.sleep(1)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.memory", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--python", default="", metavar="3.13", help="instead of the system's")
    parser.add_argument("--requests", type=int, default=LATE, help=f"in all; default {LATE:,}")
    parser.add_argument("--only", default="", metavar="TEXT", help="what has that in its name")
    parser.add_argument("--steps", action="store_true", help="the recipe's steps instead of peers")
    parser.add_argument("--workers", type=int, default=5, help="of --steps; default 5")
    parser.add_argument("--warm-up", type=int, default=1, help="pages per app; default 1")
    parser.add_argument("--json", default="", metavar="FILE", help="write the figures there, too")
    return parser.parse_args(arguments)


def _peers(warm_up: int) -> list[Turn]:
    seven = in_one_interpreter(EIGHT)[0]
    five = {"workers": 5, "threads": 1}
    ours = [
        Turn(Ours("kechi, as it is sized on 1 GB", warm_up=warm_up), small=True),
        Turn(Ours("kechi, seven apps of one interpreter", warm_up=warm_up), seven, small=True),
        Turn(Ours("kechi, 5 forked workers", five, warm_up=warm_up)),
    ]
    merged = [
        replace(turn, server=replace(turn.server, merged=True, name=f"{turn.server.name}, merged"))
        for turn in ours
        if isinstance(turn.server, Ours)
    ]
    if not merging_writable():
        say(f"{KSM} can't be written, so nothing is measured with merged pages")
        merged = []
    others = (GunicornEach(), GunicornPreloaded(), UwsgiDispatcher(), UwsgiEmperor())
    return [*map(Turn, others), *ours, *merged]


def _steps(options: argparse.Namespace, *, immortal: bool) -> list[Turn]:
    seven = in_one_interpreter(EIGHT)[0]
    workers = options.workers
    pool = {"workers": workers, "threads": 1 if workers > 1 else AT_ONCE}
    return [
        Turn(
            Ours(
                named(one),
                pool,
                one,
                warm_up=options.warm_up,
                merged=one["same_page_merging"],
            ),
            seven,
        )
        for one in combinations(immortal=immortal)
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print the tables."""
    options = _options(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what runs is ended on the way out
    python = interpreter(options.python)
    bin_directory = environment(python)
    if bin_directory is None:
        sys.exit("nothing can be compared without the packages of requirements-bench.txt")
    installed = versions(bin_directory / "python", *PACKAGES)
    immortal = tuple(map(int, installed["Python"].split(".")[:2])) >= (3, 12)
    turns = _steps(options, immortal=immortal) if options.steps else _peers(options.warm_up)
    turns = [one for one in turns if options.only in one.server.name]
    requests = sorted({min(EARLY, options.requests), options.requests})
    circumstances = Circumstances(installed)
    measured: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as top:
        bench = Bench(Path(top), str(bin_directory / "python"), bin_directory, [*EIGHT, DJANGOS[2]])
        eight = []
        for turn in turns:
            circumstances.look()
            eight.append(measure(bench, turn, requests))
        print(table_of_peers(eight, requests))
        measured["eight"] = [asdict(one) for one in eight]
        if not options.steps:
            measured |= _ours_alone(bench, options)
        how = f"Measured once, {AT_ONCE} requests at once, each over a new connection."
        print(f"\n{how} {circumstances.sentence()}")
    write_json(options.json, circumstances, measured)


def _ours_alone(bench: Bench, options: argparse.Namespace) -> dict[str, object]:
    often = {"max_requests": 500}
    pools: Mapping[str, Mapping[str, object]] = {
        "the only worker, beside an isolated app": {"workers": 1, **often},
        "one of 2 workers of 4 threads": {"workers": 2, "threads": 4, **often},
        "one of 5 workers": {"workers": 5, "threads": 1, **often},
    }
    recycled = [
        measure_recycling(bench, Ours(name, pool, warm_up=options.warm_up), options.requests // 2)
        for name, pool in pools.items()
    ]
    print(f"\n{table_of_recycling(recycled)}")
    shared: Mapping[str, object] = {"preload": PRELOAD}
    isolated = Ours("kechi, each isolated", shared, isolate=True, warm_up=options.warm_up)
    merged = replace(isolated, name="kechi, each isolated, merged", merged=True)
    sleepy = replace(isolated, name="kechi, each may sleep", idle_seconds=IDLE_SECONDS)
    early = min(EARLY, options.requests)
    projects = [
        measure_projects(bench, server, DJANGOS, early, asleep)
        for server, asleep in (
            (GunicornEach(), 0),
            (UwsgiEmperor("uWSGI Emperor, on demand", IDLE_SECONDS), 1),
            (isolated, 0),
            *([(merged, 0)] if merging_writable() else []),
            (sleepy, 2),
        )
    ]
    one = measure_projects(bench, sleepy, DJANGOS[:1], early, 2).asleep
    three = projects[-1].asleep
    assert one is not None
    assert three is not None
    beyond = KB * (three - one) / (len(DJANGOS) - 1)
    print(f"\n{table_of_projects(projects, beyond)}")
    return {
        "recycled": [asdict(one) for one in recycled],
        "projects": [asdict(one) for one in projects],
        "asleep_beyond_kb": beyond,
    }


if __name__ == "__main__":
    main()
