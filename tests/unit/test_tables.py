"""What commands print for people."""

from typing import Any

import pytest

from supervisor_py import tables

ONE: dict[str, Any] = {
    "number": 41,
    "pid": 1041,
    "phase": "draining",
    "age_seconds": 3725.0,
    "phase_seconds": 2.5,
    "ready_after_seconds": 1.25,
    "said_ready": True,
    "status": None,
    "processes": 3,
    "pss_kb": 51_200.0,
    "shared_percent": 71.6,
    "main_process_gone": True,
}
OTHER = ONE | {
    "number": 42,
    "pid": 99,
    "phase": "starting",
    "age_seconds": 0.25,
    "ready_after_seconds": None,
    "status": "loading shop",
    "processes": None,
    "pss_kb": None,
    "shared_percent": None,
    "main_process_gone": False,
}
KNOWN: dict[str, Any] = {
    "version": "1.2.3",
    "pid": 40,
    "uptime_seconds": 90_000.0,
    "sockets": ["80", "/run/main.sock"],
    "stopping": False,
    "generations": [ONE, OTHER],
    "restart": None,
    "restarts": {"boot": 1, "HUP": 40},
    "last_reason": "HUP",
    "failed_attempts": 0,
    "trouble": None,
    "next_timed_restart_seconds": None,
}


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0.0 s"),
        (7.24, "7.2 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 0 s"),
        (60, "1 min 0 s"),
        (200.9, "3 min 20 s"),
        (3599.99, "59 min 59 s"),
        (3600, "1 h 0 min"),
        (86399, "23 h 59 min"),
        (86400, "1 d 0 h"),
        (2 * 86400 + 5 * 3600 + 59 * 60, "2 d 5 h"),
        (400 * 86400, "400 d 0 h"),
    ],
)
def test_ages_have_two_units_at_most(seconds: float, words: str) -> None:
    assert tables.age(seconds) == words


def test_columns_are_aligned_to_the_right() -> None:
    assert tables.aligned([("A", "LONG"), ("123", "x")]) == "  A  LONG\n123     x"


def test_a_status_is_a_table_of_generations_and_lines_about_the_rest() -> None:
    assert tables.of_status(KNOWN).splitlines() == [
        "start_server 1.2.3, pid 40, up 1 d 1 h",
        "listens on 80, /run/main.sock",
        "",
        "GENERATION                        PHASE   PID        AGE  READY AFTER  PROCESSES"
        "   MEMORY  SHARED",
        "        41  draining, main process gone  1041  1 h 2 min        1.2 s          3"
        "  50.0 MB    72 %",
        "        42                     starting    99      0.2 s            -          -"
        "        -       -",
        "generation 42 says: loading shop",
        "",
        "generations that became ready: 1 for boot, 40 for HUP",
    ]


def test_a_status_without_anything_says_so() -> None:
    bare = {"sockets": [], "stopping": True, "generations": [], "restarts": {}}
    assert tables.of_status(KNOWN | bare).splitlines() == [
        "start_server 1.2.3, pid 40, up 1 d 1 h",
        "is stopping",
        "",
        "no generation is alive",
        "",
        "generations that became ready: none",
    ]


@pytest.mark.parametrize(
    ("restart", "words"),
    [
        ({"generation": 42}, ": generation 42"),
        ({"waits_for_memory": True, "next_attempt_seconds": 1.0}, ": it waits for memory"),
        ({"next_attempt_seconds": 2.25}, ": next attempt in 2.2 s"),
        ({}, ""),
    ],
)
def test_a_status_tells_of_trouble_and_of_what_is_under_way(
    restart: dict[str, object], words: str
) -> None:
    nothing = {"generation": None, "waits_for_memory": False, "next_attempt_seconds": None}
    trouble = {
        "restart": {"reason": "HUP", **nothing, **restart},
        "failed_attempts": 3,
        "trouble": "generation 42 ended",
        "next_timed_restart_seconds": 200.0,
    }
    assert tables.of_status(KNOWN | trouble).splitlines()[-4:] == [
        "failed attempts: 3",
        "trouble: generation 42 ended",
        f"a restart is under way (HUP){words}",
        "next timed restart in 3 min 20 s",
    ]
