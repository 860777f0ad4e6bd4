"""Run the parts of `make test`, whatever fails, and end with one table of all.

$ python -m scripts.run_tests                 lint, unit and scenarios: all that CI runs
$ python -m scripts.run_tests lint unit
$ python -m scripts.run_tests --quick         before a commit: what has changed, and one scenario

Images are made meanwhile. The log of each part is in reports/logs.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from scripts import scenarios
from scripts.running import (
    INTERRUPTED,
    REPOSITORY,
    Done,
    NotRun,
    Part,
    Runner,
    end_on_signals,
    reasons,
    run_all,
    table,
)

PARTS = ("lint", "unit", "molecule")
LOGS = scenarios.LOGS
IMAGES = "images"
QUICK_SCENARIO = "node"  # a short one, of both kinds of servers
QUICK_TESTS = "tests/unit"
MAIN_BRANCHES = ("upstream/main", "origin/main", "main")  # what a change is compared with
COLLECTIONS = REPOSITORY / ".config" / "collections"
PLUGINS = "ansible_collections.kechi.vps.plugins"
# what ansible-lint has rules for; a file elsewhere, it takes for no part of Ansible
ANSIBLE_FOLDERS = ("roles", "playbooks", "plugins", "molecule", "inventory", "meta")


def linters(changed: Sequence[str] | None = None) -> list[Part]:
    """What checks style and types.

    Args:
        changed: the files that have changed; None for all that there are. Types are checked as a
            whole where any of Python's files has: a change shows in those that use it.
    """
    python, ansible = of_python(changed), of_ansible(changed)
    plugins = [
        *("mypy", "--config-file", str(REPOSITORY / "pyproject.toml")),
        *("--cache-dir", str(REPOSITORY / ".mypy_cache"), "--package", PLUGINS),
    ]
    parts = []
    if python:
        parts += [
            _linter("ruff check", ["ruff", "check", "--force-exclude", *python]),
            _linter("ruff format", ["ruff", "format", "--check", "--force-exclude", *python]),
            _linter("mypy", ["mypy"]),
            _linter("mypy of plugins", plugins, COLLECTIONS),
        ]
    if ansible or changed is None:
        parts.append(_linter("ansible-lint", ["ansible-lint", *ansible]))
    return parts


def of_python(changed: Sequence[str] | None) -> list[str]:
    """What ruff is asked to look at."""
    if changed is None:
        return ["."]
    return [file for file in changed if file.endswith(".py")]


def of_ansible(changed: Sequence[str] | None) -> list[str]:
    """What ansible-lint is asked to look at; nothing for all."""
    return [
        file
        for file in changed or []
        if file.endswith((".yml", ".yaml")) and file.partition("/")[0] in ANSIBLE_FOLDERS
    ]


def unit(folders: Sequence[str]) -> Part:
    """What needs no container."""
    workers = os.environ.get("UNIT_WORKERS") or str(2 * (os.cpu_count() or 1))
    command = ("pytest", f"--numprocesses={workers}", "--dist=worksteal", "--durations=10")
    return Part("unit", (*command, *folders), LOGS / "unit.log", echo=True)


def images() -> Part:
    """What containers are made of."""
    command = (sys.executable, "-m", "containers.build")
    return Part(IMAGES, command, LOGS / "images.log", echo=True)


def changed_files() -> list[str]:
    """The files of this change: committed since the main branch, not committed, not yet known.

    Raises LookupError where git does not say.
    """
    base = next(
        (found for name in MAIN_BRANCHES if (found := _git("merge-base", "HEAD", name))), ""
    )
    if not base:
        raise LookupError(f"none of {', '.join(MAIN_BRANCHES)} is a branch that HEAD comes from")
    told = _git("diff", "--name-only", "--diff-filter=d", "-z", base)
    new = _git("ls-files", "--others", "--exclude-standard", "-z")
    names = {name for name in f"{told}\0{new}".split("\0") if name}
    return sorted(name for name in names if not (REPOSITORY / name).is_symlink())


def summary(ended: Sequence[Done | NotRun], seconds: float, prepared: float = 0.0) -> str:
    """The last words: why each has failed, the table, and one line that says how it went.

    Args:
        ended: all parts.
        seconds: of all, since `make` began.
        prepared: those of them that packages of this machine and .venv took.
    """
    failed = [one for one in ended if not one.passed]
    why = [reasons(one) for one in failed if isinstance(one, Done)]
    if failed:
        names = ", ".join(one.name for one in failed)
        verdict = f"{len(failed)} of {len(ended)} parts have not passed in {seconds:.0f} s: {names}"
    else:
        verdict = f"all {len(ended)} parts passed in {seconds:.0f} s"
    # what says in a form that any CI understands how many of them there were
    closing = f"parts: {len(ended) - len(failed)} passed, {len(failed)} failed"
    before = [f"{prepared:.0f} s before the first part: packages of this machine, .venv"]
    return "\n".join([*why, table(ended), *(before if prepared >= 1 else []), verdict, closing])


def run(wanted: Sequence[str], workers: int, runner: Runner) -> list[Done | NotRun]:
    """Run these parts: what needs no container beside the making of images, then scenarios."""
    checks = linters() if "lint" in wanted else []
    if "unit" in wanted:
        checks.append(unit([]))
    chains = [chain for chain in (checks, [images()] if "molecule" in wanted else []) if chain]
    ended = run_all(chains, len(chains) or 1, runner, _tell)
    if "molecule" in wanted:
        names = scenarios.choose(scenarios.there(), [], emulated=scenarios.machines_are_emulated())
        made = next(one for one in ended if one.name == IMAGES)
        if made.passed and not runner.stopped:
            print(scenarios.left_out(names), flush=True)
            ended += scenarios.run(names, workers, LOGS, runner)
        else:
            why = "not run" if runner.stopped else f"not run: {IMAGES}"
            ended += [NotRun(name, why) for name in names]
    return ended


def run_quick(runner: Runner) -> list[Done | NotRun]:
    """Run what shows most faults in little time. Raises LookupError where git does not help."""
    changed = changed_files()
    print(f"{len(changed)} files have changed", flush=True)
    chains = [
        [*linters(changed), unit([QUICK_TESTS])],
        [images(), scenarios.part(QUICK_SCENARIO, LOGS, needs=IMAGES)],
    ]
    ended = run_all(chains, len(chains), runner, _tell)
    scenarios.remove_machines(one for one in ended if one.name == QUICK_SCENARIO)
    return ended


def _linter(name: str, command: Iterable[str], folder: Path = REPOSITORY) -> Part:
    return Part(name, tuple(command), LOGS / f"{name.replace(' ', '-')}.log", folder, echo=True)


def _tell(done: Done) -> None:
    if done.name in scenarios.there():  # what the others say has been seen
        scenarios.report(done)
    print(f"{done.verdict}: {done.name}, {done.seconds:.0f} s", flush=True)


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    return done.stdout.rstrip("\n") if done.returncode == 0 else ""


def main() -> int:
    """Run what the arguments name, or all; returns 1 where anything has not passed."""
    parser = argparse.ArgumentParser(prog="python -m scripts.run_tests", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--quick", action="store_true", help="before a commit")
    parser.add_argument("--workers", type=int, default=scenarios.at_once(), help="at once")
    asked = parser.parse_args()
    unknown = [name for name in asked.parts if name not in PARTS]
    if unknown:
        parser.error(f'"{unknown[0]}" is not one of: {", ".join(PARTS)}')
    if asked.workers < 1:
        parser.error(f"--workers={asked.workers}: 1 or more")
    end_on_signals()
    # since `make` began, which may have installed packages first
    now = time.time()
    began = float(os.environ.get("KECHI_BEGAN") or now)
    runner = Runner()
    try:
        if asked.quick:
            ended = run_quick(runner)
        else:
            ended = run(asked.parts or PARTS, asked.workers, runner)
    except LookupError as error:
        parser.error(str(error))
    print(summary(ended, time.time() - began, now - began), flush=True)
    if runner.stopped:
        return INTERRUPTED
    return 0 if all(one.passed for one in ended) else 1


if __name__ == "__main__":
    sys.exit(main())
