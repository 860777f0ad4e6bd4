"""A client's socket: what it makes of a request's head, and for how long it waits."""

import contextlib
import errno
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor_py.vhost.client_socket import (
    COMPLETE,
    GONE,
    HEAD_BYTES,
    INCOMPLETE,
    LEAST_BYTES_PER_SECOND,
    TOO_LONG,
    ClientSocket,
    Patience,
    SlowClientError,
)
from supervisor_py.vhost.pool import Timeouts

HEAD = b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"


@pytest.fixture
def ends() -> Iterator[tuple[ClientSocket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ClientSocket(ours, Timeouts(1, 1, 1)) as client, theirs:
        yield client, theirs


def give_up_at_once(client: ClientSocket) -> None:
    client._body.waited(1000)
    client._answer.waited(1000)


def test_a_client_may_stall_for_all_its_seconds_and_no_longer() -> None:
    patience = Patience(20)
    patience.waited(19)
    assert patience.seconds_left == 1
    patience.waited(2)
    assert patience.seconds_left == 0


def test_a_client_that_moves_enough_is_waited_for_without_end() -> None:
    patience = Patience(20)
    for _ in range(1000):
        patience.waited(5)
        patience.moved(5 * LEAST_BYTES_PER_SECOND)
    assert patience.seconds_left == 20


def test_a_client_that_moves_a_byte_now_and_then_is_not() -> None:
    patience = Patience(20)
    waits = 0
    while patience.seconds_left:
        patience.waited(1)
        waits += 1
        patience.moved(1 if patience.seconds_left else 0)
    assert waits == 21


def test_much_that_has_moved_is_no_leave_to_stall_for_long() -> None:
    patience = Patience(20)
    patience.moved(1 << 40)
    assert patience.seconds_left == 20


def test_a_head_that_comes_by_the_byte_is_complete_at_its_end(
    ends: tuple[ClientSocket, socket.socket],
) -> None:
    client, theirs = ends
    found = []
    for byte in HEAD:
        theirs.send(bytes([byte]))
        found.append(client.read_head())
    assert found == [INCOMPLETE] * (len(HEAD) - 1) + [COMPLETE]
    assert client.take_head() == HEAD


def test_what_follows_a_head_is_kept(ends: tuple[ClientSocket, socket.socket]) -> None:
    client, theirs = ends
    theirs.send(HEAD + b"body" + HEAD)
    assert client.read_head() == COMPLETE
    assert client.take_head() == HEAD + b"body" + HEAD


def test_empty_lines_before_a_request_do_not_end_its_head(
    ends: tuple[ClientSocket, socket.socket],
) -> None:
    client, theirs = ends
    theirs.send(b"\r\n\r\n\r\n")
    assert client.read_head() == INCOMPLETE
    assert client.begun, "its time counts from there"
    theirs.send(HEAD)
    assert client.read_head() == COMPLETE
    assert client.take_head() == HEAD
    assert not client.begun


def test_a_head_without_an_end_is_too_long(ends: tuple[ClientSocket, socket.socket]) -> None:
    client, theirs = ends
    theirs.sendall(b"x" * HEAD_BYTES)
    assert client.read_head() == TOO_LONG
    assert len(client.head) == HEAD_BYTES


def test_a_client_that_goes_before_its_head_has_come_is_gone(
    ends: tuple[ClientSocket, socket.socket],
) -> None:
    client, theirs = ends
    theirs.send(HEAD[:-1])
    theirs.shutdown(socket.SHUT_WR)
    assert client.read_head() == GONE


def test_a_client_that_goes_after_its_head_has_come_is_answered(
    ends: tuple[ClientSocket, socket.socket],
) -> None:
    client, theirs = ends
    theirs.send(HEAD)
    theirs.shutdown(socket.SHUT_WR)
    assert client.read_head() == COMPLETE


def test_an_app_sees_a_client_that_is_too_slow_as_one_that_has_gone(
    ends: tuple[ClientSocket, socket.socket],
) -> None:
    client, _ = ends
    give_up_at_once(client)
    with pytest.raises(ConnectionResetError) as raised:
        client.recv(10)
    assert raised.value.errno == errno.ECONNRESET
    assert client.gave_up


def test_what_is_there_is_read_however_late(ends: tuple[ClientSocket, socket.socket]) -> None:
    client, theirs = ends
    give_up_at_once(client)
    theirs.send(b"late")
    assert client.recv(10) == b"late"


@pytest.mark.parametrize("how", ["sendall", "sendfile"])
def test_an_answer_that_nobody_takes_is_given_up(
    ends: tuple[ClientSocket, socket.socket], how: str, tmp_path: Path
) -> None:
    client, _ = ends
    file = tmp_path / "large"
    file.write_bytes(b"x" * 4_000_000)
    give_up_at_once(client)
    # what has gone gives some time back: a second, at most
    with pytest.raises(SlowClientError), file.open("rb") as large:
        client.sendall(large.read()) if how == "sendall" else client.sendfile(large)
    assert client.gave_up


def test_a_file_goes_as_it_is_and_from_where_it_is_asked_for(
    ends: tuple[ClientSocket, socket.socket], tmp_path: Path
) -> None:
    client, theirs = ends
    file = tmp_path / "file"
    file.write_bytes(b"0123456789")
    with file.open("rb") as opened, contextlib.closing(client):
        assert client.sendfile(opened, 2, 3) == 3
        assert client.sendfile(opened, 8) == 2
        assert client.sendfile(opened, 8, 100) == 2, "where the file has got shorter"
    assert theirs.recv(100) == b"2348989"
