"""gunicorn's arbiter, which knows where each worker is in its life."""

import gc
import signal
from collections.abc import Callable, Sequence

import gunicorn.arbiter
import gunicorn.sock
from gunicorn.app.base import BaseApplication

from .worker import ACCEPTING, ENDING_SIGNALS, LEAVING


class Arbiter(gunicorn.arbiter.Arbiter):  # type: ignore[misc]
    """gunicorn's arbiter, which says when all serve, and replaces a worker before it has gone."""

    def __init__(
        self, application: BaseApplication, descriptors: Sequence[int], ready: Callable[[], None]
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
