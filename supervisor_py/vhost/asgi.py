"""ASGI apps beside WSGI ones: each on an event loop of its own, in a thread of each worker.

A thread of the worker has the connection and speaks WSGI, see exchange.py. Here are the loop and
the lifespan. WebSockets are not spoken.
"""

import asyncio
import sys
import threading
import traceback
from collections.abc import Callable, Iterable
from typing import Any

from .exchange import ASGIApplication, Exchange, Message

STARTUP_SECONDS = 25.0  # less than gunicorn gives a worker that does not answer
SHUTDOWN_SECONDS = 5.0
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
        threading.Thread(target=_run, args=(self._loop,), name="asgi", daemon=True).start()
        self._lifespan = Lifespan(self._application, self._state)
        self._wait_for(self._lifespan.startup(), STARTUP_SECONDS)

    def shutdown(self) -> None:
        """End the app's lifespan; what fails in it is told."""
        if self._loop is not None:
            try:
                self._wait_for(self._lifespan.shutdown(), SHUTDOWN_SECONDS)
            except TimeoutError:
                sys.stderr.write("the app's shutdown failed: too slow\n")
            except Exception as error:  # noqa: BLE001  # an app's own code
                sys.stderr.write(f"the app's shutdown failed: {error}\n")

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        """Answer one request."""
        assert self._loop is not None
        exchange = Exchange(self._application, self._loop, environ, dict(self._state))
        return exchange.answer(start_response)

    def _wait_for(self, coroutine: Any, seconds: float) -> None:
        assert self._loop is not None
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(seconds)


def _run(loop: asyncio.AbstractEventLoop) -> None:
    """Keep an event loop going, as long as the process lives.

    What calls sys.exit() in a task of its own, or stops the loop, would take all requests with it.
    """
    while not loop.is_closed():
        try:
            loop.run_forever()
            sys.stderr.write("the app has stopped its event loop, which goes on\n")
        except BaseException:  # noqa: BLE001
            sys.stderr.write(traceback.format_exc())
