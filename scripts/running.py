"""Commands that run to their end, several at once: a log of each, what it took, how it ended.

Each is a session of its own. So what the terminal's Ctrl-C reaches is this process alone, and that
ends them, and all that they have started, in order: `Runner.stop`.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

REPOSITORY = Path(__file__).resolve().parents[1]
PROC = Path("/proc")
SECONDS_WIDTH = 6  # before each line of a log
GRACE_SECONDS = 10.0  # to end by themselves, as after Ctrl-C
POLL_SECONDS = 0.05
SHOWN_LINES = 400  # of a failed one's log: the tests' failures with the machine's journal
# what is said again at the end, where it is still seen when all before it has been cut off
REASON_LINES, REASON_CHARACTERS = 12, 300
NOT_STARTED = 127  # the exit code, as a shell's where there is no such program
INTERRUPTED = 130  # the exit code, as a shell's of a command that Ctrl-C has ended
COLUMNS = ("check", "converge", "idempotence", "verify")  # of molecule's actions in the table
ESCAPE = re.compile(r"\x1b\[[0-9;]*m")
_REASONS = (  # what says most first
    re.compile(r"(FAILED|ERROR) \S+\.py"),
    re.compile(r"E   .*(\[ERROR\]: |assert|Error)|\[ERROR\]: |fatal: \["),
    re.compile(r"E   +\S|CRITICAL |error: |Would reformat: |(--> )?\S+:\d+:"),
)


@dataclass(frozen=True)
class Part:
    """A command to be run."""

    name: str
    command: tuple[str, ...]
    log: Path
    folder: Path = REPOSITORY  # where it is run
    echo: bool = False  # whether what it writes is printed, too
    action: Callable[[str], str] = lambda _line: ""  # that begins with a line, or ""
    needs: str = ""  # another part, without which it makes no sense
    before: Callable[[], object] = lambda: None  # is called when it begins


@dataclass(frozen=True)
class Done:
    """One command that has ended; its seconds by molecule's actions, and of processors."""

    name: str
    code: int  # negative for the signal that has ended it
    seconds: float
    processor_seconds: float  # on this side; what machines do is not of it
    actions: dict[str, float]
    log: Path
    interrupted: bool = False  # ended from here

    @property
    def verdict(self) -> str:
        """In a word or two."""
        if self.interrupted:
            return "interrupted"
        if self.code < 0:
            return f"killed ({signal.Signals(-self.code).name})"
        return "FAILED" if self.code else "passed"

    @property
    def passed(self) -> bool:
        """Whether it has run to its end and found no fault."""
        return self.code == 0 and not self.interrupted


@dataclass(frozen=True)
class NotRun:
    """One that was not begun, and why."""

    name: str
    verdict: str
    passed: bool = field(default=False, init=False)
    seconds: float = field(default=0.0, init=False)


def below(parents: Mapping[int, int], root: int) -> list[int]:
    """The processes that a process has started, and those have, and so on, the eldest first.

    Args:
        parents: each process, and its parent.
        root: that process, which is not among them.
    """
    found, asked = [], [root]
    while asked:
        parent = asked.pop(0)
        children = sorted(pid for pid, above in parents.items() if above == parent and pid != root)
        found += children
        asked += children
    return found


def table(ended: Sequence[Done | NotRun]) -> str:
    """What each one took, in their order; `other` is molecule's own, and what is quick."""
    measured = [one for one in ended if isinstance(one, Done)]
    shown = [name for name in COLUMNS if any(name in one.actions for one in measured)]
    named = [*shown, "other"] if shown else []
    head = ["part", "result", "seconds", *named, "processor", "log"]
    rows = [head]
    for one in ended:
        if isinstance(one, NotRun):
            rows.append([one.name, one.verdict, *[""] * (len(head) - 2)])
            continue
        cells = [f"{one.seconds:.0f}"]
        if one.actions:
            parts = [one.actions.get(name, 0.0) for name in shown]
            cells += [f"{number:.0f}" for number in (*parts, one.seconds - sum(parts))]
        else:
            cells += [""] * len(named)
        log = "" if one.passed else _shown(one.log)
        rows.append([one.name, one.verdict, *cells, f"{one.processor_seconds:.0f}", log])
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    left = {"part", "result", "log"}
    return "\n".join(
        "  ".join(
            cell.ljust(width) if title in left else cell.rjust(width)
            for title, cell, width in zip(head, row, widths, strict=True)
        ).rstrip()
        for row in rows
    )


