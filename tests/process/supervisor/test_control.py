"""The control socket: what it answers, and that no client can hold the server up."""

import socket
from pathlib import Path

import pytest

from ..waiting import wait_until
from .harness import Server, connect


def _lines(connection: socket.socket) -> list[str]:
    """Return all that comes until the server hangs up."""
    with connection.makefile() as file:
        return file.read().splitlines()


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (b"dance now\n", "failed unknown request: dance now"),
        (b"\n", "failed unknown request: "),
        (b"\xff\xfe\n", "failed unknown request: \ufffd\ufffd"),
        (b"x" * 2000, "failed one request, of one line, please"),
    ],
)
def test_a_wrong_request_is_answered_and_changes_nothing(
    server: Server, request_: bytes, answer: str
) -> None:
    server.start().wait_serving(1)
    with connect(str(server.control)) as connection:
        connection.sendall(request_)
        assert _lines(connection) == [answer]
    assert server.generations().keys() == {1}


def test_the_protocol_is_lines_of_a_word_and_text(server: Server) -> None:
    server.start().wait_serving(1)
    with connect(str(server.control)) as connection:
        connection.sendall(b"rest")
        connection.sendall(b"art\n")
        lines = _lines(connection)
    assert {line.split()[0] for line in lines[:-1]} == {"progress"}
    assert lines[-1].startswith("done generation 2 serves")


def test_a_client_that_leaves_does_not_stop_its_restart(server: Server) -> None:
    server.start().wait_serving(1)
    gate = server.gate()
    server.plan(ready=True, gate=gate.path)
    with connect(str(server.control)) as connection:
        connection.sendall(b"restart\n")
        server.wait_for("starting new worker", times=2)
    gate.let_pass()
    server.wait_serving(2)
    server.wait_for("old worker")
    assert server.stop() == 0


def test_silent_clients_hold_nobody_up(server: Server) -> None:
    server.start().wait_serving(1)
    silent = [connect(str(server.control)) for _ in range(40)]
    assert server.process is not None
    for connection in silent[32:]:
        assert connection.recv(1) == b"", "more than 32 at once are turned away"
    fds = Path(f"/proc/{server.process.pid}/fd")
    before = len(list(fds.iterdir()))
    for connection in silent[:10]:
        connection.close()
    wait_until(lambda: len(list(fds.iterdir())) <= before - 10, "it has heard of their end")
    assert server.restart().returncode == 0
    assert server.stop() == 0
    for connection in silent[10:]:
        connection.close()


def test_those_who_wait_are_told_of_a_stop(server: Server) -> None:
    server.start("--readiness=notify").wait_serving(1)
    server.plan(ready=False)
    with connect(str(server.control)) as connection:
        connection.sendall(b"restart\n")
        server.wait_for("starting new worker", times=2)
        assert server.stop() == 0
        assert _lines(connection)[-1] == "failed the server is stopping"
