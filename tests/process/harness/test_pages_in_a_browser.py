"""Every page as a browser lays it out: wide and narrow, light and dark, with what failed on top."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from harness import pages, store
from harness.results import Event, Suite, summary

from ...unit.harness import runs
from .browser import Browser

HEIGHT = 800
VIEWS = ((1600, False), (1135, False), (1135, True), (380, False), (380, True))

LOOK = Path(__file__).with_name("look.js").read_text(encoding="utf-8")


@dataclass(frozen=True)
class View:
    page: str
    width: int
    dark: bool
    seen: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.page}, {self.width} pixels wide{', dark' if self.dark else ''}"


def _write(folder: Path) -> dict[str, Path]:
    """The pages of made-up runs and scenarios, by name; each run has failed but two."""
    made = {
        "passed": runs.run(),
        "failed": replace(runs.failed(), failure="assert 7 == 8\n +  where 7 = generations"),
        "hostile": runs.hostile(),
        "long": runs.long(),
        "hole": replace(
            runs.with_a_hole(), events=(Event(runs.BEGAN + 10, "kill -9 of a worker"),)
        ),
        "empty": runs.empty(),
    }
    found = {}
    for name, run in made.items():
        found[name] = store.write(folder, replace(run, name=name))
        alone = folder / f"index of {name}.html"
        alone.write_text(pages.index([summary(run)]), encoding="utf-8")
        found[alone.stem] = alone
    tests = {f"test_{runs.LONG}[podman://kechi-tls-debian13]": "failed", "test_b": "passed"}
    store.write_suite(folder, Suite("tls", runs.BEGAN, tests, 300.0))
    store.write_suite(folder, Suite("skipped", runs.BEGAN, {"test_a": "skipped"}, 3.0))
    store.write_suite(folder, Suite("crowded", runs.BEGAN, {"test_a": "passed"}, 3.0))
    found["index of all"] = folder / store.PAGE
    nothing = folder / "index of nothing.html"
    nothing.write_text(pages.index([]), encoding="utf-8")
    found[nothing.stem] = nothing
    return found


@pytest.fixture(scope="module")
def views(tmp_path_factory: pytest.TempPathFactory) -> list[View]:
    folder = tmp_path_factory.mktemp("pages")
    files = _write(folder)
    browser = Browser(folder / "profile")
    try:
        found = []
        for page, file in files.items():
            for width, dark in VIEWS:
                browser.show(file, width, HEIGHT, dark=dark)
                found.append(View(page, width, dark, browser.evaluate(LOOK)))
    finally:
        browser.close()
    assert all(view.seen["looked"] for view in found)
    return found


@pytest.mark.parametrize("fault", ["broken", "outside", "faint", "borrowed"])
def test_no_word_is_broken_outside_or_faint_on_any_page(views: list[View], fault: str) -> None:
    assert {str(view): view.seen[fault] for view in views if view.seen[fault]} == {}


def test_no_page_is_wider_than_its_window(views: list[View]) -> None:
    assert [str(view) for view in views if view.seen["width"] > view.width] == []


def test_a_verdict_in_a_table_is_one_line_high(views: list[View]) -> None:
    lines = {str(view): set(view.seen["verdict_lines"]) for view in views if "index" in view.page}
    assert {found for view, found in lines.items() if "nothing" not in view for found in found} == {
        1
    }


def test_what_failed_is_named_in_the_first_screen(views: list[View]) -> None:
    failed = [view for view in views if view.seen["title"].startswith("FAILED")]
    assert {view.page for view in failed} >= {"failed", "index of failed", "empty", "index of all"}
    low = {str(view): view.seen["named_by"] for view in failed if view.seen["named_by"] > HEIGHT}
    assert low == {}


def test_no_text_becomes_a_script(views: list[View]) -> None:
    assert [str(view) for view in views if view.seen["scripts"]] == []
