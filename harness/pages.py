"""A run, and an index of runs, as HTML pages that need nothing else: no script, no other file."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from . import figures
from .results import Run, Suite, Summary, lives

SHOWN_FAILURES = 200
SHOWN_SLOWEST = 10
SHOWN_PROBLEMS = 10  # of a scenario, in the index
BRIEF_CHARACTERS = 240


def duration(seconds: float) -> str:
    """Write a duration as people read it: "4 ms", "2.31 s", "3 min 5 s"."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:  # noqa: PLR2004
        return f"{seconds:.2f} s"
    return f"{seconds // 60:.0f} min {seconds % 60:.0f} s"


def when(at: float) -> str:
    """Write a time of day, in UTC."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at))


def counted(number: int, what: str) -> str:
    """Write how many there are: "1 run", "2 runs"."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def brief(text: str, characters: int = BRIEF_CHARACTERS) -> str:
    """Cut a text that may be a whole traceback, in one line."""
    line = " ".join(text.split())
    return line if len(line) <= characters else f"{line[: characters - 1]}…"


def _megabytes(kilobytes: float) -> str:
    return f"{kilobytes / 1024:.1f}"


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "brief": brief,
        "counted": counted,
        "duration": duration,
        "megabytes": _megabytes,
        "when": when,
    }
    return environment


def report(run: Run) -> str:
    """Write the page of a run."""
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            run=run,
            generations=lives(run),
            failures=run.failures[:SHOWN_FAILURES],
            slowest=run.slowest(SHOWN_SLOWEST),
            # matplotlib has escaped what is in them
            wide=Markup(figures.draw(run)),  # noqa: S704
            narrow=Markup(figures.draw(run, figures.NARROW_INCHES)),  # noqa: S704
        )
    )


def index(runs: Sequence[Summary], suites: Sequence[Suite] = ()) -> str:
    """Write the page that leads to those of all runs."""
    ordered = sorted(runs, key=lambda run: (run.passed, run.name))
    tested = sorted(suites, key=lambda suite: (suite.passed, suite.scenario))
    return (
        _environment()
        .get_template("index.html.j2")
        .render(
            runs=ordered,
            suites=tested,
            proven=all(one.passed for one in ordered) and all(one.passed for one in tested),
            shown_problems=SHOWN_PROBLEMS,
        )
    )
