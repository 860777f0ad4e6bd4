"""One process of a group, from its fork to its end: it loads the group's apps and serves them."""

import mmap
import os
import signal
import struct
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NoReturn

import gunicorn.sock

from . import loader, recipe, server
from .arbiter import Terms
from .dispatcher import Dispatcher
from .groups import ACCEPTING, DOWN, LENIENT, STARTING, STRICT, TRIAL
from .ledger import SHARED
from .loader import LoadedApp, LoadError
from .pool import ASGI, App, Pool, Workers
from .pool_worker import ASLEEP, ENDING_SIGNALS, PoolWorker
from .worker import Worker

REFUSED = 4  # the exit status of a process whose app can't be loaded
LONGEST_NAME = 15  # bytes of a process's name, proc(5)
SHARED_NAME = "shared"
PAGE_BYTES = 16384  # room for a traceback
_HEAD = struct.Struct("BBHH")  # stage, whether nothing could be loaded, the lengths of two texts


@dataclass(frozen=True, slots=True)
class Member:
    """A group of apps in one interpreter, and where it is to serve them."""

    name: str  # of the isolated app; "" for the shared ones
    pool: Pool  # the whole pool: they have one virtualenv
    apps: tuple[App, ...]  # of the group
    workers: Workers
    descriptors: tuple[int, ...]
    idle_seconds: int = 0
    reason: str = ""  # why an app is isolated that has no say in it
    worker_class: type[PoolWorker] = Worker

    @property
    def alone(self) -> bool:
        """Whether one process is all: an arbiter would only keep a cold copy of the apps."""
        return self.workers.count == 1


def groups_of(pool: Pool, descriptors: Mapping[str, tuple[int, ...]]) -> list[Member]:
    """Return the groups of a pool, whose sockets have been assigned.

    A `current` symlink means for all of them, whenever they start, what it means now.
    """
    pool = replace(
        pool,
        apps=tuple(replace(a, directory=Path(os.path.realpath(a.directory))) for a in pool.apps),
    )
    shared = tuple(app for app in pool.apps if app.own is None)
    groups = [Member("", pool, shared, pool.shared, descriptors[""])] if shared else []
    for app in pool.apps:
        if app.own is not None:
            groups.append(
                Member(
                    app.name,
                    pool,
                    (app,),
                    app.own,
                    descriptors[app.name],
                    app.idle_seconds,
                    app.isolation_reason,
                    _worker_class(app),
                )
            )
    return groups


def _worker_class(app: App) -> type[PoolWorker]:
    if app.interface != ASGI:
        return Worker
    # asyncio's memory is for pools that need it, and for all their groups once.
    from .event_loop_worker import EventLoopWorker  # noqa: PLC0415

    return EventLoopWorker


