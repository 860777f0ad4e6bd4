"""What RFC 9113 forbids, and what it allows and nobody may do for long: nginx as it is configured.

After each of them nginx's workers are the same, have not grown, and serve others.
"""

import contextlib
import itertools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest

from .conftest import HOST, Nginx
from .http2 import (
    ACK,
    CONTINUATION,
    DATA,
    ENABLE_PUSH,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    INITIAL_WINDOW,
    MAX_FRAME,
    MOST,
    PADDED,
    PING,
    PREFACE,
    PRIORITIZED,
    PRIORITY,
    PUSH,
    RESET,
    SETTINGS,
    WINDOW,
    Client,
    field,
    frame,
    head,
    number,
    setting,
)

GROWTH_KB = 16_384  # of a worker, by the worst of them
FLOOD = 20_000  # frames
END = END_HEADERS | END_STREAM
PROTOCOL = ("GOAWAY PROTOCOL_ERROR", "RST PROTOCOL_ERROR", "400")
SIZE = ("GOAWAY FRAME_SIZE_ERROR", "RST FRAME_SIZE_ERROR")
FLOW = ("GOAWAY FLOW_CONTROL_ERROR", "RST FLOW_CONTROL_ERROR")
COMPRESSION = ("GOAWAY COMPRESSION_ERROR",)
CLOSED = ("GOAWAY STREAM_CLOSED", "RST STREAM_CLOSED", "GOAWAY PROTOCOL_ERROR", "closed")
CALM = ("closed", "GOAWAY ENHANCE_YOUR_CALM", "GOAWAY NO_ERROR")
TOO_LARGE = ("GOAWAY ENHANCE_YOUR_CALM", "GOAWAY PROTOCOL_ERROR", "400", "431", "494", "closed")


class Case(NamedTuple):
    """What a client sends after its settings, and what may come of that."""

    send: Callable[[], bytes | Iterator[bytes]]
    outcomes: tuple[str, ...]


def ask(stream: int = 1, flags: int = END, more: bytes = b"", before: bytes = b"") -> bytes:
    return frame(HEADERS, flags, stream, before + head(HOST, more=more))


def post(stream: int = 1, more: bytes = b"") -> bytes:
    return frame(HEADERS, END_HEADERS, stream, head(HOST, method="POST", more=more))


def window(stream: int, increment: int) -> bytes:
    return frame(WINDOW, 0, stream, increment.to_bytes(4, "big"))


def settings(*pairs: tuple[int, int]) -> bytes:
    return frame(SETTINGS, 0, 0, b"".join(setting(*pair) for pair in pairs))


def rapid_reset() -> Iterator[bytes]:
    for stream in range(1, 2 * FLOOD, 2):
        yield ask(stream) + frame(RESET, 0, stream, (8).to_bytes(4, "big"))


def continuations(payload: bytes) -> Iterator[bytes]:
    yield ask(flags=END_STREAM)
    yield from itertools.repeat(frame(CONTINUATION, 0, 1, payload), FLOOD)


def indexed_bomb() -> bytes:
    """A field of 4 kB in the table, and thousands of bytes that each mean it."""
    return ask(more=field(b"x-bomb", b"x" * 3900, 0x40) + b"\xbe" * 8000)


def forged(name: bytes, value: bytes) -> bytes:
    return ask(more=field(name, value))


