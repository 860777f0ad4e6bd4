"""How many copies of a small app fit into 1 GB: vhost_server beside one gunicorn per app.

    python -m benchmarks.density [--only=TEXT] [--limit-mb=1024] [--json=FILE]

The app is a blog (Flask, SQLAlchemy, Jinja2); each copy has its own directory and database. A
number of copies fits when all of them run in a control group of 1 GB without swap, nothing is
killed for memory, and each copy answers in under 100 ms: the median of its answers, while all are
asked in turns. The number is estimated from two small runs, and then tried for real, up or down.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from .cgroup import Cgroup, NoCgroupError, limited
from .client import BadAnswerError, Browser, accepting
from .environment import environment, interpreter, say, versions
from .memory import answered, look
from .mix import BLOG, WebApp, copies, prepared
from .processes import running, wait_until
from .report import Circumstances, markdown, write_json
from .servers import Deployment, GunicornEach, GunicornInNamespaces, Ours, Server

LIMIT_MB = 1024
SLOW_MS = 100.0
TURNS = 4  # of all copies; the first one, in which each opens its database, is not counted
START_SECONDS = 900.0  # for all copies together
STEP = 0.06  # between two tries, as a share of the number
PACKAGES = ("gunicorn", "Flask", "SQLAlchemy")


@dataclass(frozen=True)
class Trial:
    """A number of copies, and what became of it."""

    copies: int
    pss_mb: float
    charged_mb: float  # by the kernel, file cache included
    slowest_ms: float
    failure: str = ""


@dataclass
class Fit:
    """A way to serve, and what was tried."""

    name: str
    trials: list[Trial] = field(default_factory=list)

    def most(self) -> int:
        """Return the largest number that fits; 0 for none."""
        return max((one.copies for one in self.trials if not one.failure), default=0)

    def fewest_failed(self) -> Trial | None:
        """Return the smallest number that does not fit."""
        failed = [one for one in self.trials if one.failure]
        return min(failed, key=lambda one: one.copies) if failed else None

    def per_copy_mb(self) -> float:
        """Return what one more copy costs, by PSS."""
        return slope([(one.copies, one.pss_mb) for one in self.trials if not one.failure])


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Return the growth between the first and the last of some points; 0 for a single one."""
    low, high = min(points), max(points)
    return (high[1] - low[1]) / (high[0] - low[0]) if high[0] > low[0] else 0.0


def estimate(points: Sequence[tuple[float, float]], limit: float) -> int:
    """Return for which number a line through points reaches a limit."""
    growth = slope(points)
    number, size = max(points)
    return max(1, int(number + (limit - size) / growth)) if growth > 0 else int(2 * number)


class Bench:
    """Where copies are, and how many are tried."""

    def __init__(self, app: WebApp, top: Path, bin_directory: Path, limit_mb: int) -> None:
        self._app, self._top, self._bin, self._limit = app, top, bin_directory, limit_mb
        self._turns = 0

    def try_out(self, server: Server, count: int) -> Trial:
        """Serve a number of copies in a group of their own."""
        self._turns += 1
        directory = self._top / str(self._turns)
        directory.mkdir()
        chosen = copies(self._app, count, self._top / "copies")
        deployment = server.deploy(chosen, directory, self._bin)
        with contextlib.ExitStack() as stack:
            group: Cgroup | None = None
            with contextlib.suppress(NoCgroupError):
                group = stack.enter_context(limited(self._limit << 20))
                deployment.commands = [group.wrap(one) for one in deployment.commands]
            try:
                stack.enter_context(running(server.name, deployment.commands, directory))
                found = self._measure(deployment, chosen, directory, group)
            except (OSError, BadAnswerError, RuntimeError) as error:
                charged = group.usage_mb() if group else 0.0
                reason = str(error).splitlines()[0]
                if group and group.killed():
                    reason = "the kernel has killed a process for memory"
                found = Trial(count, 0.0, charged, 0.0, reason)
        say(f"{server.name}, {count}: {found.failure or 'fits'}, {found.pss_mb:.0f} MB PSS")
        return found

    def _measure(
        self, deployment: Deployment, apps: Sequence[WebApp], directory: Path, group: Cgroup | None
    ) -> Trial:
        def alive() -> bool:
            if group and group.killed():
                raise RuntimeError("the kernel has killed a process for memory")
            return True

        wait_until(lambda: alive() and accepting(deployment.sockets), "sockets", START_SECONDS)
        wait_until(lambda: alive() and answered(deployment, apps), "answers", START_SECONDS)
        browser = Browser(deployment.sockets)
        times: dict[str, list[float]] = {app.name: [] for app in apps}
        for turn in range(TURNS):
            for app in apps:
                began = time.perf_counter()
                browser.get(app, app.pages[turn % len(app.pages)])
                if turn:
                    times[app.name].append(1000 * (time.perf_counter() - began))
            alive()
        slowest = max(statistics.median(one) for one in times.values())
        pss = look(directory).pss
        charged = group.usage_mb() if group else pss
        failure = f"a copy answers in {slowest:.0f} ms" if slowest >= SLOW_MS else ""
        if group is None and pss > self._limit:
            failure = f"{pss:.0f} MB"
        return Trial(len(apps), pss, charged, slowest, failure)


