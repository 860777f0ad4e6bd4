"""Broken builds: each can be made of the code as it is, and a verdict is what it should be."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from scripts import test_the_tests as runner
from scripts.broken_builds import BUILDS, README, Build, Patch

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
    files = [runner.REPOSITORY / build.file] if build.file else list(folder.glob("test_*.py"))
    written = "".join(file.read_text(encoding="utf-8") for file in files)
    assert bool(build.file) is not bool(build.scenario)
    for test in build.tests:
        assert f"def {test}(" in written
    assert build.tests
    assert build.words
    page = (runner.REPOSITORY / "docs" / "harness.md").read_text(encoding="utf-8")
    assert f"| `{build.name}` | {build.promise} | `{build.found_by}` |" in page


def test_names_of_builds_are_told_apart() -> None:
    assert len({build.name for build in BUILDS}) == len(BUILDS)


def test_each_promise_of_the_readme_has_builds_that_break_it() -> None:
    readme = " ".join((runner.REPOSITORY / "README.md").read_text(encoding="utf-8").split())
    assert [words for words in README if words not in readme] == []
    assert all(README.values())
    named = {name for names in README.values() for name in names}
    assert named == {build.name for build in BUILDS}


JUNIT = """<testsuites><testsuite>
<testcase classname="tests.a" name="test_stops[1]"><failure message="hit 3 trees">E assert
</failure></testcase>
<testcase classname="tests.a" name="test_stops_in_time"><error message="fixture">E no road
</error></testcase>
<testcase classname="tests.a" name="test_drives"/>
<testcase classname="tests.a" name="test_flies"><skipped message="no wings"/></testcase>
</testsuite></testsuites>"""


def test_how_tests_of_a_file_have_ended_is_read_with_why() -> None:
    outcomes, said = runner.read_junit(JUNIT)
    assert outcomes == {
        "test_stops[1]": "failed",
        "test_stops_in_time": "failed",
        "test_drives": "passed",
        "test_flies": "skipped",
    }
    assert runner.judge(BUILD, outcomes, said).faults == ()
    assert "no road" in said
    assert "no wings" not in said


@pytest.mark.parametrize(
    ("line", "found_out"), [("brake()", False), ("", True), ("raise OSError", False)]
)
def test_a_file_of_tests_is_run_on_a_broken_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, found_out: bool
) -> None:
    (tmp_path / "car.py").write_text(
        "speed = 9\ndef brake():\n    global speed; speed = 0\nbrake()\n"
    )
    (tmp_path / "test_car.py").write_text(
        "def test_stops():\n    import car\n    assert car.speed == 0, 'hit 3 trees'\n"
        "def test_drives():\n    pass\n"
        "def test_is_not_run():\n    raise OSError\n"
    )
    for command in (["init", "--quiet"], ["add", "."]):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)
    monkeypatch.setattr(runner, "REPOSITORY", tmp_path)
    monkeypatch.setattr(runner, "LOGS", tmp_path)
    build = replace(
        BUILD,
        patches=(Patch("car.py", "\nbrake()\n", f"\n{line}\n"),),
        scenario="",
        file="test_car.py",
        only="stops or drives",
        tests=("test_stops",),
    )
    verdict = runner.run(build, 300)
    assert (not verdict.faults) is found_out
    assert verdict.passed == 1 + (line == "brake()")


LONG = """
import pathlib, signal
signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    pathlib.Path("began").write_text("")
    signal.pause()
finally:
    pathlib.Path("ended").touch()
"""


def test_what_takes_too_long_is_interrupted_so_that_it_ends_what_it_has_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "began")
    wait = subprocess.Popen.wait

    def wait_for_the_begin(process: subprocess.Popen[bytes], timeout: float | None = None) -> int:
        if timeout == 0.5:
            (tmp_path / "began").read_text()  # is there when it has been opened for writing
            raise subprocess.TimeoutExpired("python", timeout)
        return wait(process, timeout)

    monkeypatch.setattr(subprocess.Popen, "wait", wait_for_the_begin)
    with (tmp_path / "log").open("w") as log:
        assert runner._run(tmp_path, [sys.executable, "-c", LONG], log, 0.5) is None
    assert (tmp_path / "ended").exists()


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
