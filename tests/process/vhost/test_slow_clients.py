"""Clients that are slow on purpose: they hold no thread for long, and nobody else up."""

import contextlib
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ..waiting import LIMIT, wait_until
from .harness import Server, Sockets, get, running
from .test_start import pool_of

HOST = "a.test"
APP = """
import os
from wsgiref.util import FileWrapper

def application(environ, start_response):
    path = environ["PATH_INFO"]
    open("asked" + path.replace("/", "-"), "w").close()
    if path == "/upload":
        try:
            size = len(environ["wsgi.input"].read())
        except OSError as error:
            open("failed", "w").write(type(error).__name__)
            raise
        start_response("200 OK", [])
        return [b"%d" % size]
    start_response("200 OK", [])
    if path == "/file":
        return environ["wsgi.file_wrapper"](open("large", "rb"))
    return (b"x" * 65536 for _ in range(500)) if path == "/large" else [b"ok"]
"""
GET = b"GET %s HTTP/1.1\r\nHost: a.test\r\n\r\n"
UPLOAD = b"POST /upload HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1000\r\n\r\n"
THREADS = 2  # and more clients of each kind than that


@pytest.fixture
def one(tmp_path: Path, sockets: Sockets) -> Iterator[Callable[..., Server]]:
    """Start a server with two threads in one worker, and with such time-outs."""
    with contextlib.ExitStack() as stack:

        def start(**timeouts: int) -> Server:
            pool = pool_of(tmp_path, a=APP)
            (tmp_path / "a" / "large").write_bytes(b"x" * 32_000_000)
            keys = {"workers": 1, "threads": THREADS, **timeouts}
            lines = "".join(f"{key} = {value}\n" for key, value in keys.items())
            text = pool.read_text().replace("workers = 1\n", "")
            pool.write_text(text.replace("[pool]\n", f"[pool]\n{lines}"))
            return stack.enter_context(running(pool, sockets))

        yield start


@pytest.fixture
def clients(sockets: Sockets) -> Iterator[Callable[[bytes], list[socket.socket]]]:
    """Connect more clients than there are threads, over TCP, which send the same."""
    with contextlib.ExitStack() as stack:

        def connect(sent: bytes) -> list[socket.socket]:
            made = []
            for _ in range(3 * THREADS):
                client = stack.enter_context(socket.socket())
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                client.settimeout(LIMIT)
                client.connect(("127.0.0.1", sockets.port))
                client.sendall(sent)
                made.append(client)
            return made

        yield connect


def answer(client: socket.socket) -> bytes:
    """Return all that the server sends until it ends the connection; TimeoutError if it doesn't."""
    got = b""
    with contextlib.suppress(ConnectionResetError):
        while part := client.recv(65536):
            got += part
    return got


def test_heads_that_do_not_end_hold_no_thread_and_get_408(
    one: Callable[..., Server], clients: Callable[[bytes], list[socket.socket]]
) -> None:
    server = one(header_timeout_seconds=3600)
    slow = clients(b"GET / HTTP/1.1\r\nHo")
    assert get(server.sockets.port, HOST).status == 200
    for client in slow:
        client.sendall(b"st: a.test\r\n\r\n")
        assert client.recv(100).startswith(b"HTTP/1.1 200 OK\r\n"), "each has kept its turn"


def test_a_head_has_its_seconds_however_it_dribbles(
    one: Callable[..., Server], clients: Callable[[bytes], list[socket.socket]]
) -> None:
    server = one(header_timeout_seconds=1)
    dribbling, *silent = clients(b"GET / HTTP/1.1\r\nX: ")
    dribbling.settimeout(0.05)
    got = b""
    for _ in range(1000):
        with contextlib.suppress(TimeoutError):
            got = dribbling.recv(100)
            break
        dribbling.sendall(b"x")
    dribbling.settimeout(LIMIT)
    for first, client in [(got, dribbling), *((b"", one) for one in silent)]:
        assert (first + answer(client)).startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    wait_until(lambda: "that were too slow" in server.log.read_text(), "it is in the log")


def test_a_head_of_a_kept_connection_has_its_seconds_too(one: Callable[..., Server]) -> None:
    server = one(header_timeout_seconds=1)
    with socket.create_connection(("127.0.0.1", server.sockets.port), LIMIT) as client:
        client.sendall(GET % b"/" + b"GET / HTTP/1.1\r\n")
        assert b"HTTP/1.1 408 Request Timeout\r\n" in answer(client)


def test_a_head_that_is_too_long_gets_431(one: Callable[..., Server]) -> None:
    server = one()
    with socket.create_connection(("127.0.0.1", server.sockets.port), LIMIT) as client:
        client.sendall(b"GET / HTTP/1.1\r\nX: " + b"x" * 65_536)
        assert answer(client).startswith(b"HTTP/1.1 431 ")


def test_bodies_that_do_not_come_hold_a_thread_for_their_seconds_and_no_longer(
    one: Callable[..., Server],
    clients: Callable[[bytes], list[socket.socket]],
    tmp_path: Path,
) -> None:
    server = one(body_timeout_seconds=1)
    slow = clients(UPLOAD + b"x" * 10)
    assert get(server.sockets.port, HOST).status == 200
    for client in slow:
        assert not answer(client).startswith(b"HTTP/1.1 200")
    assert (tmp_path / "a" / "failed").read_text() == "SlowClientError"
    wait_until(lambda: "that were too slow" in server.log.read_text(), "it is in the log")
    assert "Traceback" not in server.log.read_text()


def test_a_body_that_dribbles_has_its_seconds_too(one: Callable[..., Server]) -> None:
    server = one(body_timeout_seconds=1)
    with socket.create_connection(("127.0.0.1", server.sockets.port), LIMIT) as client:
        client.sendall(UPLOAD)
        client.settimeout(0.05)
        got = None
        for _ in range(900):  # of its 1000 bytes: it is not cut for having sent them all
            with contextlib.suppress(TimeoutError, ConnectionResetError, BrokenPipeError):
                got = client.recv(100)
                break
            with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                client.sendall(b"x")
        assert got == b""


def test_a_body_that_comes_in_time_is_taken_whatever_its_pieces(one: Callable[..., Server]) -> None:
    server = one(body_timeout_seconds=60)
    with socket.create_connection(("127.0.0.1", server.sockets.port), LIMIT) as client:
        client.sendall(UPLOAD)
        for _ in range(10):
            client.sendall(b"x" * 100)
        client.shutdown(socket.SHUT_WR)
        assert b"1000\r\n" in answer(client)


@pytest.mark.parametrize("path", [b"/large", b"/file"])
def test_answers_that_nobody_reads_hold_a_thread_for_their_seconds_and_no_longer(
    one: Callable[..., Server], clients: Callable[[bytes], list[socket.socket]], path: bytes
) -> None:
    server = one(send_timeout_seconds=1)
    slow = clients(GET % path)
    assert get(server.sockets.port, HOST).status == 200
    for client in slow:
        assert len(answer(client)) < 32_000_000


def test_an_answer_that_is_read_is_whole_whatever_the_reader_does_first(
    one: Callable[..., Server], tmp_path: Path
) -> None:
    server = one(send_timeout_seconds=3600)
    for path in (b"/large", b"/file"):
        with socket.create_connection(("127.0.0.1", server.sockets.port), LIMIT) as client:
            client.sendall((GET % path).replace(b"1.1", b"1.0"))
            wait_until((tmp_path / "a" / f"asked-{path[1:].decode()}").exists, "it is asked")
            assert len(answer(client).partition(b"\r\n\r\n")[2]) >= 32_000_000
