"""gunicorn's arbiter, which knows where each worker is in its life, and replaces the due ones."""

import os
import random
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import gunicorn.arbiter
import gunicorn.sock
from gunicorn.app.base import BaseApplication
from gunicorn.errors import HaltServer

from .. import memory
from ..errors import FatalError
from . import recycling
from .ledger import SHARED, Ledger
from .pool import Timeouts, Workers
from .pool_worker import ACCEPTING, ASLEEP, ENDING_SIGNALS, LEAVING, STARTING, PoolWorker


@dataclass(frozen=True, slots=True)
class Terms:
    """What is asked of an arbiter by the server that makes it.

    `settle` is called when all is loaded and no worker is forked yet, `ready` once, when every
    worker serves, `tell` with a line about each recycling. It ends as by SIGTERM with the process
    `parent`, and, with ASLEEP, after `idle_seconds` without a connection; 0: not for that.
    """

    workers: Workers
    timeouts: Timeouts
    settle: Callable[[], None]
    ready: Callable[[], None]
    tell: Callable[[str], None]
    parent: int = 0
    idle_seconds: int = 0
    group: str = SHARED  # what its processes say they work for


@dataclass(slots=True)
class Turn:
    """The replacement of one worker, from the fork of the new one to the end of the old one."""

    old: PoolWorker
    reason: str
    new: PoolWorker
    told: bool = False  # the old one, to leave: the new one accepts


