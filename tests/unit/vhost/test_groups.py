"""Histories of groups: what happens, and what is done about it."""

import signal
from collections.abc import Callable
from typing import Any

import pytest

from supervisor_py.vhost.groups import (
    DIED,
    DOWN,
    LENIENT,
    REFUSED,
    SLEPT,
    START_SECONDS,
    STEADY_SECONDS,
    STOP_SECONDS,
    STRICT,
    TRIAL,
    Action,
    Exit,
    Groups,
    Ready,
    Say,
    Send,
    Start,
    Traits,
)

ARBITER = Traits("", shrinks=True)
SHOP = Traits("shop")
WIKI = Traits("wiki", sleeps=True)
NEWS = Traits("news", sleeps=True)

Event = tuple[Any, ...]
History = list[tuple[Event, list[str]]]  # an event, and what is done about it


def in_short(action: Action) -> str:
    match action:
        case Start():
            return f"start {action.group or 'shared'} {action.number} {action.kind}"
        case Send():
            return f"{signal.Signals(action.signal).name} {action.number}"
        case Ready():
            return "ready"
        case Exit():
            return f"exit {action.reason}".strip()
        case Say():
            return ""


def play(groups: Groups, history: History) -> None:
    for at, ((event, *values), expected) in enumerate(history):
        method: Callable[..., list[Action]] = getattr(groups, event)
        if event == "accepts_broken":
            done = groups.accepts(*values, broken=True)
        else:
            done = method(*values)
        told = [text for action in done if (text := in_short(action))]
        assert told == expected, f"event {at}: {event} {values}"


class Table(Groups):
    """Groups with one more event, for tables."""

    def accepts_broken(self, number: int, now: float) -> None: ...


