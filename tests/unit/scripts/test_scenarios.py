"""Scenarios run several at once, the long ones first, and each one's end is told."""

import sys
from pathlib import Path

import pytest

from harness import store
from harness.results import Suite
from scripts import scenarios
from scripts.scenarios import Done

THERE = ("default", "deploy", "node", "swap_file", "tls", "vps")
# what a scenario's run is replaced by: it says what molecule says, and ends as its name wants it
FAKE = (
    sys.executable,
    "-c",
    "import sys; name = sys.argv[1]\n"
    "print(f'INFO     {name} \\u279c converge: Executing')\n"
    "print(f'all about {name}')\n"
    "sys.exit(name == 'broken')",
)


def test_all_are_run_the_long_ones_first_but_those_that_have_to_be_named() -> None:
    assert scenarios.choose(THERE, [], emulated=True) == ["deploy", "tls", "default", "node"]
    named = ["node", "vps", "tls", "swap_file"]
    assert scenarios.choose(THERE, named, emulated=True) == ["tls", "node", "vps", "swap_file"]


def test_virtual_machines_are_of_it_where_the_processor_helps() -> None:
    chosen = scenarios.choose(THERE, [], emulated=False)
    assert chosen == ["deploy", "tls", "default", "node", "swap_file"]


def test_a_scenario_that_is_not_there_is_told_with_those_that_are() -> None:
    with pytest.raises(ValueError, match='"nose" is no scenario; there are: default, deploy, node'):
        scenarios.choose(THERE, ["nose"], emulated=False)


def test_each_that_is_named_in_the_code_is_there() -> None:
    there = {file.parent.name for file in scenarios.REPOSITORY.glob("molecule/*/molecule.yml")}
    assert {*scenarios.LONGEST, *scenarios.VIRTUAL, *scenarios.ASKED_FOR} <= there


@pytest.mark.parametrize(
    ("line", "action"),
    [
        ("INFO     tls ➜ converge: Executing", "converge"),
        (
            "\x1b[36mINFO    \x1b[0m \x1b[32mrestart_hup\x1b[0m ➜ \x1b[33mprepare\x1b[0m:"
            " \x1b[36mExecuting\x1b[0m",
            "prepare",
        ),
        ("INFO     tls ➜ converge: Executed: Successful", ""),
        ("TASK [converge: Executing] ***", ""),
    ],
)
def test_molecules_log_tells_what_takes_how_long(line: str, action: str) -> None:
    assert scenarios.action(line) == action


def test_a_failed_one_is_shown_and_the_others_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for scenario in ("broken", "one"):
        store.write_suite(tmp_path, Suite(scenario, 0.0, {"test_a": "passed"}, 1.0))
    done = scenarios.run_all(["broken", "one", "two"], 2, tmp_path / "logs", FAKE, tmp_path)
    assert {one.name: one.code for one in done} == {"broken": 1, "one": 0, "two": 0}
    assert all("converge" in one.actions for one in done)
    told = capsys.readouterr().out
    assert "all about broken" in told
    assert "all about one" not in told
    assert "FAILED: broken" in told
    assert "(3 of 3)" in told
    assert "all about one" in (tmp_path / "logs" / "one.log").read_text(encoding="utf-8")
    index = (tmp_path / store.PAGE).read_text(encoding="utf-8")
    assert "Failed: 0 of 0 runs under load, 1 of 1 scenario" in index, "those of before are gone"
    assert "molecule has ended with 1" in index


def test_the_table_has_the_longest_first(tmp_path: Path) -> None:
    quick = Done("quick", 0, 60.0, 20.0, {"converge": 30.0, "verify": 10.0}, tmp_path)
    slow = Done("slow", 1, 90.4, 35.6, {"verify": 80.0}, tmp_path)
    head, first, second = scenarios.table([quick, slow]).splitlines()
    assert head.split() == [
        *("scenario", "seconds", "check", "converge", "idempotence", "verify"),
        *("other", "processor"),
    ]
    assert first.split() == ["slow", "FAILED", "90", "0", "0", "0", "80", "10", "36"]
    assert second.split() == ["quick", "passed", "60", "0", "30", "0", "10", "20", "20"]


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
    said = scenarios.reasons(Done("host", 2, 103.0, 1.0, {}, log)).splitlines()
    assert said[:4] == [
        *("host:", "  FAILED tests/test_host.py::test_it - assert 8 <= 7"),
        *("  fatal: [vps1]: FAILED! => no space", "  E       assert 8 <= 7"),
    ]
    assert len(said) == 1 + scenarios.REASON_LINES
