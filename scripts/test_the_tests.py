"""Test the tests: a build that breaks a promise must fail its tests, and only those.

For each broken build a copy of this repository is changed in a line or two, and a scenario, or a
file of tests, is run on it. That has to fail in the tests that keep the promise, in no others, and
for the right reason:

    $ python -m scripts.test_the_tests            # all of them
    $ python -m scripts.test_the_tests no-freeze
    $ python -m scripts.test_the_tests --without-containers

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
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TextIO

from .broken_builds import BUILDS, Build

REPOSITORY = Path(__file__).resolve().parents[1]
LOGS = REPOSITORY / ".cache" / "test-the-tests"
BOUND_SECONDS = 1800  # of one build
READABLE = 0o755  # some tests become another user, who has to get at the copy
DESTROY_SECONDS = 120
PREFIX = "broken-"  # of its machines, so that they are not those of another run
SHOWN_LINES = 15
_RUNNING: set[subprocess.Popen[bytes]] = set()
MACHINE = re.compile(r"kechi-[a-z0-9_-]+-debian\d+")


class BuildError(Exception):
    """A build can't be broken as it is described; the message says why."""


@dataclass(frozen=True)
class Verdict:
    """What the tests have said of a broken build; `faults` say why that is not right."""

    failed: tuple[str, ...]
    passed: int
    faults: tuple[str, ...]
    seconds: float = 0.0


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
    """Whether the tests have failed as they should.

    Args:
        build: what was broken.
        outcomes: how each of them has ended, None where it has not come to that.
        said: why they have failed.
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


def read_junit(text: str) -> tuple[dict[str, str], str]:
    """How each test of pytest's XML has ended, and all that those that failed have said."""
    outcomes: dict[str, str] = {}
    said: list[str] = []
    for case in ET.fromstring(text).iter("testcase"):  # noqa: S314 - pytest has just written it
        failures = [*case.findall("failure"), *case.findall("error")]
        name = case.get("name", "")
        skipped = "passed" if case.find("skipped") is None else "skipped"
        outcomes[name] = "failed" if failures else outcomes.get(name, skipped)
        said += [f"{one.get('message')}\n{one.text}" for one in failures]
    return outcomes, "\n".join(said)


def run(build: Build, bound_seconds: float) -> Verdict:
    """Run a build's tests on it. Raises BuildError."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="kechi-broken-") as made:
        Path(made).chmod(READABLE)
        folder = Path(made) / "copy"
        copy(folder)
        break_it(folder, build)
        with (LOGS / f"{build.name}.log").open("w+", encoding="utf-8") as log:
            tests = _scenario if build.scenario else _file
            found = tests(folder, build, log, bound_seconds)
        return replace(found, seconds=time.monotonic() - began)


def _file(folder: Path, build: Build, log: TextIO, bound_seconds: float) -> Verdict:
    """Run a file of tests of a copy."""
    results = folder / "results.xml"
    command = [
        *(sys.executable, "-m", "pytest", build.file, f"--junitxml={results}"),
        # a directory of its own: other runs of pytest remove each other's old ones
        *("-p", "no:cacheprovider", f"--basetemp={folder.parent / 't'}"),
        *(("-k", build.only) if build.only else ()),
    ]
    code = _run(folder, command, log, bound_seconds)
    if code is None:
        return _late(bound_seconds)
    if not results.exists():
        return judge(build, None, "")
    return judge(build, *read_junit(results.read_text(encoding="utf-8")))


def _scenario(folder: Path, build: Build, log: TextIO, bound_seconds: float) -> Verdict:
    """Test a scenario of a copy, and leave no machine."""
    rename_machines(folder / "molecule" / build.scenario)
    code = None
    try:
        code = _run(folder, _molecule("test", build.scenario), log, bound_seconds)
    finally:
        if code != 0:  # it may have been cut off before its own destroy
            _run(folder, _molecule("destroy", build.scenario), log, DESTROY_SECONDS)
    if code is None:
        return _late(bound_seconds)
    suite = folder / "reports" / f"{build.scenario}.suite.json"
    outcomes = json.loads(suite.read_text("utf-8"))["outcomes"] if suite.exists() else None
    log.seek(0)
    return judge(build, outcomes or None, log.read())


def _molecule(command: str, scenario: str) -> list[str]:
    return ["molecule", command, f"--scenario-name={scenario}", "--no-command-borders"]


def _late(bound_seconds: float) -> Verdict:
    return Verdict((), 0, (f"was not over within {bound_seconds:g} s",))


def _run(folder: Path, command: Sequence[str], log: TextIO, seconds: float) -> int | None:
    """Run a command in a copy; returns its exit code, None where it was not over in time."""
    with subprocess.Popen(
        command,
        cwd=folder,
        env={
            **os.environ,
            "ANSIBLE_HOME": str(folder / ".ansible"),
            "ANSIBLE_CONFIG": str(folder / "ansible.cfg"),
        },
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
    ) as process:
        _RUNNING.add(process)
        try:
            return process.wait(timeout=seconds)
        except BaseException as error:
            _end(process)
            if isinstance(error, subprocess.TimeoutExpired):
                return None
            raise
        finally:
            _RUNNING.discard(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Interrupt a run, so that its tests end what they have started; kill it if it does not end."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGINT)
        try:
            process.wait(timeout=DESTROY_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


def _choose(names: Sequence[str]) -> list[Build]:
    """The builds of these names, or all. Raises BuildError."""
    known = {build.name: build for build in BUILDS}
    for name in names:
        if name not in known:
            raise BuildError(f'no broken build "{name}"; there are: {", ".join(known)}')
    return [known[name] for name in names or known]


def run_all(builds: Sequence[Build], bound_seconds: float) -> Iterator[tuple[Build, Verdict]]:
    """Run builds: files of tests one for each processor at once, then scenarios one by one."""
    files = [build for build in builds if build.file]
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        running = {pool.submit(run, build, bound_seconds): build for build in files}
        try:
            for future in as_completed(running):
                yield running[future], future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in list(_RUNNING):
                _end(process)
            raise
    for build in builds:
        if build.scenario:
            yield build, run(build, bound_seconds)


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
    parser.add_argument(
        "--without-containers", action="store_true", help="leave out what takes a scenario"
    )
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    LOGS.mkdir(parents=True, exist_ok=True)
    try:
        builds = _choose(asked.builds)
        if asked.without_containers:
            builds = [build for build in builds if build.file]
        missed = 0
        for number, (build, verdict) in enumerate(run_all(builds, asked.bound), start=1):
            print(f"{number} of {len(builds)}, {build.name}: {build.promise}")
            missed += bool(verdict.faults)
            print(
                f"  {'MISSED' if verdict.faults else 'found out'} by {build.found_by} in"
                f" {verdict.seconds:.0f} s; {verdict.passed} other tests passed",
                flush=True,
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
