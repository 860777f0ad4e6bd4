"""Bodies in chunks, and the heads of answers."""

import itertools

import pytest
from gunicorn.http.errors import ChunkMissingTerminator, InvalidChunkSize, LimitRequestHeaders
from hypothesis import given
from hypothesis import strategies as st

from supervisor_py.vhost import http_message
from supervisor_py.vhost.http_message import ChunkedBody, LengthBody


def chunked(parts: list[bytes], trailer: bytes = b"") -> bytes:
    whole = b"".join(b"%x;name=value\r\n%s\r\n" % (len(part), part) for part in parts if part)
    return whole + b"0\r\n" + trailer + b"\r\n"


@given(
    parts=st.lists(st.binary(max_size=100), max_size=5),
    cuts=st.lists(st.integers(1, 50), min_size=1),
    trailer=st.sampled_from([b"", b"A: b\r\n", b"A: b\r\nC: d\r\n"]),
)
def test_a_body_in_chunks_is_whole_and_what_is_behind_it_is_not_touched(
    parts: list[bytes], cuts: list[int], trailer: bytes
) -> None:
    data = chunked(parts, trailer) + b"GET / HTTP/1.1\r\n"
    body, content, behind = ChunkedBody(), b"", b""
    for size in itertools.cycle(cuts):
        if body.is_complete:
            behind += data
            break
        more, rest = body.feed(data[:size])
        content, behind, data = content + more, behind + rest, data[size:]
    assert (content, behind) == (b"".join(parts), b"GET / HTTP/1.1\r\n")


def test_a_body_of_a_length_leaves_what_is_behind_it() -> None:
    body = LengthBody(5)
    assert body.feed(b"abc") == (b"abc", b"")
    assert not body.is_complete
    assert body.feed(b"defgh") == (b"de", b"fgh")
    assert body.is_complete
    assert LengthBody(0).is_complete


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"x\r\n", InvalidChunkSize),
        (b"-1\r\n", InvalidChunkSize),
        (b"+1\r\n", InvalidChunkSize),
        (b"0x1\r\n", InvalidChunkSize),
        (b"1 \r\n", InvalidChunkSize),
        (b"\r\n", InvalidChunkSize),
        (b"1\n", InvalidChunkSize),
        (b"1;a\nb\r\n", InvalidChunkSize),
        (b"1" * 17 + b"\r\n", InvalidChunkSize),
        (b"1;" + b"x" * 5000, InvalidChunkSize),
        (b"1\r\nab", ChunkMissingTerminator),
        (b"1\r\na\n0", ChunkMissingTerminator),
        (b"1\r\naX\r\n", ChunkMissingTerminator),
        (b"0\r\n" + b"a: b\r\n" * 20000, LimitRequestHeaders),
    ],
)
@pytest.mark.parametrize("by_byte", [False, True])
def test_what_is_no_chunk_is_refused(data: bytes, error: type[Exception], by_byte: bool) -> None:
    body = ChunkedBody()
    pieces = [data[at : at + 1] for at in range(len(data))] if by_byte else [data]
    with pytest.raises(error):
        assert [body.feed(piece) for piece in pieces] == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"X Y", b""),
        (b"", b""),
        (b"X:", b""),
        (b"X", b"a\r\nSet-Cookie: b"),
        (b"X", b"a\nb"),
        (b"X", b"a\0b"),
    ],
)
def test_a_header_that_would_be_read_as_another_is_refused(name: bytes, value: bytes) -> None:
    with pytest.raises(ValueError, match="the app has sent a header"):
        http_message.checked([(name, value)])


def test_headers_are_sent_in_their_order_and_repeated_ones_twice() -> None:
    headers = http_message.checked([(b"Set-Cookie", b"a=1"), (b"set-cookie", b" b=2 ")])
    head = http_message.head_of(299, [*headers, (b"Date", b"today")])
    assert head == (
        b"HTTP/1.1 299 Unknown Status Code\r\n"
        b"Set-Cookie: a=1\r\nset-cookie: b=2\r\nDate: today\r\n\r\n"
    )
    assert b"Date: " in http_message.head_of(200, [])
