"""The load, against servers that do not answer as they should: each request's fate is told."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from harness.load import UPLOAD_PART, UPLOAD_PARTS, Report, Target, load, load_within

SIZE = UPLOAD_PARTS * len(UPLOAD_PART)
TIMEOUT_SECONDS = 0.5
NEW = Target("new", "a.example")
UPLOAD = Target("upload", "a.example")
Answer = Callable[[socket.socket, threading.Event], None]


@contextmanager
def served(answer: Answer) -> Iterator[str]:
    """Answer each connection so, while the block runs."""
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=talk, args=[connection], daemon=True).start()

        def talk(connection: socket.socket) -> None:
            with connection, suppress(OSError):
                answer(connection, over)

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            over.set()
            listener.shutdown(socket.SHUT_RDWR)


def hang(_connection: socket.socket, over: threading.Event) -> None:
    over.wait()


def trickle(connection: socket.socket, over: threading.Event) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n")
    while not over.wait(0.05):
        connection.sendall(b".")


def count(connection: socket.socket, _over: threading.Event, lost: int = 0) -> None:
    read = b""
    while len(read.partition(b"\r\n\r\n")[2]) < SIZE:
        read += connection.recv(65536)
    answer = f"HTTP/1.1 200 OK\r\nX-Received: {SIZE - lost}\r\nContent-Length: 0\r\n"
    connection.sendall(f"{answer}X-Generation: 7\r\n\r\n".encode())


def lose(connection: socket.socket, over: threading.Event) -> None:
    count(connection, over, lost=1)


def loaded(answer: Answer, target: Target, seconds: float, timeout_seconds: float) -> Report:
    with (
        served(answer) as address,
        load(address, [target], timeout_seconds=timeout_seconds) as report,
    ):
        time.sleep(seconds)  # for so long it goes on
    return report


@pytest.mark.parametrize("answer", [hang, trickle])
def test_a_request_that_hangs_when_the_load_is_stopped_is_a_failure(answer: Answer) -> None:
    (outcome,) = loaded(answer, NEW, 0.1, TIMEOUT_SECONDS).failures
    assert outcome.error.startswith("TimeoutError")
    assert outcome.seconds >= TIMEOUT_SECONDS


def test_whatever_stops_a_client_is_a_failure_with_its_reason() -> None:
    (outcome,) = loaded(redirect, replace(NEW, path="/\N{SNOWMAN}"), 0.05, 30.0).failures
    assert outcome.error.startswith("UnicodeEncodeError")
    assert outcome.seconds < 30.0  # the promise: it is no time-out


def test_a_load_that_reaches_nobody_fails(tmp_path: Path) -> None:
    with load(str(tmp_path / "nobody.sock"), [NEW]) as report:
        pass
    assert [outcome.error[:17] for outcome in report.outcomes] == ["FileNotFoundError"]
    assert report.failures == report.outcomes


def test_an_upload_that_arrives_whole_is_a_success() -> None:
    report = loaded(count, UPLOAD, 0.1, 30.0)
    assert report.failures == []
    assert [outcome.generation for outcome in report.outcomes] == ["7"]
    assert report.outcomes[0].seconds > 1.0


def test_an_upload_that_does_not_arrive_whole_is_a_failure() -> None:
    (outcome,) = loaded(lose, UPLOAD, 0.1, 30.0).failures
    assert outcome.error.endswith(f"received {SIZE - 1} bytes of the upload")


def test_what_was_asked_directly_is_told_also_where_the_test_fails(tmp_path: Path) -> None:
    path = str(tmp_path / "served.sock")
    with socket.create_server(path, family=socket.AF_UNIX) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                answered.set()

        answered = threading.Event()
        threading.Thread(target=answer, daemon=True).start()
        with pytest.raises(AssertionError), load_within([], path, [NEW]) as report:
            assert not answered.wait(30.0)
    assert report.outcomes[0].error == ""


def redirect(connection: socket.socket, _over: threading.Event) -> None:
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n")


@pytest.mark.parametrize(("status", "failed"), [(302, False), (200, True)])
def test_an_answer_has_to_be_of_the_status_that_is_expected(status: int, failed: bool) -> None:
    report = loaded(redirect, replace(NEW, status=status), 0.1, 30.0)
    assert report.outcomes
    assert bool(report.failures) is failed


def test_clients_of_several_hosts_begin_one_after_the_other_within_a_pause() -> None:
    targets = [replace(NEW, host=f"{name}.example", status=302) for name in "abc"]
    with served(redirect) as address:
        addresses = dict.fromkeys((target.host for target in targets), address)
        before = time.monotonic()
        with load(addresses, targets, pause_seconds=0.3) as report:
            time.sleep(0.45)  # for so long it goes on
        after = time.monotonic()
    first = {one.target.host: one.started - before for one in reversed(report.outcomes)}
    for number, host in enumerate(addresses):
        assert first[host] >= 0.1 * number
    assert len(report.outcomes) <= len(targets) * (1 + (after - before) / 0.3)
