"""Lines per second and memory: crawler_report beside GoAccess, on the same generated log.

    python -m benchmarks.crawlers [--lines=1000000] [--rounds=3] [--json=FILE]

They take turns. Neither asks a DNS server, and each has to count all lines. GoAccess sums up what
was asked for by whom; it tells no crawler from an impostor.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path

from . import access_log
from .environment import say
from .report import Circumstances, markdown, write_json

KB_PER_MB = 1024
PACKAGES = ("crawler-user-agents",)


class WrongCountError(RuntimeError):
    """A contender has not counted every line, and so can't be compared."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One run over the log."""

    seconds: float
    cpu_seconds: float
    peak_mb: float


@dataclass(slots=True)
class Contender:
    """A program, its command for a log and an output, and how many lines that output counts."""

    name: str
    log: Path
    command: Callable[[Path, Path], list[str]]
    counted: Callable[[dict[str, object]], object]
    turns: list[Turn] = field(default_factory=list)


def contenders(combined: Path, as_json: Path) -> list[Contender]:
    """Return who is compared."""
    goaccess = shutil.which("goaccess")
    if goaccess is None:
        sys.exit("goaccess is missing: apt install goaccess")

    def theirs(log: Path, out: Path) -> list[str]:
        return [
            goaccess, str(log), "--log-format=COMBINED", "--no-global-config", "--no-progress",
            "--no-query-string", f"--output={out}",
        ]  # fmt: skip

    def ours(log: Path, out: Path) -> list[str]:
        program = "from supervisor_py.crawlers.cli import main; main()"
        options = ("--offline", f"--cache={out}.names", "--json", f"--output={out}")
        return [sys.executable, "-c", program, *options, str(log)]

    def of_theirs(found: dict[str, object]) -> object:
        general = found["general"]
        assert isinstance(general, dict)
        return general["valid_requests"]

    def of_ours(found: dict[str, object]) -> object:
        return found["lines"] if found["unread_lines"] == 0 else None

    return [
        Contender("GoAccess, combined log", combined, theirs, of_theirs),
        Contender("crawler_report, combined log", combined, ours, of_ours),
        Contender("crawler_report, JSON log", as_json, ours, of_ours),
    ]


def run(contender: Contender, lines: int, directory: Path) -> Turn:
    """Run it once; raises WrongCountError."""
    out = directory / "out.json"
    out.unlink(missing_ok=True)
    began = time.monotonic()
    with subprocess.Popen(
        contender.command(contender.log, out), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    ) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.monotonic() - began
    counted = contender.counted(json.loads(out.read_bytes())) if out.exists() else None
    if process.returncode != 0 or counted != lines:
        raise WrongCountError(
            f"{contender.name}: ended with {process.returncode}, counted {counted} of {lines} lines"
        )
    return Turn(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / KB_PER_MB)


def table(measured: Sequence[Contender], lines: int) -> str:
    """Return the medians."""
    rows = [("", "lines per second", "per second of processor time", "peak memory, MB")]
    for one in measured:
        seconds = statistics.median(turn.seconds for turn in one.turns)
        cpu = statistics.median(turn.cpu_seconds for turn in one.turns)
        peak = max(turn.peak_mb for turn in one.turns)
        rows.append((one.name, f"{lines / seconds:,.0f}", f"{lines / cpu:,.0f}", f"{peak:,.0f}"))
    return markdown(rows)


def generate(lines: int, combined: Path, as_json: Path) -> None:
    """Write the same requests into both kinds of log."""
    with combined.open("w") as one, as_json.open("w") as other:
        for request in access_log.requests(lines):
            one.write(access_log.combined(request))
            other.write(access_log.as_json(request))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.crawlers", description=__doc__)
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", default="", help="write all figures into this file, too")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        top = Path(name)
        combined, as_json = top / "combined.log", top / "json.log"
        measured = contenders(combined, as_json)
        told = subprocess.run(["goaccess", "--version"], capture_output=True, text=True, check=True)
        goaccess = told.stdout.split()[2].rstrip(".")
        python = sys.version.split()[0]
        packages = {package: version(package) for package in PACKAGES}
        circumstances = Circumstances({"GoAccess": goaccess, "Python": python, **packages})
        say(f"Writing {options.lines:,} lines")
        generate(options.lines, combined, as_json)
        for number in range(options.rounds):
            say(f"Round {number + 1} of {options.rounds}")
            for one in measured:
                circumstances.look()
                one.turns.append(run(one, options.lines, top))
        sizes = " and ".join(f"{log.stat().st_size / 1e6:,.0f} MB" for log in (combined, as_json))
    print(table(measured, options.lines))
    print(f"\nMedian of {options.rounds} rounds, {options.lines:,} lines of {sizes}.")
    print(f"\n{circumstances.sentence()}")
    figures = {one.name: [asdict(turn) for turn in one.turns] for one in measured}
    write_json(options.json, circumstances, figures)


if __name__ == "__main__":
    main()
