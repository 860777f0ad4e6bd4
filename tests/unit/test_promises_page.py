"""docs/promises.md promises what the tests hold, by name."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_each_promise_is_the_name_of_a_test() -> None:
    promises = re.findall(r"\*\*(.+?)\*\*", (ROOT / "docs/promises.md").read_text(), re.DOTALL)
    names = {
        "test_" + "_".join(re.findall(r"\w+", one.replace("'", "").lower())) for one in promises
    }
    tests = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    known = set(re.findall(r"^def (test_\w+)\(", tests, re.MULTILINE))
    assert len(names) >= 10
    assert names <= known
