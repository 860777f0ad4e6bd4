"""What workers go on sharing while they serve, with and without the memory recipe: a picture.

    python -m benchmarks.sharing FOLDER
    python -m benchmarks.sharing --requests=50000 FOLDER

Serves the benchmark's apps that fit into one interpreter, asks for their pages, and keeps a history
of each run in FOLDER, as `shared_memory_size --history` does. The picture is FOLDER/sharing.svg.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from supervisor_py.shared_memory_size import history, plot, sample

from .client import visit
from .environment import environment, interpreter, say
from .memory import Bench
from .mix import EIGHT, in_one_interpreter
from .processes import marked
from .servers import Ours

AT_ONCE = 5
EARLY = 1_000  # requests, in which most is lost, and half of the looks are taken
LOOKS = 100
WORKERS, THREADS = 2, 4
WAYS = {  # what is left out, or put in, of [pool.memory]
    "preloaded only": {
        "gc_at_load": True, "warm_up": False, "freeze": False, "same_page_merging": False,
    },
    "frozen": {"same_page_merging": False},
    "frozen, equal pages merged": {"same_page_merging": True},
}  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Measure each way, draw, and return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=25_000)
    parser.add_argument("folder", type=Path)
    asked = parser.parse_args(argv)
    python = interpreter()
    bin_directory = environment(python)
    if bin_directory is None:
        return 1
    asked.folder.mkdir(parents=True, exist_ok=True)
    apps, _ = in_one_interpreter(EIGHT)
    series = {}
    with tempfile.TemporaryDirectory() as top:
        bench = Bench(Path(top), str(bin_directory / "python"), bin_directory, apps)
        for name, steps in WAYS.items():
            say(f"{name} …")
            server = Ours(name, {"workers": WORKERS, "threads": THREADS}, steps)
            file = asked.folder / f"{name}.jsonl"
            _measure(bench, server, asked.requests, file)
            (series[name],) = history.read(file).values()
    plot.draw(asked.folder / "sharing.svg", series)
    for name, points in series.items():
        last = points[-1]
        print(f"{name}: {last.shared_percent} % shared after {last.requests} requests")
    return 0


def _moments(requests: int) -> list[int]:
    """Return after how many requests to look."""
    half = LOOKS // 2
    return sorted({*range(0, EARLY, EARLY // half), *range(0, requests + 1, requests // half)})


def _measure(bench: Bench, server: Ours, requests: int, file: Path) -> None:
    """Look again and again; the history is a new one."""
    file.unlink(missing_ok=True)
    apps = list(bench.apps.values())
    with bench.serving(server, apps) as (deployment, directory):
        before = 0
        for done in _moments(requests):
            visit(apps, deployment.sockets, done - before, AT_ONCE)
            before = done
            history.append(file, [sample.of_tree([min(marked(directory))])])


if __name__ == "__main__":
    sys.exit(main())
