"""The moments of the arbiter that a test of the whole server can't hit on purpose."""

import signal
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import gunicorn.arbiter
import pytest
from gunicorn.errors import HaltServer

from supervisor_py.vhost.arbiter import Arbiter, Terms
from supervisor_py.vhost.ledger import Ledger
from supervisor_py.vhost.pool import Timeouts, Workers
from supervisor_py.vhost.pool_worker import ACCEPTING, ASLEEP, LEAVING, STARTING
from supervisor_py.vhost.recycling import Retry


class FakeWorker:
    def __init__(self, pid: int) -> None:
        self.pid = self.age = pid
        self.stage = STARTING
        self.requests = 0
        self.idle_since = 0.0
        self.stuck_seconds = 0.0


class Watched:
    reason = ""

    def due(self, _requests: int, _now: float) -> str:
        return self.reason


class Staff:
    """An arbiter whose workers are no processes: what it does to them is noted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, workers: int = 2, **terms: Any) -> None:
        self.told: list[str] = []
        self.log: list[str] = []
        self.ended: list[int] = []
        self.ready = 0
        self.now = 1000.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
        self.arbiter: Arbiter = object.__new__(Arbiter)
        self.arbiter.WORKERS = {}
        self.arbiter._num_workers = workers
        self.arbiter._terms = Terms(
            Workers(), Timeouts(), lambda: None, self._is_ready, self.told.append, **terms
        )
        self.arbiter._is_ready = False
        self.arbiter._known = {}
        self.arbiter._turn = None
        self.arbiter._retry = Retry()
        self.arbiter._recycled = 0
        self.arbiter._ledger = Ledger()
        self.arbiter.log = SimpleNamespace(warning=self._note, info=self._note)
        self.arbiter.spawn_worker = self.fork  # type: ignore[method-assign]
        self.arbiter.kill_worker = self._kill
        self.pids = iter(range(1, 1000))

    def _is_ready(self) -> None:
        self.ready += 1

    def _note(self, text: str, *values: object) -> None:
        self.log.append(text % values)

    def _kill(self, pid: int, number: int) -> None:
        assert number == signal.SIGTERM
        self.ended.append(pid)

    def fork(self) -> int:
        pid = next(self.pids)
        self.arbiter.WORKERS[pid] = FakeWorker(pid)
        self.arbiter._known[pid] = self.arbiter.WORKERS[pid], Watched()  # type: ignore[assignment]
        return pid

    def look(self, **stages: int) -> list[int]:
        """Look once, after workers have entered a stage; returns who is there."""
        for name, stage in stages.items():
            self.arbiter.WORKERS[int(name[1:])].stage = stage
        self.arbiter.manage_workers()
        return list(self.arbiter.WORKERS)

    def serve(self) -> "Staff":
        for pid in self.look():
            self.arbiter.WORKERS[pid].stage = ACCEPTING
        self.look()
        assert self.ready == 1
        return self

    def make_due(self, pid: int, reason: str = "too old") -> None:
        self.arbiter._known[pid][1].reason = reason  # type: ignore[attr-defined]

    def bury(self, pid: int) -> None:
        del self.arbiter.WORKERS[pid]


def failing() -> int:
    raise OSError(11, "Resource temporarily unavailable")


def test_a_fork_that_fails_later_on_is_tried_again_with_patience_and_ends_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    staff = Staff(monkeypatch).serve()
    staff.arbiter.spawn_worker = failing  # type: ignore[method-assign]
    staff.bury(1)
    staff.look()
    staff.look()
    assert [line[:50] for line in staff.log] == [
        "can't start a worker now, next try in 1 s: [Errno "
    ]
    staff.now += 1
    staff.look()
    assert staff.log[1].startswith("can't start a worker now, next try in 2 s")
    staff.arbiter.spawn_worker = staff.fork  # type: ignore[method-assign]
    staff.now += 2
    assert staff.look() == [2, 3]


def test_a_fork_that_fails_at_the_start_fails_the_generation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    staff = Staff(monkeypatch)
    staff.arbiter.spawn_worker = failing  # type: ignore[method-assign]
    with pytest.raises(OSError, match="temporarily unavailable"):
        staff.look()


def test_nothing_is_recycled_before_all_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    staff = Staff(monkeypatch)
    staff.look()
    staff.make_due(1)
    assert staff.look(p1=ACCEPTING) == [1, 2]


def test_the_old_worker_is_told_to_leave_only_when_the_new_one_accepts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    staff = Staff(monkeypatch, workers=1).serve()
    staff.make_due(1)
    for _ in range(3):
        assert staff.look() == [1, 2]
        assert staff.ended == []
    staff.look(p2=ACCEPTING)
    assert staff.ended == [1]
    assert staff.log == ["recycling worker 1: too old; worker 2 serves in its place"]
    assert staff.told == ["1 recycled, the latest: too old"]


def test_never_two_workers_are_recycled_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    staff = Staff(monkeypatch, workers=3).serve()
    for pid in (1, 2, 3):
        staff.make_due(pid, f"reason {pid}")
    assert staff.look() == [1, 2, 3, 4]
    assert staff.look() == [1, 2, 3, 4]
    for _ in range(3):
        assert staff.look(p4=ACCEPTING) == [1, 2, 3, 4], "1 has not heard it yet"
    assert staff.look(p1=LEAVING) == [1, 2, 3, 4], "1 drains"
    staff.bury(1)
    assert staff.look() == [2, 3, 4, 5]
    staff.look(p5=ACCEPTING)
    assert staff.ended == [1, 2]
    assert staff.told[-1] == "2 recycled, the latest: reason 2"


def test_a_replacement_that_does_not_start_leaves_the_old_worker_and_is_tried_again_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    staff = Staff(monkeypatch, workers=1).serve()
    staff.make_due(1)
    for replacement, wait in ((2, 1), (3, 2), (4, 4)):
        assert staff.look() == [1, replacement]
        staff.bury(replacement)
        assert staff.look() == [1]
        said = f"worker {replacement} has ended before it served, next try in {wait} s"
        assert staff.log[-1] == said
        staff.now += wait - 0.1
        assert staff.look() == [1]
        staff.now += 0.1
    assert staff.look() == [1, 5]
    staff.look(p5=ACCEPTING)
    assert staff.ended == [1]


def test_a_replacement_that_can_not_be_forked_leaves_the_old_worker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    staff = Staff(monkeypatch, workers=1).serve()
    staff.make_due(1)
    staff.arbiter.spawn_worker = failing  # type: ignore[method-assign]
    staff.look()
    assert staff.ended == []
    staff.arbiter.spawn_worker = staff.fork  # type: ignore[method-assign]
    assert staff.look() == [1]
    staff.now += 1
    assert staff.look() == [1, 2]


def test_an_old_worker_that_dies_while_it_is_replaced_is_replaced_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    staff = Staff(monkeypatch).serve()
    staff.make_due(1)
    assert staff.look() == [1, 2, 3]
    staff.bury(1)
    assert staff.look(p3=ACCEPTING) == [2, 3]
    assert staff.ended == []
    assert staff.told == []


def test_a_neighbour_that_dies_meanwhile_is_replaced_too(monkeypatch: pytest.MonkeyPatch) -> None:
    staff = Staff(monkeypatch).serve()
    staff.make_due(1)
    staff.look()
    staff.bury(2)
    assert staff.look() == [1, 3, 4]


def test_requests_of_workers_that_have_gone_stay_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    staff = Staff(monkeypatch).serve()
    staff.arbiter.WORKERS[1].requests = 70
    staff.bury(1)
    staff.look()
    staff.arbiter.WORKERS[2].requests = 7
    staff.bury(2)
    staff.look()
    assert staff.arbiter._ledger.requests == 77


@pytest.mark.parametrize("serves", [True, False])
def test_a_worker_that_can_not_start_ends_the_server_only_where_none_serves(
    monkeypatch: pytest.MonkeyPatch, serves: bool
) -> None:
    staff = Staff(monkeypatch).serve()
    outcomes: list[Callable[[], None]] = [lambda: None]

    def reap(_self: object) -> None:
        if outcomes:
            outcomes.pop()
            raise HaltServer("Worker failed to boot.", 3)

    monkeypatch.setattr(gunicorn.arbiter.Arbiter, "reap_workers", reap)
    if serves:
        staff.arbiter.reap_workers()
        return
    for worker in staff.arbiter.WORKERS.values():
        worker.stage = STARTING
    with pytest.raises(HaltServer):
        staff.arbiter.reap_workers()


def test_it_sleeps_when_no_worker_has_had_a_connection_for_long_enough(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    staff = Staff(monkeypatch, idle_seconds=60).serve()
    stopped: list[None] = []
    staff.arbiter.stop = lambda: stopped.append(None)
    one, two = staff.arbiter.WORKERS.values()
    one.idle_since = two.idle_since = staff.now
    staff.now += 59.9
    two.idle_since = 0.0
    staff.look()
    two.idle_since = staff.now
    staff.now += 59.9
    staff.look()
    assert not stopped
    staff.now += 0.1
    with pytest.raises(SystemExit) as ended:
        staff.look()
    assert ended.value.code == ASLEEP
    assert len(stopped) == 1


def test_it_ends_with_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StopIteration):
        Staff(monkeypatch, parent=1).look()
