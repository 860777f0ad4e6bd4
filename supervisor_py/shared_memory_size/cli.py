"""The command line of shared_memory_size."""

import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from .. import effects, memory, options
from ..errors import FatalError
from ..options import FLAG, SECONDS, TEXT, Option, Parsed
from . import history, plot, sample, view
from .sample import Sample

WATCH = "--watch"
WATCH_SECONDS = 2.0
LEAST_SECONDS = 0.1
_REDRAW = "\x1b[H\x1b[2J"
_OPTIONS = (
    Option("json", FLAG, "", "print JSON: an array; of lines of a history where a pool is named"),
    Option("tree", FLAG, "", "count the descendants of each process in; a pool's always are"),
    Option("all", FLAG, "", "all pools of this machine"),
    Option(
        "watch", SECONDS, "SECONDS", f"again and again, by default every {WATCH_SECONDS:g} seconds"
    ),
    Option("history", TEXT, "FILE", "append each sample to a file, as a line of JSON"),
    Option("plot", TEXT, "PICTURE", "draw histories, given as arguments, into a .svg or .png"),
    Option("run", TEXT, "DIRECTORY", f"where kechi-POOL/pid is (default: {sample.RUN})"),
    Option("help", FLAG, "", "show this text"),
)
_USAGE = """\
Usage: shared_memory_size [--json] [--tree] [--watch[=SECONDS]] [--history=FILE] PID...|POOL...
       shared_memory_size [...] --all
       shared_memory_size --plot=PICTURE HISTORY...

Prints, in kB: RSS, SHARED (of the RSS, with its percentage), PSS and PRIVATE of each process, and
the REQUESTS that a vhost_server's process has served.
"""


def main() -> None:
    """Run the shared_memory_size command, and exit: 1 when something could not be measured."""
    try:
        code = _main(sys.argv[1:])
        sys.stdout.flush()
    except KeyboardInterrupt:
        code = 0
    except BrokenPipeError:  # who has read enough, as head does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    sys.exit(code)


def _main(argv: Sequence[str]) -> int:
    # A value of its own word would be taken for a process id, or the other way round.
    words = [f"{WATCH}={WATCH_SECONDS:g}" if word == WATCH else word for word in argv]
    parsed = options.parse(_OPTIONS, words)
    if parsed.flag("help"):
        sys.stdout.write(f"{_USAGE}\n{options.describe(_OPTIONS)}\n")
        return 0
    problems = [*parsed.problems, *_problems(parsed)]
    for problem in problems:
        effects.say(problem)
    if problems:
        return 1
    picture = parsed.text("plot")
    if picture is not None:
        return _plot(Path(picture), parsed.arguments)
    return _Measuring(parsed).run()


def _problems(parsed: Parsed) -> list[str]:
    problems = []
    seconds = parsed.number("watch")
    if seconds is not None and seconds < LEAST_SECONDS:
        problems.append(f"--watch={parsed.text('watch')} is not allowed: {LEAST_SECONDS} or more")
    if parsed.text("plot") is not None:
        if not parsed.arguments:
            problems.append("no history given to plot; try --help")
        others = ("json", "tree", "all", "watch", "history")
        problems += [f"--plot does not go with --{one}" for one in others if one in parsed.values]
    elif parsed.flag("all") and parsed.arguments:
        problems.append(f"--all does not go with arguments ({parsed.arguments[0]})")
    elif not parsed.flag("all") and not parsed.arguments:
        problems.append("no process id or pool given; try --help")
    return problems


def _plot(picture: Path, files: Sequence[str]) -> int:
    try:
        found = {Path(file): history.read(Path(file)) for file in files}
        series = {}
        for file, pools in found.items():
            for pool, points in pools.items():
                parts = [file.stem] * (len(found) > 1) + [pool] * (len(pools) > 1)
                series[" ".join(parts) or pool or file.stem] = points
        plot.draw(picture, series)
    except FatalError as error:
        effects.say(str(error))
        return 1
    return 0


class _Measuring:
    """Looks once, or again and again, and shows what there is."""

    def __init__(self, parsed: Parsed) -> None:
        self._parsed = parsed
        self._run = Path(parsed.text("run") or sample.RUN)
        self._pids = [int(word) for word in parsed.arguments if _is_pid(word)]
        self._pools = [word for word in parsed.arguments if not _is_pid(word)]
        self._history = parsed.text("history")
        self._said: list[str] = []

    def run(self) -> int:
        """Return the exit status: 1 when something could not be measured or written."""
        seconds = self._parsed.number("watch")
        if seconds is None:
            samples, problems = self._look()
            self._print(samples)
            for problem in problems:
                effects.say(problem)
            return 1 if problems else 0
        due = time.monotonic()
        while True:
            samples, problems = self._look()
            self._redraw(samples)
            # What stays as it is is said once: a pool may be about to come back.
            for problem in problems:
                if problem not in self._said:
                    effects.say(problem)
            self._said = problems
            if not samples and not self._named_pools():
                return 1  # process ids don't come back
            due = max(due + seconds, time.monotonic())
            time.sleep(max(0.0, due - time.monotonic()))

    def _named_pools(self) -> bool:
        return bool(self._pools) or self._parsed.flag("all")

    def _look(self) -> tuple[list[Sample], list[str]]:
        samples, problems = [], []
        pools = sample.pools(self._run) if self._parsed.flag("all") else self._pools
        if not pools and not self._pids:
            problems.append(f"no pool runs here ({self._run}/kechi-*/pid)")
        for pool in dict.fromkeys(pools):
            try:
                samples.append(sample.of_pool(pool, self._run))
            except FatalError as error:
                problems.append(str(error))
        pids = []
        for pid in dict.fromkeys(self._pids):
            try:
                memory.read(pid)
                pids.append(pid)
            except FatalError as error:
                problems.append(str(error))
        if pids:
            measure = sample.of_tree if self._parsed.flag("tree") else sample.of_processes
            samples.append(measure(pids))
        if self._history is not None and samples:
            try:
                history.append(Path(self._history), samples)
            except FatalError as error:
                problems.append(str(error))
        return samples, problems

    def _print(self, samples: Sequence[Sample]) -> None:
        if self._parsed.flag("json"):
            if self._named_pools():
                found = [view.as_json(one) for one in samples]
            else:
                found = [view.process_as_json(one) for some in samples for one in some.processes]
            sys.stdout.write(f"{json.dumps(found)}\n")
        elif samples:
            sys.stdout.write(f"{view.table(samples)}\n")

    def _redraw(self, samples: Sequence[Sample]) -> None:
        if self._parsed.flag("json"):
            text = "".join(f"{json.dumps(view.as_json(one))}\n" for one in samples)
        elif sys.stdout.isatty():
            clock = time.strftime("%H:%M:%S")
            text = f"{_REDRAW}{clock}\n{view.table(samples)}\n"
        else:
            text = "".join(f"{view.line(one)}\n" for one in samples)
        sys.stdout.write(text)
        sys.stdout.flush()


def _is_pid(word: str) -> bool:
    return word.isascii() and word.isdecimal()