HISTORIES: dict[str, tuple[list[Traits], bool, History]] = {
    "it is ready when every group is": (
        [ARBITER, SHOP],
        False,
        [
            (("begin", 0.0), ["start shared 1 strict", "start shop 2 strict"]),
            (("accepts", 2, 1.0), []),
            (("accepts", 2, 1.5), []),
            (("accepts", 1, 2.0), ["ready"]),
            (("tick", 9.0), []),
        ],
    ),
    "sleepers are tried one after the other": (
        [ARBITER, WIKI, NEWS],
        False,
        [
            (("begin", 0.0), ["start shared 1 strict", "start wiki 2 trial"]),
            (("asked", "wiki", 0.5), []),
            (("ended", 2, SLEPT, 1.0), ["start news 3 trial"]),
            (("accepts", 1, 2.0), []),
            (("ended", 3, SLEPT, 3.0), ["ready"]),
        ],
    ),
    "what does not load refuses a deploy, when all have ended": (
        [ARBITER, SHOP],
        False,
        [
            (("begin", 0.0), ["start shared 1 strict", "start shop 2 strict"]),
            (("accepts", 1, 1.0), []),
            (("ended", 2, REFUSED, 2.0, "no setting"), ["SIGTERM 1"]),
            (("ended", 1, DIED, 3.0, "exited with 0"), ["exit no setting"]),
        ],
    ),
    "a trial that fails refuses a deploy": (
        [WIKI, NEWS],
        False,
        [
            (("begin", 0.0), ["start wiki 1 trial"]),
            (("ended", 1, REFUSED, 2.0, "no setting"), ["exit no setting"]),
        ],
    ),
    "a trial that fails at boot leaves the others": (
        [WIKI, NEWS],
        True,
        [
            (("begin", 0.0), ["start wiki 1 trial"]),
            (("ended", 1, REFUSED, 2.0, "no setting"), ["start news 2 trial"]),
            (("ended", 2, SLEPT, 3.0), ["ready"]),
            (("asked", "wiki", 4.0), ["start wiki 3 lenient"]),
        ],
    ),
    "what dies while it starts is answered with 503, and tried again later": (
        [SHOP],
        True,
        [
            (("begin", 0.0), ["start shop 1 lenient"]),
            (("ended", 1, DIED, 1.0, "died"), ["start shop 2 down"]),
            (("accepts_broken", 2, 2.0), ["ready"]),
            (("tick", 61.0), []),
            (("tick", 62.0), ["start shop 3 strict"]),
            (("ended", 3, REFUSED, 63.0, "no"), []),
            (("tick", 182.0), []),
            (("tick", 183.0), ["start shop 4 strict"]),
            (("accepts", 4, 184.0), ["SIGTERM 2"]),
            (("ended", 2, DIED, 185.0, "exited with 0"), []),
            (("tick", 9999.0), []),
        ],
    ),
    "the first request wakes, and nobody else starts a sleeper": (
        [WIKI],
        False,
        [
            (("begin", 0.0), ["start wiki 1 trial"]),
            (("ended", 1, SLEPT, 1.0), ["ready"]),
            (("tick", 50.0), []),
            (("asked", "wiki", 60.0), ["start wiki 2 lenient"]),
            (("asked", "wiki", 60.1), []),
            (("accepts", 2, 61.0), []),
            (("asked", "wiki", 62.0), []),
            (("leaves", 2, 70.0), []),
            (("asked", "wiki", 70.1), ["start wiki 3 lenient"]),
            (("ended", 2, SLEPT, 70.2), []),
            (("accepts", 3, 71.0), []),
            (("ended", 3, SLEPT, 80.0), []),
            (("asked", "wiki", 81.0), ["start wiki 4 lenient"]),
        ],
    ),
    "a crash is made good at once, and more slowly each time": (
        [SHOP],
        False,
        [
            (("begin", 0.0), ["start shop 1 strict"]),
            (("accepts", 1, 1.0), ["ready"]),
            (("ended", 1, DIED, 2.0, "died"), []),
            (("tick", 2.0), ["start shop 2 lenient"]),
            (("accepts", 2, 3.0), []),
            (("ended", 2, DIED, 4.0, "died"), []),
            (("tick", 4.9), []),
            (("tick", 5.0), ["start shop 3 lenient"]),
            (("accepts", 3, 6.0), []),
            (("ended", 3, DIED, 7.0, "died"), []),
            (("tick", 8.9), []),
            (("tick", 9.0), ["start shop 4 lenient"]),
            (("accepts", 4, 10.0), []),
            (("ended", 4, DIED, 10.0 + STEADY_SECONDS, "died"), []),
            (("tick", 10.0 + STEADY_SECONDS), ["start shop 5 lenient"]),
        ],
    ),
    "a sleeper that has crashed is not polled before its time": (
        [WIKI],
        False,
        [
            (("begin", 0.0), ["start wiki 1 trial"]),
            (("ended", 1, SLEPT, 1.0), ["ready"]),
            (("asked", "wiki", 2.0), ["start wiki 2 lenient"]),
            (("accepts", 2, 3.0), []),
            (("ended", 2, DIED, 4.0, "died"), []),
            (("asked", "wiki", 4.0), ["start wiki 3 lenient"]),
            (("accepts", 3, 5.0), []),
            (("ended", 3, DIED, 6.0, "died"), []),
            (("asked", "wiki", 6.5), []),
            (("asked", "wiki", 7.0), ["start wiki 4 lenient"]),
        ],
    ),
    "who leaves by itself is followed by another one": (
        [SHOP],
        False,
        [
            (("begin", 0.0), ["start shop 1 strict"]),
            (("accepts", 1, 1.0), ["ready"]),
            (("leaves", 1, 2.0), []),
            (("tick", 2.0), ["start shop 2 lenient"]),
            (("ended", 1, DIED, 20.0, "exited with 0"), []),
            (("accepts", 2, 21.0), []),
        ],
    ),
    "the replacement serves before the old one leaves, one group after the other": (
        [SHOP, WIKI],
        False,
        [
            (("begin", 0.0), ["start shop 1 strict", "start wiki 2 trial"]),
            (("accepts", 1, 1.0), []),
            (("ended", 2, SLEPT, 1.0), ["ready"]),
            (("asked", "wiki", 2.0), ["start wiki 3 lenient"]),
            (("due", 3, "old", 2.5), []),
            (("accepts", 3, 3.0), []),
            (("due", 1, "61 MB", 4.0), ["start shop 4 strict"]),
            (("due", 1, "61 MB", 4.1), []),
            (("due", 3, "old", 4.2), []),
            (("accepts", 4, 5.0), ["SIGTERM 1"]),
            (("due", 1, "62 MB", 5.05), []),
            (("due", 3, "old", 5.1), ["start wiki 5 strict"]),
            (("ended", 1, DIED, 6.0, "exited with 0"), []),
            (("leaves", 3, 7.0), []),
            (("accepts", 5, 8.0), []),
        ],
    ),
    "a replacement that fails leaves the old one": (
        [SHOP],
        False,
        [
            (("begin", 0.0), ["start shop 1 strict"]),
            (("accepts", 1, 1.0), ["ready"]),
            (("due", 1, "old", 2.0), ["start shop 2 strict"]),
            (("ended", 2, REFUSED, 3.0, "no setting"), []),
            (("due", 1, "old", 62.9), []),
            (("due", 1, "old", 63.0), ["start shop 3 strict"]),
            (("ended", 1, DIED, 64.0, "died"), []),
            (("accepts", 3, 65.0), []),
        ],
    ),
    "all drain, and what is late is killed": (
        [ARBITER, SHOP, WIKI],
        False,
        [
            (
                ("begin", 0.0),
                ["start shared 1 strict", "start shop 2 strict", "start wiki 3 trial"],
            ),
            (("accepts", 1, 1.0), []),
            (("stop", 2.0), ["SIGTERM 1", "SIGTERM 2", "SIGTERM 3"]),
            (("stop", 2.5), []),
            (("accepts", 2, 3.0), []),
            (("ended", 3, DIED, 3.0, "died of SIGTERM"), []),
            (("ended", 2, DIED, 4.0, "died of SIGTERM"), []),
            (("asked", "wiki", 5.0), []),
            (("tick", 2.0 + STOP_SECONDS - 0.1), []),
            (("tick", 2.0 + STOP_SECONDS), ["SIGKILL 1"]),
            (("tick", 2.1 + STOP_SECONDS), []),
            (("ended", 1, DIED, 40.0, "died of SIGKILL"), ["exit"]),
        ],
    ),
    "with nobody awake a stop is the end": (
        [WIKI],
        False,
        [
            (("begin", 0.0), ["start wiki 1 trial"]),
            (("ended", 1, SLEPT, 1.0), ["ready"]),
            (("stop", 2.0), ["exit"]),
        ],
    ),
    "who is stuck while it starts, or hangs, is ended": (
        [SHOP],
        True,
        [
            (("begin", 0.0), ["start shop 1 lenient"]),
            (("tick", START_SECONDS), ["SIGKILL 1"]),
            (("ended", 1, DIED, 121.0, "died of SIGKILL"), ["start shop 2 down"]),
            (("accepts_broken", 2, 122.0), ["ready"]),
            (("silent", 2), ["SIGABRT 2"]),
            (("silent", 2), ["SIGKILL 2"]),
        ],
    ),
    "shrinking reaches those that can": (
        [ARBITER, SHOP, WIKI],
        False,
        [
            (
                ("begin", 0.0),
                ["start shared 1 strict", "start shop 2 strict", "start wiki 3 trial"],
            ),
            (("shrink",), []),
            (("accepts", 1, 1.0), []),
            (("accepts", 2, 1.0), []),
            (("ended", 3, SLEPT, 1.0), ["ready"]),
            (("shrink",), ["SIGTTOU 1"]),
            (("asked", "wiki", 2.0), ["start wiki 4 lenient"]),
            (("shrink",), ["SIGTTOU 1"]),
            (("accepts", 4, 3.0), []),
            (("shrink",), ["SIGTTOU 1", "SIGTTOU 4"]),
            (("grow",), ["SIGTTIN 1"]),
        ],
    ),
}


