"""Run molecule's scenarios, several at once, the long ones first: `make molecule`.

$ python -m scripts.scenarios --workers=2 --logs=reports/logs
$ python -m scripts.scenarios tls node

Each is a `molecule test` of its own, with its own machines, network and log. What `molecule test
--workers` does instead (26.10) is another thing: it leaves the `create` and `destroy` of all
scenarios but `default` out, and runs them in order of their names.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from harness import store
from vms import qemu

REPOSITORY = Path(__file__).resolve().parents[1]
REPORTS = REPOSITORY / "reports"
COMMAND = ("molecule", "test", "--no-command-borders", "--scenario-name")
# begun in this order, so that none of them is left alone at the end; then the others
LONGEST = ("deploy", "deploy_bad_release", "inventory_changes", "tls", "host", "backup_restore")
ASKED_FOR = ("vps",)  # only run where it is named
# in virtual machines: where those would be emulated, and take ten times as long, asked for as well
VIRTUAL = ("swap_file", "swap_interrupted", "swap_resize", "swap_zram")
SHOWN_LINES = 400  # of a failed one's log: the tests' failures with the machine's journal
# what is said again at the end, where it is still seen when all before it has been cut off
REASON_LINES, REASON_CHARACTERS = 12, 300
_REASONS = (  # what says most first
    re.compile(r"(FAILED|ERROR) \S+\.py"),
    re.compile(r"E   .*(\[ERROR\]: |assert|Error)|\[ERROR\]: |fatal: \["),
    re.compile(r"E   +\S|CRITICAL "),
)
_ACTION = re.compile(r"\[?(?P<scenario>\w+) (?:>|➜) (?P<action>[a-z_]+)\]?:? Executing")
_ESCAPE = re.compile(r"\x1b\[[0-9;]*m")
SECONDS_WIDTH = 6  # before each line of a log


@dataclass(frozen=True)
class Done:
    """One scenario that has ended; its seconds by molecule's actions, and of processors."""

    name: str
    code: int
    seconds: float
    processor_seconds: float  # on this side; what machines do is not of it
    actions: dict[str, float]
    log: Path

    @property
    def verdict(self) -> str:
        """In a word."""
        return "passed" if self.code == 0 else "FAILED"


def choose(there: Iterable[str], wanted: Sequence[str], *, emulated: bool) -> list[str]:
    """The scenarios to run, in their order; raises ValueError for one that isn't there.

    Args:
        there: all that there are.
        wanted: those that were named; none for all that a run has by default.
        emulated: whether virtual machines have no processor's help here.
    """
    known = sorted(there)
    for name in wanted:
        if name not in known:
            raise ValueError(f'"{name}" is no scenario; there are: {", ".join(known)}')
    left = {*ASKED_FOR, *(VIRTUAL if emulated else ())}
    names = wanted or [name for name in known if name not in left]
    first = [name for name in LONGEST if name in names]
    return first + [name for name in names if name not in first]


def machines_are_emulated() -> bool:
    """Whether virtual machines are ten times slower here than they might be."""
    try:
        return qemu.accelerator().name != "kvm"
    except qemu.QemuError:  # there are none
        return True


def action(line: str) -> str:
    """The action that molecule begins with this line of its log, or ""."""
    found = _ACTION.search(_ESCAPE.sub("", line))
    return found["action"] if found else ""


