"""What the ends of commands are told by: tables, and why one has failed."""

from pathlib import Path

import pytest

from scripts import running
from scripts.running import Done, NotRun


def done(name: str, code: int, *, interrupted: bool = False) -> Done:
    return Done(name, code, 60.4, 20.0, {}, Path("reports/a.log"), interrupted)


@pytest.mark.parametrize(
    ("one", "verdict", "passed"),
    [
        (done("a", 0), "passed", True),
        (done("a", 2), "FAILED", False),
        (done("a", -9), "killed (SIGKILL)", False),
        (done("a", -2, interrupted=True), "interrupted", False),
        (NotRun("a", "not run: images"), "not run: images", False),
    ],
)
def test_only_what_has_run_to_its_end_and_found_no_fault_has_passed(
    one: Done | NotRun, verdict: str, *, passed: bool
) -> None:
    assert (one.verdict, one.passed) == (verdict, passed)


def test_what_is_below_a_process_is_all_that_it_has_started() -> None:
    parents = {1: 0, 10: 1, 20: 1, 11: 10, 12: 10, 13: 11, 21: 20}
    assert running.below(parents, 10) == [11, 12, 13]
    assert running.below(parents, 13) == []


def test_the_table_says_of_each_what_it_took_and_of_a_failed_one_where_its_log_is() -> None:
    ended: list[Done | NotRun] = [
        done("mypy", 0),
        Done("tls", 1, 90.4, 35.6, {"verify": 80.0}, running.REPOSITORY / "reports/logs/tls.log"),
        Done("node", 0, 60.0, 20.0, {"converge": 30.0, "verify": 10.0}, Path("node.log")),
        NotRun("host", "not run"),
    ]
    head, mypy, tls, node, host = running.table(ended).splitlines()
    assert head.split() == [
        *("part", "result", "seconds", "converge", "verify", "other", "processor", "log"),
    ]
    assert mypy.split() == ["mypy", "passed", "60", "20"]
    assert tls.split() == ["tls", "FAILED", "90", "0", "80", "10", "36", "reports/logs/tls.log"]
    assert node.split() == ["node", "passed", "60", "30", "10", "20", "20"]
    assert host.split() == ["host", "not", "run"]


def test_why_one_has_failed_is_said_in_a_few_lines(tmp_path: Path) -> None:
    log = tmp_path / "host.log"
    log.write_text(
        "   12 fatal: [vps1]: FAILED! => no space\n"
        "  100 tests/test_host.py .F..\n"
        "  101 E       TASK [look]\n"
        "  101 \x1b[1m\x1b[31mE       assert 8 <= 7\x1b[0m\n"
        "  101 E       assert 8 <= 7\n"
        "  102 \x1b[31mFAILED\x1b[0m tests/test_host.py::\x1b[1mtest_it\x1b[0m - assert 8 <= 7\n"
        "  103 ERROR    Verifier tests failed\n" + "".join(f"  104 E   {n}\n" for n in range(99)),
        encoding="utf-8",
    )
    said = running.reasons(Done("host", 2, 103.0, 1.0, {}, log)).splitlines()
    assert said[:4] == [
        *("host:", "  FAILED tests/test_host.py::test_it - assert 8 <= 7"),
        *("  fatal: [vps1]: FAILED! => no space", "  E       assert 8 <= 7"),
    ]
    assert len(said) == 1 + running.REASON_LINES


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("scripts/a.py:3: error: Incompatible types  [assignment]", True),  # mypy
        ("roles/a/tasks/main.yml:3: name[missing]: All tasks should be named", True),
        ("error: the following file names conflict", True),
        ("Would reformat: scripts/a.py", True),
        ("--> scripts/a.py:3:1", True),  # ruff
        ("All checks passed!", False),
    ],
)
def test_what_linters_say_is_a_reason(tmp_path: Path, line: str, said: bool) -> None:
    log = tmp_path / "lint.log"
    log.write_text(f"    1 {line}\n", encoding="utf-8")
    assert (line.strip() in running.reasons(Done("lint", 1, 1.0, 1.0, {}, log))) is said
