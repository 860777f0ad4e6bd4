"""Which requests are told of, and when all threads of a worker are stuck."""

import contextlib
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any

import pytest

from supervisor_py.vhost import running
from supervisor_py.vhost.context import AppContext
from supervisor_py.vhost.running import OwnPool, Running, examine

STRANGER = OwnPool((), lambda _: False)


def request(began: float, timeout: int = 60, uri: str = "/slow") -> Running:
    app = AppContext("shop", Path("/srv"), -1, {}, request_timeout_seconds=timeout)
    asked = SimpleNamespace(method="GET", uri=uri, headers=[("HOST", "shop.test")])
    return Running(asked, began, app)


def all_of(*requests: Running) -> dict[int, Running]:
    """Number them as threads that have gone, without a stack."""
    return {-number: one for number, one in enumerate(requests, 1)}


def test_a_request_is_told_once_when_its_time_is_over() -> None:
    requests = all_of(request(0.0))
    assert examine(requests, 2, STRANGER, 59.9).reports == ()
    (report,) = examine(requests, 2, STRANGER, 60.0).reports
    assert report.startswith(
        '"GET /slow" for shop.test of the app shop has been running for 60 s, of 60 s at most'
    )
    assert examine(requests, 2, STRANGER, 3600.0).reports == ()


def test_a_worker_is_stuck_when_every_thread_has_a_request_that_is_over_its_time() -> None:
    requests = all_of(request(0.0), request(5.0, timeout=30))
    assert examine(requests, 3, STRANGER, 100.0).stuck_seconds == 0.0, "one thread is free"
    assert examine(requests, 2, STRANGER, 59.0).stuck_seconds == 0.0, "one may go on"
    assert examine(requests, 2, STRANGER, 100.0).stuck_seconds == 95.0


def test_a_stuck_worker_tells_of_all_its_requests_once_also_of_those_told_before() -> None:
    requests = all_of(request(0.0), request(50.0))
    assert len(examine(requests, 2, STRANGER, 60.0).reports) == 1
    together, *each = examine(requests, 2, STRANGER, 110.0).reports
    assert together.startswith("all 2 thread(s) of this worker have been busy for 60 s or longer")
    assert len(each) == 2
    assert examine(requests, 2, STRANGER, 111.0) == running.Findings((), 61.0)


def test_a_request_without_a_limit_is_never_told_and_keeps_its_worker() -> None:
    requests = all_of(request(0.0), request(0.0, timeout=0))
    found = examine(requests, 2, STRANGER, 10**9)
    assert (len(found.reports), found.stuck_seconds) == (1, 0.0)


def test_what_is_told_is_bounded_and_does_nothing_to_a_terminal() -> None:
    (report,) = examine(
        all_of(request(0.0, uri="/\x1b[2J\xe9" + "x" * 9999)), 2, STRANGER, 99.0
    ).reports
    line = report.splitlines()[0]
    assert line.startswith('"GET /\\x1b[2J\\xe9xxx')
    assert len(line) < 500


@contextlib.contextmanager
def waiting(function: Any, *arguments: Any) -> Iterator[int]:
    """Call a function in a thread, with what ends it behind the arguments; yield the thread."""
    here, there = threading.Event(), threading.Event()
    thread = threading.Thread(target=function, args=(*arguments, here.set, there.wait))
    thread.start()
    assert here.wait(60)
    yield thread.ident or 0
    there.set()
    thread.join()


def deep(levels: int, told: Any, wait: Any) -> None:
    if levels:
        deep(levels - 1, told, wait)
    else:
        told()
        wait()


def test_a_stack_has_its_innermost_frames_and_says_how_many_are_left_out() -> None:
    with waiting(deep, 100) as ident:
        (report,) = examine({ident: request(0.0)}, 2, STRANGER, 99.0).reports
    assert report.count("  File ") == running.STACK_FRAMES
    assert "frames are left out)" in report


class Connection:
    """An HTTP client's, as http.client, urllib3 and httpcore have it."""

    def __init__(self, **attributes: object) -> None:
        vars(self).update(attributes)

    def frame(self) -> FrameType:
        return sys._getframe()


class Malicious:
    def __getattribute__(self, name: str) -> Any:
        raise AssertionError(f"{name} of an app's object was looked up")


@pytest.mark.parametrize(
    ("attributes", "found"),
    [
        ({"host": "own.test"}, "own.test"),
        ({"_dns_host": "own.test"}, "own.test"),
        ({"_origin": Connection(host=b"own.test")}, "own.test"),
        ({"host": "other.test"}, ""),
        ({"host": 5, "_origin": Malicious(), "sock": Malicious()}, ""),
    ],
)
def test_the_host_that_a_client_asks_is_seen_without_calling_anything_of_an_app(
    attributes: dict[str, object], found: str
) -> None:
    pool = OwnPool((), lambda host: host == "own.test")
    assert running.asks(Connection(**attributes).frame(), pool) == found


def test_a_client_that_is_connected_to_a_listener_of_the_pool_is_seen() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as own,
        socket.create_server(("127.0.0.1", 0)) as other,
        socket.create_connection(own.getsockname()) as inside,
        socket.create_connection(other.getsockname()) as outside,
        socket.socket() as unconnected,
    ):
        pool = OwnPool([("0.0.0.0", own.getsockname()[1])], lambda _: False)
        assert running.asks(Connection(sock=inside).frame(), pool).startswith("127.0.0.1:")
        assert running.asks(Connection(sock=outside).frame(), pool) == ""
        assert running.asks(Connection(sock=unconnected).frame(), pool) == ""
