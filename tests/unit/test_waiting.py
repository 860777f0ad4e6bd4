"""How tests may wait: for what happens. A pause says what no event tells, a bound that it is meant.

Both fail somewhere on a busy machine: a pause that was long enough, a time that was short enough.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_TIME = re.compile(r"elapsed|took|taken|seconds|duration|slowest|age\b|monotonic|perf_counter")
_PROMISE = "the promise"


def _comment(lines: list[str], number: int) -> str:
    """Return the comment on a line, or that on the line above, if it is nothing else."""
    _, hash_sign, here = lines[number - 1].partition("  # ")
    above = lines[number - 2].strip() if number > 1 else ""
    return here if hash_sign else above.removeprefix("# ") if above.startswith("#") else ""


def _is_sleep(node: ast.AST) -> bool:
    """Tell whether it is a call of some sleep(); sleep(0) waits for nothing."""
    if not isinstance(node, ast.Call):
        return False
    name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
    name = name or (node.func.id if isinstance(node.func, ast.Name) else "")
    waits = not (node.args and isinstance(node.args[0], ast.Constant) and node.args[0].value == 0)
    return name == "sleep" and waits


def _bounds_a_time(node: ast.AST) -> bool:
    """Tell whether it asserts that a time is less than a number."""
    if not isinstance(node, ast.Assert):
        return False
    for compared in ast.walk(node.test):
        if not isinstance(compared, ast.Compare):
            continue
        sides = [compared.left, *compared.comparators]
        for left, how, right in zip(sides, compared.ops, sides[1:], strict=False):
            if isinstance(how, ast.Lt | ast.LtE) and _is_time(left) and _is_number(right):
                return True
            if isinstance(how, ast.Gt | ast.GtE) and _is_time(right) and _is_number(left):
                return True
    return False


def _is_time(node: ast.expr) -> bool:
    return bool(_TIME.search(ast.unparse(node)))


def _is_number(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, int | float)


def is_an_app(file: Path) -> bool:
    """Tell whether it is of an app or server that a scenario deploys."""
    return "apps" in file.relative_to(ROOT).parts


def problems(source: str) -> Iterator[str]:
    """Yield what is wrong with a test file, by its line."""
    lines = source.splitlines()
    for node in ast.walk(ast.parse(source)):
        if _is_sleep(node):
            assert isinstance(node, ast.Call)
            if not _comment(lines, node.lineno):
                yield f"{node.lineno}: no comment says what this waits for that no event tells"
        if _bounds_a_time(node):
            assert isinstance(node, ast.Assert)
            if _PROMISE not in _comment(lines, node.lineno):
                yield f"{node.lineno}: no comment says that this bound is {_PROMISE}"


def test_tests_wait_for_events_and_say_why_where_they_can_not() -> None:
    files = sorted((ROOT / "tests").rglob("*.py"))
    # but for apps that are slow so that tests can see how that is borne
    scenarios = [file for file in sorted((ROOT / "molecule").rglob("*.py")) if not is_an_app(file)]
    assert len(files) > 100
    assert len(scenarios) > 30
    files += scenarios
    found = [
        f"{file.relative_to(ROOT)}:{problem}"
        for file in files
        for problem in problems(file.read_text())
    ]
    assert found == []


@pytest.mark.parametrize(
    "line",
    [
        "time.sleep(1)",
        "sleep(seconds)",
        "await asyncio.sleep(0.1)",
        "while not there(): time.sleep(0.1)",
        "assert took < 5",
        "assert 1 <= time.monotonic() - began < 5",
        "assert 5 > elapsed",
        "assert answer.elapsed.total_seconds() <= 0.5, 'at once'",
        "assert ok and asked.slowest < 0.5",
    ],
)
def test_a_pause_and_a_bound_without_a_reason_are_found(line: str) -> None:
    assert len(list(problems(f"x = 1\n{line}\n"))) == 1
    assert len(list(problems(f"x = 1  # of another line\n{line}\n"))) == 1


@pytest.mark.parametrize(
    "text",
    [
        "time.sleep(1)  # no event tells that nothing happens",
        "# until the kernel's clock has moved on\ntime.sleep(1)",
        "time.sleep(0)",
        "assert took < 5  # at once is the promise; an idle machine takes 0.1",
        "# the promise: at once\nassert took < 5",
        "assert took >= 5",
        "assert 1 <= took",
        "assert len(lines) < 5",
        "assert took < limit",
        "code = 'time.sleep(1)'",
    ],
)
def test_what_says_why_or_waits_for_nothing_is_right(text: str) -> None:
    assert list(problems(text)) == []
