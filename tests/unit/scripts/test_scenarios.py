"""Scenarios run several at once, the long ones first, and each one's end is told."""

from pathlib import Path

import pytest

from harness import store
from harness.results import Suite
from scripts import scenarios
from scripts.running import Done

THERE = ("default", "deploy", "node", "swap_file", "tls", "vps")


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
    named = {*scenarios.WEIGHTS, *scenarios.VIRTUAL, *scenarios.ASKED_FOR}
    assert named <= set(scenarios.there())


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


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7])
def test_shards_have_together_all_scenarios_and_each_one_once(count: int) -> None:
    names = scenarios.choose(scenarios.there(), [], emulated=False)
    shards = [scenarios.shard(names, number + 1, count) for number in range(count)]
    assert sorted(name for part in shards for name in part) == sorted(names)


def test_shards_take_about_as_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenarios, "WEIGHTS", {"a": 4.0, "b": 3.0, "c": 2.0})
    assert scenarios.shard("edcba", 1, 2) == ["a", "e", "d"]
    assert scenarios.shard("edcba", 2, 2) == ["b", "c"]


@pytest.mark.parametrize("text", ["2", "2/", "/4", "two/four", "-1/4"])
def test_what_is_no_shard_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=f'"{text}" is no shard: the second of four is 2/4'):
        scenarios.read_shard(text)


@pytest.mark.parametrize(("number", "count"), [(0, 3), (4, 3)])
def test_a_shard_that_there_is_not_is_refused(number: int, count: int) -> None:
    with pytest.raises(ValueError, match=f"{number}/{count} is no shard"):
        scenarios.shard(THERE, number, count)


def test_a_failed_one_is_shown_when_it_has_ended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for scenario in ("broken", "one"):
        store.write_suite(tmp_path, Suite(scenario, 0.0, {"test_a": "passed"}, 1.0))
        scenarios.part(scenario, tmp_path, reports=tmp_path).before()
    log = tmp_path / "a.log"
    log.write_text("    1 all about it\n", encoding="utf-8")
    told = scenarios.tell(2, tmp_path)
    told(Done("one", 0, 5.0, 1.0, {}, log))
    assert capsys.readouterr().out == "passed: one, 5 s (1 of 2)\n"
    told(Done("broken", 1, 6.0, 1.0, {}, log))
    said = capsys.readouterr().out
    assert "all about it" in said
    assert said.endswith("FAILED: broken, 6 s (2 of 2)\n")
    index = (tmp_path / store.PAGE).read_text(encoding="utf-8")
    assert "Failed: 0 of 0 runs under load, 1 of 1 scenario" in index, "those of before are gone"
    assert "molecule has ended with 1" in index
