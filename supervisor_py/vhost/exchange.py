"""One HTTP request of an ASGI app and its answer, as messages that the app receives and sends."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from types import FrameType
from typing import Any, Protocol

from gunicorn.http import Request

from . import http_message
from .client_socket import Patience
from .failures import ClientGoneError
from .http_message import Body, Headers

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApplication = Callable[[Message, Receive, Send], Awaitable[None]]

UNREAD_BYTES = 65536  # of a body that the app has not asked for; then its client has to wait
DISCONNECT = "http.disconnect"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"
NO_BODY, LENGTH, CHUNKED, UP_TO_END = range(4)  # how an answer's body is framed


class IncompleteError(RuntimeError):
    """An app has returned without having answered, or in the middle of its answer."""


class Client(Protocol):
    """What an exchange, or a WebSocket, needs of its connection."""

    @property
    def leaving(self) -> bool:
        """Whether the worker is: the answer is the connection's last one."""

    @property
    def reads(self) -> bool:
        """Whether what the client sends is read; else it waits."""

    def write(self, data: bytes) -> None:
        """Send data, as soon as the client takes it."""

    async def drain(self) -> None:
        """Wait while the client is slow; raises ClientGoneError."""

    def set_reading(self, wanted: bool) -> None:
        """Go on reading, or have the client wait."""

    def give_up(self) -> None:
        """End the connection of a client that is too slow."""

    def finish(self, *, keep: bool) -> None:
        """Go on with the next request, or end the connection once all has been taken."""

    def log_failure(self, error: BaseException, request: Request) -> None:
        """Log what an app has raised."""


