"""docs/start_server.md has the options, variables and deviations that there are."""

import re
from pathlib import Path

import pytest

from supervisor_py import handoff, logger, model, options, output, sdnotify, settings
from tests.conformance.deviations import DEVIATIONS

PATH = Path(__file__).parents[2] / "docs" / "start_server.md"
PAGE = PATH.read_text()


def _section(title: str) -> str:
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found, f"no section {title}"
    return found[1]


def _rows(text: str) -> list[list[str]]:
    """Return the cells of a section's tables, without the heads."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines]
    bodies = [
        row for row, rule in zip(rows, [*rows[1:], [""]], strict=True) if "---" not in rule[0]
    ]
    return [[cell.strip() for cell in row] for row in bodies if "---" not in row[0]]


def test_the_tables_have_every_option_with_its_value_and_no_other() -> None:
    written = {row[0].strip("`"): row[1] for row in _rows(_section("Options"))}
    wanted = {
        f"--{option.name}" + (f"={option.value}" if option.value else "")
        for option in settings.OPTIONS
    }
    assert written.keys() == wanted


def test_the_options_of_server_starter_are_told_from_ours() -> None:
    theirs, ours = _section("Options").split("Those that Server::Starter does not have:")
    for text, is_ours in ((theirs, False), (ours, True)):
        names = [row[0].strip("`").partition("=")[0][2:] for row in _rows(text)]
        assert sorted(names) == sorted(
            option.name for option in settings.OPTIONS if option.ours == is_ours
        )


@pytest.mark.parametrize("option", settings.OPTIONS, ids=lambda option: option.name)
def test_the_default_in_the_table_is_that_of_the_help(option: options.Option) -> None:
    """A help text ends with its default in parentheses, if it is a value."""
    found = re.search(r"\(([^():]+)\)$", option.help)
    default = next(
        row[1]
        for row in _rows(_section("Options"))
        if row[0].strip("`").partition("=")[0] == f"--{option.name}"
    )
    if found:
        assert default == found[1]
    else:
        assert default in ("", "auto")


def test_the_page_has_the_variables_that_are_read_and_set() -> None:
    written = set(re.findall(r"`([A-Z_]+)`", _section("Variables")))
    values = {options.FLAG: "", options.TEXT: "=x", options.TEXTS: "=x"}
    every = [f"--{one.name}{values.get(one.kind, '=1')}" for one in settings.OPTIONS]
    read = set(settings.variables(options.parse(settings.OPTIONS, every)))
    assert read <= written
    assert {handoff.PORT_VARIABLE, handoff.GENERATION_VARIABLE, sdnotify.NOTIFY_SOCKET} <= written
    assert f"KILL_OLD_DELAY` | `--kill-old-delay`; {model.DEFAULT_DELAY:g} where" in PAGE


def test_the_table_of_deviations_is_the_one_that_is_tested() -> None:
    rows = _rows(_section("Where it differs from Server::Starter 0.35"))
    assert rows == [[one.title, one.how, one.why] for one in DEVIATIONS.values()]


def test_no_section_is_empty_and_all_links_lead_somewhere() -> None:
    titles = re.findall(r"^## (.*)", PAGE, re.MULTILINE)
    assert "Files" in titles
    assert [title for title in titles if not _section(title).strip()] == []
    pages = re.findall(r"\]\(([a-z-]+\.md)", PAGE)
    assert "readiness.md" in pages
    assert [page for page in pages if not (PATH.parent / page).exists()] == []


def test_the_numbers_about_logs_are_the_codes() -> None:
    text = " ".join(_section("Files").split())
    assert f"up to {output._MOST_PENDING // 1024} KB wait" in text
    assert logger._PAUSE == 1
    assert "started again after a second" in text
    assert f"it has {logger._PATIENCE:g} seconds" in text