CASES: dict[str, Case] = {
    # floods
    "rapid reset": Case(rapid_reset, ("200", "RST REFUSED_STREAM", *CALM)),
    "CONTINUATION frames without an end": Case(
        lambda: continuations(field(b"x-more", b"x" * 100)), TOO_LARGE
    ),
    "CONTINUATION frames without content": Case(lambda: continuations(b""), TOO_LARGE),
    "SETTINGS frames": Case(lambda: itertools.repeat(settings(), FLOOD), CALM),
    "SETTINGS frames that each change the window": Case(
        lambda: (settings((INITIAL_WINDOW, size)) for size in range(FLOOD)), CALM
    ),
    "PING frames": Case(lambda: itertools.repeat(frame(PING, 0, 0, b"x" * 8), FLOOD), CALM),
    "PRIORITY frames of idle streams": Case(
        lambda: (frame(PRIORITY, 0, stream, b"\0\0\0\0\x10") for stream in range(1, 2 * FLOOD, 2)),
        CALM,
    ),
    "DATA frames without content": Case(
        lambda: itertools.chain([post()], itertools.repeat(frame(DATA, 0, 1), FLOOD)),
        (*CALM, *PROTOCOL),
    ),
    "WINDOW_UPDATE frames": Case(lambda: itertools.repeat(window(0, 1), FLOOD), CALM),
    "frames of an unknown kind": Case(
        lambda: itertools.repeat(frame(0x7F, 0, 0, b"x" * 100), FLOOD), CALM
    ),
    "more streams than may be open": Case(
        lambda: (post(stream) for stream in range(1, 1001, 2)), ("RST REFUSED_STREAM",)
    ),
    # heads that are large when they are unpacked
    "a bomb of indexed fields": Case(indexed_bomb, TOO_LARGE),
    "a field of 16 kB": Case(lambda: forged(b"x-long", b"x" * 16_000), TOO_LARGE),
    "a thousand fields": Case(
        lambda: itertools.chain(
            [ask(flags=END_STREAM)],
            (frame(CONTINUATION, 0, 1, field(b"x-%d" % i, b"x" * 60)) for i in range(1000)),
            [frame(CONTINUATION, END_HEADERS, 1)],
        ),
        TOO_LARGE,
    ),
    # HPACK
    "an index of no field": Case(lambda: ask(before=number(200, 7, 0x80)), COMPRESSION),
    "the index 0": Case(lambda: ask(before=b"\x80"), COMPRESSION),
    "a table larger than agreed": Case(lambda: ask(before=number(1 << 20, 5, 0x20)), COMPRESSION),
    "a number without an end": Case(
        lambda: ask(before=b"\xff" + b"\xff" * 20 + b"\x01"), COMPRESSION
    ),
    "Huffman's end within a text": Case(
        lambda: ask(more=b"\x00\x01x" + b"\x84\xff\xff\xff\xff"), (*COMPRESSION, "400")
    ),
    # windows
    "WINDOW_UPDATE by 0": Case(lambda: window(0, 0), PROTOCOL),
    "WINDOW_UPDATE by 0, of a stream": Case(lambda: post() + window(1, 0), PROTOCOL),
    "a window that is too large": Case(lambda: window(0, MOST), FLOW),
    "a stream's window that is too large": Case(lambda: post() + window(1, MOST), FLOW),
    "an initial window that is too large": Case(
        lambda: settings((INITIAL_WINDOW, MOST + 1)), (*FLOW, *PROTOCOL)
    ),
    "WINDOW_UPDATE of a wrong length": Case(lambda: frame(WINDOW, 0, 0, b"\0\0\1"), SIZE),
    "WINDOW_UPDATE of an idle stream": Case(lambda: window(5, 1), (*PROTOCOL, *CALM)),
    # settings
    "frames smaller than may be asked for": Case(lambda: settings((MAX_FRAME, 100)), PROTOCOL),
    "ENABLE_PUSH that is neither on nor off": Case(
        lambda: settings((ENABLE_PUSH, 2)), (*PROTOCOL, "200")
    ),
    "SETTINGS of a wrong length": Case(lambda: frame(SETTINGS, 0, 0, b"\0\0\0\0\0"), SIZE),
    "SETTINGS of a stream": Case(lambda: frame(SETTINGS, 0, 1), PROTOCOL),
    "an acknowledgement with content": Case(
        lambda: frame(SETTINGS, ACK, 0, setting(INITIAL_WINDOW, 1)), SIZE
    ),
    # frames
    "a frame larger than agreed": Case(
        lambda: post() + frame(DATA, 0, 1, b"x" * 17_000), (*SIZE, *PROTOCOL)
    ),
    "PING of a wrong length": Case(lambda: frame(PING, 0, 0, b"short"), SIZE),
    "PING of a stream": Case(lambda: frame(PING, 0, 1, b"x" * 8), (*PROTOCOL, "200")),
    "PRIORITY of a wrong length": Case(lambda: frame(PRIORITY, 0, 1, b"\0"), SIZE),
    "RST_STREAM of a wrong length": Case(lambda: post() + frame(RESET, 0, 1, b"\0"), SIZE),
    "RST_STREAM of the connection": Case(lambda: frame(RESET, 0, 0, b"\0\0\0\x08"), PROTOCOL),
    "DATA of an idle stream": Case(lambda: frame(DATA, END_STREAM, 5, b"x"), CLOSED),
    "DATA of the connection": Case(lambda: frame(DATA, 0, 0, b"x"), PROTOCOL),
    "DATA after a stream's end": Case(
        lambda: ask() + frame(DATA, END_STREAM, 1, b"x"), (*CLOSED, "200")
    ),
    "DATA that is all padding": Case(
        lambda: post() + frame(DATA, PADDED, 1, b"\xffxx"), (*PROTOCOL, *SIZE)
    ),
    "HEADERS that are all padding": Case(
        lambda: frame(HEADERS, END | PADDED, 1, b"\xff" + head(HOST)[:20]), (*PROTOCOL, *SIZE)
    ),
    "HEADERS of the connection": Case(lambda: ask(0), PROTOCOL),
    "HEADERS of an even stream": Case(lambda: ask(2), PROTOCOL),
    "HEADERS of a stream before the last": Case(lambda: post(5) + ask(3), (*PROTOCOL, *CLOSED)),
    "HEADERS of a stream that depends on itself": Case(
        lambda: ask(flags=END | PRIORITIZED, before=b"\0\0\0\x01\x10"), PROTOCOL
    ),
    "CONTINUATION of nothing": Case(lambda: frame(CONTINUATION, END_HEADERS, 1, b""), PROTOCOL),
    "another frame before CONTINUATION": Case(
        lambda: ask(flags=END_STREAM) + frame(PING, 0, 0, b"x" * 8), PROTOCOL
    ),
    "PUSH_PROMISE of a client": Case(
        lambda: post() + frame(PUSH, END_HEADERS, 1, b"\0\0\0\x02"), PROTOCOL
    ),
    "a preface in the middle": Case(lambda: PREFACE, (*PROTOCOL, *SIZE)),
    # requests
    "a name with a capital letter": Case(lambda: forged(b"X-Forged", b"1"), PROTOCOL),
    "a line break in a value": Case(lambda: forged(b"x", b"1\r\nx-forged: 1"), PROTOCOL),
    "a zero byte in a value": Case(lambda: forged(b"x", b"1\0"), PROTOCOL),
    "a line break in a path": Case(
        lambda: frame(HEADERS, END, 1, head(HOST, "/ HTTP/1.1\r\nx-forged: 1")), PROTOCOL
    ),
    "no path": Case(
        lambda: frame(HEADERS, END, 1, field(b":method", b"GET") + field(b":scheme", b"https")),
        PROTOCOL,
    ),
    "two paths": Case(lambda: forged(b":path", b"/other"), PROTOCOL),
    "an unknown pseudo-field": Case(lambda: forged(b":forged", b"1"), PROTOCOL),
    "a length that is none": Case(lambda: forged(b"content-length", b"1x"), PROTOCOL),
    "a body longer than its length": Case(
        lambda: post(more=field(b"content-length", b"1")) + frame(DATA, END_STREAM, 1, b"xx"),
        (*PROTOCOL, "200"),
    ),
    "a body shorter than its length": Case(
        lambda: post(more=field(b"content-length", b"9")) + frame(DATA, END_STREAM, 1, b"xx"),
        PROTOCOL,
    ),
    "another host beside the authority": Case(
        lambda: forged(b"host", b"other.example"), (*PROTOCOL, "421")
    ),
}


