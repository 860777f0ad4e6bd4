"""gunicorn's settings for a pool, and its start."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from gunicorn.app.base import BaseApplication

from . import recipe
from .arbiter import Arbiter, Terms
from .dispatcher import Dispatcher
from .loader import WSGIApplication
from .pool import Pool
from .worker import DRAIN_SECONDS, Worker

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
            "workers": pool.shared.count,
            "threads": pool.shared.threads,
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


def serve(  # noqa: PLR0913  # each is a thing of its own
    pool: Pool,
    dispatcher: Dispatcher,
    listen: Listen,
    *,
    ready: Callable[[], None],
    tell: Callable[[str], None],
    at_boot: bool,
) -> None:
    """Serve until SIGTERM, then finish what runs; leaves by SystemExit.

    `ready` is called once, when every worker serves, `tell` with a line about each worker that has
    been replaced. An app that can't be started in its workers fails the generation, but
    `at_boot`.
    """
    application = Application(pool, dispatcher, listen.bind, at_boot=at_boot)

    def serves() -> None:
        application.has_served()
        ready()

    settle = partial(recipe.settle, pool.memory)
    Arbiter(application, listen.descriptors, Terms(pool.shared, settle, serves, tell)).run()
