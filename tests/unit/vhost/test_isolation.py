"""What a plan decides, and what is taken from its file."""

import tomllib
from pathlib import Path

import pytest

from supervisor_py.vhost import isolation, pool
from supervisor_py.vhost.isolation import Decision, Seen, apply, decide, needs_plan, one_line

FELT = Seen(felt=["it does it"])
APART = Decision("process", "it does it")


def of(**isolations: str) -> pool.Pool:
    apps = "".join(
        f'[[apps]]\nname = "{name}"\nhosts = ["{name}.test"]\ndirectory = "{name}"\n'
        f'wsgi = "app:app"\n{f"isolation = {chr(34)}{value}{chr(34)}" if value else ""}\n'
        for name, value in isolations.items()
    )
    return pool.parse(tomllib.loads(f'[pool]\nname = "p"\nthreads = 3\nworkers = 2\n{apps}'))


@pytest.mark.parametrize(
    ("apps", "needed"),
    [
        ({"a": ""}, False),
        ({"a": "", "b": ""}, True),
        ({"a": "auto", "b": "shared"}, True),
        ({"a": "", "b": "process"}, False),
        ({"a": "shared", "b": "shared"}, False),
        ({"a": "process", "b": "process"}, False),
    ],
)
def test_a_plan_is_for_apps_that_have_neighbours_and_leave_it_to_the_plan(
    apps: dict[str, str], needed: bool
) -> None:
    assert needs_plan(of(**apps)) is needed


def test_an_isolated_app_has_one_worker_of_the_pools_kind_and_its_reason() -> None:
    found = apply(of(a="", b=""), {"b": APART, "gone": APART})
    assert [app.own for app in found.apps] == [None, pool.Workers(1, 3)]
    assert [app.isolation_reason for app in found.apps] == ["", "it does it"]


def test_a_plan_has_no_say_over_apps_that_have_one() -> None:
    before = of(a="shared", b="process")
    assert apply(before, {"a": APART, "b": APART}) == before


def test_an_app_that_is_felt_is_isolated_and_insisting_on_sharing_helps() -> None:
    assert decide(of(a="", b="", c="shared"), {"b": FELT, "c": FELT}) == {
        "a": Decision("shared"),
        "b": APART,
    }


def test_the_first_one_stays_where_nobody_would_share() -> None:
    assert decide(of(a="", b=""), {"a": FELT, "b": FELT}) == {"a": Decision("shared"), "b": APART}
    assert decide(of(a="", b="shared"), {"a": FELT})["a"] == APART


def test_who_is_isolated_is_nobodys_neighbour() -> None:
    one, two = Seen(felt=["it does it"], once={"it has one": ()}), Seen(once={"it has one": ()})
    found = decide(of(a="", b="", c=""), {"a": two, "b": one, "c": two})
    assert found["b"].reason == "it does it; it has one; the app a has one, too"
    assert found["c"] == Decision("process", "it has one; the app a has one, too")
    found = decide(of(b="", c="", d=""), {"b": one, "c": two})
    assert found["c"] == Decision("shared")


def test_a_plan_is_read_as_it_was_written(tmp_path: Path) -> None:
    plan = {"a": Decision("shared"), "b": APART}
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "pool.toml").touch()
    (tmp_path / "main.toml").symlink_to("real/pool.toml")
    assert isolation.read(tmp_path / "main.toml") is None
    (tmp_path / "real" / "pool.isolation.json").write_text(isolation.text(plan, {"c": "broken"}))
    assert isolation.read(tmp_path / "main.toml") == plan


def test_a_reason_is_one_line_that_a_terminal_can_show() -> None:
    assert one_line("a\nb\x1b[2J\u202e c") == "a b [2J  c"
    assert one_line("x" * 1000) == "x" * (isolation.REASON_CHARACTERS - 1) + "…"
    text = '{"apps": {"a": {"isolation": "process", "reason": "\\u001b[2J"}}}'
    assert isolation.parse(text)["a"].reason == " [2J"
