"""The workflow of others' CI runs commands, scenarios and versions that there are."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from containers import build
from scripts import scenarios
from scripts.running import REPOSITORY

WORKFLOW = yaml.safe_load((REPOSITORY / ".github/workflows/test.yml").read_text(encoding="utf-8"))
JOBS: dict[str, Any] = WORKFLOW["jobs"]
MAKEFILE = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
SET_UP = ("PYTHON", "KECHI_ANSIBLE_CORE")  # what the environment of a job's commands says


def commands() -> Iterator[str]:
    """Each line that a job runs."""
    for job in JOBS.values():
        for step in job["steps"]:
            yield from step.get("run", "").splitlines()


def matrix(key: str) -> list[dict[str, Any]]:
    """The rows of all jobs' matrices that have a key."""
    rows = [row for job in JOBS.values() for row in _rows(job) if key in row]
    assert rows, key
    return rows


def _rows(job: dict[str, Any]) -> list[dict[str, Any]]:
    return list(job.get("strategy", {}).get("matrix", {}).get("include", []))


def pinned(name: str) -> str:
    requirements = (REPOSITORY / "requirements-dev.txt").read_text(encoding="utf-8")
    return requirements.partition(f"\n{name}==")[2].split()[0]


def test_each_target_of_make_that_it_names_is_there() -> None:
    targets = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
    named = [
        word
        for line in commands()
        for words in re.findall(r"\bmake((?: [a-z-]+)+)", line)
        for word in words.split()
    ]
    assert {"lint", "unit", "molecule", "sanity", "vps", "test-the-tests"} == set(named)
    assert set(named) <= targets


def test_the_gate_is_what_make_test_is() -> None:
    assert any(line.endswith(" .ci/run") for line in commands())
    assert "make test\n" in (REPOSITORY / ".ci/run").read_text(encoding="utf-8")


def test_the_shards_have_together_all_scenarios_and_each_one_once() -> None:
    shards = [
        scenarios.read_shard(text) for text in JOBS["scenarios"]["strategy"]["matrix"]["shard"]
    ]
    names = scenarios.choose(scenarios.there(), [], emulated=True)
    run = [name for shard in shards for name in scenarios.shard(names, *shard)]
    assert sorted(run) == sorted(names)
    assert any("SHARD=${{ matrix.shard }}" in line for line in commands())


@pytest.mark.parametrize("row", matrix("scenario"), ids=str)
def test_each_single_scenario_and_the_target_of_its_machines_is_there(row: dict[str, Any]) -> None:
    assert row["scenario"] in scenarios.there()
    assert build.wanted_releases({"KECHI_TARGET": row["target"]})


@pytest.mark.parametrize("row", matrix("python"), ids=str)
def test_versions_are_such_as_the_project_says_that_it_runs_with(row: dict[str, Any]) -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    collection = yaml.safe_load((REPOSITORY / "meta/runtime.yml").read_text(encoding="utf-8"))
    assert Version(row["python"]) in SpecifierSet(project["requires-python"])
    assert Version(f"{row['ansible']}.0") in SpecifierSet(collection["requires_ansible"])


def test_the_oldest_versions_that_the_project_says_are_among_them_and_the_pinned_ones() -> None:
    pairs = {(row["python"], row["ansible"]) for row in _rows(JOBS["unit"])}
    assert ("3.11", "2.19") in pairs
    assert pinned("ansible-core").startswith("2.19.")


def test_only_what_has_not_been_seen_to_pass_may_fail() -> None:
    rows = [row for job in JOBS.values() for row in _rows(job) if row.get("may_fail")]
    assert {(row["python"] == "3.14" or row["target"]) for row in rows} == {
        True,
        "debian:testing",
        "ubuntu:24.04",
    }


@pytest.mark.parametrize("job", JOBS)
def test_each_job_ends_and_says_with_which_python(job: str) -> None:
    assert JOBS[job]["timeout-minutes"] <= 90
    assert JOBS[job]["env"]["PYTHON"].startswith("python")
    if any("ansible" in row for row in _rows(JOBS[job])):
        assert JOBS[job]["env"]["KECHI_ANSIBLE_CORE"] == "${{ matrix.ansible }}"