@pytest.mark.parametrize("name", HISTORIES)
def test_history(name: str) -> None:
    traits, at_boot, history = HISTORIES[name]
    play(Table(traits, at_boot=at_boot), history)


def test_kinds_are_the_ones_that_tables_speak_of() -> None:
    assert (TRIAL, STRICT, LENIENT, DOWN) == ("trial", "strict", "lenient", "down")


def test_only_those_that_sleep_are_polled() -> None:
    groups = Groups([SHOP, WIKI], at_boot=False)
    groups.begin(0.0)
    assert groups.watched(0.5) == set(), "not before it has been tried"
    groups.ended(2, SLEPT, 1.0)
    assert groups.watched(1.0) == {"wiki"}
    groups.asked("wiki", 2.0)
    assert groups.watched(2.0) == set()


def test_there_is_a_deadline_only_where_something_is_to_be_done() -> None:
    groups = Groups([SHOP, WIKI], at_boot=False)
    groups.begin(0.0)
    assert groups.deadline(0.0) == START_SECONDS
    groups.accepts(1, 1.0)
    groups.ended(2, SLEPT, 1.0)
    assert groups.deadline(1.0) is None
    groups.ended(1, DIED, 2.0, "died")
    groups.tick(2.0)
    groups.accepts(3, 3.0)
    groups.ended(3, DIED, 4.0, "died")
    assert groups.deadline(4.0) == 5.0
    groups.tick(5.0)
    assert groups.deadline(5.0) == 5.0 + START_SECONDS
    groups.stop(6.0)
    assert groups.deadline(6.0) == 6.0 + STOP_SECONDS


def test_a_sleeper_that_has_crashed_is_a_deadline_until_it_is_polled_again() -> None:
    groups = Groups([WIKI], at_boot=False)
    groups.begin(0.0)
    groups.ended(1, SLEPT, 0.0)
    for number in (2, 3):
        groups.asked("wiki", 1.0)
        groups.accepts(number, 1.0)
        groups.ended(number, DIED, 1.0, "died")
    assert groups.deadline(1.5) == 2.0
    assert groups.deadline(2.0) is None


def test_the_status_names_groups_sleepers_the_missing_and_the_latest_replacement() -> None:
    groups = Groups([ARBITER, SHOP, WIKI], at_boot=True)
    groups.begin(0.0)
    groups.told("", "serves blog: 2 workers of 4 threads", "")
    groups.accepts(1, 1.0)
    assert groups.status() == (
        "serves blog: 2 workers of 4 threads; isolated: shop starts, wiki starts"
    )
    groups.told("shop", "", "shop")
    groups.accepts(2, 1.0, broken=True)
    groups.ended(3, SLEPT, 1.0)
    assert groups.status() == (
        "serves blog: 2 workers of 4 threads; isolated: shop serves, wiki sleeps; can't load shop"
    )
    groups.told("shop", "", "")
    groups.due(2, "61 MB, over its 50 MB", 2.0)
    assert "latest" not in groups.status()
    groups.accepts(4, 3.0)
    assert groups.status().endswith("; latest replacement: shop: 61 MB, over its 50 MB")
