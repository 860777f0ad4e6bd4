"""`make test` says of all parts how they ended, and asks linters for what has changed."""

import re
import subprocess
from pathlib import Path

import pytest

from scripts import run_tests, scenarios
from scripts.running import Done, NotRun, Runner

LINTERS = ["ruff check", "ruff format", "mypy", "mypy of plugins", "ansible-lint"]


def done(name: str, code: int) -> Done:
    return Done(name, code, 61.0, 20.0, {}, Path("/dev/null"))


def test_the_last_line_counts_the_parts_as_any_ci_reads_it() -> None:
    images = NotRun("tls", "not run: images")
    ended: list[Done | NotRun] = [done("mypy", 0), done("unit", 1), images, done("node", -9)]
    said = run_tests.summary(ended, 300.0).splitlines()
    assert said[-2] == "3 of 4 parts have not passed in 300 s: unit, tls, node"
    assert said[-1] == "parts: 1 passed, 3 failed"
    assert re.fullmatch(r"(\w+: )?\d+ passed, \d+ failed", said[-1])


def test_a_green_run_says_so_with_each_parts_time() -> None:
    said = run_tests.summary([done("mypy", 0), done("unit", 0)], 122.0, 30.4).splitlines()
    assert [line.split()[:3] for line in said[1:3]] == [
        *(["mypy", "passed", "61"], ["unit", "passed", "61"]),
    ]
    assert said[3:] == [
        "30 s before the first part: packages of this machine, .venv",
        "all 2 parts passed in 122 s",
        "parts: 2 passed, 0 failed",
    ]


def test_all_is_linted_by_each_linter() -> None:
    parts = run_tests.linters()
    assert [part.name for part in parts] == LINTERS
    assert parts[0].command == ("ruff", "check", "--force-exclude", ".")
    assert parts[-1].command == ("ansible-lint",)


def test_what_has_changed_is_linted_by_what_it_concerns() -> None:
    assert run_tests.linters(["README.md", ".github/workflows/test.yml"]) == []
    python = run_tests.linters(["README.md", "scripts/a.py", "plugins/modules/b.py"])
    assert [part.name for part in python] == LINTERS[:-1]
    assert python[0].command[3:] == ("scripts/a.py", "plugins/modules/b.py")
    (ansible,) = run_tests.linters(["roles/host/tasks/main.yml", "galaxy.yml"])
    assert ansible.command == ("ansible-lint", "roles/host/tasks/main.yml")


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One with a branch that has a commit of its own."""
    monkeypatch.setattr(run_tests, "REPOSITORY", tmp_path)
    git(tmp_path, "init", "--initial-branch=main")
    for name in ("kept.py", "committed.py", "edited.py", "removed.py"):
        (tmp_path / name).write_text("1\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--message=all")
    git(tmp_path, "switch", "--create=change")
    (tmp_path / "committed.py").write_text("2\n")
    (tmp_path / "removed.py").unlink()
    git(tmp_path, "commit", "--all", "--message=change")
    return tmp_path


def git(repository: Path, *arguments: str) -> None:
    me = ["-c", "user.name=me", "-c", "user.email=me@example.org", "-c", "commit.gpgSign=false"]
    subprocess.run(["git", *me, *arguments], cwd=repository, capture_output=True, check=True)


def test_changed_is_what_is_committed_edited_or_new_since_the_main_branch(
    repository: Path,
) -> None:
    (repository / "edited.py").write_text("2\n")
    (repository / "a new one.py").write_text("2\n")
    assert run_tests.changed_files() == ["a new one.py", "committed.py", "edited.py"]


def test_changes_of_the_main_branch_are_not_those_of_this_one(repository: Path) -> None:
    git(repository, "switch", "main")
    (repository / "kept.py").write_text("2\n")
    git(repository, "commit", "--all", "--message=other")
    git(repository, "switch", "change")
    assert run_tests.changed_files() == ["committed.py"]


def test_a_repository_without_a_main_branch_is_refused(repository: Path) -> None:
    git(repository, "branch", "--move", "main", "trunk")
    with pytest.raises(LookupError, match="none of upstream/main, origin/main, main is a branch"):
        run_tests.changed_files()


def test_scenarios_are_not_run_without_images_but_all_else_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def ended(chains, _workers, _runner, _told):
        return [done(part.name, int(part.name == "images")) for chain in chains for part in chain]

    monkeypatch.setattr(run_tests, "run_all", ended)
    monkeypatch.setattr(scenarios, "machines_are_emulated", lambda: True)
    monkeypatch.setattr(scenarios, "run", lambda *_: pytest.fail("scenarios are run"))
    all_parts = run_tests.run(run_tests.PARTS, 2, Runner())
    assert [one.name for one in all_parts[:7]] == [*LINTERS, "unit", "images"]
    names = [one.name for one in all_parts[7:]]
    assert names == scenarios.choose(scenarios.there(), [], emulated=True)
    assert {one.verdict for one in all_parts[7:]} == {"not run: images"}


def test_what_needs_no_container_runs_while_images_are_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[list[list[str]]] = []

    def ended(chains, workers, _runner, _told):
        assert workers == len(chains)
        asked.append([[part.name for part in chain] for chain in chains])
        return [done(part.name, 0) for chain in chains for part in chain]

    monkeypatch.setattr(run_tests, "run_all", ended)
    monkeypatch.setattr(scenarios, "machines_are_emulated", lambda: True)
    monkeypatch.setattr(scenarios, "run", lambda names, *_: [done(name, 0) for name in names])
    names = scenarios.choose(scenarios.there(), [], emulated=True)
    parts = run_tests.run(run_tests.PARTS, 3, Runner())
    assert asked == [[[*LINTERS, "unit"], ["images"]]]
    assert [one.name for one in parts] == [*LINTERS, "unit", "images", *names]
    assert [one.name for one in run_tests.run(["unit"], 3, Runner())] == ["unit"]


def test_the_quick_run_has_a_scenario_that_there_is() -> None:
    assert run_tests.QUICK_SCENARIO in scenarios.there()
