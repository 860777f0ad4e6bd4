"""The processes of the generations: forked, heard, watched, measured, and none left behind."""

from __future__ import annotations

import errno
import os
import time

from . import effects, events, handover, memory, orphans, output, reaper, room, signals
from .handoff import GENERATION_VARIABLE
from .readiness import Readiness
from .record import Record
from .sdnotify import NOTIFY_SOCKET

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Set
    from typing import Any

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
_PROBE_MARGIN = 0.5  # seconds
_PROBE_LEAST = 0.1  # seconds
_DRAIN_PIECES = 16  # reads of a dead generation's pipe: it can't hold more
_STOPPED_PATIENCE = 10.0  # seconds that a main process may be stopped
_ROUNDS = 100  # of SIGKILL to what forks faster than we look


class Work(Record):
    """What every generation is: the program, its sockets and log, and how readiness is probed."""

    program: Program
    listeners: Listeners
    probe: StartProbe | None
    log: Log | None  # with one, stdout goes there as well as stderr


class _Prober(Record):
    """The helper process of a probe, and what it was told."""

    pid: int
    pidfd: int
    alone: bool
    limit: float


class _Child:
    """A generation's main process, and all that it is watched by."""

    def __init__(self, pid: int, pidfd: int, readiness: Readiness, began: int) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self.readiness = readiness
        self.main = orphans.Main(pid, began)
        self.prober: _Prober | None = None
        self.ended = False  # the main process has
        self.left: dict[int, int] = {}  # pids by pidfd, of what it left behind
        self.foreign: set[int] = set()  # pids of what is another user's, and left alone
        self.rounds = 0  # of SIGKILL to those


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
        self.since = 0  # when the first of them began, in ticks since boot
        self._stopped: dict[int, float] = {}  # when a generation that is stopped is to go on
        self.helpers: Callable[[], Set[int]] = frozenset  # pids of what others here have forked

    def ours(self) -> Set[int]:
        """Return the pids of all children that somebody here waits for."""
        found = set(self.helpers())
        for child in self._children.values():
            if not child.ended:
                found.add(child.pid)
            if child.prober:
                found.add(child.prober.pid)
        return found

    # Starting one

    def start(
        self, number: int, alone: bool, variables: Mapping[str, str], policy: Policy
    ) -> Event:
        """Fork a generation; whatever is short (processes, fds, memory), it is one attempt lost."""
        attempt = _Attempt()
        try:
            child = self._start(number, alone, variables, attempt)
            if self._work.probe:
                attempt.doing = "it can't be probed"
                self._start_prober(number, child, policy.readiness_timeout)
        except OSError as error:
            attempt.take_back()
            reason = room.tasks_in_use() if error.errno == errno.EAGAIN else ""
            return events.SpawnFailed(number, f"{attempt.doing}: {reason or error.strerror}")
        return events.Spawned(number, child.pid, _random())

    def _start(
        self, number: int, alone: bool, variables: Mapping[str, str], attempt: _Attempt
    ) -> _Child:
        readiness = Readiness()
        attempt.undo.append(readiness.close)
        read_end, write_end = output.pipe()
        relay = output.Relay(read_end)
        attempt.undo.append(relay.close)
        try:
            attempt.doing = "fork failed"
            given = {
                **variables,
                **self._work.listeners.variables(),
                GENERATION_VARIABLE: str(number),
                NOTIFY_SOCKET: readiness.address,
            }
            given.pop(BOOT_VARIABLE, None)  # somebody else's, whose child we are
            if alone:
                given[BOOT_VARIABLE] = "1"
            streams = effects.Streams(write_end if self._work.log else None, write_end)
            pid = effects.spawn(self._work.program, given, streams)
        finally:
            os.close(write_end)
        attempt.doing = "it can't be watched"
        attempt.undo.append(lambda: _end(pid))
        pidfd = os.pidfd_open(pid)
        attempt.undo.append(lambda: os.close(pidfd))
        child = _Child(pid, pidfd, readiness, _began(pid))
        self.since = self.since or child.main.began
        self._adopt(number, child, relay, attempt)
        return child

    def handed(self) -> list[dict[str, Any]]:
        """Return what a successor needs to take the generations over; see `handover.Child`."""
        found = []
        for number, relay in self._relays.items():
            child = self._children.get(number)
            if relay.open or child:
                one = handover.Child(
                    number=number,
                    pid=child.pid if child else 0,
                    left=bool(child and child.left),
                    began=child.main.began if child else 0,
                    notify=child.readiness.fileno() if child else handover.NO_FD,
                    pipe=relay.read_end if relay.open else handover.NO_FD,
                    tail=relay.tail,
                    rest=relay.rest,
                )
                found.append(one.values())
        return found

    def resume(self, handed: list[handover.Child], since: int) -> None:
        """Take over the generations of our predecessor in this process; raises OSError.

        One that was no reaper does not say `since`: then our next generation is the first.
        """
        self.since = since
        for one in handed:
            if one.pipe != handover.NO_FD:
                os.set_inheritable(one.pipe, False)
                self._relays[one.number] = output.Relay(one.pipe, one.tail, one.rest)
                self._poller.watch(one.pipe, self._calling(self._pump, one.number))
            if not one.pid:
                continue  # of that generation, there only is something that holds its stderr
            readiness = Readiness(one.notify)
            try:
                pidfd = -1 if one.left else os.pidfd_open(one.pid)
            except ProcessLookupError:
                continue  # ended since: who is only checked is not its parent, and can't see how
            child = _Child(one.pid, pidfd, readiness, one.began or _began(one.pid))
            child.ended = one.left
            self._children[one.number] = child
            if not child.ended:
                self._poller.watch(one.notify, self._calling(self._heard, one.number))
                self._poller.watch(child.pidfd, self._calling(self._ended, one.number))
        # Not before all are known: what is one's is not another's.
        for number, child in list(self._children.items()):
            if child.ended and not self._watch_left(number, child):
                self._gone(number)
                self._died(events.Vanished(number))

    @staticmethod
    def _calling(callback: Callable[[int], None], number: int) -> Callable[[], None]:
        return lambda: callback(number)

    def _adopt(self, number: int, child: _Child, relay: Relay, attempt: _Attempt) -> None:
        """Watch a generation's process, its socket and its pipe; raises OSError."""
        self._children[number] = child
        self._relays[number] = relay
        attempt.undo += [lambda: _drop(self._children, number), lambda: _drop(self._relays, number)]
        for fd, callback in (
            (child.readiness.fileno(), self._heard),
            (child.pidfd, self._ended),
            (relay.read_end, self._pump),
        ):
            self._poller.watch(fd, self._calling(callback, number))
            attempt.undo.append(self._calling(self._poller.forget, fd))
        for old in sorted(self._relays)[:-_REMEMBERED]:
            if not self._relays[old].open:
                del self._relays[old]

    def _start_prober(self, number: int, child: _Child, limit: float) -> None:
        """Fork the helper that asks whether a generation serves; raises OSError.

        It gives up, and says why, before the generation is given up.
        """
        assert self._work.probe is not None
        alone = len(self._children) == 1
        patience = max(_PROBE_LEAST, limit - _PROBE_MARGIN)
        writer = self._relays[number].writer()
        try:
            pid = self._work.probe(number, child.pid, alone, patience, writer)
        finally:
            os.close(writer)
        try:
            pidfd = os.pidfd_open(pid)
            self._poller.watch(pidfd, lambda: self._probed(number))
        except OSError:
            _end(pid)  # no process that can't be watched may live
            raise
        child.prober = _Prober(pid, pidfd, alone, limit)

    def _tell_probers(self) -> None:
        """Start a helper again whose generation has become the only one: any answer is its own."""
        for number, child in self._children.items():
            prober = child.prober
            if prober is None or prober.alone or len(self._children) > 1:
                continue
            self._end_prober(child)
            try:
                self._start_prober(number, child, prober.limit)
            except OSError as error:
                self._output.say(f"worker {child.pid} can't be probed: {error.strerror}")

    # What they do

    def _heard(self, number: int) -> None:
        child = self._children[number]
        ready, status = child.readiness.heard()
        if status is not None:
            self._happened(events.Reported(number, status))
        if ready and self._work.probe is None:
            self._happened(events.Ready(number))

    def _probed(self, number: int) -> None:
        prober = self._children[number].prober
        if prober is None:
            return
        pid, status = os.waitpid(prober.pid, os.WNOHANG)
        if pid:
            self._forget_prober(self._children[number])
            if status == 0:
                self._happened(events.Ready(number))

    def _pump(self, number: int, most: int = 1) -> None:
        relay = self._relays[number]
        if relay.open:
            relay.pump(self._output, most=most)
            if not relay.open:
                self._poller.forget(relay.read_end)
                relay.close()

    def _ended(self, number: int) -> None:
        child = self._children[number]
        pid, status = os.waitpid(child.pid, os.WNOHANG)
        if pid == 0:
            return
        self._pump(number, _DRAIN_PIECES)
        self._end_prober(child)
        for fd in (child.pidfd, child.readiness.fileno()):
            self._poller.forget(fd)
        os.close(child.pidfd)
        child.ended = True
        left = self._watch_left(number, child)
        if not left:
            self._gone(number)
        self._died(events.Died(number, status, tuple(left)))

    def _gone(self, number: int) -> None:
        """Forget a generation of which nothing is left."""
        self._children.pop(number).readiness.close()
        self._tell_probers()

    def _left_behind(self, number: int, child: _Child) -> dict[int, orphans.Process]:
        relay = self._relays.get(number)
        pipe = os.fstat(relay.read_end).st_ino if relay and relay.open else 0
        given = orphans.Given(child.main, child.readiness.address, pipe)
        others = [one.main for one in self._children.values() if not one.ended]
        try:
            return orphans.left_behind(given, self._inodes, others, self.ours(), self.since)
        except OSError as error:  # no descriptors left
            self._output.say(f"can't see what worker {child.pid} left behind: {error.strerror}")
            return {}

    def _watch_left(self, number: int, child: _Child) -> list[int]:
        """Watch what a generation has left behind; return the process ids."""
        for pid, seen in self._left_behind(number, child).items():
            if pid in child.foreign:
                continue
            try:
                pidfd = os.pidfd_open(pid)
            except OSError:
                continue  # gone by now
            if orphans.look(pid) != seen:
                os.close(pidfd)  # somebody else has its pid
                continue
            if not signals.send(pidfd, 0):
                self._pass_over(child, pid)
                os.close(pidfd)
                continue
            try:
                self._poller.watch(pidfd, self._left_calling(number, pidfd))
            except OSError:
                signals.send(pidfd, signals.KILL)  # none that can't be watched may live
                os.close(pidfd)
                continue
            child.left[pidfd] = pid
        return list(child.left.values())

    def _pass_over(self, child: _Child, pid: int) -> None:
        child.foreign.add(pid)
        self._output.say(f"worker {child.pid} left process {pid} of another user behind")

    def _left_calling(self, number: int, pidfd: int) -> Callable[[], None]:
        return lambda: self._left_ended(number, pidfd)

    def _left_ended(self, number: int, pidfd: int) -> None:
        child = self._children[number]
        self._poller.forget(pidfd)
        os.close(pidfd)
        del child.left[pidfd]
        # The last of them may have been replaced by a child of its own since we looked.
        if not child.left and self._watch_left(number, child):
            self.send(number, signals.KILL)
            child.rounds += 1
            if child.rounds == _ROUNDS:
                self._give_up(child)
        if not child.left:
            self._gone(number)
            self._died(events.Vanished(number))

    def _give_up(self, child: _Child) -> None:
        """Let the next generation start all the same: it will be older than that one."""
        pids = ",".join(map(str, child.left.values()))
        self._output.say(f"can't end what worker {child.pid} left behind: it forks on ({pids})")
        for pidfd in child.left:
            self._poller.forget(pidfd)
            os.close(pidfd)
        child.left.clear()

    def _end_prober(self, child: _Child) -> None:
        if child.prober:
            _end(child.prober.pid)
            self._forget_prober(child)

    def _forget_prober(self, child: _Child) -> None:
        if child.prober:
            self._poller.forget(child.prober.pidfd)
            os.close(child.prober.pidfd)
            child.prober = None

    # What is done with them

    def deadline(self) -> float | None:
        """Return when `tick` has something to do, or None."""
        return min(self._stopped.values(), default=None)

    def tick(self) -> None:
        """Let a main process go on that somebody has stopped: nobody would look after its workers.

        Not at once, so that it can be looked at; a debugger holds it in another way.
        """
        now = time.monotonic()
        stopped = reaper.stopped()
        for number, child in self._children.items():
            if child.pid in stopped:
                self._stopped.setdefault(number, now + _STOPPED_PATIENCE)
        for number in [number for number, due in self._stopped.items() if due <= now]:
            del self._stopped[number]
            one = self._children.get(number)
            if one and not one.ended and orphans.is_stopped(one.pid):
                since = f"{_STOPPED_PATIENCE:g} secs"
                self._output.say(f"worker {one.pid} has been stopped for {since}, sending CONT")
                signals.send(one.pidfd, signals.CONT)

    def send(self, number: int, signal: int) -> None:
        """Signal a generation's main process, or what it has left behind."""
        child = self._children.get(number)
        if child and not child.ended:
            signals.send(child.pidfd, signal)
        elif child:
            for pidfd, pid in list(child.left.items()):
                if not signals.send(pidfd, signal):  # it has become another user's since
                    self._pass_over(child, pid)
                    self._left_ended(number, pidfd)

    def last_lines(self, number: int) -> list[str]:
        """Return what a generation has written to its stderr last."""
        relay = self._relays.get(number)
        return relay.last_lines() if relay else []

    def measure(self, number: int) -> events.Measured:
        """Measure a generation with all its processes; all 0 when that can't be done now."""
        child = self._children.get(number)
        try:
            found = memory.whole(memory.tree(child.pid)) if child else memory.NOTHING
        except OSError:  # no descriptors left
            found = memory.NOTHING
        left, where = room.left()
        return events.Measured(
            number, found.pss, found.shared_percent, found.processes, left, where
        )

    def close(self) -> None:
        """Pass on the last lines that are still in pipes."""
        for number in list(self._relays):
            self._pump(number, _DRAIN_PIECES)


class _Attempt:
    """What has been acquired for a generation, to be given back if its start fails halfway."""

    def __init__(self) -> None:
        self.doing = "no socket or pipe for it"
        self.undo: list[Callable[[], object]] = []

    def take_back(self) -> None:
        while self.undo:
            self.undo.pop()()


def _drop(kept: dict[int, Any], number: int) -> None:
    kept.pop(number, None)


def _end(pid: int) -> None:
    """End a child at once."""
    os.kill(pid, signals.KILL)
    os.waitpid(pid, 0)


def _began(pid: int) -> int:
    """Return when a child of ours began, in ticks since boot: dead or not, it has an entry.

    0 where no descriptor is left to read it: then nothing is older, and its mark alone counts.
    """
    fields = orphans.read(pid, "stat").rpartition(b")")[2].split()
    return int(fields[19]) if fields else 0


def _random() -> float:
    """Return a number from 0 to 1; the `random` module would cost memory."""
    return int.from_bytes(os.urandom(4), "big") / 0xFFFFFFFF


def clock(moment: float) -> str:
    """Put a monotonic time in words of the wall clock, for people."""
    return time.strftime("%H:%M:%S", time.localtime(time.time() - time.monotonic() + moment))