def failure(one: Done) -> str:
    """The end of a failed one's log."""
    lines = one.log.read_text(encoding="utf-8").splitlines()
    left = f" (the last {SHOWN_LINES} lines)" if len(lines) > SHOWN_LINES else ""
    head = f"==== {one.name} {one.verdict}{left}, all of it: {_shown(one.log)} ===="
    return "\n".join([head, *lines[-SHOWN_LINES:], f"==== end of {one.name} ===="])


def reasons(one: Done) -> str:
    """Why one has failed, in a few lines: those of its tests and tasks that say so."""
    lines = one.log.read_text(encoding="utf-8").splitlines()
    plain = [ESCAPE.sub("", line)[SECONDS_WIDTH:].strip() for line in lines]
    said = dict.fromkeys(line for reason in _REASONS for line in plain if reason.match(line))
    chosen = list(said)[:REASON_LINES]
    return "\n".join([f"{one.name}:", *(f"  {line[:REASON_CHARACTERS]}" for line in chosen)])


class Actions:
    """What is done, one after the other, and for how long."""

    def __init__(self, began: float) -> None:
        self._doing, self._since = "", began
        self._seconds: dict[str, float] = {}

    def begin(self, action: str, now: float) -> None:
        """Note that an action begins; "" is none."""
        if action:
            self._add(now)
            self._doing, self._since = action, now

    def seconds(self, ended: float) -> dict[str, float]:
        """Those of each action; of none where no action has begun."""
        if self._doing:
            self._add(ended)
        return self._seconds

    def _add(self, until: float) -> None:
        self._seconds[self._doing] = self._seconds.get(self._doing, 0.0) + until - self._since


class Runner:
    """Runs commands for any number of threads, until it is stopped."""

    def __init__(self, grace_seconds: float = GRACE_SECONDS) -> None:
        self._grace_seconds = grace_seconds
        self._lock = threading.Lock()
        self._running: dict[int, subprocess.Popen[str]] = {}
        self._stopped = False

    @property
    def stopped(self) -> bool:
        """Whether nothing is run any more."""
        return self._stopped

    def run(self, part: Part) -> Done:
        """Run one command to its end, whatever that is; each line of its log has the seconds.

        Raises Stopped where nothing is run any more.
        """
        part.before()
        part.log.parent.mkdir(parents=True, exist_ok=True)
        began = time.monotonic()
        actions = Actions(began)

        def read(stream: TextIO, written: TextIO) -> None:
            for line in stream:
                now = time.monotonic()
                written.write(f"{f'{now - began:.0f}':>{SECONDS_WIDTH - 1}} {line}")
                written.flush()
                if part.echo:
                    sys.stdout.write(line)
                    sys.stdout.flush()
                actions.begin(part.action(line), now)

        with ExitStack() as stack:
            written = stack.enter_context(part.log.open("w", encoding="utf-8"))
            try:
                process = stack.enter_context(self._started(part))
            except OSError as error:
                written.write(f"{0:>{SECONDS_WIDTH - 1}} error: {error}\n")
                return Done(part.name, NOT_STARTED, 0.0, 0.0, {}, part.log)
            assert process.stdout is not None
            reader = threading.Thread(target=read, args=(process.stdout, written), daemon=True)
            reader.start()
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            reader.join(self._grace_seconds)  # what it has left behind may still hold the pipe
        ended = time.monotonic()
        return Done(
            part.name,
            process.returncode,
            ended - began,
            used.ru_utime + used.ru_stime,
            actions.seconds(ended),
            part.log,
            interrupted=self._stopped and process.returncode != 0,
        )

    def stop(self) -> None:
        """End what runs and all that it has started, and run nothing any more.

        As Ctrl-C would, first: pytest and Ansible then clean up. What is left is killed.
        """
        with self._lock:
            self._stopped = True
            roots = list(self._running)
        left = _identities(roots)
        for pid in roots:
            with suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGINT)
        deadline = time.monotonic() + self._grace_seconds
        while left and time.monotonic() < deadline:
            left = _left(left, roots)
            time.sleep(POLL_SECONDS)  # no event tells that a process which is no child has ended
        while left:
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(POLL_SECONDS)
            left = _left(left, roots)

    @contextmanager
    def _started(self, part: Part) -> Iterator[subprocess.Popen[str]]:
        with self._lock:
            if self._stopped:
                raise Stopped
            process = subprocess.Popen(
                part.command,
                cwd=part.folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,
            )
            self._running[process.pid] = process
        try:
            yield process
        finally:
            with self._lock:
                del self._running[process.pid]