class Page:
    """What a process says to the parent that has forked it: memory that they share."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, PAGE_BYTES)

    def write(
        self, *, stage: int = STARTING, down: bool = False, told: str = "", missing: str = ""
    ) -> None:
        """Say all at once."""
        room = PAGE_BYTES - _HEAD.size
        two = missing.encode()
        one = told.encode()[: room - len(two)]
        self._memory[_HEAD.size : _HEAD.size + len(one) + len(two)] = one + two
        _HEAD.pack_into(self._memory, 0, stage, down, len(one), len(two))

    def read(self) -> tuple[int, bool, str, str]:
        """Return the stage, whether all gets 503, what is told, and the apps that are missing."""
        stage, down, one, two = _HEAD.unpack_from(self._memory)
        text = self._memory[_HEAD.size : _HEAD.size + one + two]
        return stage, bool(down), text[:one].decode("utf-8", "replace"), text[one:].decode()


def live(member: Member, kind: str, page: Page, worker: PoolWorker | None, parent: int) -> NoReturn:
    """Be a process of a group, forked by `parent`; leaves by SystemExit."""
    name_process(member.name)
    recipe.begin(member.pool.memory)
    try:
        apps, missing = ([], member.apps) if kind == DOWN else load(member, strict=kind != LENIENT)
    except LoadError as error:
        page.write(told=str(error))
        sys.exit(REFUSED)
    dispatcher = Dispatcher(apps, missing)
    if kind == TRIAL:
        sys.exit(_try(dispatcher, member, page))
    told = "" if member.alone and member.name else status(member, apps)
    says = partial(page.write, down=not apps, missing=", ".join(app.name for app in missing))
    says(told=told)
    must = kind == STRICT
    if worker is not None:
        _serve_alone(member, dispatcher, worker, all_must_start=must)

    def tell(latest: str = "") -> None:
        says(stage=ACCEPTING, told=f"{told}; {latest}" if latest else told)
        if os.getppid() == parent:
            os.kill(parent, signal.SIGCHLD)

    settle = partial(recipe.settle, member.pool.memory)
    group = member.name or SHARED
    pool = member.pool
    terms = Terms(
        member.workers, pool.timeouts, settle, tell, tell, parent, member.idle_seconds, group
    )
    listen = server.Listen(member.descriptors)
    server.serve(dispatcher, listen, terms, all_must_start=must, worker_class=member.worker_class)


def load(member: Member, *, strict: bool) -> tuple[list[LoadedApp], list[App]]:
    """Load a group's apps; returns those that can be served, and those that can't.

    Raises LoadError for the first one that can't, if `strict`.
    """

    def refused(error: LoadError) -> None:
        if strict:
            raise error
        sys.stderr.write(f"vhost_server: {error}\n")

    names = frozenset(app.name for app in member.apps)
    forks = not member.alone
    apps = loader.load(member.pool, loader.Loading(refused, names=names, forks=forks))
    loader.report(apps, sys.stderr)
    loaded = {app.context.name for app in apps}
    return apps, [app for app in member.apps if app.name not in loaded]


def name_process(group: str) -> None:
    """Say in /proc/PID/comm, which ps shows, what this process is for."""
    name = f"kechi:{group or SHARED_NAME}"[:LONGEST_NAME]
    with Path("/proc/self/comm").open("w", encoding="ascii") as file:
        file.write(name)


def status(member: Member, apps: Sequence[LoadedApp]) -> str:
    """Return what a group says of itself once it serves."""
    names = ", ".join(app.context.name for app in apps) or "no app"
    workers = member.workers
    if member.worker_class is not Worker:
        return f"serves {names}: {workers.count} workers, each an event loop"
    return f"serves {names}: {workers.count} workers of {workers.threads} threads"


def not_started(group: str) -> str:
    """Return why a group is refused whose app's startup has failed."""
    return f"the app {group} can't be started: its log says why"


def without(missing: Iterable[str]) -> str:
    """Return what a server adds to its status for apps that could not be loaded."""
    names = ", ".join(missing)
    return f"; can't load {names}" if names else ""


def _try(dispatcher: Dispatcher, member: Member, page: Page) -> int:
    """Start and end an app that is to sleep; returns the exit status."""
    if not dispatcher.startup():
        page.write(told=not_started(member.name))
        return REFUSED
    dispatcher.shutdown()
    return ASLEEP


def _serve_alone(
    member: Member, dispatcher: Dispatcher, worker: PoolWorker, *, all_must_start: bool
) -> NoReturn:
    recipe.settle(member.pool.memory)
    application = worker.app
    assert isinstance(application, server.Application)
    application.dispatcher = dispatcher
    application.let_start(all_must=all_must_start)
    worker.pid = os.getpid()
    worker.sockets = gunicorn.sock.create_sockets(worker.cfg, worker.log, member.descriptors)
    # It is ready to take them soon, and loses none.
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING_SIGNALS)
    try:
        worker.init_process()
        sys.exit(0)
    finally:
        worker.tmp.close()
        dispatcher.shutdown()
