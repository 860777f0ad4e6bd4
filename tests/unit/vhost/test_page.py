"""docs/vhost_server.md says what the pool file may say."""

import re
import tomllib
from pathlib import Path

import pytest

from supervisor_py.vhost import pool

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "vhost_server.md").read_text()
TESTS = ROOT / "tests" / "process" / "vhost"


def test_the_pool_file_of_the_page_is_one_and_has_every_key_of_a_pool() -> None:
    document = tomllib.loads(re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)[0])
    assert pool.problems(document) == []
    assert set(document["pool"]) == set(pool.POOL_KEYS)
    assert {key for app in document["apps"] for key in app} == set(pool.APP_KEYS)


def test_each_promise_is_the_name_of_a_test() -> None:
    section = PAGE[PAGE.index("## What it promises") : PAGE.index("## The pool file")]
    promises = re.findall(r"\*\*(.+?)\*\*", section, re.DOTALL)
    names = {"test_" + "_".join(re.findall(r"\w+", promise.lower())) for promise in promises}
    tests = "\n".join(path.read_text() for path in TESTS.rglob("test_*.py"))
    assert len(names) >= 10
    assert names <= set(re.findall(r"^def (test_\w+)\(", tests, re.MULTILINE))


def test_each_row_of_what_is_kept_apart_is_the_name_of_a_test() -> None:
    section = PAGE[PAGE.index("### What is kept apart, in which mode") : PAGE.index("## Groups")]
    rows = [line for line in section.splitlines() if line.startswith("| ") and "---" not in line]
    names = {"test_" + "_".join(re.findall(r"\w+", row.split("**")[1].lower())) for row in rows[1:]}
    tests = "\n".join(path.read_text() for path in TESTS.rglob("test_*.py"))
    assert len(names) >= 15
    assert names - set(re.findall(r"^def (test_\w+)\(", tests, re.MULTILINE)) == set()


@pytest.mark.parametrize("key", pool.APP_KEYS)
def test_every_key_of_an_app_is_explained(key: str) -> None:
    assert f"\n| `{key}` | " in PAGE
