"""The directory of reports: one of its own for each run, and the index over all of them."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path

from . import pages
from .results import Run, Suite, lines, read, read_summary

RESULTS = "results.jsonl"
PAGE = "index.html"
SUITE = ".suite.json"  # how the file of a scenario's tests ends


def write(reports: Path, run: Run) -> Path:
    """Write a run's results and page, and the index anew; returns the page."""
    directory = reports / run.name
    directory.mkdir(parents=True, exist_ok=True)
    _replace(directory / RESULTS, "".join(f"{line}\n" for line in lines(run)))
    _replace(directory / PAGE, pages.report(run))
    write_index(reports)
    return directory / PAGE


def write_suite(reports: Path, suite: Suite) -> None:
    """Note how a scenario's tests have ended, and write the index anew."""
    reports.mkdir(parents=True, exist_ok=True)
    _replace(reports / f"{suite.scenario}{SUITE}", json.dumps(asdict(suite)))
    write_index(reports)


def forget(reports: Path, scenario: str) -> None:
    """Remove what an earlier run of a scenario has left: it says nothing of the one that begins."""
    (reports / f"{scenario}{SUITE}").unlink(missing_ok=True)
    for results in reports.glob(f"{scenario}.*/{RESULTS}"):
        shutil.rmtree(results.parent)


def write_trouble(reports: Path, scenario: str, trouble: str, began: float) -> None:
    """Note that a scenario has failed, and why, where its tests don't say it themselves."""
    file = reports / f"{scenario}{SUITE}"
    ended = time.time()
    suite = Suite(scenario, ended, {}, ended - began)
    if file.exists():
        suite = _read_suite(file)
    if not suite.failed and not suite.trouble:
        write_suite(reports, replace(suite, trouble=trouble))


def _read_suite(file: Path) -> Suite:
    return Suite(**json.loads(file.read_text(encoding="utf-8")))


def write_index(reports: Path) -> None:
    """Write the index over what is there."""
    runs, suites = [], []
    for file in reports.glob(f"*/{RESULTS}"):
        with suppress(FileNotFoundError):  # another scenario begins, and forgets its own
            runs.append(read_summary(file))
    for file in reports.glob(f"*{SUITE}"):
        with suppress(FileNotFoundError):
            suites.append(_read_suite(file))
    _replace(reports / PAGE, pages.index(runs, suites))


def load(file: Path) -> Run:
    """Read a run's results."""
    with file.open(encoding="utf-8") as opened:
        return read(opened)


def _replace(file: Path, text: str) -> None:
    """Write a file at once: scenarios may run at the same time."""
    draft = file.with_name(f".{file.name}.{os.getpid()}.{threading.get_ident()}")
    draft.write_text(text, encoding="utf-8")
    draft.replace(file)
