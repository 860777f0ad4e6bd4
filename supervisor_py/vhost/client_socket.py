"""A client's socket that does not wait for ever: for a request's head, its body, or a reader."""

import errno
import math
import os
import select
import socket
import time
from typing import Any

from .failures import ClientGoneError
from .pool import Timeouts

LEAST_BYTES_PER_SECOND = 500  # of a client that is waited for without an end
HEAD_BYTES = 65_536  # of a request's line and fields; nginx hands on half of that at most
END_OF_HEAD = b"\r\n\r\n"

INCOMPLETE, COMPLETE, TOO_LONG, GONE = range(4)


class SlowClientError(ClientGoneError, ConnectionResetError):
    """A client that was too slow; for an app, and for gunicorn, it has gone."""

    def __init__(self) -> None:
        super().__init__(errno.ECONNRESET, "the client was too slow, and is given up")


class Patience:
    """The seconds left to wait for a client: waiting takes them, bytes that move give some back.

    So a client may stall for all of them at any time, and nobody can stretch them by the byte.
    """

    def __init__(self, seconds: float) -> None:
        self._most = seconds
        self.seconds_left = seconds

    def waited(self, seconds: float) -> None:
        """Count seconds in which nothing moved."""
        self.seconds_left = max(0.0, self.seconds_left - seconds)

    def moved(self, size: int) -> None:
        """Count bytes that have come or gone."""
        self.seconds_left = min(self._most, self.seconds_left + size / LEAST_BYTES_PER_SECOND)


class ClientSocket(socket.socket):
    """An accepted connection; it takes the place of the socket that it is made of.

    `head` is what has come of the next request, `begun` that something has, and `gave_up` that the
    client was too slow.
    """

    def __init__(self, accepted: socket.socket, timeouts: Timeouts) -> None:
        kind = accepted.family, accepted.type, accepted.proto
        super().__init__(*kind, fileno=accepted.detach())
        self._timeouts = timeouts
        self.head = bytearray()
        self.begun = False
        self.gave_up = False
        self._searched = 0
        self.begin_request()

    def begin_request(self) -> None:
        """Begin anew to count how long the client is waited for."""
        self._body = Patience(self._timeouts.body_timeout_seconds)
        self._answer = Patience(self._timeouts.send_timeout_seconds)

    def read_head(self) -> int:
        """Read what is there of a request's head, without waiting; returns what that makes it."""
        while not self._has_head():
            if len(self.head) >= HEAD_BYTES:
                return TOO_LONG
            try:
                data = super().recv(HEAD_BYTES - len(self.head), socket.MSG_DONTWAIT)
            except BlockingIOError:
                return INCOMPLETE
            except OSError:
                return GONE
            if not data:
                return GONE
            self.head += data
        return COMPLETE

    def take_head(self) -> bytes:
        """Return what has been read, which may go on behind the head."""
        head = bytes(self.head)
        self.head.clear()
        self.begun = False
        self._searched = 0
        return head

    def _has_head(self) -> bool:
        self.begun = self.begun or bool(self.head)
        while self.head.startswith(b"\r\n"):  # RFC 9112 section 2.2: no part of a request
            del self.head[:2]
        begin = max(0, self._searched - len(END_OF_HEAD) + 1)
        self._searched = len(self.head)
        return self.head.find(END_OF_HEAD, begin) >= 0

    def recv(self, bufsize: int, flags: int = 0) -> bytes:
        """Receive, as long as the client is not too slow; raises SlowClientError."""
        while True:
            try:
                data = super().recv(bufsize, flags | socket.MSG_DONTWAIT)
            except BlockingIOError:
                self._wait(select.POLLIN, self._body)
            else:
                self._body.moved(len(data))
                return data

    def send(self, data: Any, flags: int = 0) -> int:
        """Send what the client takes, as long as it is not too slow; raises SlowClientError."""
        while True:
            try:
                sent = super().send(data, flags | socket.MSG_DONTWAIT)
            except BlockingIOError:
                self._wait(select.POLLOUT, self._answer)
            else:
                self._answer.moved(sent)
                return sent

    def sendall(self, data: Any, flags: int = 0) -> None:
        """Send all of it; raises SlowClientError."""
        with memoryview(data) as view, view.cast("B") as rest:
            sent = 0
            while sent < len(rest):
                sent += self.send(rest[sent:], flags)

    def sendfile(self, file: Any, offset: int = 0, count: int | None = None) -> int:
        """Send a regular file by the kernel; raises SlowClientError."""
        source = file.fileno()
        end = os.fstat(source).st_size if count is None else offset + count
        at = offset
        self.setblocking(False)
        try:
            while at < end:
                try:
                    sent = os.sendfile(self.fileno(), source, at, end - at)
                except BlockingIOError:
                    self._wait(select.POLLOUT, self._answer)
                    continue
                if not sent:
                    break
                at += sent
                self._answer.moved(sent)
        finally:
            self.setblocking(True)
        return at - offset

    def _wait(self, event: int, patience: Patience) -> None:
        began = time.monotonic()
        waiting = select.poll()
        waiting.register(self, event)
        waiting.poll(math.ceil(patience.seconds_left * 1000))
        patience.waited(time.monotonic() - began)
        if not patience.seconds_left:
            self.gave_up = True
            raise SlowClientError
