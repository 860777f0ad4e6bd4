"""The processes of the generations: forked, heard, watched, measured, and none left behind."""

from __future__ import annotations

import os
import time

from . import effects, events, memory, orphans, output, room, signals
from .handoff import GENERATION_VARIABLE
from .readiness import Readiness
from .record import Record
from .sdnotify import NOTIFY_SOCKET

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .effects import Program
    from .events import Event
    from .listeners import Listeners
    from .model import Policy
    from .output import Log, Output, Relay
    from .poller import Poller

    # Forks what asks generation `number` of process `pid`, `alone` or not, for so many seconds, and
    # writes what it has to say to an fd; returns its pid, and raises OSError.
    StartProbe = Callable[[int, int, bool, float, int], int]

BOOT_VARIABLE = "SERVER_STARTER_BOOT"  # set for a generation that has no older one to fall back on
_REMEMBERED = 8  # generations whose last words are kept
_DRAIN_PIECES = 16  # reads of a dead generation's pipe: it can't hold more


class Work(Record):
    """What every generation is: the program, its sockets and log, and how readiness is probed."""

    program: Program
    listeners: Listeners
    probe: StartProbe | None
    log: Log | None  # with one, stdout goes there as well as stderr


class _Child:
    """A generation's main process, and all that it is watched by."""

    def __init__(self, pid: int, pidfd: int, readiness: Readiness) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self.readiness = readiness
        self.prober: tuple[int, int] | None = None  # pid and pidfd
        self.left: dict[int, int] = {}  # pids by pidfd, once the main process has gone


