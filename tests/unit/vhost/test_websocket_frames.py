"""The frames of RFC 6455: what each section says a server takes, and what it closes for."""

import contextlib
import itertools
import struct
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor_py.vhost.websocket_frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    INVALID_DATA,
    NO_STATUS,
    PING,
    PONG,
    PROTOCOL_ERROR,
    TEXT,
    TOO_BIG,
    BrokenError,
    Reader,
    Received,
    accept_key,
    close_frame,
    frame,
)

KEY = bytes([0x37, 0xFA, 0x21, 0x3D])


def sent(kind: int, payload: bytes, *, fin: bool = True, key: bytes = KEY, bits: int = 0) -> bytes:
    """Return a client's frame."""
    head = bytes([(0x80 if fin else 0) | bits | kind])
    if len(payload) < 126:
        head += bytes([0x80 | len(payload)])
    elif len(payload) < 65536:
        head += bytes([0x80 | 126]) + struct.pack("!H", len(payload))
    else:
        head += bytes([0x80 | 127]) + struct.pack("!Q", len(payload))
    return head + key + bytes(a ^ b for a, b in zip(payload, itertools.cycle(key), strict=False))


def close(code: int, reason: bytes = b"") -> bytes:
    return sent(CLOSE, struct.pack("!H", code) + reason)


TAKEN: Sequence[tuple[str, bytes, list[Received]]] = [
    # section 5.7: the very bytes
    ("5.7 a masked text", bytes.fromhex("818537fa213d7f9f4d5158"), [Received(TEXT, "Hello")]),
    ("5.7 a masked pong", bytes.fromhex("8a8537fa213d7f9f4d5158"), [Received(PONG, b"Hello")]),
    (
        "5.4 fragments",
        sent(TEXT, b"He", fin=False)
        + sent(CONTINUATION, b"l", fin=False)
        + sent(CONTINUATION, b"lo"),
        [Received(TEXT, "Hello")],
    ),
    (
        "5.4 a control frame between fragments",
        sent(BINARY, b"a", fin=False) + sent(PING, b"?") + sent(CONTINUATION, b"b"),
        [Received(PING, b"?"), Received(BINARY, b"ab")],
    ),
    ("5.2 no payload", sent(TEXT, b"") + sent(BINARY, b""), [
        Received(TEXT, ""), Received(BINARY, b"")]),
    ("5.2 16 bits of length", sent(BINARY, b"x" * 126), [Received(BINARY, b"x" * 126)]),
    ("5.2 64 bits of length", sent(BINARY, b"x" * 65536), [Received(BINARY, b"x" * 65536)]),
    ("5.3 a key of zeros", sent(TEXT, b"Hello", key=bytes(4)), [Received(TEXT, "Hello")]),
    ("5.5.2 a ping of 125 bytes", sent(PING, b"x" * 125), [Received(PING, b"x" * 125)]),
    ("5.5.1 a close without a code", sent(CLOSE, b""), [Received(CLOSE, "", NO_STATUS)]),
    ("5.5.1 a close with a reason", close(1000, "bücher".encode()), [
        Received(CLOSE, "bücher", 1000)]),
    ("7.4.2 a private code", close(4999), [Received(CLOSE, "", 4999)]),
    (
        "5.6 a character that fragments part",
        sent(TEXT, "ü".encode()[:1], fin=False) + sent(CONTINUATION, "ü".encode()[1:]),
        [Received(TEXT, "ü")],
    ),
]  # fmt: skip
BROKEN = [
    ("5.1 not masked", frame(TEXT, b"Hello"), PROTOCOL_ERROR),
    ("5.2 a reserved bit", sent(TEXT, b"", bits=0x40), PROTOCOL_ERROR),
    *((f"5.2 the opcode {kind:x}", sent(kind, b""), PROTOCOL_ERROR)
      for kind in (3, 4, 5, 6, 7, 0xB, 0xC, 0xD, 0xE, 0xF)),
    ("5.2 a length longer than need be", b"\x82\xfe\x00\x05" + KEY, PROTOCOL_ERROR),
    ("5.2 a length much longer", b"\x82\xff" + struct.pack("!Q", 65535) + KEY, PROTOCOL_ERROR),
    ("5.2 a length below zero", b"\x82\xff" + struct.pack("!Q", 1 << 63) + KEY, PROTOCOL_ERROR),
    ("5.4 a fragment of nothing", sent(CONTINUATION, b"x"), PROTOCOL_ERROR),
    ("5.4 a message within one", sent(TEXT, b"", fin=False) + sent(TEXT, b""), PROTOCOL_ERROR),
    ("5.5 a fragmented ping", sent(PING, b"", fin=False), PROTOCOL_ERROR),
    ("5.5 a large ping", sent(PING, b"x" * 126), PROTOCOL_ERROR),
    ("5.5.1 half of a code", sent(CLOSE, b"\x03"), PROTOCOL_ERROR),
    *((f"7.4 the code {code}", close(code), PROTOCOL_ERROR)
      for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000)),
    ("8.1 a text that is not UTF-8", sent(TEXT, b"\xff"), INVALID_DATA),
    ("8.1 a text that ends too early", sent(TEXT, b"\xc3"), INVALID_DATA),
    ("8.1 a surrogate", sent(TEXT, b"\xed\xa0\x80"), INVALID_DATA),
    ("8.1 not UTF-8, before all has come", sent(TEXT, b"\xff" + b"x" * 99)[:20], INVALID_DATA),
    ("8.1 a reason that is not UTF-8", close(1000, b"\xff"), INVALID_DATA),
    ("10.4 a message that is too big", sent(BINARY, b"x" * 101), TOO_BIG),
    ("10.4 too big, before it has come", sent(BINARY, b"x" * 101)[:8], TOO_BIG),
    ("10.4 fragments that are too big",
     sent(BINARY, b"x" * 60, fin=False) + sent(CONTINUATION, b"x" * 41), TOO_BIG),
]  # fmt: skip