@pytest.fixture
def unharmed(nginx: Nginx) -> Iterator[Nginx]:
    """See that nginx is what it was, and serves another client, also while the first is there."""
    workers, memory = nginx.workers, nginx.memory_kb()
    yield nginx
    assert nginx.status() == "200"
    assert nginx.workers == workers, (nginx.folder / "error.log").read_text()[-2000:]
    assert nginx.memory_kb() < memory + GROWTH_KB


@pytest.mark.parametrize("name", CASES)
def test_nginx_survives(unharmed: Nginx, name: str) -> None:
    case = CASES[name]
    with contextlib.closing(Client(unharmed.port, HOST)) as client:
        sent = case.send()
        client.send_all([sent] if isinstance(sent, bytes) else sent)
        assert unharmed.status() == "200", "another client is served meanwhile"
        client.send(frame(GOAWAY, 0, 0, bytes(8)))  # it has nothing more to say
        assert client.outcome() in case.outcomes


def test_answers_that_a_hundred_streams_do_not_take_hold_no_memory(unharmed: Nginx) -> None:
    with contextlib.closing(Client(unharmed.port, HOST, setting(INITIAL_WINDOW, 0))) as client:
        for stream in range(1, 201, 2):
            client.ask(stream, "/?bytes=1000000")
        seen = set()
        for got in client.frames():
            seen |= {got.stream} if got.kind == HEADERS else set()
            if len(seen) == 100:
                break
        assert unharmed.status() == "200"


def test_a_client_of_another_protocol_is_told_nothing(unharmed: Nginx) -> None:
    with contextlib.closing(Client(unharmed.port, HOST)) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: echo.example\r\n\r\n")
        assert client.outcome() in (*PROTOCOL, *SIZE, "closed")
