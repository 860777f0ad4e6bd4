"""gunicorn's threaded worker, set up for a pool, and made safe to end at any moment.

What is changed, each with its reason, is in Arbiter and Worker; all the rest is gunicorn's.
"""

import gc
import mmap
import os
import selectors
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import gunicorn.arbiter
import gunicorn.sock
from gunicorn.app.base import BaseApplication
from gunicorn.workers.gthread import TConn, ThreadWorker

from . import context
from .dispatcher import Dispatcher
from .loader import WSGIApplication
from .pool import Pool

KEEPALIVE_SECONDS = 2
FIRST_BYTE_SECONDS = 5.0  # for a client that connects and says nothing
LINGER_SECONDS = 2.0  # for a client to take the end of its answer (RFC 9112 section 9.6)
# The worker gives up first, and says so; the arbiter ends it then, within the super-daemon's 30 s.
DRAIN_SECONDS = 25
ARBITER_DRAIN_SECONDS = 27
CONNECTIONS = 200  # open at once per worker, idle ones included: well under 1024 descriptors
JITTER = 5  # a worker serves up to a fifth more than max_requests, so that not all end together
MEMORY_FILES = "/dev/shm"  # noqa: S108  # heartbeats must not wait for a disk

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


class Arbiter(gunicorn.arbiter.Arbiter):  # type: ignore[misc]
    """gunicorn's arbiter, which says when all serve, and replaces a worker before it has gone."""

    def __init__(
        self, application: "Application", descriptors: Sequence[int], ready: Callable[[], None]
    ) -> None:
        self._descriptors = descriptors
        self._ready: Callable[[], None] | None = ready
        super().__init__(application)

    def start(self) -> None:
        """Take over the sockets; what is loaded by then stays shared with the workers."""
        if self._descriptors:
            # Not gunicorn's to unlink: the next generation listens on the same ones.
            self.systemd = True
            self.LISTENERS = gunicorn.sock.create_sockets(self.cfg, self.log, self._descriptors)
        super().start()
        gc.collect()
        gc.freeze()
        gc.enable()

    def manage_workers(self) -> None:
        """Keep the number of workers that stay, and say so once they all serve.

        A worker that has had its max_requests is replaced while it finishes what it runs.
        """
        staying = sorted(
            (worker for worker in self.WORKERS.values() if worker.stage != LEAVING),
            key=lambda worker: worker.age,
        )
        for _ in range(self.num_workers - len(staying)):
            try:
                self.spawn_worker()
            except OSError as error:
                if self._ready is not None:
                    raise
                self.log.warning("can't start a worker now, next try in 1 s: %s", error)
                break
        for worker in staying[: max(0, len(staying) - self.num_workers)]:
            self.kill_worker(worker.pid, signal.SIGTERM)
        if (
            self._ready is not None
            and len(staying) == self.num_workers
            and all(worker.stage == ACCEPTING for worker in staying)
        ):
            self._ready()
            self._ready = None

    def spawn_worker(self) -> int:
        """Fork a worker, which loses no signal that comes before it can take it."""
        signal.pthread_sigmask(signal.SIG_BLOCK, ENDING_SIGNALS)
        try:
            return int(super().spawn_worker())
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING_SIGNALS)


@dataclass(frozen=True, slots=True)
class Listen:
    """Inherited listening sockets, left in place at the end; else sockets to make.

    Those are gunicorn's addresses: host:port, unix:path.
    """

    descriptors: Sequence[int]
    bind: Sequence[str]


class Application(BaseApplication):  # type: ignore[misc]
    """A pool's WSGI callable with gunicorn's settings for it."""

    def __init__(
        self, pool: Pool, dispatcher: Dispatcher, bind: Sequence[str], *, at_boot: bool
    ) -> None:
        self._dispatcher = dispatcher
        self._all_must_start = not at_boot
        self._settings = {
            "bind": list(bind),
            "workers": pool.workers,
            "threads": pool.threads,
            "max_requests": pool.max_requests,
            "max_requests_jitter": pool.max_requests // JITTER,
            "worker_class": Worker,
            "worker_connections": CONNECTIONS,
            "worker_tmp_dir": MEMORY_FILES if Path(MEMORY_FILES).is_dir() else None,
            "keepalive": KEEPALIVE_SECONDS,
            # A client's SCRIPT_NAME, or X_Forwarded_For beside X-Forwarded-For, is a 400.
            "forwarder_headers": "",
            "header_map": "refuse",
            "graceful_timeout": ARBITER_DRAIN_SECONDS,
            "preload_app": True,
            "control_socket_disable": True,
            "post_worker_init": self._startup,
            "worker_exit": self._shutdown,
        }
        super().__init__()

    def load_config(self) -> None:
        """Set what this server has decided; there is no file, variable or option of gunicorn's."""
        for name, value in self._settings.items():
            self.cfg.set(name, value)

    def load(self) -> WSGIApplication:
        """Return the callable that has been loaded before."""
        return self._dispatcher

    def has_served(self) -> None:
        """Take note: from now on a worker without one of the apps is better than none."""
        self._all_must_start = False

    def _startup(self, _worker: Worker) -> None:
        if not self._dispatcher.startup() and self._all_must_start:
            sys.exit(Arbiter.WORKER_BOOT_ERROR)

    def _shutdown(self, _arbiter: Arbiter, _worker: Worker) -> None:
        self._dispatcher.shutdown()


def serve(
    pool: Pool,
    dispatcher: Dispatcher,
    listen: Listen,
    *,
    ready: Callable[[], None],
    at_boot: bool,
) -> None:
    """Serve until SIGTERM, then finish what runs; leaves by SystemExit.

    `ready` is called once, when every worker serves. An app that can't be started in its workers
    fails the generation, but `at_boot`.
    """
    application = Application(pool, dispatcher, listen.bind, at_boot=at_boot)

    def serves() -> None:
        application.has_served()
        ready()

    Arbiter(application, listen.descriptors, serves).run()
