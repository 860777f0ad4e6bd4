"""The moments of a WebSocket that a test of the whole server can't hit in time."""

import asyncio
from types import SimpleNamespace

from supervisor_py.vhost.websocket import PING_SECONDS, UNREAD_MESSAGES, WebSocket
from supervisor_py.vhost.websocket_frames import INTERNAL_ERROR, PING, close_frame, frame


class Written:
    """A client that notes what is sent to it."""

    leaving = False
    reads = True

    def __init__(self) -> None:
        self.frames: list[bytes] = []

    def give_up(self) -> None:
        raise AssertionError

    def write(self, data: bytes) -> None:
        self.frames.append(data)

    async def drain(self) -> None:
        pass

    def set_reading(self, wanted: bool) -> None:
        self.reads = wanted

    def finish(self, *, keep: bool) -> None:
        assert not keep

    def log_failure(self, error: BaseException, request: object) -> None:
        raise AssertionError(request) from error


REQUEST = SimpleNamespace(
    headers=[("SEC-WEBSOCKET-KEY", "dGhlIHNhbXBsZSBub25jZQ==")], method="GET", uri="/"
)
PONG = b"\x8a\x80\0\0\0\0"
MESSAGE = b"\x81\x81\0\0\0\0a"


def test_a_client_is_pinged_and_one_that_says_nothing_is_closed() -> None:
    async def scene() -> None:
        client = Written()
        one = WebSocket(client, REQUEST)
        await one._accept({})
        client.frames.clear()
        now = asyncio.get_running_loop().time()
        one.look(now + PING_SECONDS - 1)
        assert client.frames == []
        one.look(now + PING_SECONDS + 1)
        assert client.frames == [frame(PING, b"")]
        one._heard_at = now + PING_SECONDS + 2  # whatever it is
        one.look(now + 2 * PING_SECONDS + 2)
        assert client.frames == [frame(PING, b"")] * 2
        one.look(now + 3 * PING_SECONDS + 1)
        assert client.frames == [frame(PING, b"")] * 2
        one.look(now + 3 * PING_SECONDS + 3)
        assert client.frames[2:] == [close_frame(INTERNAL_ERROR, "no answer to a ping")]
        assert (await one._receive())["type"] == "websocket.connect"
        assert (await one._receive())["code"] == 1006

    asyncio.run(scene())


def test_any_byte_of_the_client_is_an_answer() -> None:
    async def scene() -> None:
        client = Written()
        one = WebSocket(client, REQUEST)
        await one._accept({})
        one._heard_at = 0.0
        before = asyncio.get_running_loop().time()
        assert one.feed(PONG[:1]) == b""
        assert one._heard_at >= before

    asyncio.run(scene())


def test_a_client_that_the_app_does_not_listen_to_is_pinged_and_not_closed() -> None:
    """It can't be heard: what it says waits behind what the app has not taken."""

    async def scene() -> None:
        client = Written()
        one = WebSocket(client, REQUEST)
        await one._accept({})
        client.frames.clear()
        one.feed(MESSAGE * UNREAD_MESSAGES)
        assert not client.reads
        now = asyncio.get_running_loop().time()
        for turn in range(1, 5):
            one.look(now + turn * (PING_SECONDS + 1))
        assert client.frames == [frame(PING, b"")] * 4

    asyncio.run(scene())
