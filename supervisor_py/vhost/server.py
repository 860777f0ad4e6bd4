"""gunicorn's settings for a group of apps, and its start."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

from gunicorn.app.base import BaseApplication
from gunicorn.http import message

from .arbiter import Arbiter, Terms
from .dispatcher import Dispatcher
from .loader import WSGIApplication
from .pool import Workers
from .pool_worker import DRAIN_SECONDS, PoolWorker
from .worker import Worker

KEEPALIVE_SECONDS = 2
# The worker gives up first; the arbiter ends it then, within the super-daemon's 30 s.
ARBITER_DRAIN_SECONDS = DRAIN_SECONDS + 2
CONNECTIONS = 200  # open at once per worker, idle ones included: well under 1024 descriptors
MEMORY_FILES = "/dev/shm"  # noqa: S108  # heartbeats must not wait for a disk


@dataclass(frozen=True, slots=True)
class Listen:
    """Inherited listening sockets, left in place at the end; else sockets to make.

    Those are gunicorn's addresses: host:port, unix:path.
    """

    descriptors: Sequence[int]
    bind: Sequence[str] = ()


class Application(BaseApplication):  # type: ignore[misc]
    """The WSGI callable of a group of apps, with gunicorn's settings for it.

    `dispatcher` is there by the time that a worker starts.
    """

    dispatcher: Dispatcher

    def __init__(
        self,
        workers: Workers,
        bind: Sequence[str] = (),
        *,
        all_must_start: bool = False,
        worker_class: type[PoolWorker] = Worker,
    ) -> None:
        """`all_must_start`: a worker in which an app can't be started ends."""
        self._all_must_start = all_must_start
        # gunicorn cuts the limit to this one.
        message.MAX_REQUEST_LINE = max(message.MAX_REQUEST_LINE, workers.limit_request_line)
        self._settings = {
            "bind": list(bind),
            "workers": workers.count,
            "threads": workers.threads,
            "worker_class": worker_class,
            "worker_connections": CONNECTIONS,
            "worker_tmp_dir": MEMORY_FILES if Path(MEMORY_FILES).is_dir() else None,
            "keepalive": KEEPALIVE_SECONDS,
            "limit_request_line": workers.limit_request_line,
            "limit_request_fields": workers.limit_request_fields,
            "limit_request_field_size": workers.limit_request_field_size,
            # A client's SCRIPT_NAME, or X_Forwarded_For beside X-Forwarded-For, is a 400.
            "forwarder_headers": "",
            "header_map": "refuse",
            "graceful_timeout": ARBITER_DRAIN_SECONDS,
            "preload_app": True,
            "control_socket_disable": True,
            "post_worker_init": self._startup,
            "worker_exit": self._shutdown,
            "post_request": Worker.note_answer,
        }
        super().__init__()

    def load_config(self) -> None:
        """Set what this server has decided; there is no file, variable or option of gunicorn's."""
        for name, value in self._settings.items():
            self.cfg.set(name, value)

    def load(self) -> WSGIApplication:
        """Return the callable that has been loaded before."""
        return self.dispatcher

    def let_start(self, *, all_must: bool) -> None:
        """Say whether a worker without one of the apps is better than none."""
        self._all_must_start = all_must

    def _startup(self, _worker: Worker) -> None:
        if not self.dispatcher.startup() and self._all_must_start:
            sys.exit(Arbiter.WORKER_BOOT_ERROR)

    def _shutdown(self, _arbiter: Arbiter, _worker: Worker) -> None:
        self.dispatcher.shutdown()


def serve(
    dispatcher: Dispatcher,
    listen: Listen,
    terms: Terms,
    *,
    all_must_start: bool,
    worker_class: type[PoolWorker] = Worker,
) -> NoReturn:
    """Serve until SIGTERM, then finish what runs; leaves by SystemExit.

    `all_must_start`: an app that can't be started in its workers fails the generation, until that
    serves.
    """
    application = Application(
        terms.workers, listen.bind, all_must_start=all_must_start, worker_class=worker_class
    )
    application.dispatcher = dispatcher

    def ready() -> None:
        application.let_start(all_must=False)
        terms.ready()

    Arbiter(application, listen.descriptors, replace(terms, ready=ready)).run()
    sys.exit(0)
