"""The pages: whole in themselves, and nothing in them is anything but text."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from harness import pages, store
from harness.results import Event, Suite, summary

from . import runs


class Elements(HTMLParser):
    """Every element of a page, with its attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize(
    "page", [pages.report(runs.hostile()), pages.index([summary(runs.hostile())])]
)
def test_hostile_text_is_only_text(page: str) -> None:
    elements = Elements(page)
    assert "script" not in {tag for tag, _ in elements.found}
    assert "<script" not in page
    assert runs.HOSTILE in elements.text


def test_hostile_names_of_tests_are_only_text() -> None:
    page = pages.index([], [Suite(runs.HOSTILE, 0.0, {runs.HOSTILE: "failed"}, 1.0)])
    assert "<script" not in page


@pytest.mark.parametrize(
    "page",
    [
        pages.report(runs.run()),
        pages.index([summary(runs.run())], [Suite("tls", 0.0, {"a": "passed"}, 1.0)]),
    ],
)
def test_a_page_needs_nothing_else(page: str) -> None:
    """Neither a script nor any other file: what is linked to is for people to follow."""
    elements = Elements(page).found
    assert {"html", "title", "table"} <= {tag for tag, _ in elements}
    for tag, attributes in elements:
        assert tag not in ("script", "link", "iframe", "object", "embed")
        for name in ("src", "href", "xlink:href"):
            value = attributes.get(name) or "#"
            assert tag == "a" or value.startswith(("#", "data:image/")), (tag, value)
    assert not re.search(r"url\((?!#)|@import", page)
    assert "prefers-color-scheme: dark" in page
    assert 'name="viewport"' in page


def test_a_failed_request_is_told_with_its_reason_and_drawn() -> None:
    good, bad = pages.report(runs.run()), pages.report(runs.failed())
    assert "ConnectionResetError: reset by peer" in bad
    assert "1 of 584 requests failed" in bad
    assert "failed (1)" in bad  # the picture's legend
    assert "Failed:" not in good
    assert "failed (1)" not in good


def test_a_hole_is_told_and_drawn() -> None:
    page = pages.report(runs.with_a_hole())
    assert "Holes" in page
    assert "nothing asked" in page
    assert "Holes" not in pages.report(runs.run())


def test_a_run_without_requests_has_a_page_that_says_so() -> None:
    page = pages.report(runs.empty())
    assert "Failed: not one request was made, so nothing is proven" in page
    assert "Passed" not in page


def test_the_index_leads_with_what_failed() -> None:
    page = pages.index([summary(runs.run()), summary(replace(runs.failed(), title="it failed"))])
    assert "Failed: 1 of 2 runs under load" in page
    assert page.index("it failed") < page.index(runs.run().title)


def test_a_scenario_that_failed_fails_the_index() -> None:
    suite = Suite("tls", 0.0, {"test_a": "failed", "test_b": "passed"}, 1.0)
    page = pages.index([summary(runs.run())], [suite])
    assert "1 of 1 scenario" in page
    assert "test_a" in page
    assert "test_b" not in page


def test_a_scenario_that_was_not_tested_fails_the_index() -> None:
    for suite, words in (
        (Suite("tls", 0.0, {"test_a": "skipped"}, 1.0), "not one test passed"),
        (Suite("tls", 0.0, {"test_a": "passed"}, 1.0, "converge failed"), "converge failed"),
    ):
        page = pages.index([summary(runs.run())], [suite])
        assert "Failed: 0 of 1 run under load, 1 of 1 scenario" in page
        assert words in page


def test_what_an_earlier_run_of_a_scenario_left_is_forgotten(tmp_path: Path) -> None:
    for name in ("tls.machine.test_a", "tls_more.machine.test_a"):
        store.write(tmp_path, replace(runs.run(), name=name))
    for scenario in ("tls", "tls_more"):
        store.write_suite(tmp_path, Suite(scenario, 0.0, {"test_a": "passed"}, 1.0))
    store.forget(tmp_path, "tls")
    left = {file.name for file in tmp_path.iterdir()}
    assert left == {"tls_more.machine.test_a", "tls_more.suite.json", store.PAGE}


@pytest.mark.parametrize(
    ("outcomes", "told"),
    [
        (None, "converge failed"),
        ({"test_a": "passed"}, "converge failed"),
        ({"test_a": "failed"}, "test_a"),
    ],
)
def test_a_scenario_that_failed_outside_its_tests_is_told_so(
    tmp_path: Path, outcomes: dict[str, str] | None, told: str
) -> None:
    if outcomes is not None:
        store.write_suite(tmp_path, Suite("tls", 0.0, outcomes, 1.0))
    store.write_trouble(tmp_path, "tls", "converge failed", 0.0)
    page = (tmp_path / store.PAGE).read_text(encoding="utf-8")
    assert "Failed: 0 of 0 runs under load, 1 of 1 scenario" in page
    assert f'<span class="bad">{told}</span>' in page


def test_an_empty_index_is_no_success() -> None:
    assert "Nothing yet" in pages.index([])


def test_the_index_is_over_all_that_is_there(tmp_path: Path) -> None:
    store.write(tmp_path, runs.run())
    store.write(tmp_path, replace(runs.failed(), name="other"))
    store.write_suite(tmp_path, Suite("tls", 0.0, {"test_a": "passed"}, 1.0))
    page = (tmp_path / store.PAGE).read_text(encoding="utf-8")
    for text in (runs.run().name, "other", "tls"):
        assert text in page
    again = store.load(tmp_path / "other" / store.RESULTS)
    assert pages.report(again) == (tmp_path / "other" / store.PAGE).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("seconds", "told"), [(0.0042, "4 ms"), (2.314, "2.31 s"), (185, "3 min 5 s")]
)
def test_durations_are_told_as_people_read_them(seconds: float, told: str) -> None:
    assert pages.duration(seconds) == told


def test_what_a_killed_process_had_in_work_is_told_as_lost_and_drawn() -> None:
    run = runs.failed()
    kill = Event(runs.BEGAN + 10.0, "kill -9", runs.BEGAN + 10.5, ("a.example",))
    page = pages.report(replace(run, events=(kill,)))
    assert "none of them failed, but for those that a killed process had in work" in page
    assert "lost with a killed process (1)" in page  # the picture's legend
    assert "ConnectionResetError: reset by peer" in page
    assert "killed process" not in pages.report(run)
