"""ASGI apps beside WSGI ones: a2wsgi speaks for them, on an event loop of the app's own.

This module adds what a2wsgi leaves out: the lifespan, errors in the log, request bodies in chunks,
and an end for what goes on when the client has gone. WebSockets are not spoken.
"""

import asyncio
import contextlib
import shutil
import sys
import tempfile
import threading
import traceback
from collections.abc import Awaitable, Callable, Iterable, Iterator, MutableMapping
from typing import Any, cast

from a2wsgi import ASGIMiddleware

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApplication = Callable[[Message, Receive, Send], Awaitable[None]]

STARTUP_SECONDS = 25.0  # less than gunicorn gives a worker that does not answer
SHUTDOWN_SECONDS = 5.0
BODY_IN_MEMORY = 1 << 20  # bytes of a body in chunks; more goes to a temporary file
TASK = "kechi.task"  # the environ's key of the task that answers it
VERSIONS = {"version": "3.0", "spec_version": "2.0"}


class StartupError(RuntimeError):
    """An app's lifespan has failed; the message is the app's."""


class Lifespan:
    """The app's own startup and shutdown, on its event loop."""

    def __init__(self, application: ASGIApplication, state: dict[str, Any]) -> None:
        self._application = application
        self._state = state
        self._events: asyncio.Queue[Message] = asyncio.Queue()
        self._task: asyncio.Future[None] | None = None
        self._answer: asyncio.Future[str | None] | None = None

    async def startup(self) -> None:
        """Let the app start; one that knows no lifespan has none. Raises StartupError."""
        scope = {"type": "lifespan", "asgi": VERSIONS, "state": self._state}
        self._task = asyncio.ensure_future(self._application(scope, self._events.get, self._take))
        failure = await self._ask("lifespan.startup")
        if failure is not None:
            raise StartupError(failure)

    async def shutdown(self) -> None:
        """Let the app end; raises what it raises."""
        if self._task is not None and not self._task.done():
            failure = await self._ask("lifespan.shutdown")
            if failure is not None:
                raise StartupError(failure)

    async def _ask(self, event: str) -> str | None:
        """Return what the app says of its failure, None for success or no answer at all."""
        assert self._task is not None
        self._answer = asyncio.get_running_loop().create_future()
        self._events.put_nowait({"type": event})
        waited: set[asyncio.Future[Any]] = {self._task, self._answer}
        await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        if self._task.done() and not self._task.cancelled():
            self._task.exception()  # it has been looked at: asyncio need not tell
        return self._answer.result() if self._answer.done() else None

    async def _take(self, message: Message) -> None:
        if self._answer is None or self._answer.done():
            return
        if message["type"].endswith(".complete"):
            self._answer.set_result(None)
        elif message["type"].endswith(".failed"):
            self._answer.set_result(str(message.get("message") or "for no reason given"))


class Served:
    """An ASGI app as WSGI callable, in one worker, between startup() and shutdown()."""

    def __init__(self, application: ASGIApplication) -> None:
        self._application = application
        self._state: dict[str, Any] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    def startup(self) -> None:
        """Start the app's event loop and lifespan; raises StartupError or TimeoutError.

        The calling thread must have entered the app: the loop's thread inherits that.
        """
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="asgi", daemon=True).start()
        self._wsgi = ASGIMiddleware(cast(Any, self._answer), loop=self._loop)
        self._lifespan = Lifespan(self._application, self._state)
        self._wait_for(self._lifespan.startup(), STARTUP_SECONDS)

    def shutdown(self) -> None:
        """End the app's lifespan; what fails in it is told."""
        if self._loop is not None:
            try:
                self._wait_for(self._lifespan.shutdown(), SHUTDOWN_SECONDS)
            except (StartupError, TimeoutError) as error:
                sys.stderr.write(f"the app's shutdown failed: {error or 'too slow'}\n")

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        """Answer one request."""
        assert self._loop is not None
        with contextlib.ExitStack() as stack:
            if environ.get("HTTP_TRANSFER_ENCODING"):
                body = stack.enter_context(tempfile.SpooledTemporaryFile(BODY_IN_MEMORY))
                shutil.copyfileobj(environ["wsgi.input"], body)
                environ["CONTENT_LENGTH"] = str(body.tell())
                body.seek(0)
                environ["wsgi.input"] = body
            yield from self._iterate(environ, start_response, self._loop)

    def _iterate(
        self,
        environ: dict[str, Any],
        start_response: Callable[..., Any],
        loop: asyncio.AbstractEventLoop,
    ) -> Iterator[bytes]:
        _make_plain(environ)
        try:
            yield from self._wsgi(cast(Any, environ), cast(Any, start_response))
        finally:
            task = environ.get(TASK)
            if task is not None and not task.done():
                loop.call_soon_threadsafe(task.cancel)

    async def _answer(self, scope: Message, receive: Receive, send: Send) -> None:
        scope["wsgi_environ"][TASK] = asyncio.current_task()
        scope["state"] = dict(self._state)

        async def send_complete(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {"headers": (), **message}
            await send(message)

        try:
            await self._application(scope, receive, send_complete)
        except Exception:
            # Also when the answer is out already, so that nobody else would ever see it.
            sys.stderr.write(traceback.format_exc())
            raise

    def _wait_for(self, coroutine: Any, seconds: float) -> None:
        assert self._loop is not None
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(seconds)


def _make_plain(environ: dict[str, Any]) -> None:
    """Have nothing in the environ that a2wsgi fails to convert."""
    for key in ("SCRIPT_NAME", "PATH_INFO"):
        path = environ.get(key, "").encode("latin-1").decode("utf-8", "replace")
        environ[key] = path.encode("utf-8").decode("latin-1")
    if not str(environ.get("SERVER_PORT", "")).isdecimal():  # "Host: name:", or an IPv6 address
        environ["SERVER_PORT"] = "443" if environ.get("wsgi.url_scheme") == "https" else "80"