class Children:
    """All generations' processes; what they do is reported as events.

    `died` takes deaths, which count before all else; `happened` takes the rest.
    """

    def __init__(
        self,
        work: Work,
        poller: Poller,
        out: Output,
        died: Callable[[Event], None],
        happened: Callable[[Event], None],
    ) -> None:
        self._work = work
        self._poller = poller
        self._output = out
        self._died, self._happened = died, happened
        self._inodes = orphans.socket_inodes(work.listeners.fds())
        self._children: dict[int, _Child] = {}
        self._relays: dict[int, Relay] = {}

    # Starting one

    def start(
        self, number: int, alone: bool, variables: Mapping[str, str], policy: Policy
    ) -> Event:
        """Fork a generation; whatever is short (processes, fds, memory), it is one attempt lost."""
        opened: list[int] = []
        try:
            readiness = Readiness()
            opened.append(readiness.fileno())
            read_end, write_end = output.pipe()
            opened += [read_end, write_end]
        except OSError as error:
            _close_all(opened)
            return events.SpawnFailed(number, f"no socket or pipe for it: {error.strerror}")
        given = {
            **variables,
            **self._work.listeners.variables(),
            GENERATION_VARIABLE: str(number),
            NOTIFY_SOCKET: readiness.address,
        }
        if alone:
            given[BOOT_VARIABLE] = "1"
        try:
            stdout = write_end if self._work.log else None
            streams = effects.Streams(stdout=stdout, stderr=write_end)
            pid = effects.spawn(self._work.program, given, streams)
        except OSError as error:
            readiness.close()
            _close_all([read_end, write_end])
            return events.SpawnFailed(number, f"fork failed: {error.strerror}")
        watched: list[tuple[int, int]] = []
        try:
            watched.append((pid, _pidfd(pid)))
            if self._work.probe:
                prober = self._work.probe(number, pid, alone, policy.readiness_timeout, write_end)
                watched.append((prober, _pidfd(prober)))
        except OSError as error:
            readiness.close()
            _close_all([read_end, write_end])
            for process, pidfd in watched:
                _end(process)
                os.close(pidfd)
            return events.SpawnFailed(number, f"it can't be watched: {error.strerror}")
        os.close(write_end)
        child = _Child(*watched[0], readiness)
        child.prober = watched[1] if len(watched) > 1 else None
        self.adopt(number, child, output.Relay(read_end))
        return events.Spawned(number, pid, _random())

    def adopt(self, number: int, child: _Child, relay: Relay) -> None:
        """Watch a generation's process, its socket and its pipe."""
        self._children[number] = child
        self._poller.watch(child.readiness.fileno(), lambda: self._heard(number))
        self._poller.watch(child.pidfd, lambda: self._ended(number))
        if child.prober:
            self._poller.watch(child.prober[1], lambda: self._probed(number))
        self._relays[number] = relay
        self._poller.watch(relay.read_end, lambda: self._pump(number))
        for old in sorted(self._relays)[:-_REMEMBERED]:
            if not self._relays[old].open:
                del self._relays[old]

    # What they do

    def _heard(self, number: int) -> None:
        child = self._children[number]
        ready, status = child.readiness.heard()
        if status is not None:
            self._happened(events.Reported(number, status))
        if ready and self._work.probe is None:
            self._happened(events.Ready(number))

    def _probed(self, number: int) -> None:
        child = self._children[number]
        if child.prober is None:
            return
        pid, status = os.waitpid(child.prober[0], os.WNOHANG)
        if pid:
            self._forget_prober(child)
            if status == 0:
                self._happened(events.Ready(number))

    def _pump(self, number: int, most: int = 1) -> None:
        relay = self._relays[number]
        if relay.open:
            relay.pump(self._output, most=most)
            if not relay.open:
                self._poller.forget(relay.read_end)
                os.close(relay.read_end)

    def _ended(self, number: int) -> None:
        child = self._children[number]
        pid, status = os.waitpid(child.pid, os.WNOHANG)
        if pid == 0:
            return
        self._pump(number, _DRAIN_PIECES)
        if child.prober:
            prober = child.prober[0]
            self._forget_prober(child)
            _end(prober)
        for fd in (child.pidfd, child.readiness.fileno()):
            self._poller.forget(fd)
        os.close(child.pidfd)
        child.readiness.close()
        for one in self._left_behind(child):
            try:
                pidfd = os.pidfd_open(one)
            except OSError:
                continue  # gone by now
            child.left[pidfd] = one
            self._watch_left(number, pidfd)
        if not child.left:
            del self._children[number]
        self._died(events.Died(number, status, tuple(child.left.values())))

    def _left_behind(self, child: _Child) -> list[int]:
        if not self._inodes:
            return []
        return orphans.left_behind(child.readiness.address, self._inodes)

    def _watch_left(self, number: int, pidfd: int) -> None:
        self._poller.watch(pidfd, lambda: self._left_ended(number, pidfd))

    def _left_ended(self, number: int, pidfd: int) -> None:
        child = self._children[number]
        self._poller.forget(pidfd)
        os.close(pidfd)
        del child.left[pidfd]
        if child.left:
            return
        # Such a process may have been replaced by its own child since we looked.
        for one in self._left_behind(child):
            try:
                again = os.pidfd_open(one)
            except OSError:
                continue
            signals.send(again, signals.KILL)
            child.left[again] = one
            self._watch_left(number, again)
        if not child.left:
            del self._children[number]
            self._died(events.Vanished(number))

    def _forget_prober(self, child: _Child) -> None:
        if child.prober:
            self._poller.forget(child.prober[1])
            os.close(child.prober[1])
            child.prober = None

    # What is done with them

    def send(self, number: int, signal: int) -> None:
        """Signal a generation's main process, or what it has left behind."""
        child = self._children.get(number)
        if child:
            for pidfd in child.left or (child.pidfd,):
                signals.send(pidfd, signal)

    def last_lines(self, number: int) -> list[str]:
        """Return what a generation has written to its stderr last."""
        relay = self._relays.get(number)
        return relay.last_lines() if relay else []

    def measure(self, number: int) -> events.Measured:
        """Measure a generation with all its processes; nothing, when it has just gone."""
        child = self._children.get(number)
        found = memory.whole(memory.tree(child.pid)) if child else memory.NOTHING
        left, where = room.left()
        return events.Measured(
            number, found.pss, found.shared_percent, found.processes, left, where
        )

    def close(self) -> None:
        """Pass on the last lines that are still in pipes."""
        for number in list(self._relays):
            self._pump(number, _DRAIN_PIECES)


def _close_all(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)


def _pidfd(pid: int) -> int:
    """Return an fd to watch a new child by; raises OSError, and then that child has ended."""
    try:
        return os.pidfd_open(pid)
    except OSError:
        _end(pid)  # no process that can't be watched may live
        raise


def _end(pid: int) -> None:
    """End a child at once."""
    os.kill(pid, signals.KILL)
    os.waitpid(pid, 0)


def _random() -> float:
    """Return a number from 0 to 1; the `random` module would cost memory."""
    return int.from_bytes(os.urandom(4), "big") / 0xFFFFFFFF


def clock(moment: float) -> str:
    """Put a monotonic time in words of the wall clock, for people."""
    return time.strftime("%H:%M:%S", time.localtime(time.time() - time.monotonic() + moment))
