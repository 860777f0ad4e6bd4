"""Broken builds: each can be made of the code as it is, and a verdict is what it should be."""

import shutil
from pathlib import Path

import pytest

from scripts import test_the_tests as runner
from scripts.broken_builds import BUILDS, Build, Patch

BUILD = Build(
    "no-brakes",
    "it stops",
    (Patch("car.py", "brake()\n", ""),),
    scenario="road",
    tests=("test_stops", "test_stops_in_time"),
    words=(r"hit \d+ trees",),
)
FAILED = {"test_stops[podman://a]": "failed", "test_stops_in_time[podman://a]": "failed"}
SAID = "it hit 3 trees"


@pytest.mark.parametrize("build", BUILDS, ids=lambda build: build.name)
def test_each_build_can_be_broken_as_it_is_described(build: Build, tmp_path: Path) -> None:
    """So that the table goes with the code, and with the names of scenarios and tests."""
    for patch in build.patches:
        (tmp_path / patch.file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(runner.REPOSITORY / patch.file, tmp_path / patch.file)
    runner.break_it(tmp_path, build)
    for patch in build.patches:
        if patch.file.endswith(".py"):
            compile((tmp_path / patch.file).read_text(encoding="utf-8"), patch.file, "exec")
    folder = runner.REPOSITORY / "molecule" / build.scenario / "tests"
    written = "".join(file.read_text(encoding="utf-8") for file in folder.glob("test_*.py"))
    for test in build.tests:
        assert f"def {test}(" in written
    assert build.tests
    assert build.words
    page = (runner.REPOSITORY / "docs" / "harness.md").read_text(encoding="utf-8")
    assert f"| `{build.name}` | {build.promise} | `{build.scenario}` |" in page


def test_names_of_builds_are_told_apart() -> None:
    assert len({build.name for build in BUILDS}) == len(BUILDS)


@pytest.mark.parametrize(
    ("text", "words"), [("go()\n", "is there 0 times"), ("brake()\nbrake()\n", "is there 2 times")]
)
def test_a_patch_that_does_not_fit_exactly_once_is_refused(
    tmp_path: Path, text: str, words: str
) -> None:
    (tmp_path / "car.py").write_text(text, encoding="utf-8")
    with pytest.raises(runner.BuildError, match=words):
        runner.break_it(tmp_path, BUILD)


def test_a_patch_of_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(runner.BuildError, match=r"car\.py: there is no such file"):
        runner.break_it(tmp_path, BUILD)


def test_a_build_whose_tests_fail_for_the_right_reason_is_found_out() -> None:
    verdict = runner.judge(BUILD, {**FAILED, "test_drives": "passed"}, SAID)
    assert verdict == runner.Verdict(("test_stops", "test_stops_in_time"), 1, ())


@pytest.mark.parametrize(
    ("outcomes", "said", "fault"),
    [
        (None, SAID, "it has not come to its tests"),
        ({**FAILED, "test_stops[podman://a]": "passed"}, SAID, "passed: test_stops"),
        ({**FAILED, "test_drives": "failed"}, SAID, "failed as well: test_drives"),
        (FAILED, "it rained", r"does not say: hit \d+ trees"),
    ],
)
def test_a_build_that_is_not_found_out_is_told(
    outcomes: dict[str, str] | None, said: str, fault: str
) -> None:
    assert runner.judge(BUILD, outcomes, said).faults == (fault,)


def test_one_machine_of_several_that_finds_it_out_is_enough() -> None:
    outcomes = {**FAILED, "test_stops[podman://b]": "passed"}
    assert runner.judge(BUILD, outcomes, SAID).faults == ()


def test_machines_of_a_broken_build_are_not_those_of_another_run(tmp_path: Path) -> None:
    for name in ("tests/test_a.py", "inventory/hosts.yml"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text('kechi-road-debian13: "kechi-main" kechi-bad_release-debian12')
    runner.rename_machines(tmp_path)
    for name in ("tests/test_a.py", "inventory/hosts.yml"):
        assert (tmp_path / name).read_text(encoding="utf-8") == (
            'broken-kechi-road-debian13: "kechi-main" broken-kechi-bad_release-debian12'
        )
