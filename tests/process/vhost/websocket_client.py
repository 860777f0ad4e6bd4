"""A WebSocket's client that sends whatever a test wants, byte by byte."""

import base64
import itertools
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ..waiting import LIMIT

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA


def frame(kind: int, payload: bytes = b"", *, fin: bool = True, masked: bool = True) -> bytes:
    """Return a frame as a client sends it."""
    mask = 0x80 if masked else 0
    head = bytes([(0x80 if fin else 0) | kind])
    if len(payload) < 126:
        head += bytes([mask | len(payload)])
    elif len(payload) < 65536:
        head += bytes([mask | 126]) + struct.pack("!H", len(payload))
    else:
        head += bytes([mask | 127]) + struct.pack("!Q", len(payload))
    if not masked:
        return head + payload
    key = os.urandom(4)
    whole = int.from_bytes(payload, "big") ^ int.from_bytes(
        bytes(itertools.islice(itertools.cycle(key), len(payload))), "big"
    )
    return head + key + whole.to_bytes(len(payload), "big")


@dataclass
class Answer:
    """What a handshake gets."""

    status: int
    headers: list[tuple[str, str]]


class Client:
    """One connection, with or without a WebSocket."""

    def __init__(self, address: str | int) -> None:
        if isinstance(address, int):
            self.socket = socket.create_connection(("127.0.0.1", address), LIMIT)
        else:
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.settimeout(LIMIT)
            self.socket.connect(address)
        self._unread = b""

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def read(self, size: int) -> bytes:
        """Return so many bytes, or fewer at the end of the connection."""
        while len(self._unread) < size:
            try:
                data = self.socket.recv(65536)
            except ConnectionResetError:
                data = b""
            if not data:
                break
            self._unread += data
        found, self._unread = self._unread[:size], self._unread[size:]
        return found

    def read_until(self, end: bytes) -> bytes:
        """Return what comes up to and with these bytes."""
        found = b""
        while not found.endswith(end):
            byte = self.read(1)
            assert byte, f"the connection has ended after {found!r}"
            found += byte
        return found

    def read_to_end(self) -> bytes:
        """Return all that comes until the server closes."""
        return b"".join(iter(lambda: self.read(4096), b""))

    def read_head(self) -> Answer:
        """Return an answer without its body."""
        head = self.read_until(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")[:-2]
        fields = [line.partition(": ") for line in lines[1:]]
        return Answer(int(lines[0].split()[1]), [(n.lower(), v) for n, _, v in fields])

    def handshake(self, host: str, path: str = "/", **fields: str) -> Answer:
        """Ask for a WebSocket; fields replace those of a good handshake, "" leaves one out."""
        headers = {
            "Host": host,
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
            "Sec-WebSocket-Version": "13",
            **{name.replace("_", "-"): value for name, value in fields.items()},
        }
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items() if value)
        self.send(f"GET {path} HTTP/1.1\r\n{lines}\r\n".encode())
        return self.read_head()

    def read_frame(self) -> tuple[int, bytes]:
        """Return the next frame, with its first byte; (0, b"") at the end of the connection."""
        head = self.read(2)
        if len(head) < 2:
            return 0, b""
        assert not head[1] & 0x80, "a server masks nothing"
        size = head[1]
        if size == 126:
            (size,) = struct.unpack("!H", self.read(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", self.read(8))
        return head[0], self.read(size)

    def expect(self, kind: int, payload: bytes) -> None:
        """Assert what comes next."""
        assert self.read_frame() == (0x80 | kind, payload)

    def read_close(self) -> tuple[int, str]:
        """Return code and reason of the close that comes next."""
        kind, payload = self.read_frame()
        assert kind == 0x80 | CLOSE, (kind, payload)
        code = struct.unpack("!H", payload[:2])[0] if payload else 1005
        return code, payload[2:].decode()

    def close(self, code: int = 1000, reason: bytes = b"") -> None:
        """Send a close."""
        self.send(frame(CLOSE, struct.pack("!H", code) + reason))


@contextmanager
def connected(address: str | int) -> Iterator[Client]:
    """Connect, and close behind it."""
    client = Client(address)
    try:
        yield client
    finally:
        client.socket.close()


@contextmanager
def opened(address: str | int, host: str, path: str = "/", **fields: str) -> Iterator[Client]:
    """Open a WebSocket, and close the connection behind it."""
    with connected(address) as client:
        assert client.handshake(host, path, **fields).status == 101
        yield client
