"""The parent of a pool with isolated apps: one process for each group, forked when it is needed.

It has imported what they have in common, and no app. All decisions are groups.Groups'; here are the
forks, signals, sockets and clocks.
"""

import contextlib
import os
import random
import selectors
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn

import gunicorn.glogging

from .. import orphans
from . import groups, member, recycling
from .arbiter import private_kb
from .groups import DIED, LEAVING, REFUSED, SLEPT, STARTING, Action, Groups, Traits
from .ledger import PARENT, SHARED, Ledger
from .member import Member, Page
from .pool_worker import ASLEEP, PoolWorker
from .server import Application

TOLD = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGTTOU, signal.SIGTTIN)
IGNORED = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
HANDLED = (*TOLD, *IGNORED, signal.SIGCHLD)
LOOK_SECONDS = 2.0  # between two looks at the workers that are awake
STOPPED_SECONDS = 10.0  # that an arbiter may be stopped, as start_server has it
HEARTBEAT_SECONDS = 30.0  # gunicorn's `timeout`
NOT_STARTED = 3  # gunicorn's WORKER_BOOT_ERROR: an app's startup has failed
ENDS = {ASLEEP: SLEPT, member.REFUSED: REFUSED, NOT_STARTED: REFUSED}


@dataclass(slots=True)
class _Child:
    """A process of a group, as it is seen from here."""

    group: str
    pid: int
    page: Page
    worker: PoolWorker | None  # None for an arbiter, which looks after its workers itself
    watch: recycling.Watch | None
    stage: int = STARTING
    stopped: float | None = None  # when it was, by SIGSTOP or its like

    def looks(self) -> tuple[int, bool, str, str]:
        """Return its stage, whether all gets 503, what it tells, and what apps are missing."""
        stage, down, told, missing = self.page.read()
        return (stage if self.worker is None else self.worker.stage), down, told, missing