def run_all(
    chains: Sequence[Sequence[Part]],
    workers: int,
    runner: Runner,
    told: Callable[[Done], None] = lambda _done: None,
) -> list[Done | NotRun]:
    """Run chains of parts, `workers` at once, each chain in its order, whatever fails.

    Args:
        chains: the parts of each, to which those that one `needs` belong.
        workers: how many chains at once.
        runner: what runs them. It is stopped by Ctrl-C, and what had not ended has another verdict.
        told: is called with each that has ended, by one thread after the other.
    """
    ended: dict[str, Done | NotRun] = {}
    lock = threading.Lock()

    def run(chain: Sequence[Part]) -> None:
        for part in chain:
            needed = ended.get(part.needs)
            if needed and not needed.passed:
                ended[part.name] = NotRun(part.name, f"not run: {part.needs}")
                continue
            with suppress(Stopped):
                done = runner.run(part)
                with lock:
                    ended[part.name] = done
                    told(done)

    with ThreadPoolExecutor(workers) as pool:
        running = [pool.submit(run, chain) for chain in chains]
        try:
            for future in as_completed(running):
                future.result()
        except KeyboardInterrupt:
            print("interrupted: ending what runs", flush=True)
            pool.shutdown(wait=False, cancel_futures=True)
            runner.stop()
    names = [part.name for chain in chains for part in chain]
    return [ended.get(name) or NotRun(name, "not run") for name in names]


class Stopped(Exception):  # noqa: N818 - nothing is wrong
    """There is nothing to be run any more."""


def end_on_signals() -> None:
    """Have Ctrl-C, and what asks this process to end, raise KeyboardInterrupt, once.

    Also where it was begun in the background, by a shell that lets it ignore Ctrl-C.
    """

    def interrupt(_number: int, _frame: object) -> None:
        for number in _ENDING:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number in _ENDING:
        signal.signal(number, interrupt)


_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def _shown(file: Path) -> str:
    """A path as a person would write it from the repository."""
    return str(file.relative_to(REPOSITORY) if file.is_relative_to(REPOSITORY) else file)


def _stat(pid: int) -> tuple[int, int, int] | None:
    """A process's parent, its session, and when it was started; None where it has ended."""
    try:
        fields = (PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else (int(fields[1]), int(fields[3]), int(fields[19]))


def _identities(roots: Collection[int]) -> dict[int, int]:
    """These processes and all below them, and when each was started.

    Each is the leader of a session, and what is in that is below it, also where what had started
    it has ended.
    """
    stats = {int(entry.name): _stat(int(entry.name)) for entry in PROC.glob("[0-9]*")}
    parents = {
        pid: stat[1] if stat[1] in roots and pid != stat[1] else stat[0]
        for pid, stat in stats.items()
        if stat
    }
    tree = [pid for root in roots for pid in (root, *below(parents, root))]
    return {pid: stat[2] for pid in tree if (stat := stats.get(pid))}


def _left(known: Mapping[int, int], roots: Collection[int]) -> dict[int, int]:
    """What of these, and of what the roots have started, has not ended."""
    # the second look finds what was started, by one that then ended, after the first one's listing
    return _alive({**known, **_identities(roots)}) or _identities(roots)


def _alive(known: Mapping[int, int]) -> dict[int, int]:
    """Those that have not ended; a number may be another process's by now."""
    return {pid: began for pid, began in known.items() if (stat := _stat(pid)) and stat[2] == began}
