"""docs/security.md promises what tests hold, by their names, and names files that are there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text()
FILES = [*ROOT.glob("tests/**/test_*.py"), *ROOT.glob("molecule/**/test_*.py")]


def promises(page: str) -> set[str]:
    """The names of the tests that a page's bold sentences are."""
    section = page[page.index("## What is promised") : page.index("Not promised:")]
    found = re.findall(r"\*\*(.+?)\*\*", section, re.DOTALL)
    return {"test_" + "_".join(re.findall(r"\w+", one.replace("'", "").lower())) for one in found}


def known() -> set[str]:
    """The names of all tests."""
    text = "\n".join(file.read_text() for file in FILES)
    return set(re.findall(r"^def (test_\w+)\(", text, re.MULTILINE))


def test_each_promise_of_security_is_the_name_of_a_test() -> None:
    assert len(promises(PAGE)) >= 12
    assert promises(PAGE) <= known()


def test_a_promise_that_no_test_holds_is_found() -> None:
    page = PAGE.replace("**Nginx survives**", "**Nginx never sleeps**")
    assert promises(page) - known() == {"test_nginx_never_sleeps"}


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`((?:[\w/]+/)?test_\w+\.py)`", PAGE))))
def test_a_file_of_tests_that_the_page_names_is_there(name: str) -> None:
    assert [file for file in FILES if str(file).endswith(f"/{name}")]
