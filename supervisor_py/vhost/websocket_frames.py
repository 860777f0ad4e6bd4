"""The frames of WebSockets (RFC 6455), as a server reads and writes them. Pure."""

import base64
import binascii
import codecs
import hashlib
import struct
from dataclasses import dataclass

CONTINUATION, TEXT, BINARY = 0x0, 0x1, 0x2
CLOSE, PING, PONG = 0x8, 0x9, 0xA
DATA, CONTROL = frozenset({CONTINUATION, TEXT, BINARY}), frozenset({CLOSE, PING, PONG})
FINAL, MASKED = 0x80, 0x80
RESERVED = 0x70  # bits of extensions, of which there are none
LENGTH_16, LENGTH_64 = 126, 127  # a length that follows in so many bits
CONTROL_BYTES = 125
MESSAGE_BYTES = 16 * 1024 * 1024  # as with uvicorn

NORMAL, GOING_AWAY, PROTOCOL_ERROR = 1000, 1001, 1002
NO_STATUS, ABNORMAL = 1005, 1006  # never on the wire
INVALID_DATA, TOO_BIG, INTERNAL_ERROR = 1007, 1009, 1011
ALLOWED_CODES = frozenset({*range(1000, 1004), *range(1007, 1015)})
PRIVATE_CODES = range(3000, 5000)

_ACCEPT = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 section 1.3
_KEY_BYTES = 16
_decoder = codecs.getincrementaldecoder("utf-8")


@dataclass(frozen=True, slots=True)
class Received:
    """A whole message, or a control frame. A CLOSE has its code, and its reason as payload."""

    kind: int
    payload: bytes | str
    code: int = 0


class BrokenError(ValueError):
    """A client does not keep to the protocol: its connection is closed with `code`."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.received: list[Received] = []  # what was whole before that


def accept_key(key: bytes) -> bytes | None:
    """Return the answer to a client's Sec-WebSocket-Key; None to what is no key."""
    try:
        if len(base64.b64decode(key, validate=True)) != _KEY_BYTES:
            return None
    except (binascii.Error, ValueError):
        return None
    return base64.b64encode(hashlib.sha1(key + _ACCEPT, usedforsecurity=False).digest())


def frame(kind: int, payload: bytes) -> bytes:
    """Return a whole message, or a control frame."""
    size = len(payload)
    if size < LENGTH_16:
        head = struct.pack("!BB", FINAL | kind, size)
    elif size < 1 << 16:
        head = struct.pack("!BBH", FINAL | kind, LENGTH_16, size)
    else:
        head = struct.pack("!BBQ", FINAL | kind, LENGTH_64, size)
    return head + payload


def close_frame(code: int, reason: str = "") -> bytes:
    """Return a CLOSE, with as much of the reason as fits in; NO_STATUS is said by nothing."""
    if code == NO_STATUS:
        return frame(CLOSE, b"")
    text = reason.encode("utf-8", "replace")[: CONTROL_BYTES - 2]
    whole = text.decode("utf-8", "ignore").encode()  # not half of a character
    return frame(CLOSE, struct.pack("!H", code) + whole)


