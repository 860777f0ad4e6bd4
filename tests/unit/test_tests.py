"""What is asked of every test: that it can fail."""

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
FOLDERS = ("tests", "molecule")
# what fails a test without `assert`: pytest's own, and testinfra's command that has to succeed
FAILING = frozenset({"raises", "warns", "fail", "check_output"})

Function = ast.FunctionDef | ast.AsyncFunctionDef


@functools.cache
def parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def functions(tree: ast.AST) -> Iterator[Function]:
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def seen_from(file: Path) -> frozenset[Path]:
    """A module, what it imports of the tests, what that does, and the conftest.py above it."""
    found: set[Path] = set()
    left = [file]
    while left:
        one = left.pop()
        if one in found:
            continue
        found.add(one)
        conftests = (folder / "conftest.py" for folder in one.parents)
        left += [path for path in conftests if path.is_relative_to(REPOSITORY) and path.is_file()]
        for node in ast.walk(parsed(one)):
            if isinstance(node, ast.ImportFrom):
                up = [folder for folder in one.parents if folder.is_relative_to(REPOSITORY)]
                # relative, of the repository, or as molecule's tests find their shared modules
                bases = (
                    [up[node.level - 1]] if node.level else [REPOSITORY, REPOSITORY / "molecule"]
                )
                module = (node.module or "").split(".") if node.module else []
                for base in bases:
                    place = base.joinpath(*module)
                    paths = [
                        place.with_suffix(".py"),
                        *(place / f"{a.name}.py" for a in node.names),
                    ]
                    left += [
                        path
                        for path in paths
                        if path.is_file() and path.relative_to(REPOSITORY).parts[0] in FOLDERS
                    ]
    return frozenset(found)


def can_fail(function: Function, helpers: frozenset[str]) -> bool:
    for node in ast.walk(function):
        if isinstance(node, ast.Assert):
            return True
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if name in helpers:
                return True
            for keyword in node.keywords:  # subprocess.run
                if keyword.arg == "check" and getattr(keyword.value, "value", False) is True:
                    return True
    return False


@functools.cache
def asserting(files: frozenset[Path]) -> frozenset[str]:
    """The names of what fails a test that calls it."""
    helpers = FAILING
    while True:
        more = {
            function.name
            for file in files
            for function in functions(parsed(file))
            if not function.name.startswith("test_") and can_fail(function, helpers)
        }
        if more <= helpers:
            return helpers
        helpers |= more


FILES = sorted(path for folder in FOLDERS for path in (REPOSITORY / folder).rglob("test_*.py"))


def weak(file: Path) -> list[str]:
    """The tests of a module that nothing can fail."""
    helpers = asserting(seen_from(file))
    return [
        f"{file}:{one.lineno}: {one.name}"
        for one in functions(parsed(file))
        if one.name.startswith("test_") and not can_fail(one, helpers)
    ]


def test_every_test_asserts_something() -> None:
    assert len(FILES) > 100
    assert [found for file in FILES for found in weak(file)] == []


@pytest.mark.parametrize(
    ("body", "is_weak"),
    [
        ("pass", True),
        ("parsed(1).forget(2)", True),
        ("assert 1", False),
        ("with pytest.raises(OSError): f()", False),
        ("helper()", False),
        ("subprocess.run(['x'], check=True)", False),
        ("subprocess.run(['x'], check=False)", True),
    ],
)
def test_a_test_without_an_assertion_is_found(tmp_path: Path, body: str, is_weak: bool) -> None:
    file = tmp_path / "test_x.py"
    file.write_text(f"def helper():\n    assert 1\ndef test_x():\n    {body}\n")
    assert bool(weak(file)) is is_weak
