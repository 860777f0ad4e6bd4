"""Restarts for memory, and those that wait for it, with real workers that share and grow."""

import os
import signal
import sys
from pathlib import Path

import pytest

from supervisor_py import memory

from ..waiting import wait_until
from .harness import NEVER, Server

FORKER = Path(__file__).with_name("forker.py")
AT_ONCE = ("--min-restart-interval=0", "--memory-interval=1")
ROOM = """
from supervisor_py import room
room.left = lambda: (float(open({file!r}).read()), "the test's limit")
"""
SHRINK = ("--signal-on-shrink=TTOU", "--signal-on-grow=TTIN")


def _start(server: Server, *options: str, prelude: str = "") -> Server:
    program = [sys.executable, "-ISE", str(FORKER), str(server.plan_file)]
    return server.start("--readiness=notify", *options, program=program, prelude=prelude)


def _processes(server: Server, number: int) -> int:
    return len(memory.tree(server.generations()[number]))


def _leave(room: Path, kb: str) -> None:
    """Say how much is left, at once: the server may be reading."""
    new = room.with_suffix(".new")
    new.write_text(kb)
    new.replace(room)


@pytest.fixture
def room(server: Server) -> Path:
    """The memory that is left, in kB."""
    file = server.directory / "room"
    _leave(file, "1e9")
    return file


def test_a_generation_over_its_budget_is_replaced_and_one_below_it_is_not(server: Server) -> None:
    server.plan(workers=2, shared_mb=40, private_mb=50)  # 40 MB of each process, counted once
    _start(server, "--memory-budget-mb=90", *AT_ONCE).wait_serving(1)
    server.settle()  # who asks for the state has it measured
    assert server.generations().keys() == {1}
    (server.directory / "grow-1").touch()
    server.wait_serving(2)
    server.wait_for("restart triggered: 1")
    assert "MB of memory are over the budget of 90 MB" in server.said()
    server.settle()
    assert server.generations().keys() == {2}, "which holds little"
    assert server.stop() == 0


def test_workers_that_share_too_little_are_replaced(server: Server) -> None:
    server.plan(workers=2, shared_mb=40, private_mb=80)
    _start(server, "--shared-floor-percent=60", *AT_ONCE).wait_serving(1)
    server.settle()
    assert server.generations().keys() == {1}
    (server.directory / "grow-1").touch()
    server.wait_serving(2)
    server.wait_for("restart triggered: the workers share ")
    assert "% of their memory, under the floor of 60 %" in server.said()
    server.settle()
    assert server.generations().keys() == {2}
    assert server.stop() == 0


def test_the_minimum_interval_holds_restarts_for_memory_back(server: Server) -> None:
    server.plan(workers=1)
    _start(
        server,
        "--memory-budget-mb=1",
        f"--min-restart-interval={NEVER}",
        "--memory-interval=1",
        prelude=server.clock.prelude,
    ).wait_serving(1)
    server.skip(float(NEVER) / 2)
    assert server.status()["restart"] is None
    assert server.generations().keys() == {1}
    server.skip(float(NEVER))
    server.wait_serving(2)
    assert server.status()["restarts"] == {"boot": 1, "memory": 1}
    assert server.stop() == 0


def test_without_a_budget_or_a_floor_memory_replaces_nothing(server: Server) -> None:
    server.plan(workers=2, private_mb=50)
    (server.directory / "grow-1").touch()
    _start(server, *AT_ONCE, prelude=server.clock.prelude).wait_serving(1)
    server.skip(float(NEVER))
    assert server.status()["restart"] is None
    assert server.generations().keys() == {1}
    assert server.stop() == 0


def test_a_restart_that_does_not_fit_asks_for_room_and_goes_on_when_there_is(
    server: Server, room: Path
) -> None:
    server.plan(workers=3)
    _start(server, *SHRINK, prelude=ROOM.format(file=str(room))).wait_serving(1)
    _leave(room, "1000")
    server.signal(signal.SIGHUP)
    wait_until((server.directory / "signals-1").exists, "it is asked to shrink")
    wait_until(lambda: _processes(server, 1) == 3, "it has given a worker up")
    server.wait_for("restart waits: a second generation needs ")
    assert "MB of memory, and 1 MB are left (the test's limit)" in server.said()
    assert server.generations().keys() == {1}
    _leave(room, "1e9")
    server.wait_serving(2)
    assert _processes(server, 2) == 4, "all of its workers"
    assert (server.directory / "signals-1").read_text() == "SIGTTOU\n"
    assert server.stop() == 0


def test_a_restart_that_never_fits_is_put_off_says_why_and_gives_the_workers_back(
    server: Server, room: Path
) -> None:
    server.plan(workers=2)
    _start(server, *SHRINK, "--memory-wait=1.5", prelude=ROOM.format(file=str(room)))
    server.wait_serving(1)
    _leave(room, "2048")
    failed = server.restart()
    assert failed.returncode == 1
    assert "waiting: a second generation needs " in failed.stderr
    assert "asking generation 1 to shrink" in failed.stderr
    last = failed.stderr.splitlines()[-1]
    assert last.startswith("restart failed: put off until there is room: a second generation needs")
    assert last.endswith("MB of memory, and 2 MB are left (the test's limit)")
    signals = server.directory / "signals-1"
    wait_until(lambda: signals.read_text() == "SIGTTOU\nSIGTTIN\n", "one was enough, and came back")
    wait_until(lambda: _processes(server, 1) == 3, "its worker is back")
    assert server.generations().keys() == {1}
    _leave(room, "1e9")
    assert server.restart().returncode == 0, "who asks again need not wait for the next look"
    assert server.generations().keys() == {2}
    assert server.stop() == 0


def test_without_a_signal_to_shrink_a_restart_just_waits(server: Server, room: Path) -> None:
    server.plan(workers=2)
    clock = server.clock.prelude
    _start(server, prelude=f"{clock}\n{ROOM.format(file=str(room))}").wait_serving(1)
    _leave(room, "1000")
    server.signal(signal.SIGHUP)
    server.wait_for("restart waits")
    server.skip(2)  # it has looked again
    assert server.status()["restart"]["waits_for_memory"]
    assert _processes(server, 1) == 3
    assert not (server.directory / "signals-1").exists()
    _leave(room, "1e9")
    server.wait_serving(2)
    assert server.stop() == 0


def test_when_nobody_serves_no_room_is_waited_for(server: Server, room: Path) -> None:
    _leave(room, "0")
    server.plan(workers=1)
    _start(server, prelude=ROOM.format(file=str(room))).wait_serving(1)
    assert server.stop() == 0


def test_a_generation_learns_whether_it_is_the_only_one(server: Server) -> None:
    server.start(env={"SERVER_STARTER_BOOT": "from elsewhere"}).wait_serving(1)
    assert server.restart().returncode == 0

    def boot(number: int) -> object:
        return server.record(number)["environment"].get("SERVER_STARTER_BOOT")

    assert (boot(1), boot(2)) == ("1", None)
    pid = server.generations()[2]
    server.plan(exit=7)
    server.signal(signal.SIGHUP)
    wait_until((server.directory / "generation-3.json").exists, "a failing one")
    assert boot(3) is None
    os.kill(pid, signal.SIGKILL)
    server.wait_for("died unexpectedly")
    server.wait_for("starting new worker", server.said().count("starting new worker") + 1)
    server.plan(ready=True)  # for one that was started when there was no other
    wait_until(lambda: max(server.generations(), default=0) > 3, "a new one serves")
    assert boot(max(server.generations())) == "1"
    assert server.stop() == 0