def search(bench: Bench, server: Server, small: Sequence[int], limit_mb: int) -> Fit:
    """Find the largest number of copies that fits, within a few percent."""
    found = Fit(server.name, [bench.try_out(server, count) for count in small])
    fitting = [(one.copies, one.pss_mb) for one in found.trials if not one.failure]
    if len(fitting) < len(small):
        return found
    count = estimate(fitting, limit_mb)
    found.trials.append(bench.try_out(server, count))
    upwards = not found.trials[-1].failure
    while (not found.trials[-1].failure) == upwards and count > 1:
        count += max(1, round(STEP * count)) * (1 if upwards else -1)
        found.trials.append(bench.try_out(server, count))
    return found


def table(measured: Sequence[Fit]) -> str:
    """Return how many fit; the first is what the others are compared with."""
    head = ["copies in 1 GB", "fit", "of the first", "MB for one more", "slowest copy", "fails at"]
    rows = [head]
    for one in measured:
        best = max((t for t in one.trials if not t.failure), key=lambda t: t.copies, default=None)
        failed = one.fewest_failed()
        rows.append(
            [
                one.name,
                str(one.most()),
                f"{one.most() / max(1, measured[0].most()):.1f} times",
                f"{one.per_copy_mb():.2f}",
                f"{best.slowest_ms:.0f} ms" if best else "",
                f"{failed.copies}: {failed.failure}" if failed else "",
            ]
        )
    return markdown(rows)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.density", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--python", default="", metavar="3.13", help="instead of the system's")
    parser.add_argument("--only", default="", metavar="TEXT", help="what has that in its name")
    parser.add_argument("--limit-mb", type=int, default=LIMIT_MB, help=f"default {LIMIT_MB}")
    parser.add_argument("--json", default="", metavar="FILE", help="write the figures there, too")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print the table."""
    options = _options(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what runs is ended on the way out
    bin_directory = environment(interpreter(options.python))
    if bin_directory is None:
        sys.exit("nothing can be compared without the packages of requirements-bench.txt")
    limit: int = options.limit_mb
    circumstances = Circumstances(versions(bin_directory / "python", *PACKAGES))
    contenders: list[tuple[Server, tuple[int, int]]] = [
        (GunicornEach(), (4, 12)),
        (GunicornInNamespaces(), (4, 12)),
        (Ours(), (20, 100)),
    ]
    measured = []
    with tempfile.TemporaryDirectory() as name:
        top = Path(name)
        (blog,) = prepared([BLOG], str(bin_directory / "python"), top / "apps")
        bench = Bench(blog, top, bin_directory, limit)
        for server, small in contenders:
            if options.only in server.name:
                circumstances.look()
                measured.append(search(bench, server, small, limit))
    print(table(measured))
    print(f"\n{_how(limit)} {circumstances.sentence()}")
    write_json(options.json, circumstances, [asdict(one) for one in measured])


def _how(limit: int) -> str:
    try:
        with limited():
            kind = f"a control group of {limit:,} MB without swap"
    except NoCgroupError as error:
        kind = f"the sum of PSS up to {limit:,} MB, for {error}"
    return (
        f"Each in {kind}; the median of {TURNS - 1} answers of each copy must be under"
        f" {SLOW_MS:.0f} ms. In namespaces: what a container has at least (pid, mount, net, ipc and"
        " uts), without its engine's monitor, and with files that all of them share."
    )


if __name__ == "__main__":
    main()
