"""gunicorn's threaded worker, made safe to end at any moment.

What is changed, each with its reason, is in Worker; all the rest is gunicorn's.
"""

import contextlib
import selectors
import socket
import time
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future
from contextvars import Context
from itertools import takewhile
from typing import Any

from gunicorn import util
from gunicorn.http import Request
from gunicorn.http.wsgi import Response
from gunicorn.workers.gthread import TConn, ThreadWorker

from . import context, failures, leaving, running
from .client_socket import GONE, INCOMPLETE, TOO_LONG, ClientSocket
from .pool_worker import (
    ACCEPTING,
    DRAIN_SECONDS,
    EXAMINE_SECONDS,
    FIRST_BYTE_SECONDS,
    LEAVING,
    LINGER_SECONDS,
    STARTING,
    PoolWorker,
)


class Worker(PoolWorker, ThreadWorker):  # type: ignore[misc]  # gunicorn is untyped
    """gunicorn's threaded worker, as a worker of a pool.

    It gives a thread only to a request whose head has come, and does not wait for ever for a slow
    client. It never holds the main loop for one that is slow to close, and takes no connection that
    it has no thread for: another worker, or the next generation, may have one.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._running = 0
        self._lingering: deque[TConn] = deque()
        self._heads: deque[TConn] = deque()  # connections with a part of a request's head
        self._next_examination = 0.0

    def _serve(self) -> None:
        """Serve, and say at the end what did not end in time."""
        self.cfg.set("graceful_timeout", DRAIN_SECONDS)  # of this process
        ThreadWorker.run(self)
        if self._running:
            self.log.warning(
                "gave up on %d request(s), still running after %d s", self._running, DRAIN_SECONDS
            )
            for one in running.all_running().values():
                self.log.warning("gave up on %s", one.name)
            leaving.abandon_threads()

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        """Wait as a worker does, and fall asleep when there has been nothing for long."""
        super().wait_for_and_dispatch_events(timeout)
        self._note_idleness()
        self._report_slow_clients()
        self._examine_requests()

    def _examine_requests(self) -> None:
        """Tell of requests that do not end, and the arbiter if every thread has one."""
        now = time.monotonic()
        if now < self._next_examination:
            return
        self._next_examination = now + EXAMINE_SECONDS
        requests = running.all_running()
        if not requests and not self.stuck_seconds:
            return
        addresses = [one.getsockname() for one in self.sockets]
        pool = running.OwnPool(addresses, self.app.dispatcher.serves)
        found = running.examine(requests, self.cfg.threads, pool, now)
        for report in found.reports:
            self.log.warning("%s", report)
        before, self._ledger.stuck_seconds = self.stuck_seconds, found.stuck_seconds
        if found.stuck_seconds and not before:
            self._call_arbiter()

    def is_parent_alive(self) -> bool:
        """Tell whether the arbiter lives; without one, this worker drains."""
        if not super().is_parent_alive():
            self.alive = False  # else answers would go on offering to keep connections alive
        return self.alive

    def set_accept_enabled(self, enabled: bool) -> None:
        """Accept, or not, and not when every thread is busy."""
        super().set_accept_enabled(enabled and self._running < self.cfg.threads)
        if not self.alive:
            self._enter_stage(LEAVING)
        elif enabled and self.stage == STARTING:
            self._enter_stage(ACCEPTING)

    def enqueue_req(self, conn: TConn) -> None:
        """Give a connection to a thread, but only when a request's head has come."""
        if not isinstance(conn.sock, ClientSocket):
            conn.sock = ClientSocket(conn.sock, self.timeouts)
        if conn.parser is not None:
            conn.sock.head += conn.parser.unreader.take_buffered()
        found = conn.sock.read_head()
        if found != INCOMPLETE:
            self._proceed(conn, found)
            return
        begun = conn.sock.begun
        waiting = self._heads if begun else self.pending_conns
        seconds = self.timeouts.header_timeout_seconds if begun else FIRST_BYTE_SECONDS
        conn.sock.setblocking(False)
        conn.timeout = time.monotonic() + seconds
        waiting.append(conn)
        self._watch(conn, self._on_head_readable if begun else self.on_pending_socket_readable)

    def _on_head_readable(self, conn: TConn, client: ClientSocket) -> None:
        found = client.read_head()
        if found != INCOMPLETE:
            self.poller.unregister(client)
            self._heads.remove(conn)
            self._proceed(conn, found)

    def _proceed(self, conn: TConn, found: int) -> None:
        """Do what is to be done once a connection's next head is whole, or will never be."""
        if found == GONE:
            self._drop(conn)
        elif found == TOO_LONG:
            self._refuse(conn, 431, "Request Header Fields Too Large")
        else:
            self._give_to_thread(conn)

    def _give_to_thread(self, conn: TConn) -> None:
        self._running += 1
        if self._running >= self.cfg.threads:
            super().set_accept_enabled(False)  # the main loop enables it again
        conn.init()
        conn.parser.unreader.unread(conn.sock.take_head())
        conn.sock.begin_request()
        super().enqueue_req(conn)

    def _refuse(self, conn: TConn, status: int, reason: str) -> None:
        util.write_error(conn.sock, status, reason, "")
        self._linger(conn)

    def handle(self, conn: TConn) -> Any:
        """Answer a request in a thread, which works for no app afterwards.

        What it leaves in contextvars, as decimal's precision, ends with it.
        """
        try:
            return Context().run(super().handle, conn)
        finally:
            context.leave()

    def handle_request(self, req: Request, conn: TConn) -> bool:
        """Answer a request; whatever an app raises is in the log, and a 500 or a broken answer.

        gunicorn would take a SystemExit, an OSError or a StopIteration for its own.
        """
        running.begin(req, time.monotonic())
        try:
            return bool(super().handle_request(req, conn))
        except BaseException as error:
            if failures.is_of_connection(error):
                raise
            self.log.exception("Error handling request %s %s", req.method, req.uri)
            if not req.answer_has_begun:
                with contextlib.suppress(OSError):
                    util.write_error(conn.sock, 500, "Internal Server Error", "")
            return False
        finally:
            running.end()

    def note_answer(self, req: Request, _environ: dict[str, Any], resp: Response | None) -> None:
        """Note, as gunicorn's hook post_request, whether anything of an answer is on its way."""
        req.answer_has_begun = resp is not None and resp.headers_sent

    def finish_request(self, conn: TConn, fs: "Future[Any]") -> None:
        """Keep a connection, or end it without waiting for the client in the main loop."""
        self._running -= 1
        self._count()
        if not fs.cancelled() and fs.exception() is None and fs.result():
            super().finish_request(conn, fs)
            return
        self._slow += conn.sock.gave_up
        self._linger(conn)

    def _linger(self, conn: TConn) -> None:
        """End a connection, once the client has had time to take the end of its answer."""
        try:
            conn.sock.shutdown(socket.SHUT_WR)
            conn.sock.setblocking(False)
            conn.timeout = time.monotonic() + LINGER_SECONDS
            self._watch(conn, self._on_lingering_readable)
            self._lingering.append(conn)
        except OSError:
            self._drop(conn)

    def murder_keepalived(self, force: bool = False) -> None:
        """Close idle connections in time, except where a request has just come in."""
        if force:
            super().murder_keepalived(force)
        self._close_overdue(self.keepalived_conns, self.on_client_socket_readable)

    def murder_pending(self) -> None:
        """Close, in time, the connections of clients that say nothing or don't take their leave."""
        self._close_overdue(self.pending_conns, self.on_pending_socket_readable)
        for conn in _overdue(self._heads):
            self._on_head_readable(conn, conn.sock)
            if conn in self._heads:
                self.poller.unregister(conn.sock)
                self._heads.remove(conn)
                self._slow += 1
                self._refuse(conn, 408, "Request Timeout")
        for conn in _overdue(self._lingering):
            self._end_lingering(conn)

    def _close_overdue(self, conns: deque[TConn], readable: Any) -> None:
        """Look at each right before it is closed.

        gunicorn would look at the clock anew, and close what is due by then, too, unseen.
        """
        for conn in _overdue(conns):
            if _readable(conn.sock):
                readable(conn, conn.sock)
                continue
            conns.remove(conn)
            with contextlib.suppress(OSError, KeyError, ValueError):  # not registered any more
                self.poller.unregister(conn.sock)
            self._drop(conn)

    def _on_lingering_readable(self, conn: TConn, client: socket.socket) -> None:
        try:
            if client.recv(65536):
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self._end_lingering(conn)

    def _end_lingering(self, conn: TConn) -> None:
        self.poller.unregister(conn.sock)
        self._lingering.remove(conn)
        self._drop(conn)

    def _watch(self, conn: TConn, readable: Any) -> None:
        self.poller.register(conn.sock, selectors.EVENT_READ, lambda client: readable(conn, client))

    def _drop(self, conn: TConn) -> None:
        self.nr_conns -= 1
        conn.close()


def _overdue(conns: Iterable[TConn]) -> list[TConn]:
    """Return the connections whose time is over; they are kept in the order of it."""
    now = time.monotonic()
    return list(takewhile(lambda conn: conn.timeout <= now, conns))


def _readable(client: socket.socket) -> bool:
    """Tell whether there is something to read, an end or an error included."""
    try:
        client.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True
