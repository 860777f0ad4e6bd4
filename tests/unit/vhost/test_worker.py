"""The moments of a worker that a test of the whole server can't hit on purpose."""

import itertools
import selectors
import socket
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from gunicorn.config import Config
from gunicorn.workers.gthread import TConn

from supervisor_py.vhost import worker as module
from supervisor_py.vhost.pool_worker import ASLEEP
from supervisor_py.vhost.recycling import Limits
from supervisor_py.vhost.worker import Worker


@pytest.fixture
def worker() -> Iterator[Worker]:
    made = Worker(1, 0, [], None, 30, Config(), None)
    made.poller = selectors.DefaultSelector()
    made.tpool = SimpleNamespace(submit=Submitted())
    yield made
    made.tmp.close()


class Submitted:
    """A thread pool that notes what it is given."""

    def __init__(self) -> None:
        self.conns: list[TConn] = []

    def __call__(self, _handle: Any, conn: TConn) -> Any:
        self.conns.append(conn)
        return SimpleNamespace(add_done_callback=lambda _: None)


def idle(worker: Worker, waiting: Any) -> tuple[TConn, socket.socket]:
    """Put a connection, whose time is over, among those that wait for a request."""
    ours, theirs = socket.socketpair()
    conn = TConn(worker.cfg, ours, ("", 0), ("", 0))
    if waiting is worker.keepalived_conns:
        conn.init()
    conn.timeout = time.monotonic() - 1
    waiting.append(conn)
    worker.poller.register(ours, selectors.EVENT_READ)
    worker.nr_conns += 1
    return conn, theirs


@pytest.mark.parametrize("kind", ["keepalived", "pending"])
def test_an_idle_connection_is_closed_in_time(worker: Worker, kind: str) -> None:
    _, client = idle(worker, getattr(worker, f"{kind}_conns"))
    getattr(worker, f"murder_{kind}")()
    assert client.recv(1) == b""
    assert worker.nr_conns == 0
    client.close()


@pytest.mark.parametrize("kind", ["keepalived", "pending"])
def test_a_request_that_comes_as_its_connection_is_to_be_closed_is_answered(
    worker: Worker, kind: str
) -> None:
    conn, client = idle(worker, getattr(worker, f"{kind}_conns"))
    client.sendall(b"GET / HTTP/1.1\r\n\r\n")
    getattr(worker, f"murder_{kind}")()
    assert worker.tpool.submit.conns == [conn]
    assert worker.nr_conns == 1
    client.close()
    conn.close()


@pytest.mark.parametrize("kind", ["keepalived", "pending"])
def test_a_connection_that_is_due_a_moment_later_is_not_closed_unseen(
    worker: Worker, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    conn, client = idle(worker, getattr(worker, f"{kind}_conns"))
    client.sendall(b"GET / HTTP/1.1\r\n\r\n")
    later = itertools.count(conn.timeout - 0.5)  # a second passes between two looks at the clock
    monkeypatch.setattr(time, "monotonic", lambda: next(later))
    getattr(worker, f"murder_{kind}")()
    assert list(getattr(worker, f"{kind}_conns")) == [conn]
    assert worker.nr_conns == 1
    client.close()
    conn.close()


def test_requests_that_do_not_end_are_given_up_in_time_and_told(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(module, "DRAIN_SECONDS", 0)
    monkeypatch.setattr(worker, "wait_for_and_dispatch_events", lambda timeout: None)
    worker.tpool.shutdown = lambda wait: None
    worker.log = SimpleNamespace(warning=lambda text, *values: said.append(text % values))
    worker.method_queue.init()
    worker.nr_conns = worker._running = 2
    worker.alive = False
    worker.run()
    assert said == ["gave up on 2 request(s), still running after 0 s"]


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def look_again(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker.poller, "select", lambda timeout: [])
    worker.wait_for_and_dispatch_events(0)


def test_a_worker_falls_asleep_when_nobody_is_connected_for_long_enough(
    worker: Worker, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker.idle_seconds = 60
    look_again(worker, monkeypatch)
    clock.now += 59.9
    look_again(worker, monkeypatch)
    assert worker.alive
    assert worker.idle_since == 1000.0
    clock.now += 0.1
    look_again(worker, monkeypatch)
    assert not worker.alive


def test_a_worker_with_a_connection_open_stays_awake_and_begins_anew_when_it_has_gone(
    worker: Worker, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker.idle_seconds = 60
    look_again(worker, monkeypatch)
    clock.now += 59.9
    worker.nr_conns = 1
    for _ in range(3):
        look_again(worker, monkeypatch)
        clock.now += 100
    assert worker.idle_since == 0.0
    worker.nr_conns = 0
    look_again(worker, monkeypatch)
    clock.now += 59.9
    look_again(worker, monkeypatch)
    assert worker.alive


def test_a_worker_that_may_not_sleep_stays(
    worker: Worker, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    look_again(worker, monkeypatch)
    clock.now += 1_000_000
    look_again(worker, monkeypatch)
    worker._handle_ttou(0, None)
    assert worker.alive


@pytest.mark.parametrize(("connections", "stays"), [(0, False), (1, True)])
def test_a_worker_that_is_asked_to_sleep_does_only_when_nobody_is_connected(
    worker: Worker, connections: int, stays: bool
) -> None:
    worker.idle_seconds = 60
    worker.method_queue.init()
    worker.nr_conns = connections
    worker._handle_ttou(0, None)
    assert worker.alive == stays


def test_a_worker_that_sleeps_says_so_by_its_exit_status(worker: Worker) -> None:
    worker.idle_seconds = 60
    worker.tpool.shutdown = lambda wait: None
    worker.method_queue.init()
    worker._handle_ttou(0, None)
    with pytest.raises(SystemExit) as ended:
        worker.run()
    assert ended.value.code == ASLEEP


def test_the_arbiter_is_called_once_when_the_requests_are_served(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[int] = []
    monkeypatch.setattr(worker, "_call_arbiter", lambda: called.append(worker.requests))
    worker.limits = Limits(requests=3)
    for served in (1, 2, 4, 5):
        worker.nr = served
        worker._count()
    assert called == [4]
    assert worker.requests == 5
