"""Requests and answers of HTTP/1.1 as bytes, for who must not wait for them. Pure but for a date.

A head is parsed by gunicorn's own parser, so both kinds of workers take and refuse the same.
"""

import re
from collections.abc import Iterable
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, Protocol

from gunicorn.http import Request
from gunicorn.http.body import ChunkedReader
from gunicorn.http.errors import ChunkMissingTerminator, InvalidChunkSize, LimitRequestHeaders
from gunicorn.http.unreader import IterUnreader

END_OF_LINE = b"\r\n"
END_OF_HEAD = b"\r\n\r\n"
SIZE_LINE_BYTES = 4096  # of a chunk's size with its extensions
TRAILER_BYTES = 65_536
HEXADECIMAL = re.compile(rb"[0-9a-fA-F]{1,16}")
PHRASES = {status.value: status.phrase for status in HTTPStatus}
NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
FORBIDDEN_IN_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
WITHOUT_BODY = frozenset({204, 304})
HOP_BY_HOP = frozenset({b"connection", b"keep-alive", b"transfer-encoding"})

Headers = list[tuple[bytes, bytes]]


class Body(Protocol):
    """A request's body, which comes in pieces."""

    is_complete: bool

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """Take what has come; returns what of it is content, and what is behind the body."""


def parse_head(head: bytes, config: Any, peer: object) -> Request:
    """Return the request of a whole head; raises what gunicorn does for one that is no good."""
    return Request(config, IterUnreader(iter([head])), peer)


def body_of(request: Request) -> Body:
    """Return the body that a request's head announces."""
    reader = request.body.reader
    return ChunkedBody() if isinstance(reader, ChunkedReader) else LengthBody(reader.length)


class LengthBody:
    """A body of so many bytes."""

    def __init__(self, length: int) -> None:
        self._left = length
        self.is_complete = not length

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """Take what has come."""
        content, rest = data[: self._left], data[self._left :]
        self._left -= len(content)
        self.is_complete = not self._left
        return content, rest


class ChunkedBody:
    """A body in chunks (RFC 9112 section 7.1); its trailer is read and left out."""

    def __init__(self) -> None:
        self._unread = b""
        self._left = 0  # of the chunk
        self._ends_chunk = False  # an end of line is due
        self._in_trailer = False
        self._trailer_bytes = 0
        self.is_complete = False

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """Take what has come; raises gunicorn's errors for what is no such body."""
        data, self._unread = self._unread + data, b""
        content: list[bytes] = []
        at = 0
        while not self.is_complete:
            if self._left:
                piece = data[at : at + self._left]
                if not piece:
                    return b"".join(content), b""
                content.append(piece)
                at += len(piece)
                self._left -= len(piece)
                self._ends_chunk = not self._left
                continue
            end = data.find(END_OF_LINE, at)
            if end < 0:
                self._unread = data[at:]
                self._check_unfinished(self._unread)
                return b"".join(content), b""
            self._take_line(data[at:end])
            at = end + len(END_OF_LINE)
        return b"".join(content), data[at:]

    def _check_unfinished(self, line: bytes) -> None:
        """Raise for a line that can't become a good one, however it goes on."""
        if self._ends_chunk and line not in (b"", b"\r"):
            raise ChunkMissingTerminator(line[:2])
        if b"\n" in line or len(line) > SIZE_LINE_BYTES:
            raise InvalidChunkSize(line[:20])

    def _take_line(self, line: bytes) -> None:
        if self._in_trailer:
            self._trailer_bytes += len(line)
            if self._trailer_bytes > TRAILER_BYTES:
                raise LimitRequestHeaders("limit request trailer section size")
            self.is_complete = not line
        elif self._ends_chunk:
            if line:
                raise ChunkMissingTerminator(line[:2])
            self._ends_chunk = False
        else:
            size, _, extension = line.partition(b";")
            size = size.rstrip(b" \t") if extension else size
            if not HEXADECIMAL.fullmatch(size) or b"\r" in extension or b"\n" in extension:
                raise InvalidChunkSize(line[:20])
            self._left = int(size, 16)
            self._in_trailer = not self._left


def checked(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """Return the fields of an app's answer; raises ValueError for what would be read differently.

    What is no bytes raises an AttributeError, as with other servers.
    """
    found = []
    for name, value in headers:
        # The methods tell bytes from text.
        name.decode("latin-1"), value.decode("latin-1")
        one, other = bytes(name), bytes(value).strip(b" \t")
        if not NAME.fullmatch(one):
            raise ValueError(f"the app has sent a header with the name {one!r}")
        if FORBIDDEN_IN_VALUE.search(other):
            raise ValueError(f"the app has sent a header {one!r} with control characters")
        found.append((one, other))
    return found


def length_of(headers: Headers) -> int | None:
    """Return the length that an answer announces."""
    for name, value in headers:
        if name.lower() == b"content-length":
            if not value.isdigit():
                raise ValueError(f"the app has sent the Content-Length {value!r}")
            return int(value)
    return None


def wants_close(headers: Headers) -> bool:
    """Tell whether an answer is the connection's last one, as its app says."""
    return any(
        name.lower() == b"connection" and b"close" in value.lower() for name, value in headers
    )


def left_out_at(status: int) -> frozenset[bytes]:
    """Return the fields, in small letters, that an app's answer of a status must not have."""
    return HOP_BY_HOP | {b"content-length"} if status == HTTPStatus.NO_CONTENT else HOP_BY_HOP


def head_of(status: int, headers: Headers) -> bytes:
    """Return an answer's head, with the date where it has none."""
    fields = list(headers)
    if all(name.lower() != b"date" for name, _ in fields):
        fields.append((b"Date", formatdate(usegmt=True).encode()))
    lines = b"".join(b"%s: %s\r\n" % field for field in fields)
    phrase = PHRASES.get(status, "Unknown Status Code")
    return b"HTTP/1.1 %d %s\r\n%s\r\n" % (status, phrase.encode(), lines)
