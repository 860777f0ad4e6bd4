"""One request of an ASGI app: its thread has the connection, its task runs on the app's event loop.

The thread does what the task asks for, a message at a time, and is told when the task has ended, in
whatever way: it never waits for an app that has gone.
"""

import asyncio
import sys
import traceback
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from http import HTTPStatus
from queue import SimpleQueue
from types import FrameType
from typing import Any, NamedTuple

from gunicorn.http.errors import NoMoreData

from . import running
from .failures import ClientGoneError

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApplication = Callable[[Message, Receive, Send], Awaitable[None]]

PIECE_BYTES = 65536  # of a request's body, in one message
READ, START, BODY, END = range(4)
DISCONNECT = "http.disconnect"
PHRASES = {status.value: status.phrase for status in HTTPStatus}


class IncompleteError(RuntimeError):
    """An app has returned without having answered, or in the middle of its answer."""


class _Wish(NamedTuple):
    """What the task asks the thread to do, and where it waits for that."""

    kind: int
    value: Any = None
    done: "asyncio.Future[Any] | None" = None


class Exchange:
    """A request and its answer. Methods with an underscore run on the event loop, where said."""

    def __init__(
        self,
        application: ASGIApplication,
        loop: asyncio.AbstractEventLoop,
        environ: dict[str, Any],
        state: dict[str, Any],
    ) -> None:
        self._application = application
        self._loop = loop
        self._scope = scope_of(environ, state)
        self._input = environ["wsgi.input"]
        length = environ.get("CONTENT_LENGTH")
        chunked = bool(environ.get("HTTP_TRANSFER_ENCODING"))
        self._unread = None if chunked else int(length or 0)  # bytes; None: up to its end
        self._wishes: SimpleQueue[_Wish] = SimpleQueue()
        self._has_body = chunked or self._unread != 0
        self._body_received = False
        self._started = self._completed = False
        self._closed = asyncio.Event()  # nothing is received or sent any more
        self._gone = False
        self._reading: asyncio.Future[Any] | None = None
        self._error: BaseException | None = None
        self._task: asyncio.Task[None] | None = None

    def answer(self, start_response: Callable[..., Any]) -> Iterator[bytes]:
        """Run the app, in a task that works for the app of the calling thread."""
        if (request := running.of_thread()) is not None:
            request.task_frames = self._frames
        self._loop.call_soon_threadsafe(self._begin)
        try:
            while (wish := self._wishes.get()).kind != END:
                if wish.kind == START:
                    start_response(*wish.value)
                elif wish.kind == BODY:
                    yield wish.value
                    self._resolve(wish, None)
                else:
                    self._resolve(wish, self._read())
            yield from self._conclude()
        finally:
            self._loop.call_soon_threadsafe(self._hang_up)

    def _frames(self) -> Iterator[FrameType]:
        """Yield the frames in which the task waits, the innermost one last."""
        waiting = None if self._task is None else self._task.get_coro()
        while (frame := getattr(waiting, "cr_frame", None)) is not None:
            yield frame
            waiting = getattr(waiting, "cr_await", None)

    def _conclude(self) -> Iterator[bytes]:
        """Raise what the app has left unanswered."""
        if self._completed:
            return
        if self._gone:
            raise ClientGoneError
        if self._error is not None:
            raise self._error
        if not self._started:
            raise IncompleteError("the app has returned without an answer")
        yield b""  # the status that it has sent, of an answer that breaks off
        raise IncompleteError("the app has returned without having completed its answer")

    def _resolve(self, wish: _Wish, result: Any) -> None:
        assert wish.done is not None
        self._loop.call_soon_threadsafe(_set_result, wish.done, result)

    def _read(self) -> bytes | None:
        """Return the next piece of the body, b"" at its end, None from a client that has gone."""
        size = PIECE_BYTES if self._unread is None else min(PIECE_BYTES, self._unread)
        try:
            piece: bytes = self._input.read(size)
        except (OSError, NoMoreData):
            return None
        if self._unread is not None:
            if len(piece) < size:
                return None
            self._unread -= size
        return piece

    # On the event loop

    def _begin(self) -> None:
        self._task = self._loop.create_task(self._run())
        self._task.add_done_callback(lambda _: self._wishes.put(_Wish(END)))

    async def _run(self) -> None:
        """Run the app; whatever it raises goes no further, as that could end the event loop."""
        try:
            await self._application(self._scope, self._receive, self._send)
        except BaseException as error:  # noqa: BLE001
            self._error = error
            # Nobody else would ever see it where the answer is out already.
            if self._closed.is_set() and not _is_of_hanging_up(error):
                sys.stderr.write(traceback.format_exc())

    def _hang_up(self) -> None:
        """End what goes on when nobody is there to be answered any more."""
        if not self._completed:
            self._close_as_gone()
        if self._task is not None and not self._task.done():
            self._task.cancel()

    def _close_as_gone(self) -> None:
        self._gone = True
        self._closed.set()

    async def _receive(self) -> Message:
        if self._has_body and not self._closed.is_set():
            if self._reading is None:
                self._reading = self._ask(READ)
            # Who stops waiting for a piece leaves it to the next one.
            piece = await asyncio.shield(self._reading)
            self._reading = None
            if piece is None:
                self._close_as_gone()
            else:
                self._has_body = self._unread != 0 and piece != b""
                self._body_received = not self._has_body
                return {"type": "http.request", "body": piece, "more_body": self._has_body}
        elif not self._body_received and not self._closed.is_set():
            self._body_received = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self._closed.wait()
        return {"type": DISCONNECT}

    async def _send(self, message: Message) -> None:
        if self._gone:
            raise ClientGoneError
        kind = message["type"]
        expected = "http.response.body" if self._started else "http.response.start"
        if kind != expected or self._completed:
            after = ", after the whole answer" if self._completed else f", not {expected!r}"
            raise RuntimeError(f"the app has sent {kind!r}{after}")
        if not self._started:
            start = _status(message["status"]), _plain(message.get("headers", ()))
            self._started = True
            self._wishes.put(_Wish(START, start))
            return
        body = message.get("body", b"")
        await self._ask(BODY, body)
        if not message.get("more_body", False):
            self._completed = True
            self._closed.set()

    def _ask(self, kind: int, value: Any = None) -> "asyncio.Future[Any]":
        done = self._loop.create_future()
        self._wishes.put(_Wish(kind, value, done))
        return done


