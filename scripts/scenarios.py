"""Run molecule's scenarios, several at once, the long ones first: `make molecule`.

$ python -m scripts.scenarios --workers=2 --logs=reports/logs
$ python -m scripts.scenarios tls node
$ python -m scripts.scenarios --shard=2/4

Each is a `molecule test` of its own, with its own machines, network and log. What `molecule test
--workers` does instead (26.10) is another thing: it leaves the `create` and `destroy` of all
scenarios but `default` out, and runs them in order of their names.
"""

from __future__ import annotations

import argparse
import itertools
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from harness import store
from scripts.running import (
    ESCAPE,
    INTERRUPTED,
    REPOSITORY,
    Done,
    NotRun,
    Part,
    Runner,
    end_on_signals,
    failure,
    reasons,
    run_all,
    table,
)
from vms import qemu

REPORTS = REPOSITORY / "reports"
LOGS = REPORTS / "logs"
COMMAND = ("molecule", "test", "--no-command-borders", "--scenario-name")
DESTROY = ("molecule", "destroy", "--scenario-name")
# how long they take, as multiples of one that is not among them, by the tables of whole runs: the
# longest is begun first, so that none is left alone at the end, and shards end at about one time
WEIGHTS: Mapping[str, float] = {
    "deploy_bad_release": 4.0,
    "deploy": 4.0,
    "inventory_changes": 3.0,
    "host": 3.0,
    "tls": 2.5,
    "newcomer": 2.5,
    "hostile": 2.0,
    "backup_restore": 1.5,
    "default": 1.5,
}
OTHER_WEIGHT = 1.0
ASKED_FOR = ("vps",)  # only run where it is named
# in virtual machines: where those would be emulated, and take ten times as long, asked for as well
VIRTUAL = ("swap_file", "swap_interrupted", "swap_resize", "swap_zram")
_ACTION = re.compile(r"\[?(?P<scenario>\w+) (?:>|➜) (?P<action>[a-z_]+)\]?:? Executing")


def there() -> list[str]:
    """All that there are."""
    return sorted(file.parent.name for file in REPOSITORY.glob("molecule/*/molecule.yml"))


def choose(known: Iterable[str], wanted: Sequence[str], *, emulated: bool) -> list[str]:
    """The scenarios to run, the longest first; raises ValueError for one that isn't there.

    Args:
        known: all that there are.
        wanted: those that were named; none for all that a run has by default.
        emulated: whether virtual machines have no processor's help here.
    """
    known = sorted(known)
    for name in wanted:
        if name not in known:
            raise ValueError(f'"{name}" is no scenario; there are: {", ".join(known)}')
    left = {*ASKED_FOR, *(VIRTUAL if emulated else ())}
    return longest_first(wanted or [name for name in known if name not in left])


def longest_first(names: Iterable[str]) -> list[str]:
    """In the order in which they are begun."""
    return sorted(names, key=_weight, reverse=True)


def shard(names: Iterable[str], number: int, count: int) -> list[str]:
    """Those of one of several runners, which each have about as much to do.

    Raises ValueError where there is no such one.
    """
    if not 1 <= number <= count:
        raise ValueError(f"{number}/{count} is no shard: the first of three is 1/3")
    shards: list[list[str]] = [[] for _ in range(count)]
    for name in longest_first(names):
        min(shards, key=lambda part: sum(map(_weight, part))).append(name)
    return shards[number - 1]


def read_shard(text: str) -> tuple[int, int]:
    """Read a shard as an option has it, such as 2/4; raises ValueError."""
    number, _, count = text.partition("/")
    if not (number.isdecimal() and count.isdecimal()):
        raise ValueError(f'"{text}" is no shard: the second of four is 2/4')
    return int(number), int(count)


def machines_are_emulated() -> bool:
    """Whether virtual machines are ten times slower here than they might be."""
    try:
        return qemu.accelerator().name != "kvm"
    except qemu.QemuError:  # there are none
        return True


