"""The moments of a worker that a test of the whole server can't hit on purpose."""

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
    conn.initialized = waiting is worker.keepalived_conns
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