def _cases(table: Sequence[tuple[str, bytes, object]]) -> list[object]:
    return [pytest.param(data, expected, id=name) for name, data, expected in table]


@pytest.mark.parametrize(("data", "expected"), _cases(TAKEN))
@pytest.mark.parametrize("size", [None, 1, 3], ids=["at once", "by the byte", "by three"])
def test_a_server_takes(data: bytes, expected: list[Received], size: int | None) -> None:
    reader = Reader()
    step = size or len(data)
    pieces = [data[at : at + step] for at in range(0, len(data), step)]
    assert [one for piece in pieces for one in reader.feed(piece)] == expected


@pytest.mark.parametrize(("data", "code"), _cases(BROKEN))
@pytest.mark.parametrize("by_byte", [False, True])
def test_a_server_closes_for(data: bytes, code: int, by_byte: bool) -> None:
    reader = Reader(most=100 if code == TOO_BIG else 1000)
    pieces = [data[at : at + 1] for at in range(len(data))] if by_byte else [data]
    with pytest.raises(BrokenError) as broken:
        assert [reader.feed(piece) for piece in pieces] == []
    assert (broken.value.code, broken.value.received) == (code, [])


def test_what_was_whole_before_the_break_is_not_lost() -> None:
    with pytest.raises(BrokenError) as broken:
        Reader().feed(sent(TEXT, b"one") + sent(3, b""))
    assert broken.value.received == [Received(TEXT, "one")]


def test_each_message_has_the_whole_size_for_itself() -> None:
    reader = Reader(most=10)
    for _ in range(3):
        assert reader.feed(sent(BINARY, b"x" * 10)) == [Received(BINARY, b"x" * 10)]


@given(
    messages=st.lists(st.one_of(st.text(max_size=300), st.binary(max_size=300)), max_size=5),
    cuts=st.lists(st.integers(1, 200), min_size=1),
    key=st.binary(min_size=4, max_size=4),
    fragment=st.integers(1, 100),
)
def test_messages_arrive_as_they_were_sent_however_they_are_cut(
    messages: list[str | bytes], cuts: list[int], key: bytes, fragment: int
) -> None:
    data = b""
    for message in messages:
        kind = TEXT if isinstance(message, str) else BINARY
        payload = message.encode() if isinstance(message, str) else message
        parts = [payload[at : at + fragment] for at in range(0, len(payload), fragment)] or [b""]
        for number, part in enumerate(parts):
            fin = number == len(parts) - 1
            data += sent(CONTINUATION if number else kind, part, fin=fin, key=key)
    reader = Reader()
    received = []
    for size in itertools.cycle(cuts):
        received += reader.feed(data[:size])
        data = data[size:]
        if not data:
            break
    assert [one.payload for one in received] == messages


@given(st.lists(st.binary(max_size=50)))
def test_any_bytes_are_frames_or_a_break_and_never_another_error(pieces: list[bytes]) -> None:
    reader = Reader(most=100)
    found = []
    with contextlib.suppress(BrokenError):
        for piece in pieces:
            found += reader.feed(piece)
    assert all(len(one.payload) <= 100 for one in found)


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536])
def test_a_frame_of_the_server_has_the_shortest_length_and_no_mask(size: int) -> None:
    written = frame(BINARY, b"x" * size)
    head = {0: 2, 1: 2, 125: 2, 126: 4, 65535: 4, 65536: 10}[size]
    assert len(written) == head + size
    assert not written[1] & 0x80


def test_a_close_frame_cuts_a_long_reason_between_characters() -> None:
    written = close_frame(1001, "ü" * 100)
    assert written[2:4] == struct.pack("!H", 1001)
    assert written[4:].decode() == "ü" * 61
    assert close_frame(NO_STATUS) == b"\x88\x00"


def test_the_accept_key_is_that_of_the_rfc() -> None:
    # section 1.3
    assert accept_key(b"dGhlIHNhbXBsZSBub25jZQ==") == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    assert accept_key(b"dGhlIHNhbXBsZQ==") is None
    assert accept_key(b"no base64") is None
    assert accept_key("ü".encode("latin-1")) is None
