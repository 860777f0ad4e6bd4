"""The end of a generation: to the last byte, and not for ever."""

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from ..waiting import LIMIT
from .harness import (
    Connection,
    Server,
    Sockets,
    closes,
    running,
    serving,
    wait_read,
    wait_until,
)
from .test_start import pool_of

HOST = "motd.test"
STREAMING = """
import os, threading, time

def application(environ, start_response):
    start_response("200 OK", [])
    if environ["PATH_INFO"] == "/stuck":
        open("stuck", "w").close()
        threading.Event().wait()
    return lines() if environ["PATH_INFO"] == "/lines" else [b"ok"]

def lines():
    while not os.path.exists("end"):
        yield b"x" * 10_000
        time.sleep(0.02)  # more slowly than its readers
    yield b"the last byte"
"""
SHORT_DRAIN = (
    "import sys; from supervisor_py.vhost import cli, server, worker; worker.DRAIN_SECONDS = 1;"
    " server.ARBITER_DRAIN_SECONDS = 3; sys.exit(cli.main())"
)


def test_answers_under_way_are_finished_to_the_last_byte_also_for_a_slow_reader(
    tmp_path: Path, sockets: Sockets
) -> None:
    with running(pool_of(tmp_path, a=STREAMING), sockets) as server:
        bodies: list[bytes] = []
        reads = threading.Barrier(3)

        def read_slowly(address: str | int) -> None:
            with contextlib.closing(Connection(address)) as client:
                client.request("GET", "/lines", headers={"Host": "a.test"})
                response = client.getresponse()
                parts = [response.read1(3000)]
                reads.wait()
                while part := response.read1(3000):
                    parts.append(part)
                    time.sleep(0.001)  # it is slow
                bodies.append(b"".join(parts))

        readers = [
            threading.Thread(target=read_slowly, args=(address,))
            for address in (sockets.path, sockets.port)
        ]
        for reader in readers:
            reader.start()
        reads.wait()
        with contextlib.closing(Connection(sockets.path)) as kept:
            assert not closes(kept, "a.test")
            server.terminate()
            wait_until(lambda: closes(kept, "a.test"))
        (tmp_path / "a" / "end").touch()
        for reader in readers:
            reader.join(LIMIT)
        assert [body[-13:] for body in bodies] == [b"the last byte"] * 2
        assert server.wait() == 0


def test_a_request_that_comes_in_bits_while_draining_is_answered_and_closed(
    motd_pool: Callable[..., Path], sockets: Sockets
) -> None:
    with running(motd_pool(workers=1), sockets) as server:
        with (
            socket.create_connection(("127.0.0.1", sockets.port)) as client,
            contextlib.closing(Connection(sockets.path)) as kept,
        ):
            client.sendall(b"GET /healthz HTTP/1.1\r\nHo")
            wait_read(client)
            assert not closes(kept, HOST, "/healthz")
            server.terminate()
            wait_until(lambda: closes(kept, HOST, "/healthz"))
            client.sendall(b"st: motd.test\r\n\r\n")
            answer = b"".join(iter(lambda: client.recv(4096), b""))
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"Connection: close\r\n" in answer
        assert b"ok\n" in answer
        assert server.wait() == 0


def test_idle_kept_connections_are_closed_and_never_reset(
    motd_pool: Callable[..., Path], sockets: Sockets
) -> None:
    with running(motd_pool(workers=1), sockets) as server:
        with contextlib.ExitStack() as stack:
            clients = []
            for _ in range(20):
                client = stack.enter_context(contextlib.closing(Connection(sockets.port)))
                assert client.ask(HOST, "/healthz").headers["Connection"] == "keep-alive"
                clients.append(client)
            server.terminate()
            # the arbiter hands the signal on
            wait_until(lambda: closes(clients[0], HOST, "/healthz"))
            last = [client.ask(HOST, "/healthz").headers["Connection"] for client in clients[1:10]]
            assert last == ["close"] * 9
            assert [client.sock.recv(10) for client in clients[10:]] == [b""] * 10
        assert server.wait() == 0


def test_a_stuck_request_is_told_and_given_up_in_time(tmp_path: Path, sockets: Sockets) -> None:
    pool = pool_of(tmp_path, a=STREAMING)
    with serving(Server([sys.executable, "-c", SHORT_DRAIN, pool], sockets)) as server:
        with contextlib.closing(Connection(sockets.path)) as client:
            client.request("GET", "/stuck", headers={"Host": "a.test"})
            wait_until((tmp_path / "a" / "stuck").exists)
            assert server.stop() == 0
        assert "gave up on 1 request(s), still running after 1 s" in server.log.read_text()


def test_a_second_term_changes_nothing(motd_pool: Callable[..., Path], sockets: Sockets) -> None:
    with running(motd_pool(workers=2), sockets) as server:
        workers = server.workers()
        with contextlib.closing(Connection(sockets.path)) as client:
            client.request("GET", "/slow?seconds=2", headers={"Host": HOST})
            response = client.getresponse()
            for pid in (server.process.pid, *workers, server.process.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)
                time.sleep(0.1)  # else two of them that wait are one
            assert response.read().endswith(b"done\n")
        assert server.wait() == 0
