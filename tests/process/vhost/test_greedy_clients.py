"""A client that sends without an end, and takes nothing, does not fill an ASGI app's memory."""

import select
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor_py import memory

from .grouped import GroupSockets, ask
from .harness import running
from .test_websockets import HOST, write_pool
from .websocket_client import CONTINUATION, PING, TEXT, Client, connected, frame, opened

MOST_BYTES = 64 * 1024 * 1024
STALL_SECONDS = 3.0  # without room for more: then the server is taken to wait for its client
GROWTH_KB = 8 * 1024


@pytest.fixture
def sockets(tmp_path: Path) -> Iterator[GroupSockets]:
    with GroupSockets(tmp_path, ["own"]) as listening:
        yield listening


def pour(client: Client, data: bytes) -> None:
    """Send data over and over, until the server takes no more of it, or a lot has been sent."""
    client.socket.setblocking(False)
    sent = 0
    while sent < MOST_BYTES and select.select([], [client.socket], [], STALL_SECONDS)[1]:
        try:
            # whole frames and requests alone: what is cut off here comes next
            size = client.socket.send(data[sent % len(data) :])
        except (BrokenPipeError, ConnectionResetError):  # it has been closed: as good
            return
        sent += size


PIPELINED = f"GET /x HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode() * 1000
FRAGMENTS = frame(CONTINUATION, b"", fin=False) * 5000


@pytest.mark.parametrize(
    ("begin", "data"),
    [
        (b"", PIPELINED),
        (frame(TEXT, b"", fin=False), frame(PING, b"x" * 125) * 500),
        (frame(TEXT, b"", fin=False), FRAGMENTS),
    ],
    ids=["pipelined requests", "pings", "fragments of nothing"],
)
def test_what_a_client_does_not_take_is_not_piled_up(
    tmp_path: Path, sockets: GroupSockets, begin: bytes, data: bytes
) -> None:
    with running(write_pool(tmp_path), sockets):
        pid = ask(sockets, "own")["pid"]
        before = memory.read(pid).private
        opening = opened(sockets.of("own"), HOST) if begin else connected(sockets.of("own"))
        with opening as client:
            client.send(begin)
            pour(client, data)
            grown = memory.read(pid).private - before
            assert ask(sockets, "own")["pid"] == pid, "the others are served"
    assert grown < GROWTH_KB, f"{grown} kB"
