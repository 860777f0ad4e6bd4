"""gunicorn's threaded worker, made safe to end at any moment.

What is changed, each with its reason, is in Worker; all the rest is gunicorn's.
"""

import mmap
import os
import selectors
import signal
import socket
import time
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future
from itertools import takewhile
from typing import Any

from gunicorn.workers.gthread import TConn, ThreadWorker

from . import context

FIRST_BYTE_SECONDS = 5.0  # for a client that connects and says nothing
LINGER_SECONDS = 2.0  # for a client to take the end of its answer (RFC 9112 section 9.6)
DRAIN_SECONDS = 25  # then it gives up what still runs, and says so

STARTING, ACCEPTING, LEAVING = range(3)
ENDING_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGABRT)


class Worker(ThreadWorker):  # type: ignore[misc]  # gunicorn is untyped
    """gunicorn's threaded worker, which tells the arbiter where it is in its life.

    It never holds a thread for a connection that says nothing, nor the main loop for a client that
    is slow to close, and takes no connection that it has no thread for: another worker, or the next
    generation, may have one.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._stage = mmap.mmap(-1, 1)  # shared with the arbiter, who makes workers before forking
        self._running = 0
        self._lingering: deque[TConn] = deque()

    @property
    def stage(self) -> int:
        """STARTING, ACCEPTING or LEAVING."""
        return self._stage[0]

    def _enter_stage(self, stage: int) -> None:
        if self.stage == stage:
            return
        self._stage[0] = stage
        if os.getppid() == self.ppid:
            os.kill(self.ppid, signal.SIGCHLD)  # the arbiter looks at its workers at once

    def init_signals(self) -> None:
        """Take signals as a worker does, those included that came since the fork."""
        super().init_signals()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING_SIGNALS)

    def run(self) -> None:
        """Serve, and say at the end what did not end in time."""
        self.cfg.set("graceful_timeout", DRAIN_SECONDS)  # of this process
        super().run()
        if self._running:
            self.log.warning(
                "gave up on %d request(s), still running after %d s", self._running, DRAIN_SECONDS
            )

    def is_parent_alive(self) -> bool:
        """Tell whether the arbiter lives; without one, this worker drains."""
        if not super().is_parent_alive():
            self.alive = False  # else answers would go on offering to keep connections alive
        return bool(self.alive)

    def set_accept_enabled(self, enabled: bool) -> None:
        """Accept, or not, and not when every thread is busy."""
        super().set_accept_enabled(enabled and self._running < self.cfg.threads)
        if not self.alive:
            self._enter_stage(LEAVING)
        elif enabled and self.stage == STARTING:
            self._enter_stage(ACCEPTING)

    def enqueue_req(self, conn: TConn) -> None:
        """Give a connection to a thread, but only when it has something to read."""
        if not (conn.initialized or conn.data_ready or _readable(conn.sock)):
            conn.sock.setblocking(False)
            conn.timeout = time.monotonic() + FIRST_BYTE_SECONDS
            self.pending_conns.append(conn)
            self._watch(conn, self.on_pending_socket_readable)
            return
        conn.data_ready = True
        self._running += 1
        if self._running >= self.cfg.threads:
            super().set_accept_enabled(False)  # the main loop enables it again
        super().enqueue_req(conn)

    def handle(self, conn: TConn) -> Any:
        """Answer a request in a thread, which works for no app afterwards."""
        try:
            return super().handle(conn)
        finally:
            context.leave()

    def finish_request(self, conn: TConn, fs: "Future[Any]") -> None:
        """Keep a connection, or end it without waiting for the client in the main loop."""
        self._running -= 1
        if not fs.cancelled() and fs.exception() is None and fs.result():
            super().finish_request(conn, fs)
            return
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
        for conn in [] if force else _overdue(self.keepalived_conns):
            if _readable(conn.sock):
                self.on_client_socket_readable(conn, conn.sock)
        super().murder_keepalived(force)

    def murder_pending(self) -> None:
        """Close, in time, the connections of clients that say nothing or don't take their leave."""
        for conn in _overdue(self.pending_conns):
            if _readable(conn.sock):
                self.on_pending_socket_readable(conn, conn.sock)
        super().murder_pending()
        for conn in _overdue(self._lingering):
            self._end_lingering(conn)

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