def action(line: str) -> str:
    """The action that molecule begins with this line of its log, or ""."""
    found = _ACTION.search(ESCAPE.sub("", line))
    return found["action"] if found else ""


def part(name: str, logs: Path, *, needs: str = "", reports: Path = REPORTS) -> Part:
    """What runs a scenario, so that its reports are of this run alone."""
    return Part(
        name,
        (*COMMAND, name),
        logs / f"{name}.log",
        action=action,
        needs=needs,
        before=lambda: store.forget(reports, name),
    )


def report(done: Done, reports: Path = REPORTS) -> None:
    """Show one that has failed, and say so in the reports."""
    if done.passed:
        return
    print(failure(done))
    first = reasons(done).splitlines()[1:2] or [f"molecule has ended with {done.code}"]
    store.write_trouble(reports, done.name, first[0].strip(), time.time() - done.seconds)


def remove_machines(ended: Iterable[Done | NotRun]) -> None:
    """Remove the machines of those that were interrupted."""
    for one in ended:
        if isinstance(one, Done) and one.interrupted:
            subprocess.run([*DESTROY, one.name], cwd=REPOSITORY, capture_output=True, check=False)


def tell(count: int, reports: Path = REPORTS) -> Callable[[Done], None]:
    """Say of each when it has ended, and show one that has failed."""
    numbers = itertools.count(1)

    def told(done: Done) -> None:
        report(done, reports)
        print(f"{done.verdict}: {done.name}, {done.seconds:.0f} s", end="")
        print(f" ({next(numbers)} of {count})", flush=True)

    return told


def run(names: Sequence[str], workers: int, logs: Path, runner: Runner) -> list[Done | NotRun]:
    """Run them, `workers` at once, and say of each when it has ended; the others go on."""
    print(f"{len(names)} scenarios, {workers} at once; logs in {logs}", flush=True)
    ended = run_all([[part(name, logs)] for name in names], workers, runner, tell(len(names)))
    remove_machines(ended)
    return sorted(ended, key=lambda one: one.seconds, reverse=True)


def at_once() -> int:
    """How many run at once: one more than there are processors, as each waits half of its time."""
    return (os.cpu_count() or 1) + 1


def left_out(names: Sequence[str]) -> str:
    """Say which a run of all has left out, and why nobody has to miss them."""
    left = [name for name in (*VIRTUAL, *ASKED_FOR) if name not in names]
    return f"left out, `make vms` and `make vps` run them: {', '.join(left)}"


def _weight(name: str) -> float:
    return WEIGHTS.get(name, OTHER_WEIGHT)


def main() -> int:
    """Run what the arguments name, or all; returns 1 where one has failed."""
    parser = argparse.ArgumentParser(prog="python -m scripts.scenarios", description=__doc__)
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO")
    parser.add_argument("--workers", type=int, default=at_once())
    parser.add_argument("--shard", metavar="N/COUNT", help="those of one of several machines")
    parser.add_argument("--logs", type=Path, default=LOGS)
    asked = parser.parse_args()
    if asked.workers < 1:
        parser.error(f"--workers={asked.workers}: 1 or more")
    try:
        names = choose(there(), asked.scenarios, emulated=machines_are_emulated())
        if asked.shard:
            names = shard(names, *read_shard(asked.shard))
    except ValueError as error:
        parser.error(str(error))
    end_on_signals()
    began = time.monotonic()
    if not (asked.scenarios or asked.shard):
        print(left_out(names), flush=True)
    runner = Runner()
    ended = run(names, asked.workers, asked.logs, runner)
    print(table(ended))
    for one in ended:
        if isinstance(one, Done) and not one.passed:
            print(reasons(one))
    failed = [one.name for one in ended if not one.passed]
    seconds = time.monotonic() - began
    print(f"{len(ended)} scenarios in {seconds:.0f} s, failed: {', '.join(failed) or 'none'}")
    if runner.stopped:
        return INTERRUPTED
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
