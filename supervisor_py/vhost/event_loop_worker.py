"""The worker of an ASGI app: one event loop, for all its connections.

gunicorn has such a worker, too; it waits for slow clients without an end, drains by chance, and
loads HTTP/2, so this one has only its parser and its place in the arbiter in common with it.
"""

import asyncio
import contextlib
import os
import resource
import signal
import socket
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from gunicorn import util
from gunicorn.http import Request

from . import asgi, context, event_loop, http_message, leaving, running, websocket
from .client_socket import Patience
from .connection import Connection, Conversation
from .dispatcher import Refusal
from .exchange import Exchange, Message
from .loader import LoadedApp
from .pool_worker import (
    ACCEPTING,
    DRAIN_SECONDS,
    ENDING_SIGNALS,
    EXAMINE_SECONDS,
    LEAVING,
    PoolWorker,
)
from .websocket import WebSocket

ACCEPTED_AT_ONCE = 16  # connections, before those that are there have their turn
DESCRIPTORS = 65_536  # at most, where the system allows so many
FOR_THE_APP = 128  # descriptors that are left for its files and connections, and a part
PAUSE_SECONDS = 1.0  # after a connection could not be accepted


class EventLoopWorker(PoolWorker):
    """A worker that answers for its one app on an event loop, as many at once as come."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.nr_conns = 0
        self.leaving = False
        self._quits = False  # without waiting for anybody
        self._wake = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._running: dict[Exchange, running.Running] = {}
        self._websockets: set[WebSocket] = set()
        self._most = 0  # connections
        self._accepts = False

    def load_wsgi(self) -> None:
        """Take what has been loaded."""
        self._dispatcher = self.app.wsgi()

    def init_signals(self) -> None:
        """Take signals, and remember how."""
        super().init_signals()
        self._handlers = {number: signal.getsignal(number) for number in ENDING_SIGNALS}

    def handle_exit(self, _signal: int, _frame: FrameType | None) -> None:
        """Leave, when what runs has ended."""
        self.alive = False
        event_loop.of_process().loop.call_soon_threadsafe(self._wake.set)

    def handle_quit(self, number: int, frame: FrameType | None) -> None:
        """Leave at once."""
        self._quits = True
        self.handle_exit(number, frame)

    def handle_abort(self, _signal: int, frame: FrameType | None) -> None:
        """End, and say where the loop has been held up: nobody has answered for long."""
        with context.aside():
            stack = running.stack(running.outer_frames(frame))
            self.log.warning("the event loop has been held up for too long, here:\n%s", stack)
        os._exit(1)

    def _serve(self) -> None:
        app = self._dispatcher.only
        if app is not None:
            context.enter(app.context)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)  # the app may have taken it in its startup
        event_loop.of_process().run(self._answer_all())

    async def _answer_all(self) -> None:
        self._most = _most_connections()
        for listener in self.sockets:
            listener.setblocking(False)
        self._set_accepting(wanted=True)
        self._enter_stage(ACCEPTING)
        while self.alive:
            await self._wait(EXAMINE_SECONDS)
            self._note_idleness()
            with context.aside():
                self._report_slow_clients()
                self._examine()
            self._look_at_websockets()
            if self.ppid != os.getppid():
                self.alive = False
        self.leaving = True
        self._set_accepting(wanted=False)
        self._enter_stage(LEAVING)
        await self._drain()

    async def _wait(self, seconds: float) -> None:
        self.notify()
        try:
            await asyncio.wait_for(self._wake.wait(), seconds)
            self._wake.clear()
        except TimeoutError:
            pass

    async def _drain(self) -> None:
        """Finish what runs, and say what has not ended in time."""
        for one in list(self._websockets):
            one.go_away()
        end = time.monotonic() + DRAIN_SECONDS
        while (self.nr_conns or self._tasks) and not self._quits and time.monotonic() < end:
            await self._wait(EXAMINE_SECONDS)
        if self._quits or not self._tasks:
            return
        with context.aside():
            self.log.warning(
                "gave up on %d task(s), still running after %d s", len(self._tasks), DRAIN_SECONDS
            )
            for request in self._running.values():
                self.log.warning("gave up on %s", request.name)
        leaving.abandon_threads()

    def _examine(self) -> None:
        """Tell of requests that do not end."""
        asked = {
            id(exchange): one for exchange, one in self._running.items() if not exchange.is_answered
        }
        for report in running.overdue(asked, time.monotonic()):
            self.log.warning("%s", report)

    def _look_at_websockets(self) -> None:
        now = asyncio.get_running_loop().time()
        for one in list(self._websockets):
            one.look(now)

    # Connections

    def _set_accepting(self, *, wanted: bool) -> None:
        if wanted == self._accepts:
            return
        self._accepts = wanted
        loop = asyncio.get_running_loop()
        for listener in self.sockets:
            if wanted:
                loop.add_reader(listener.fileno(), self._accept, listener)
            else:
                loop.remove_reader(listener.fileno())

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(ACCEPTED_AT_ONCE):
            if self.nr_conns >= self._most:
                self._set_accepting(wanted=False)
                return
            try:
                client, _ = listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                with context.aside():
                    self.log.warning("can't accept connections for now: %s", error)
                self._set_accepting(wanted=False)
                asyncio.get_running_loop().call_later(PAUSE_SECONDS, self._accept_again)
                return
            client.setblocking(False)
            self.nr_conns += 1
            self._ledger.idle_since = 0.0
            self._keep(self._connect(client))

    def _accept_again(self) -> None:
        if self.alive and self.nr_conns < self._most:
            self._set_accepting(wanted=True)

    async def _connect(self, client: socket.socket) -> None:
        made: list[Connection] = []

        def make() -> Connection:
            made.append(Connection(self))
            return made[0]

        try:
            await asyncio.get_running_loop().connect_accepted_socket(make, client)
        except OSError:
            if not made:
                self.disconnected()

    def _keep(self, work: Any) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if self.leaving and not self._tasks:
            self._wake.set()

    # Called by connections

    def disconnected(self) -> None:
        """Note that a connection has gone."""
        self.nr_conns -= 1
        if self.leaving:
            self._wake.set()
        else:
            self._note_idleness()
            self._accept_again()

    def converse(
        self, client: Connection, request: Request
    ) -> tuple[Conversation, Callable[[], None]]:
        """Return what a request leads to, and how that is begun."""
        patience = Patience(self.timeouts.body_timeout_seconds)
        exchange = Exchange(client, request, http_message.body_of(request), patience)
        found = self._dispatcher.route(_host(request), request.uri, _path(request))
        if isinstance(found, Refusal):
            headers = [(name.encode(), value.encode()) for name, value in found.headers]
            return exchange, partial(exchange.answer, found.code, found.body, *headers)
        app, root, _ = found
        scope = asgi.scope_of(request, root, app.application.state, *client.addresses)
        if not websocket.is_wanted(request):
            return exchange, partial(self._begin, exchange, request, app, scope)
        refusal = websocket.refusal(request)
        if refusal is not None:
            status, text, fields = refusal
            return exchange, partial(exchange.answer, status, text, *fields)
        one = websocket.WebSocket(client, request)
        return one, partial(self._begin_websocket, one, app, websocket.scope_of(scope, request))

    def _begin_websocket(self, one: WebSocket, app: LoadedApp, scope: Message) -> None:
        self._websockets.add(one)
        one.task = self._keep(one.run(app.application.application, scope))
        one.task.add_done_callback(lambda _: self._websockets.discard(one))

    def _begin(self, exchange: Exchange, request: Request, app: LoadedApp, scope: Message) -> None:
        self._running[exchange] = running.Running(
            request, time.monotonic(), app.context, exchange.frames
        )
        exchange.task = self._keep(exchange.run(app.application.application, scope))
        exchange.task.add_done_callback(lambda _: self._running.pop(exchange, None))

    def reject(self, client: Any, peer: object, error: Exception) -> None:
        """Write an answer to what is no request, as gunicorn has it."""
        with context.aside():
            self.handle_error(None, client, peer, error)

    def count(self) -> None:
        """Note that a request has been served."""
        self.nr += 1
        self._count()

    def count_slow(self) -> None:
        """Note that a client has been given up."""
        self._slow += 1

    def log_failure(self, error: BaseException, request: Request) -> None:
        """Log what an app has raised, with its name."""
        self.log.error("Error handling request %s %s", request.method, request.uri, exc_info=error)


def _host(request: Request) -> str | None:
    """Return what names the host; that of two is none."""
    hosts = [value for name, value in request.headers if name == "HOST"]
    return ",".join(hosts) if hosts else None


def _path(request: Request) -> str:
    return str(util.unquote_to_wsgi_str(request.path))


def _most_connections() -> int:
    """Return how many connections may be open at once: as many as the system allows."""
    with contextlib.suppress(OSError, ValueError):  # a filter of system calls
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS)
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    allowed = descriptors(Path("/proc/self/limits").read_text("ascii"))
    return allowed - FOR_THE_APP - allowed // 16


def descriptors(limits: str) -> int:
    """Return how many descriptors a process may have, of what proc(5) says of it. Pure."""
    (line,) = [line for line in limits.splitlines() if line.startswith("Max open files")]
    soft = line.split()[3]
    return DESCRIPTORS if soft == "unlimited" else int(soft)
