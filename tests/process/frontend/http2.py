"""A client of HTTP/2 that writes its frames itself, and so may write wrong ones (RFC 9113)."""

import contextlib
import socket
import ssl
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ..waiting import LIMIT

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RESET, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = range(10)
ACK = END_STREAM = 0x1
END_HEADERS, PADDED, PRIORITIZED = 0x4, 0x8, 0x20
TABLE_SIZE, ENABLE_PUSH, MAX_STREAMS, INITIAL_WINDOW, MAX_FRAME, MAX_HEADERS = range(1, 7)
MOST = 2**31 - 1  # of a window
STATUSES = {0x88: 200, 0x89: 204, 0x8A: 206, 0x8B: 304, 0x8C: 400, 0x8D: 404, 0x8E: 500}
ERRORS = (
    "NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT",
    "STREAM_CLOSED", "FRAME_SIZE_ERROR", "REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR",
    "CONNECT_ERROR", "ENHANCE_YOUR_CALM", "INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED",
)  # fmt: skip


@dataclass(frozen=True)
class Frame:
    """A frame as it was received."""

    kind: int
    flags: int
    stream: int
    payload: bytes


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """A frame, whatever its length should be."""
    return b"%s%c%c%s%s" % (
        len(payload).to_bytes(3, "big"), kind, flags, stream.to_bytes(4, "big"), payload,
    )  # fmt: skip


def setting(name: int, value: int) -> bytes:
    """One parameter of a SETTINGS frame."""
    return name.to_bytes(2, "big") + value.to_bytes(4, "big")


def number(value: int, prefix: int, first: int = 0) -> bytes:
    """An integer of HPACK (RFC 7541 section 5.1)."""
    most = (1 << prefix) - 1
    if value < most:
        return bytes([first | value])
    encoded = bytearray([first | most])
    value -= most
    while value >= 128:
        encoded.append(value % 128 + 128)
        value //= 128
    encoded.append(value)
    return bytes(encoded)


def field(name: bytes, value: bytes, kind: int = 0x00) -> bytes:
    """A literal field, by default one that is in no table; 0x40 puts it into the dynamic one."""
    return bytes([kind]) + number(len(name), 7) + name + number(len(value), 7) + value


def head(host: str, path: str = "/", method: str = "GET", more: bytes = b"") -> bytes:
    """The fields of a request."""
    pseudo = {":method": method, ":scheme": "https", ":authority": host, ":path": path}
    return b"".join(field(k.encode(), v.encode("latin-1")) for k, v in pseudo.items()) + more


class Client:
    """One connection, with its preface and settings sent."""

    def __init__(self, port: int, host: str, settings: bytes = b"") -> None:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.set_alpn_protocols(["h2"])
        plain = socket.create_connection(("127.0.0.1", port), LIMIT)
        self.host = host
        self.socket = context.wrap_socket(plain, server_hostname=host)
        self._read = b""
        self.send(PREFACE + frame(SETTINGS, 0, 0, settings))

    def send(self, data: bytes) -> None:
        """Send bytes; a server that has hung up meanwhile is told by what it has said."""
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            self.socket.sendall(data)

    def send_all(self, parts: Iterable[bytes], at_once: int = 1000) -> None:
        """Send many parts, and stop at an end of the connection."""
        batch = b""
        try:
            for count, part in enumerate(parts, 1):
                batch += part
                if count % at_once == 0:
                    self.socket.sendall(batch)
                    batch = b""
            self.socket.sendall(batch)
        except (ConnectionError, ssl.SSLError):
            pass

    def ask(self, stream: int = 1, path: str = "/", more: bytes = b"") -> None:
        """Send a request without a body."""
        self.send(
            frame(HEADERS, END_HEADERS | END_STREAM, stream, head(self.host, path, more=more))
        )

    def frames(self) -> Iterator[Frame]:
        """What the server sends, until it hangs up; TimeoutError where it doesn't."""
        while True:
            while len(self._read) < 9 or len(self._read) < 9 + self._length():
                try:
                    got = self.socket.recv(65536)
                except (ConnectionError, ssl.SSLError):
                    return
                if not got:
                    return
                self._read += got
            end = 9 + self._length()
            whole, self._read = self._read[:end], self._read[end:]
            stream = int.from_bytes(whole[5:9], "big") & MOST
            yield Frame(whole[3], whole[4], stream, whole[9:])

    def outcome(self) -> str:
        """What has come of it: a status, a reset, a GOAWAY that is an error, or "closed"."""
        for got in self.frames():
            if got.kind == GOAWAY:
                error = int.from_bytes(got.payload[4:8], "big")
                if error:
                    return f"GOAWAY {ERRORS[error]}"
            elif got.kind == RESET:
                return f"RST {ERRORS[int.from_bytes(got.payload[:4], 'big')]}"
            elif got.kind == HEADERS:
                return str(status(got.payload))
        return "closed"

    def close(self) -> None:
        """Hang up, without a word."""
        self.socket.close()

    def _length(self) -> int:
        return int.from_bytes(self._read[:3], "big")


def status(fields: bytes) -> int:
    """The status of a response, which is nginx's first field."""
    at = 0
    while fields[at] & 0xE0 == 0x20:  # a new size of the table
        at += 1
    if fields[at] in STATUSES:
        return STATUSES[fields[at]]
    length = fields[at + 1] & 0x7F
    return int(fields[at + 2 : at + 2 + length])