def run(name: str, command: Sequence[str], log: Path) -> Done:
    """Run one scenario to its end, whatever that is; each line of its log has the seconds."""
    began = time.monotonic()
    actions: dict[str, float] = {}
    doing, since = "", began
    with (
        log.open("w", encoding="utf-8") as written,
        subprocess.Popen(
            [*command, name],
            cwd=REPOSITORY,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            now = time.monotonic()
            written.write(f"{f'{now - began:.0f}':>{SECONDS_WIDTH - 1}} {line}")
            written.flush()
            begun = action(line)
            if begun:
                actions[doing] = actions.get(doing, 0.0) + now - since
                doing, since = begun, now
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    ended = time.monotonic()
    actions[doing] = actions.get(doing, 0.0) + ended - since
    return Done(
        name, process.returncode, ended - began, used.ru_utime + used.ru_stime, actions, log
    )


def table(done: Sequence[Done]) -> str:
    """What each one took, the longest first; `other` is molecule's own, and what is quick."""
    shown = ("check", "converge", "idempotence", "verify")
    head = ["scenario", "", "seconds", *shown, "other", "processor"]
    rows = [head]
    for one in sorted(done, key=lambda one: one.seconds, reverse=True):
        parts = [one.actions.get(name, 0.0) for name in shown]
        numbers = [one.seconds, *parts, one.seconds - sum(parts), one.processor_seconds]
        rows.append([one.name, one.verdict, *(f"{number:.0f}" for number in numbers)])
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if column < 2 else cell.rjust(width)  # noqa: PLR2004
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def failure(one: Done) -> str:
    """The end of a failed one's log."""
    lines = one.log.read_text(encoding="utf-8").splitlines()
    left = f" (the last {SHOWN_LINES} lines)" if len(lines) > SHOWN_LINES else ""
    head = f"==== {one.name} FAILED{left}, all of it: {one.log} ===="
    return "\n".join([head, *lines[-SHOWN_LINES:], f"==== end of {one.name} ===="])


def reasons(one: Done) -> str:
    """Why one has failed, in a few lines: those of its tests and tasks that say so."""
    lines = one.log.read_text(encoding="utf-8").splitlines()
    plain = [_ESCAPE.sub("", line)[SECONDS_WIDTH:].strip() for line in lines]
    said = dict.fromkeys(line for reason in _REASONS for line in plain if reason.match(line))
    chosen = list(said)[:REASON_LINES]
    return "\n".join([f"{one.name}:", *(f"  {line[:REASON_CHARACTERS]}" for line in chosen)])


def report(name: str, command: Sequence[str], log: Path, reports: Path) -> Done:
    """Run one so that its reports are of this run alone, and say so where it has failed."""
    began = time.time()
    store.forget(reports, name)
    done = run(name, command, log)
    if done.code:
        first = reasons(done).splitlines()[1:2] or [f"molecule has ended with {done.code}"]
        store.write_trouble(reports, name, first[0].strip(), began)
    return done


def run_all(
    names: Sequence[str],
    workers: int,
    logs: Path,
    command: Sequence[str] = COMMAND,
    reports: Path = REPORTS,
) -> list[Done]:
    """Run them, `workers` at once, and say of each when it has ended; the others go on."""
    logs.mkdir(parents=True, exist_ok=True)
    done: list[Done] = []
    with ThreadPoolExecutor(workers) as pool:
        running = [
            pool.submit(report, name, command, logs / f"{name}.log", reports) for name in names
        ]
        try:
            for future in as_completed(running):
                one = future.result()
                done.append(one)
                if one.code:
                    print(failure(one))
                print(f"{one.verdict}: {one.name}, {one.seconds:.0f} s", end="")
                print(f" ({len(done)} of {len(names)})", flush=True)
        except KeyboardInterrupt:  # what runs has got it too, by the terminal
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return done


def main() -> int:
    """Run what the arguments name, or all; returns 1 where one has failed."""
    parser = argparse.ArgumentParser(prog="python -m scripts.scenarios", description=__doc__)
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--logs", type=Path, default=REPORTS / "logs")
    asked = parser.parse_args()
    if asked.workers < 1:
        parser.error(f"--workers={asked.workers}: 1 or more")
    there = [file.parent.name for file in REPOSITORY.glob("molecule/*/molecule.yml")]
    try:
        names = choose(there, asked.scenarios, emulated=machines_are_emulated())
    except ValueError as error:
        parser.error(str(error))
    began = time.monotonic()
    print(f"{len(names)} scenarios, {asked.workers} at once; logs in {asked.logs}", flush=True)
    if not asked.scenarios:
        left = [name for name in (*VIRTUAL, *ASKED_FOR) if name not in names]
        print(f"left out, `make vms` and `make vps` run them: {', '.join(left)}", flush=True)
    done = run_all(names, asked.workers, asked.logs)
    print(table(done))
    for one in done:
        if one.code:
            print(reasons(one))
    failed = [one.name for one in done if one.code]
    seconds = time.monotonic() - began
    print(f"{len(done)} scenarios in {seconds:.0f} s, failed: {', '.join(failed) or 'none'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