class Arbiter(gunicorn.arbiter.Arbiter):  # type: ignore[misc]
    """gunicorn's arbiter, which says when all serve, and replaces a worker before it has gone.

    It recycles one worker at a time, and the old one serves until the new one does.
    """

    def __init__(
        self, application: BaseApplication, descriptors: Sequence[int], terms: Terms
    ) -> None:
        self._descriptors = descriptors
        self._terms = terms
        self._is_ready = False
        self._known: dict[int, tuple[PoolWorker, recycling.Watch]] = {}
        self._turn: Turn | None = None
        self._retry = recycling.Retry()
        self._recycled = 0
        self._ledger = Ledger()  # with the requests of the workers that have gone
        super().__init__(application)

    def start(self) -> None:
        """Take over the sockets; what is loaded by then stays shared with the workers."""
        if self._descriptors:
            # Not gunicorn's to unlink: the next generation listens on the same ones.
            self.systemd = True
            self.LISTENERS = gunicorn.sock.create_sockets(self.cfg, self.log, self._descriptors)
        super().start()
        self.cfg.set("pre_fork", self._give_limits)
        self._ledger.sign(self._terms.group)
        self._terms.settle()

    def manage_workers(self) -> None:
        """Keep the number of workers that stay, replace what is due, and say once that all serve.

        Raises StopIteration when it has outlived its parent.
        """
        if self._terms.parent and os.getppid() != self._terms.parent:
            raise StopIteration
        now = time.monotonic()
        self._forget_gone(now)
        self._recycle(now)
        staying = self._staying()
        for _ in range(self._wanted() - len(staying)):
            if self._try_spawning(now) is None:
                break
        for worker in staying[: max(0, len(staying) - self._wanted())]:
            self.kill_worker(worker.pid, signal.SIGTERM)
        if (
            not self._is_ready
            and len(staying) == self.num_workers
            and all(worker.stage == ACCEPTING for worker in staying)
        ):
            self._is_ready = True
            self._terms.ready()
        if 0 < self._terms.idle_seconds <= self._idle_seconds(now):
            self._sleep()

    def _staying(self) -> list[PoolWorker]:
        """Return the workers that nobody has told to leave, the oldest first."""
        turn = self._turn
        leaving = turn.old if turn is not None and turn.told else None
        workers = [one for one in self.WORKERS.values() if one.stage != LEAVING]
        return sorted((one for one in workers if one is not leaving), key=lambda one: one.age)

    def _wanted(self) -> int:
        return int(self.num_workers) + (self._turn is not None and not self._turn.told)

    def _forget_gone(self, now: float) -> None:
        """Keep the count of those that have gone; one that never served is not tried again soon."""
        for pid in self._known.keys() - self.WORKERS.keys():
            worker, _ = self._known.pop(pid)
            self._ledger.requests += worker.requests
            if worker.stage == STARTING:
                wait = self._retry.failed(now)
                self.log.warning(
                    "worker %d has ended before it served, next try in %.0f s", pid, wait
                )

    def _recycle(self, now: float) -> None:
        """Go on replacing a worker, or begin with one that is due."""
        turn = self._turn
        if turn is not None:
            if turn.old.pid not in self.WORKERS or turn.new.pid not in self.WORKERS:
                self._turn = None  # done, or left to the rule for the number of workers
            elif turn.new.stage == ACCEPTING and not turn.told:
                self._end_turn(turn)
        due = [(worker, reason) for worker in self._staying() if (reason := self._due(worker, now))]
        if due and self._turn is None and self._is_ready:
            worker, reason = due[0]
            new = self._try_spawning(now)
            if new is not None:
                self._turn = Turn(worker, reason, new)

    def _due(self, worker: PoolWorker, now: float) -> str:
        if worker.stage != ACCEPTING:
            return ""
        _, watch = self._known[worker.pid]
        return recycling.stuck(worker.stuck_seconds) or watch.due(worker.requests, now)

    def _end_turn(self, turn: Turn) -> None:
        turn.told = True
        self._retry.succeeded()
        self._recycled += 1
        self.log.info(
            "recycling worker %d: %s; worker %d serves in its place",
            turn.old.pid,
            turn.reason,
            turn.new.pid,
        )
        self.kill_worker(turn.old.pid, signal.SIGTERM)
        self._terms.tell(recycling.summary(self._recycled, turn.reason))

    def _try_spawning(self, now: float) -> PoolWorker | None:
        """Fork a worker, or return None when that fails now, or has failed just before.

        Raises OSError as long as the generation is not ready: it has failed then.
        """
        if not self._retry.may(now):
            return None
        try:
            pid = self.spawn_worker()
        except OSError as error:
            if not self._is_ready:
                raise
            wait = self._retry.failed(now)
            self.log.warning("can't start a worker now, next try in %.0f s: %s", wait, error)
            return None
        worker: PoolWorker = self.WORKERS[pid]
        return worker

    def spawn_worker(self) -> int:
        """Fork a worker, which loses no signal that comes before it can take it."""
        signal.pthread_sigmask(signal.SIG_BLOCK, ENDING_SIGNALS)
        try:
            pid = int(super().spawn_worker())
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING_SIGNALS)
        worker: PoolWorker = self.WORKERS[pid]
        watch = recycling.Watch(
            worker.limits,
            worker.began,
            lambda: private_kb(pid),
            lambda text: self.log.warning("worker %d %s", pid, text),
        )
        self._known[pid] = worker, watch
        return pid

    def _give_limits(self, _arbiter: object, worker: PoolWorker) -> None:
        worker.group = self._terms.group
        worker.limits = recycling.limits(self._terms.workers, random.random)
        worker.timeouts = self._terms.timeouts

    def reap_workers(self) -> None:
        """Reap those that have gone; one that can't start ends nothing while others serve.

        Raises HaltServer before all are ready, or when none is left.
        """
        while True:
            try:
                super().reap_workers()
            except HaltServer:
                workers = self.WORKERS.values()
                if not self._is_ready or all(one.stage != ACCEPTING for one in workers):
                    raise
            else:
                return

    def handle_ttou(self) -> None:
        """Shrink by a worker; or sleep at once, where that is allowed and nobody is connected."""
        if self._terms.idle_seconds and self._idle_seconds(time.monotonic()) >= 0:
            self._sleep()
        super().handle_ttou()

    def _idle_seconds(self, now: float) -> float:
        """Return for how long no worker has had a connection; below 0: one has, or may have."""
        workers = list(self.WORKERS.values())
        if not self._is_ready or any(one.stage != ACCEPTING for one in workers):
            return -1.0
        since = [one.idle_since for one in workers]
        return -1.0 if 0.0 in since else now - max(since)

    def _sleep(self) -> None:
        self.stop()
        sys.exit(ASLEEP)


def private_kb(pid: int) -> int:
    """Return what a worker alone holds; 0 for one that has gone."""
    try:
        return memory.read(pid).private
    except FatalError:
        return 0