class Parent:
    """Runs until all groups have ended."""

    def __init__(
        self, members: Sequence[Member], *, at_boot: bool, tell: Callable[[str], None]
    ) -> None:
        """`tell` takes lines as sd_notify(3) has them."""
        self._members = {one.name: one for one in members}
        traits = [
            Traits(m.name, m.idle_seconds > 0, shrinks=not m.alone, reason=m.reason)
            for m in members
        ]
        self._groups = Groups(traits, at_boot=at_boot)
        self._tell = tell
        self._clock = time.monotonic
        self._children: dict[int, _Child] = {}  # by their numbers
        self._selector = selectors.DefaultSelector()
        self._watched: set[str] = set()
        self._signals: set[int] = set()
        self._wake_up: tuple[int, int] = (-1, -1)
        self._said = ""
        self._ready = False
        self._exit: str | None = None
        self._ledger = Ledger()  # with the requests of the workers that have gone
        self._ledger.sign(PARENT)
        self._log = gunicorn.glogging.Logger(Application(members[0].workers).cfg)

    def run(self) -> str:
        """Keep all groups up until told to stop; returns "" then, else why it can't serve."""
        self._take_signals()
        self._do(self._groups.begin(self._clock()))
        while self._exit is None:
            self._watch()
            self._say_status()
            asked = self._wait()
            self._hear()
            self._look()
            now = self._clock()
            for name in asked:
                self._do(self._groups.asked(name, now))
            self._do(self._groups.tick(now))
        return self._exit

    def _take_signals(self) -> None:
        reading, writing = self._wake_up = os.pipe()
        for end in self._wake_up:
            os.set_blocking(end, False)
        for one in HANDLED:
            signal.signal(one, lambda number, _: self._signals.add(number))
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        self._selector.register(reading, selectors.EVENT_READ)

    def _watch(self) -> None:
        """Poll the sockets of those that sleep, and no others."""
        wanted = self._groups.watched(self._clock())
        for name in self._watched - wanted:
            for descriptor in self._members[name].descriptors:
                self._selector.unregister(descriptor)
        for name in wanted - self._watched:
            for descriptor in self._members[name].descriptors:
                self._selector.register(descriptor, selectors.EVENT_READ, name)
        self._watched = wanted

    def _wait(self) -> list[str]:
        """Wait for something to do; returns the groups that are asked for."""
        now = self._clock()
        deadline = self._groups.deadline(now)
        children = self._children.values()
        if any(one.worker is not None or one.stopped is not None for one in children):
            deadline = min(now + LOOK_SECONDS, deadline if deadline is not None else now + 60)
        timeout = None if deadline is None else max(0.0, deadline - now)
        asked = []
        for key, _ in self._selector.select(timeout):
            if key.data is None:
                with contextlib.suppress(BlockingIOError):
                    os.read(key.fd, 65536)
            else:
                asked.append(str(key.data))
        return asked

    def _hear(self) -> None:
        """Do what signals ask for."""
        heard, self._signals = self._signals, set()
        if heard & {signal.SIGTERM, signal.SIGINT, signal.SIGQUIT}:
            self._do(self._groups.stop(self._clock()))
        if signal.SIGTTOU in heard:
            self._do(self._groups.shrink())
        if signal.SIGTTIN in heard:
            self._do(self._groups.grow())

    def _look(self) -> None:
        """Look at every process: where it is in its life, and whether it is still in it."""
        for number, child in list(self._children.items()):
            ended, status = os.waitpid(child.pid, os.WNOHANG | os.WUNTRACED)
            if ended and os.WIFSTOPPED(status):
                ended, child.stopped = 0, self._clock()
            self._look_at(number, child)
            if ended:
                self._bury(number, child, os.waitstatus_to_exitcode(status))
            elif child.worker is not None:
                self._examine(number, child, child.worker)
            elif child.stopped is not None:
                self._let_go_on(child, child.stopped)

    def _let_go_on(self, child: _Child, since: float) -> None:
        """Have an arbiter go on that stays stopped: nobody would look after its workers."""
        if self._clock() - since >= STOPPED_SECONDS:
            child.stopped = None
            if orphans.is_stopped(child.pid):
                _say(f"{child.group} (pid {child.pid}) has been stopped, sending CONT")
                os.kill(child.pid, signal.SIGCONT)

    def _look_at(self, number: int, child: _Child) -> None:
        stage, down, told, missing = child.looks()
        now = self._clock()
        if stage != STARTING:
            self._groups.told(child.group, told, missing)
        if stage != child.stage:
            if child.stage == STARTING:
                if child.worker is not None:
                    child.worker.tmp.notify()  # it may hang before it has ever done so itself
                self._do(self._groups.accepts(number, now, broken=down))
            child.stage = stage
            if stage == LEAVING:
                self._do(self._groups.leaves(number, now))

    def _bury(self, number: int, child: _Child, code: int) -> None:
        del self._children[number]
        if child.worker is not None:
            child.worker.tmp.close()
            self._ledger.requests += child.worker.requests
        how = ENDS.get(code, DIED)
        reason = child.page.read()[2] if code == member.REFUSED else _in_words(code)
        if code == NOT_STARTED:
            reason = member.not_started(child.group)
        self._do(self._groups.ended(number, how, self._clock(), reason))

    def _examine(self, number: int, child: _Child, worker: PoolWorker) -> None:
        """See that a worker is alive and not due to be replaced."""
        now = self._clock()
        if child.stage == STARTING:
            return
        if now - worker.tmp.last_update() > HEARTBEAT_SECONDS:
            worker.tmp.notify()  # its time begins anew
            self._do(self._groups.silent(number))
            return
        reason = recycling.stuck(worker.stuck_seconds)
        if not reason and child.watch is not None:
            reason = child.watch.due(worker.requests, now)
        if reason:
            self._do(self._groups.due(number, reason, now))

    def _do(self, actions: Sequence[Action]) -> None:
        for action in actions:
            match action:
                case groups.Start():
                    self._start(action)
                case groups.Send():
                    self._send(action)
                case groups.Say():
                    _say(action.text)
                case groups.Ready():
                    self._ready = True
                    self._said = self._groups.status()
                    self._tell(f"READY=1\nSTATUS={self._said}")
                case groups.Exit():
                    self._exit = action.reason

    def _say_status(self) -> None:
        status = self._groups.status()
        if self._ready and status != self._said:
            self._said = status
            self._tell(f"STATUS={status}")

    def _send(self, action: groups.Send) -> None:
        child = self._children.get(action.number)
        if child is not None:  # not reaped: the pid is its own
            os.kill(child.pid, action.signal)

    def _start(self, action: groups.Start) -> None:
        try:
            self._fork(action, self._members[action.group])
        except OSError as error:
            how = self._groups.ended(action.number, DIED, self._clock(), f"can't start: {error}")
            self._do(how)

    def _fork(self, action: groups.Start, one: Member) -> None:
        page, worker, watch = Page(), None, None
        if one.alone:
            worker = self._worker(action.number, one)
        signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)
        try:
            parent = os.getpid()
            pid = os.fork()
            if pid == 0:
                self._live(one, action.kind, page, worker, parent)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED)
        if worker is not None:
            watch = recycling.Watch(
                worker.limits,
                worker.began,
                lambda: private_kb(pid),
                lambda text: _say(f"{one.name}: its process {text}"),
            )
        self._children[action.number] = _Child(action.group, pid, page, worker, watch)

    def _live(
        self, one: Member, kind: str, page: Page, worker: PoolWorker | None, parent: int
    ) -> NoReturn:
        try:
            self._become(one)
            member.live(one, kind, page, worker, parent)
        except Exception:  # noqa: BLE001  # nothing of it may be taken for the parent's
            sys.stderr.write(traceback.format_exc())
            sys.exit(1)

    def _worker(self, number: int, one: Member) -> PoolWorker:
        application = Application(one.workers)
        timeout = HEARTBEAT_SECONDS / 2
        worker = one.worker_class(
            number, os.getpid(), [], application, timeout, application.cfg, self._log
        )
        worker.idle_seconds = one.idle_seconds
        worker.group = one.name or SHARED
        worker.limits = recycling.limits(one.workers, random.random)
        worker.timeouts = one.pool.timeouts
        return worker

    def _become(self, one: Member) -> None:
        """Leave in a child what is the parent's alone, and the sockets of other groups."""
        signal.set_wakeup_fd(-1)
        for number in HANDLED:
            signal.signal(number, signal.SIG_DFL)
        for number in (signal.SIGTTOU, signal.SIGTTIN):
            signal.signal(number, signal.SIG_IGN)  # as long as nobody has a use for them
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED)
        self._selector.close()
        for end in self._wake_up:
            os.close(end)
        for other in self._members.values():
            for descriptor in other.descriptors if other is not one else ():
                os.close(descriptor)
        for child in self._children.values():
            if child.worker is not None:
                child.worker.tmp.close()
        self._children.clear()


def _say(text: str) -> None:
    sys.stderr.write(f"vhost_server: {text}\n")


def _in_words(code: int) -> str:
    """Put an exit status, or a signal as a negative one, in words."""
    return f"died of {signal.Signals(-code).name}" if code < 0 else f"exited with {code}"