class Exchange:
    """A request and its answer, on the event loop."""

    def __init__(self, client: Client, request: Request, body: Body, patience: Patience) -> None:
        self._client = client
        self._request = request
        self._body = body
        self._patience = patience  # with a body that does not come
        self._awaits_continue = request._expected_100_continue
        self._unread = bytearray()
        self._received_all = False
        self._changed = asyncio.Event()  # there is something to receive, maybe
        self._gone = self._half_closed = False
        self._started = self._completed = False
        self._status = 0
        self._headers: Headers = []
        self._head_waits = False  # to be sent with the first part of the body
        self._framing = NO_BODY
        self._left = 0  # of the length that has been announced
        self._closes = False  # the connection, after this answer
        self.task: asyncio.Task[None] | None = None

    @property
    def awaits_data(self) -> bool:
        """Whether what the client sends belongs to this request."""
        return not self._body.is_complete

    @property
    def is_answered(self) -> bool:
        """Whether the app has completed its answer; its task may go on behind that."""
        return self._completed

    def frames(self) -> Iterator[FrameType]:
        """Yield the frames in which the app's task waits, the innermost one last."""
        waiting = None if self.task is None else self.task.get_coro()
        while (frame := getattr(waiting, "cr_frame", None)) is not None:
            yield frame
            waiting = getattr(waiting, "cr_await", None)

    def feed(self, data: bytes) -> bytes:
        """Take more of the body; returns what is behind it. Raises gunicorn's errors."""
        self._awaits_continue = False
        content, rest = self._body.feed(data)
        self._patience.moved(len(data))
        if not self._completed:
            self._unread += content
            if len(self._unread) > UNREAD_BYTES:
                self._client.set_reading(False)
        if content or self._body.is_complete:
            self._changed.set()
        return rest

    def half_close(self) -> bool:
        """Note that nothing more comes: to the app, its client has gone.

        Returns whether it may be answered all the same.
        """
        self._half_closed = True
        self._changed.set()
        if not self._body.is_complete:
            self._gone = True
        return not self._gone

    def hang_up(self) -> None:
        """Note that there is no client any more, or none that sends what it has announced."""
        self._gone = True
        self._changed.set()

    async def run(self, application: ASGIApplication, scope: Message) -> None:
        """Have the app answer; whatever it raises goes no further, as that could end the loop."""
        try:
            await application(scope, self._receive, self._send)
        except BaseException as error:  # noqa: BLE001
            self._fail(error)
        else:
            if not self._completed and not self._gone:
                text = "having completed its answer" if self._started else "an answer"
                self._fail(IncompleteError(f"the app has returned without {text}"))

    def _fail(self, error: BaseException) -> None:
        """Answer with 500, or break off an answer that has begun."""
        if self._completed or self._gone:
            if not is_of_hanging_up(error):
                self._client.log_failure(error, self._request)
            return
        self._client.log_failure(error, self._request)
        if not self._started or (self._head_waits and not isinstance(error, IncompleteError)):
            self.answer(500, b"Internal Server Error\n")
            return
        self._completed = True
        self._flush_head()
        self._client.finish(keep=False)

    def answer(self, status: int, text: bytes, *headers: tuple[bytes, bytes]) -> None:
        """Answer in the app's place."""
        own = (b"Content-Type", b"text/plain; charset=utf-8")
        self._start(status, [own, (b"Content-Length", b"%d" % len(text)), *headers], len(text))
        self._take(text, last=True)

    async def _receive(self) -> Message:
        while not self._gone and not self._completed:
            if self._unread or (self._body.is_complete and not self._received_all):
                piece = bytes(self._unread)
                self._unread.clear()
                self._client.set_reading(True)
                self._received_all = self._body.is_complete
                more = not self._received_all
                return {"type": "http.request", "body": piece, "more_body": more}
            if self._half_closed:
                break
            self._changed.clear()
            if self._body.is_complete:
                await self._changed.wait()
            else:
                await self._wait_for_body()
        return {"type": DISCONNECT}

    async def _wait_for_body(self) -> None:
        if self._awaits_continue and not self._started:
            self._awaits_continue = False
            self._client.write(CONTINUE)
        loop = asyncio.get_running_loop()
        began = loop.time()
        limit = loop.call_later(self._patience.seconds_left, self._client.give_up)
        try:
            await self._changed.wait()
        finally:
            limit.cancel()
            self._patience.waited(loop.time() - began)

    async def _send(self, message: Message) -> None:
        if self._gone:
            raise ClientGoneError
        kind = message["type"]
        expected = "http.response.body" if self._started else "http.response.start"
        if kind != expected or self._completed:
            after = ", after the whole answer" if self._completed else f", not {expected!r}"
            raise RuntimeError(f"the app has sent {kind!r}{after}")
        if not self._started:
            headers = http_message.checked(message.get("headers", ()))
            self._closes = http_message.wants_close(headers)
            self._start(int(message["status"]), headers, http_message.length_of(headers))
            # It is sent with the first part of the body, where that is there at once.
            asyncio.get_running_loop().call_soon(self._flush_head)
            return
        body = message.get("body", b"")
        last = not message.get("more_body", False)
        self._take(body, last=last)
        if not last:
            await self._client.drain()

    def _start(self, status: int, headers: Headers, length: int | None) -> None:
        version = self._request.version
        self._started = True
        self._status = status
        self._headers = headers
        self._closes = self._closes or self._client.leaving or self._request.should_close()
        if self._request.method == "HEAD" or status in http_message.WITHOUT_BODY:
            self._framing = NO_BODY
        elif length is not None:
            self._framing, self._left = LENGTH, length
        elif version >= (1, 1):
            self._framing = CHUNKED
        else:
            self._framing, self._closes = UP_TO_END, True
        self._head_waits = True

    def _flush_head(self) -> None:
        if self._head_waits:
            self._client.write(self._take_head())

    def _take_head(self, length: int | None = None) -> bytes:
        """Return the head, if it has not been sent; `length`: of the whole body, now known."""
        if not self._head_waits:
            return b""
        self._head_waits = False
        left_out = http_message.left_out_at(self._status)
        fields = [one for one in self._headers if one[0].lower() not in left_out]
        if self._framing == CHUNKED and length is not None:
            self._framing = LENGTH
            fields.append((b"Content-Length", b"%d" % length))
        elif self._framing == CHUNKED:
            fields.append((b"Transfer-Encoding", b"chunked"))
        if self._closes or (length is not None and not self._body.is_complete):
            self._closes = True
            fields.append((b"Connection", b"close"))
        elif self._request.version < (1, 1):
            fields.append((b"Connection", b"keep-alive"))
        return http_message.head_of(self._status, fields)

    def _take(self, body: bytes, *, last: bool) -> None:
        """Send a part of the body, with what goes before and behind it."""
        size = len(body)
        if self._framing == LENGTH:
            if size > self._left or (last and size < self._left):
                what = "longer" if size > self._left else "shorter"
                raise RuntimeError(f"the app has sent a body {what} than its Content-Length")
            self._left -= size
        head = self._take_head(size if last else None)
        if self._framing == NO_BODY:
            data = head
        elif self._framing == CHUNKED:
            chunk = b"%x\r\n%s\r\n" % (size, body) if size else b""
            data = head + chunk + (LAST_CHUNK if last else b"")
        else:
            data = head + body if head else bytes(body)
        if data:
            self._client.write(data)
        if last:
            self._completed = True
            self._unread.clear()
            self._changed.set()
            self._client.finish(keep=not self._closes and self._body.is_complete)


def is_of_hanging_up(error: BaseException) -> bool:
    """Tell whether it comes from a client that has gone, and not from a fault of the app."""
    if isinstance(error, asyncio.CancelledError):
        return True
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ClientGoneError):
            return True
        seen = seen.__context__
    return False
