"""Test the tests: a build that breaks a promise must fail its scenario, and only there.

For each broken build a copy of this repository is changed in a line or two, and a scenario is run
on it. That has to fail in the tests that keep the promise, in no others, and for the right reason:

    $ python -m scripts.test_the_tests            # all of them
    $ python -m scripts.test_the_tests no-freeze

The builds are data, in `scripts/broken_builds.py`.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .broken_builds import BUILDS, Build

REPOSITORY = Path(__file__).resolve().parents[1]
LOGS = REPOSITORY / ".cache" / "test-the-tests"
BOUND_SECONDS = 1800  # of one build
DESTROY_SECONDS = 120
PREFIX = "broken-"  # of its machines, so that they are not those of another run
SHOWN_LINES = 15
MACHINE = re.compile(r"kechi-[a-z0-9_-]+-debian\d+")


class BuildError(Exception):
    """A build can't be broken as it is described; the message says why."""


@dataclass(frozen=True)
class Verdict:
    """What a scenario has said of a broken build; `faults` say why that is not right."""

    failed: tuple[str, ...]
    passed: int
    faults: tuple[str, ...]


def broken(text: str, old: str, new: str, where: str) -> str:
    """Replace what is there exactly once. Raises BuildError where it is not."""
    if (found := text.count(old)) != 1:
        raise BuildError(f"{where}: is there {found} times, and has to be once: {old!r}")
    return text.replace(old, new)


def break_it(folder: Path, build: Build) -> None:
    """Break a copy of the repository. Raises BuildError."""
    for patch in build.patches:
        file = folder / patch.file
        if not file.is_file():
            raise BuildError(f"{patch.file}: there is no such file")
        text = file.read_text(encoding="utf-8")
        file.write_text(broken(text, patch.old, patch.new, patch.file), encoding="utf-8")


def judge(build: Build, outcomes: Mapping[str, str] | None, said: str) -> Verdict:
    """Whether a scenario has failed as it should.

    Args:
        build: what was broken.
        outcomes: how each of the scenario's tests has ended, None where it did not get to them.
        said: all that it has printed.
    """
    if outcomes is None:
        return Verdict((), 0, ("it has not come to its tests",))
    failed = sorted(
        {name.partition("[")[0] for name, outcome in outcomes.items() if outcome == "failed"}
    )
    faults = [f"passed: {name}" for name in build.tests if name not in failed]
    faults += [f"failed as well: {name}" for name in failed if name not in build.tests]
    faults += [f"does not say: {words}" for words in build.words if not re.search(words, said)]
    return Verdict(tuple(failed), list(outcomes.values()).count("passed"), tuple(faults))


def copy(folder: Path) -> None:
    """Copy what git knows, and what it does not ignore."""
    listed = subprocess.run(
        ["git", "-C", str(REPOSITORY), "ls-files", "-z", "--cached", "--others",
         "--exclude-standard"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    for name in filter(None, listed.stdout.split("\0")):
        source, target = REPOSITORY / name, folder / name
        if source.is_symlink() or source.exists():  # else it is about to be deleted
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target, follow_symlinks=False)
    # molecule looks for the base of all scenarios where a repository begins
    subprocess.run(["git", "init", "--quiet", str(folder)], check=True)


def rename_machines(folder: Path) -> None:
    """Give a scenario's machines names of their own, wherever its files have them."""
    for file in folder.rglob("*"):
        if file.suffix in (".py", ".yml", ".sh"):
            text = file.read_text(encoding="utf-8")
            file.write_text(MACHINE.sub(rf"{PREFIX}\g<0>", text), encoding="utf-8")


def run(build: Build, bound_seconds: float) -> Verdict:
    """Run a build's scenario on it. Raises BuildError."""
    with tempfile.TemporaryDirectory(prefix="kechi-broken-") as made:
        folder = Path(made)
        copy(folder)
        break_it(folder, build)
        rename_machines(folder / "molecule" / build.scenario)
        log = LOGS / f"{build.name}.log"
        with log.open("w", encoding="utf-8") as file:
            in_time = _molecule(folder, build.scenario, file.fileno(), bound_seconds)
        if not in_time:
            return Verdict((), 0, (f"was not over within {bound_seconds:g} s",))
        suite = folder / "reports" / f"{build.scenario}.suite.json"
        outcomes = json.loads(suite.read_text("utf-8"))["outcomes"] if suite.exists() else None
        return judge(build, outcomes, log.read_text(encoding="utf-8"))


def _molecule(folder: Path, scenario: str, output: int, bound_seconds: float) -> bool:
    """Test a scenario of a copy, and leave no machine; returns whether it was over in time."""
    code = None
    try:
        code = _run(folder, "test", scenario, output, bound_seconds)
    finally:
        if code != 0:  # it may have been cut off before its own destroy
            _run(folder, "destroy", scenario, output, DESTROY_SECONDS)
    return code is not None


def _run(folder: Path, command: str, scenario: str, output: int, seconds: float) -> int | None:
    """Run one of molecule's commands; returns its exit code, None where it was not over in time."""
    with subprocess.Popen(
        ["molecule", command, f"--scenario-name={scenario}", "--no-command-borders"],
        cwd=folder,
        env={
            **os.environ,
            "ANSIBLE_HOME": str(folder / ".ansible"),
            "ANSIBLE_CONFIG": str(folder / "ansible.cfg"),
        },
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
    ) as process:
        try:
            return process.wait(timeout=seconds)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)
            if isinstance(error, subprocess.TimeoutExpired):
                return None
            raise


def _choose(names: Sequence[str]) -> list[Build]:
    """The builds of these names, or all. Raises BuildError."""
    known = {build.name: build for build in BUILDS}
    for name in names:
        if name not in known:
            raise BuildError(f'no broken build "{name}"; there are: {", ".join(known)}')
    return [known[name] for name in names or known]


def main() -> int:
    """Run broken builds, and say which of them were found out."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("builds", metavar="BUILD", nargs="*", help="default: all of them")
    parser.add_argument(
        "--bound", metavar="SECONDS", type=float, default=BOUND_SECONDS,
        help="how long each may take (default: %(default)s)",
    )  # fmt: skip
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    LOGS.mkdir(parents=True, exist_ok=True)
    try:
        builds = _choose(asked.builds)
        missed = 0
        for number, build in enumerate(builds, start=1):
            print(f"{number} of {len(builds)}, {build.name}: {build.promise}", flush=True)
            began = time.monotonic()
            verdict = run(build, asked.bound)
            missed += bool(verdict.faults)
            print(
                f"  {'MISSED' if verdict.faults else 'found out'} by {build.scenario} in"
                f" {time.monotonic() - began:.0f} s; {verdict.passed} other tests passed",
            )
            for line in (*map("failed: {}".format, verdict.failed), *verdict.faults):
                print(f"    {line}", flush=True)
            if verdict.faults:
                print(f"    all that it said: {LOGS / build.name}.log", flush=True)
    except BuildError as error:
        print(f"scripts.test_the_tests: {error}", file=sys.stderr)
        return 2
    print(f"{len(builds) - missed} of {len(builds)} broken builds were found out")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