class Reader:
    """What a client sends, as messages and control frames."""

    __slots__ = (
        "_decoder", "_frame", "_key", "_kind", "_left", "_message", "_most", "_unread",
    )  # fmt: skip

    def __init__(self, most: int = MESSAGE_BYTES) -> None:
        self._most = most
        self._unread = b""
        self._frame = -1  # the first byte of the frame whose payload comes; -1: none
        self._key = b""
        self._left = 0  # of that payload
        self._kind = CONTINUATION  # of the message whose fragments come; CONTINUATION: none
        self._message = bytearray()  # not a list: there is no end to fragments of a byte, or none
        self._decoder = _decoder()

    def feed(self, data: bytes) -> list[Received]:
        """Take what has come; returns what is whole by now. Raises BrokenError."""
        data = self._unread + data if self._unread else data
        received: list[Received] = []
        at = 0
        try:
            while True:
                if self._frame < 0:
                    start = self._begin_frame(data, at)
                    if not start:
                        break
                    at = start
                is_control = self._frame & 0xF in CONTROL
                # A control frame is looked at when it is whole, and there is little of it.
                if len(data) - at < (self._left if is_control else min(1, self._left)):
                    break
                piece = data[at : at + self._left]
                at += len(piece)
                self._left -= len(piece)
                found = self._take(_unmasked(piece, self._key), is_control=is_control)
                if found is not None:
                    received.append(found)
                if not self._left:
                    self._frame = -1
                else:
                    turn = len(piece) % 4
                    self._key = self._key[turn:] + self._key[:turn]
        except BrokenError as error:
            error.received = received
            raise
        self._unread = data[at:]
        return received

    def _begin_frame(self, data: bytes, at: int) -> int:
        """Read a frame's head; returns where its payload begins, 0 while the head is not whole."""
        if len(data) - at < 2:  # noqa: PLR2004
            return 0
        first, second = data[at], data[at + 1]
        size = second & ~MASKED
        kind = first & 0xF
        if first & RESERVED or kind not in DATA | CONTROL:
            raise BrokenError(PROTOCOL_ERROR, "reserved bits or opcode")
        if not second & MASKED:
            raise BrokenError(PROTOCOL_ERROR, "not masked")
        if kind in CONTROL and (not first & FINAL or size > CONTROL_BYTES):
            raise BrokenError(PROTOCOL_ERROR, "a fragmented or large control frame")
        at += 2
        form = {LENGTH_16: "!H", LENGTH_64: "!Q"}.get(size)
        if form is not None:
            width = struct.calcsize(form)
            if len(data) - at < width:
                return 0
            (size,) = struct.unpack_from(form, data, at)
            at += width
            if size < (LENGTH_16 if form == "!H" else 1 << 16) or size >> 63:
                raise BrokenError(PROTOCOL_ERROR, "not the shortest form of a length")
        if kind in DATA:
            self._begin_data(kind, size)
        if len(data) - at < 4:  # noqa: PLR2004
            return 0
        self._frame, self._left, self._key = first, size, data[at : at + 4]
        if kind in (TEXT, BINARY):
            self._kind = kind
        return at + 4

    def _begin_data(self, kind: int, size: int) -> None:
        if (kind == CONTINUATION) == (self._kind == CONTINUATION):
            raise BrokenError(PROTOCOL_ERROR, "a fragment where none is due, or none where one is")
        if len(self._message) + size > self._most:
            raise BrokenError(TOO_BIG, "too big")

    def _take(self, piece: bytes, *, is_control: bool) -> Received | None:
        if is_control:
            return _control(self._frame & 0xF, piece)
        is_last = not self._left and bool(self._frame & FINAL)
        self._message += piece
        if self._kind == TEXT:
            try:
                self._decoder.decode(piece, is_last)
            except UnicodeDecodeError:
                raise BrokenError(INVALID_DATA, "not UTF-8") from None
        if not is_last:
            return None
        kind, message = self._kind, bytes(self._message)
        self._kind = CONTINUATION
        self._message.clear()
        return Received(kind, message.decode() if kind == TEXT else message)


def _control(kind: int, payload: bytes) -> Received:
    if kind != CLOSE:
        return Received(kind, payload)
    if not payload:
        return Received(CLOSE, "", NO_STATUS)
    if len(payload) == 1:
        raise BrokenError(PROTOCOL_ERROR, "half of a close code")
    (code,) = struct.unpack_from("!H", payload)
    if code not in ALLOWED_CODES and code not in PRIVATE_CODES:
        raise BrokenError(PROTOCOL_ERROR, f"the close code {code}")
    try:
        return Received(CLOSE, payload[2:].decode(), code)
    except UnicodeDecodeError:
        raise BrokenError(INVALID_DATA, "a reason that is not UTF-8") from None


def _unmasked(payload: bytes, key: bytes) -> bytes:
    size = len(payload)
    mask = (key * (size // 4 + 1))[:size]
    # As one number each: a loop over bytes would take a hundred times as long.
    number = int.from_bytes(payload, "little") ^ int.from_bytes(mask, "little")
    return number.to_bytes(size, "little")
