"""An ASGI app of a process: its lifespan, and what it is told of a request."""

import asyncio
import sys
import traceback
from typing import Any

from gunicorn import util
from gunicorn.http import Request

from . import event_loop
from .exchange import ASGIApplication, IncompleteError, Message

STARTUP_SECONDS = 25.0  # less than gunicorn gives a worker that does not answer
SHUTDOWN_SECONDS = 5.0
VERSIONS = {"version": "3.0", "spec_version": "2.0"}
# As uvicorn says it: from 2.4 on, frameworks notice only by send() that a client has gone.
HTTP_VERSIONS = {"version": "3.0", "spec_version": "2.3"}


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
        self._task = asyncio.ensure_future(self._run())
        failure = await self._ask("lifespan.startup")
        if failure is not None:
            raise StartupError(failure)

    async def shutdown(self) -> None:
        """Let the app end; raises what it raises."""
        if self._task is not None and not self._task.done():
            failure = await self._ask("lifespan.shutdown")
            if failure is not None:
                raise StartupError(failure)

    async def _run(self) -> None:
        scope = {"type": "lifespan", "asgi": VERSIONS, "state": self._state}
        try:
            await self._application(scope, self._events.get, self._take)
        except (SystemExit, KeyboardInterrupt) as error:  # these would end the event loop
            raise StartupError("".join(traceback.format_exception(error))) from error

    async def _ask(self, event: str) -> str | None:
        """Return what the app says of its failure, None for success or no answer at all."""
        assert self._task is not None
        self._answer = asyncio.get_running_loop().create_future()
        self._events.put_nowait({"type": event})
        waited: set[asyncio.Future[Any]] = {self._task, self._answer}
        await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        if self._task.done() and not self._task.cancelled():
            error = self._task.exception()  # it has been looked at: asyncio need not tell
            if isinstance(error, StartupError):
                raise error
        return self._answer.result() if self._answer.done() else None

    async def _take(self, message: Message) -> None:
        if self._answer is None or self._answer.done():
            return
        if message["type"].endswith(".complete"):
            self._answer.set_result(None)
        elif message["type"].endswith(".failed"):
            self._answer.set_result(str(message.get("message") or "for no reason given"))


class Served:
    """An ASGI app in one process, between startup() and shutdown()."""

    def __init__(self, application: ASGIApplication) -> None:
        self.application = application
        self.state: dict[str, Any] = {}
        self._lifespan: Lifespan | None = None

    def startup(self) -> None:
        """Start the app's lifespan; raises StartupError or TimeoutError.

        The calling thread must have entered the app: its tasks inherit that.
        """
        self._lifespan = Lifespan(self.application, self.state)
        event_loop.of_process().run(self._lifespan.startup(), STARTUP_SECONDS)

    def shutdown(self) -> None:
        """End the app's lifespan; what fails in it is told."""
        if self._lifespan is not None:
            try:
                event_loop.of_process().run(self._lifespan.shutdown(), SHUTDOWN_SECONDS)
            except TimeoutError:
                sys.stderr.write("the app's shutdown failed: too slow\n")
            except Exception as error:  # noqa: BLE001  # an app's own code
                sys.stderr.write(f"the app's shutdown failed: {error}\n")

    def ask(self, request: Request, root: str) -> int:
        """Have the app answer a request that nobody has sent; returns the status."""
        scope = scope_of(request, root, self.state, None, ("localhost", 443))
        return event_loop.of_process().run(_ask(self.application, scope))


async def _ask(application: ASGIApplication, scope: Message) -> int:
    messages: list[Message] = []
    is_complete = asyncio.Event()
    requests = iter([{"type": "http.request", "body": b"", "more_body": False}])

    async def receive() -> Message:
        for message in requests:
            return message
        await is_complete.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        messages.append(message)
        if message["type"] == "http.response.body" and not message.get("more_body"):
            is_complete.set()

    await application(scope, receive, send)
    if not is_complete.is_set():
        raise IncompleteError("the app has returned without having completed an answer")
    return int(messages[0]["status"])


def scope_of(
    request: Request, root: str, state: dict[str, Any], client: Any, server: Any
) -> Message:
    """Return what an app is told of a request below the path `root`. Pure.

    `client` and `server` are addresses as sockets have them.
    """
    path = _text(util.unquote_to_wsgi_str(request.path))
    return {
        "type": "http",
        "asgi": HTTP_VERSIONS,
        "http_version": "{}.{}".format(*request.version),
        "method": request.method,
        "scheme": request.scheme,
        "path": path,
        "raw_path": request.uri.partition("?")[0].encode("latin-1"),
        "query_string": (request.query or "").encode("latin-1"),
        "root_path": _text(root),
        "server": server[:2] if isinstance(server, tuple) else _server(request),
        "client": client[:2] if isinstance(client, tuple) else None,
        "headers": [
            (name.lower().encode("latin-1"), value.encode("latin-1"))
            for name, value in request.headers
        ],
        "extensions": {},
        "state": dict(state),
    }


def _server(request: Request) -> tuple[str, int]:
    """Return the name and port that a client has meant: a unix socket has none."""
    host = next((value for name, value in request.headers if name == "HOST"), "")
    name, _, port = host.partition(":")
    default = 443 if request.scheme == "https" else 80
    return name, int(port) if port.isdecimal() else default  # "Host: name:", or IPv6


def _text(path: str) -> str:
    """Return a path as WSGI has it as text, without what is none."""
    return path.encode("latin-1").decode("utf-8", "replace")
