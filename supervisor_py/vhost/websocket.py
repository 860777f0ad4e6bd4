"""A WebSocket of an ASGI app, from its handshake to its end."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from gunicorn.http import Request

from . import http_message
from .exchange import ASGIApplication, Client, IncompleteError, Message, is_of_hanging_up
from .failures import ClientGoneError
from .http_message import Headers
from .websocket_frames import (
    ABNORMAL,
    BINARY,
    CLOSE,
    GOING_AWAY,
    INTERNAL_ERROR,
    NORMAL,
    PING,
    PONG,
    TEXT,
    BrokenError,
    Reader,
    Received,
    accept_key,
    close_frame,
    frame,
)

UNREAD_MESSAGES, UNREAD_BYTES = 32, 65536  # for the app; then the client has to wait
CLOSE_SECONDS = 5.0  # for a client to answer a close
PING_SECONDS = 20.0  # between two pings, which proxies see, too; and for a client to answer one
VERSION = b"13"

CONNECTING, DENYING, OPEN, CLOSING, CLOSED = range(5)


def is_wanted(request: Request) -> bool:
    """Tell whether a client asks for a WebSocket. Pure."""
    connection = [token.strip().lower() for token in _values(request, "CONNECTION")]
    upgrade = [token.strip().lower() for token in _values(request, "UPGRADE")]
    return request.method == "GET" and "upgrade" in connection and "websocket" in upgrade


def refusal(request: Request) -> tuple[int, bytes, Headers] | None:
    """Return status, text and fields for a handshake that is no good. Pure."""
    versions = [value.strip() for value in _values(request, "SEC-WEBSOCKET-VERSION")]
    if versions != [VERSION.decode()]:
        headers = [(b"Sec-WebSocket-Version", VERSION), (b"Upgrade", b"websocket")]
        return 426, b"WebSockets are spoken here in version 13\n", headers
    key = _key(request)
    has_body = request.version < (1, 1) or not http_message.body_of(request).is_complete
    if has_body or key is None or accept_key(key) is None:
        return 400, b"no handshake of a WebSocket\n", []
    return None


def scope_of(http: Message, request: Request) -> Message:
    """Return what an app is told of a WebSocket, made of what it would be of a request. Pure."""
    protocols = [value.strip() for value in _values(request, "SEC-WEBSOCKET-PROTOCOL")]
    scope = {key: value for key, value in http.items() if key != "method"}
    return {
        **scope,
        "type": "websocket",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "scheme": "wss" if http["scheme"] == "https" else "ws",
        "subprotocols": [value for value in protocols if value],
        "extensions": {"websocket.http.response": {}},
    }


def _values(request: Request, name: str) -> list[str]:
    """Return the elements of a field that is a list."""
    values = (value for key, value in request.headers if key == name)
    return [element for value in values for element in value.split(",")]


def _key(request: Request) -> bytes | None:
    keys = [value for name, value in request.headers if name == "SEC-WEBSOCKET-KEY"]
    return keys[0].strip().encode("latin-1") if len(keys) == 1 else None


class WebSocket:
    """A WebSocket, on the event loop."""

    __slots__ = (
        "_asked_at",
        "_changed",
        "_client",
        "_close_timer",
        "_code",
        "_has_connected",
        "_headers",
        "_heard_at",
        "_reader",
        "_reason",
        "_request",
        "_state",
        "_status",
        "_told_end",
        "_unread",
        "_unread_bytes",
        "task",
    )  # fmt: skip

    def __init__(self, client: Client, request: Request) -> None:
        self._client = client
        self._request = request
        self._state = CONNECTING
        self._reader = Reader()
        self._unread: deque[Received] = deque()  # by the app
        self._unread_bytes = 0
        self._changed: asyncio.Future[None] | None = None  # there is something to receive
        self._has_connected = False
        self._code, self._reason = ABNORMAL, ""  # of the end, as the app is told
        self._told_end = False
        self._close_timer: asyncio.TimerHandle | None = None
        self._heard_at = self._asked_at = asyncio.get_running_loop().time()
        self._status = 0  # of a denial
        self._headers: Headers = []
        self.task: asyncio.Task[None] | None = None

    # Called by the connection and the worker

    @property
    def awaits_data(self) -> bool:
        """Whether what the client sends belongs to it: always."""
        return True

    def feed(self, data: bytes) -> bytes:
        """Take what a client has sent."""
        self._heard_at = asyncio.get_running_loop().time()
        try:
            received = self._reader.feed(data)
        except BrokenError as error:
            self._take(error.received)
            self._end(error.code, str(error))
            if self._state == OPEN:
                self._client.write(close_frame(error.code, str(error)))
            if self._state in (OPEN, CLOSING):
                self._finish()
        else:
            self._take(received)
        return b""

    def half_close(self) -> bool:
        """Note that nothing more comes: without a close frame, it is broken."""
        self.hang_up()
        return False

    def hang_up(self) -> None:
        """Note that there is no client any more."""
        self._end(ABNORMAL, "")
        self._state = CLOSED
        if self._close_timer is not None:
            self._close_timer.cancel()
            self._close_timer = None

    def go_away(self) -> None:
        """Close it, as the worker leaves; one that is not open yet is closed when it is."""
        if self._state == OPEN:
            self._end(GOING_AWAY, "")
            self._close(GOING_AWAY, "")

    def look(self, now: float) -> None:
        """Ask from time to time whether the client is still there; one that is not is closed."""
        if not self._client.reads:  # its answer would not be heard
            self._heard_at = now
        if self._state != OPEN or now - self._asked_at < PING_SECONDS:
            return
        if self._heard_at < self._asked_at:
            self._end(ABNORMAL, "no answer to a ping")
            self._close(INTERNAL_ERROR, "no answer to a ping")
            return
        self._asked_at = now
        self._client.write(frame(PING, b""))

    async def run(self, application: ASGIApplication, scope: Message) -> None:
        """Have the app serve it; whatever it raises goes no further."""
        error: BaseException | None = None
        try:
            await application(scope, self._receive, self._send)
        except BaseException as raised:  # noqa: BLE001
            error = raised
            if self._state not in (CLOSING, CLOSED) or not is_of_hanging_up(raised):
                self._client.log_failure(raised, self._request)
        if self._state in (CONNECTING, DENYING):
            self._break_off(error)
        elif self._state == OPEN:
            code = NORMAL if error is None else INTERNAL_ERROR
            self._end(code, "")
            self._close(code, "")

    def _break_off(self, error: BaseException | None) -> None:
        """End a handshake that the app has not completed."""
        if error is None:
            error = IncompleteError("the app has returned without having accepted the WebSocket")
            self._client.log_failure(error, self._request)
        if self._state == CONNECTING:
            self._answer(500, [], b"Internal Server Error\n")
        self._finish()

    # What has come

    def _take(self, received: list[Received]) -> None:
        for one in received:
            if one.kind == PING:
                if self._state == OPEN:
                    self._client.write(frame(PONG, one.payload))  # type: ignore[arg-type]
            elif one.kind == CLOSE:
                self._end(one.code, str(one.payload))
                if self._state == OPEN:
                    self._client.write(close_frame(one.code))
                    self._state = CLOSING
                if self._state == CLOSING:
                    self._finish()
                return
            elif one.kind in (TEXT, BINARY) and not self._told_end:
                self._unread.append(one)
                self._unread_bytes += len(one.payload)
                self._wake()
        if self._is_full():
            self._client.set_reading(False)

    def _is_full(self) -> bool:
        full = len(self._unread) >= UNREAD_MESSAGES or self._unread_bytes > UNREAD_BYTES
        return full and self._state != CLOSING  # else nobody would read the client's close

    def _end(self, code: int, reason: str) -> None:
        """Note how it ends, which the app is told behind all messages."""
        if not self._told_end:
            self._told_end = True
            self._code, self._reason = code, reason
            self._wake()

    def _wake(self) -> None:
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)

    # What the app does

    async def _receive(self) -> Message:
        if not self._has_connected:
            self._has_connected = True
            return {"type": "websocket.connect"}
        while not self._unread and not self._told_end:
            if self._changed is None or self._changed.done():
                self._changed = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._changed)
        if not self._unread:
            return {"type": "websocket.disconnect", "code": self._code, "reason": self._reason}
        one = self._unread.popleft()
        self._unread_bytes -= len(one.payload)
        if not self._is_full():
            self._client.set_reading(True)
        key = "text" if one.kind == TEXT else "bytes"
        return {"type": "websocket.receive", key: one.payload}

    async def _send(self, message: Message) -> None:
        kind = message["type"]
        does = _DOES.get((self._state, kind))
        if does is not None:
            await does(self, message)
        elif self._state in (CLOSING, CLOSED):
            if kind != "websocket.close":  # it is closed, as is wanted
                raise ClientGoneError
        else:
            raise RuntimeError(f"the app has sent {kind!r}, {_WHEN[self._state]}")

    async def _accept(self, message: Message) -> None:
        key = _key(self._request)
        assert key is not None
        headers = http_message.checked(message.get("headers") or ())
        protocol = message.get("subprotocol")
        if protocol is not None:
            name = b"Sec-WebSocket-Protocol"
            headers += http_message.checked([(name, protocol.encode("latin-1"))])
        accepted = accept_key(key) or b""
        own = [
            (b"Upgrade", b"websocket"),
            (b"Connection", b"Upgrade"),
            (b"Sec-WebSocket-Accept", accepted),
        ]
        own_names = {name.lower() for name, _ in own}
        more = [one for one in headers if one[0].lower() not in own_names]
        self._client.write(http_message.head_of(101, [*own, *more]))
        self._state = OPEN
        if self._told_end:
            self._close(self._code, self._reason)
        elif self._client.leaving:
            self.go_away()

    async def _deny(self, message: Message) -> None:
        del message
        self._answer(403, [], b"")
        self._end(ABNORMAL, "")
        self._finish()

    async def _start_denial(self, message: Message) -> None:
        self._status = int(message["status"])
        headers = http_message.checked(message.get("headers") or ())
        self._headers = [one for one in headers if one[0].lower() not in http_message.HOP_BY_HOP]
        self._state = DENYING

    async def _send_denial(self, message: Message) -> None:
        body = message.get("body", b"")
        if self._status:
            headers = [*self._headers, (b"Connection", b"close")]
            self._client.write(http_message.head_of(self._status, headers))
            self._status = 0
        self._client.write(body)
        if message.get("more_body", False):
            await self._client.drain()
            return
        self._end(ABNORMAL, "")
        self._finish()

    async def _send_message(self, message: Message) -> None:
        text, data = message.get("text"), message.get("bytes")
        if text is not None:
            sent = frame(TEXT, text.encode())
        elif data is not None:
            sent = frame(BINARY, data)
        else:
            raise RuntimeError("the app has sent a message with neither text nor bytes")
        self._client.write(sent)
        await self._client.drain()

    async def _send_close(self, message: Message) -> None:
        code, reason = int(message.get("code", NORMAL)), message.get("reason") or ""
        self._end(code, reason)
        self._close(code, reason)

    # The end

    def _answer(self, status: int, headers: Headers, body: bytes) -> None:
        fields = [*headers, (b"Content-Length", b"%d" % len(body)), (b"Connection", b"close")]
        self._client.write(http_message.head_of(status, fields) + body)

    def _close(self, code: int, reason: str) -> None:
        """Send a close, and wait for the client's, not for ever."""
        self._client.write(close_frame(code, reason))
        self._state = CLOSING
        self._unread.clear()
        self._client.set_reading(True)
        later = asyncio.get_running_loop().call_later
        self._close_timer = later(CLOSE_SECONDS, self._finish)

    def _finish(self) -> None:
        if self._state != CLOSED:
            self.hang_up()
            self._client.finish(keep=False)


_DOES: dict[tuple[int, str], Callable[[WebSocket, Message], Any]] = {
    (CONNECTING, "websocket.accept"): WebSocket._accept,
    (CONNECTING, "websocket.close"): WebSocket._deny,
    (CONNECTING, "websocket.http.response.start"): WebSocket._start_denial,
    (DENYING, "websocket.http.response.body"): WebSocket._send_denial,
    (OPEN, "websocket.send"): WebSocket._send_message,
    (OPEN, "websocket.close"): WebSocket._send_close,
}
_WHEN = {
    CONNECTING: "before it has accepted the WebSocket",
    DENYING: "in the middle of its denial",
    OPEN: "on a WebSocket that is open",
}