def scope_of(environ: dict[str, Any], state: dict[str, Any]) -> Message:
    """Return what an app is told of a request. Pure."""
    root, rest = (_text(environ.get(key, "")) for key in ("SCRIPT_NAME", "PATH_INFO"))
    port, client_port = environ.get("SERVER_PORT", ""), environ.get("REMOTE_PORT", "")
    if not port.isdecimal():  # "Host: name:", or an IPv6 address
        port = "443" if environ.get("wsgi.url_scheme") == "https" else "80"
    client = (environ["REMOTE_ADDR"], int(client_port)) if client_port.isdecimal() else None
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.5"},
        "http_version": environ.get("SERVER_PROTOCOL", "HTTP/1.0").partition("/")[2],
        "method": environ["REQUEST_METHOD"],
        "scheme": environ.get("wsgi.url_scheme", "http"),
        "path": root + rest,
        "raw_path": environ.get("RAW_URI", "").partition("?")[0].encode("latin-1"),
        "query_string": environ.get("QUERY_STRING", "").encode("latin-1"),
        "root_path": root,
        "server": (environ["SERVER_NAME"], int(port)),
        "client": client,
        "headers": [
            (key.removeprefix("HTTP_").lower().replace("_", "-").encode(), value.encode("latin-1"))
            for key, value in environ.items()
            if key.startswith("HTTP_") or key in ("CONTENT_TYPE", "CONTENT_LENGTH")
        ],
        "extensions": {},
        "state": state,
    }


def _text(path: str) -> str:
    """Return a path of the environ as text, without what is none."""
    return path.encode("latin-1").decode("utf-8", "replace")


def _status(number: int) -> str:
    return f"{number:d} {PHRASES.get(number, 'Unknown Status Code')}"


def _plain(headers: Any) -> list[tuple[str, str]]:
    return [
        (name.strip().decode("latin-1"), value.strip().decode("latin-1")) for name, value in headers
    ]


def _set_result(future: "asyncio.Future[Any]", result: Any) -> None:
    if not future.done():
        future.set_result(result)


def _is_of_hanging_up(error: BaseException) -> bool:
    """Tell whether it comes from a client that has gone, and not from a fault of the app."""
    if isinstance(error, asyncio.CancelledError):
        return True
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ClientGoneError):
            return True
        seen = seen.__context__
    return False
