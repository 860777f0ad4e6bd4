"""The groups of a pool's parent process: who serves, sleeps, starts, leaves, and what to do. Pure.

A group is what one interpreter serves: the shared apps, or one isolated app. Its process may be
replaced by another one, which serves before the old one leaves. Times are monotonic seconds.
"""

import signal
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

STARTING, ACCEPTING, LEAVING = range(3)  # what a process of a group does
SLEEPS, SERVES, STARTS, WAITS = "sleeps", "serves", "starts", "waits"  # and the group

# How a process is started
TRIAL = "trial"  # load the app, say whether that works, and end
STRICT = "strict"  # serve, but only what loads: else end
LENIENT = "lenient"  # serve; what does not load gets 503
DOWN = "down"  # load nothing, all gets 503

# How a process has ended
SLEPT = "slept"  # as it was told: idle, or a trial that went well
REFUSED = "refused"  # its app does not load
DIED = "died"  # in any other way, 0 included

STEADY_SECONDS = 60.0  # who has served for so long starts again at once, whatever was before
BACK_OFF_SECONDS = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0)  # before the next start
RETRY_SECONDS = (60.0, 120.0, 240.0, 480.0, 960.0, 1800.0, 3600.0)  # of what did not load
START_SECONDS = 120.0  # then it is stuck
STOP_SECONDS = 28.0  # the groups' own limit is shorter, the super-daemon's is 30 s


@dataclass(frozen=True, slots=True)
class Traits:
    """What the pool file says of a group."""

    name: str
    sleeps: bool = False  # when idle; the process says when
    shrinks: bool = False  # has workers of its own, to have fewer or more of
    reason: str = ""  # why a plan has isolated it


@dataclass(frozen=True, slots=True)
class Start:
    """Fork a process for a group; it is known by its number from here on."""

    group: str
    number: int
    kind: str


@dataclass(frozen=True, slots=True)
class Send:
    """Send a signal to a process."""

    number: int
    signal: int


@dataclass(frozen=True, slots=True)
class Say:
    """Write a line to the log."""

    text: str


@dataclass(frozen=True, slots=True)
class Ready:
    """Tell the super-daemon that all groups serve, or could."""


@dataclass(frozen=True, slots=True)
class Exit:
    """End: every process has. `reason` is what went wrong, "" for a stop."""

    reason: str


Action = Start | Send | Say | Ready | Exit


@dataclass(slots=True)
class Process:
    """A process of a group, as far as it matters here."""

    number: int
    kind: str
    began: float
    stage: int = STARTING
    accepted: float = 0.0  # when
    broken: bool = False  # it answers 503
    aborted: bool = False  # it has been told to end at once


@dataclass(slots=True)
class Group:
    """A group and its processes; `main` serves, or will."""

    traits: Traits
    main: Process | None = None
    replacement: Process | None = None
    leaving: list[Process] = field(default_factory=list)
    settled: bool = False  # it need not be waited for
    deaths: int = 0  # in a row
    not_before: float = 0.0  # the next start
    refusals: int = 0  # in a row
    retry_at: float | None = None  # of what did not load, and gets 503
    hold_until: float = 0.0  # no replacement, the last one did not load
    due: str = ""  # why the replacement is there
    told: str = ""  # by its process
    missing: str = ""  # the apps of it that can't be loaded

    def processes(self) -> Iterator[Process]:
        """Yield all processes that have not ended."""
        yield from (one for one in (self.main, self.replacement) if one is not None)
        yield from self.leaving

    @property
    def state(self) -> str:
        """SLEEPS, SERVES, STARTS or WAITS (for its first start, or after a failure)."""
        if self.main is None:
            return SLEEPS if self.traits.sleeps and self.settled else WAITS
        return STARTS if self.main.stage == STARTING else SERVES


class Groups:
    """All groups of a parent. Each event returns what is to be done about it, in order."""

    def __init__(self, traits: Iterable[Traits], *, at_boot: bool) -> None:
        """`at_boot`: no older generation goes on, so what can't be loaded is answered with 503."""
        self._groups = {one.name: Group(one) for one in traits}
        self._at_boot = at_boot
        self._actions: list[Action] = []
        self._numbers = 0
        self._ready = False
        self._stopping: float | None = None  # since when
        self._reason = ""
        self._exited = False
        self._recycled = ""

    def begin(self, now: float) -> list[Action]:
        """Start what never sleeps, and try what does, one after the other."""
        for group in self._groups.values():
            if not group.traits.sleeps:
                group.main = self._start(group, LENIENT if self._at_boot else STRICT, now)
        self._try_next(now)
        return self._take()

    def accepts(self, number: int, now: float, *, broken: bool = False) -> list[Action]:
        """Note that a process serves; `broken`: its app has not been loaded and gets 503."""
        group, process = self._find(number)
        if process.stage != STARTING:
            return self._take()
        process.stage, process.accepted, process.broken = ACCEPTING, now, broken
        if self._stopping is not None:
            return self._take()
        if process is group.replacement:
            group.replacement = None
            if group.main is not None:
                self._retire(group, group.main)
            group.main = process
            if group.due:
                self._recycled, group.due = f"{_name(group)}: {group.due}", ""
        group.settled = True
        if broken:
            group.retry_at = now + self._wait(group)
        else:
            group.retry_at, group.refusals = None, 0
        self._settle()
        return self._take()

    def leaves(self, number: int, now: float) -> list[Action]:
        """Note that a process takes no more connections; what it has it finishes."""
        group, process = self._find(number)
        if process.stage != LEAVING:
            process.stage = LEAVING
            if process is group.replacement:
                group.replacement = None
                group.leaving.append(process)
            elif process is group.main:
                group.main = None
                group.leaving.append(process)
                if not group.traits.sleeps and self._stopping is None:
                    self._back_off(group, process, now)
                self._fill(group)
        return self._take()

    def ended(self, number: int, how: str, now: float, reason: str = "") -> list[Action]:
        """Note how a process has ended, with the reason that it gave, or what it died of."""
        group, process = self._find(number)
        if process in group.leaving:
            group.leaving.remove(process)
        elif self._stopping is not None:
            self._forget(group, process)
        elif process is group.replacement:
            group.replacement = None
            wait = self._wait(group)
            self._say(group, f"no replacement, next try in {wait:.0f} s: {reason}")
            group.hold_until, group.due = now + wait, ""
            if group.main is not None and group.main.broken:
                group.retry_at = now + wait
        else:
            group.main = None
            if how == SLEPT:
                self._slept(group, now)
            elif not group.settled and not self._at_boot:
                self._stop(reason if how == REFUSED else _has(group, reason), now)
            else:
                self._lost(group, process, now, reason)
        self._end()
        return self._take()

    def asked(self, name: str, now: float) -> list[Action]:
        """Wake a group, on whose socket somebody waits."""
        if name in self.watched(now):
            group = self._groups[name]
            group.main = self._start(group, LENIENT, now)
        return self._take()

    def due(self, number: int, reason: str, now: float) -> list[Action]:
        """Replace a process that serves, for a reason in words; one group after the other.

        One that leaves has been replaced, however long it stays due.
        """
        group, process = self._find(number)
        busy = any(one.replacement is not None for one in self._groups.values())
        serves = process is group.main and process.stage == ACCEPTING
        if self._stopping is None and serves and not busy and now >= group.hold_until:
            group.due = reason
            self._say(group, f"its process is replaced: {reason}")
            group.replacement = self._start(group, STRICT, now)
        return self._take()

    def told(self, name: str, text: str, missing: str) -> None:
        """Note what the process of a group says of itself, and which apps it can't load."""
        group = self._groups[name]
        group.told, group.missing = text, missing

    def stop(self, now: float) -> list[Action]:
        """Have every process finish what it runs, and end."""
        self._stop("", now)
        self._end()
        return self._take()

    def shrink(self) -> list[Action]:
        """Use less memory: a worker less where there are several, and what is idle sleeps."""
        for group in self._groups.values():
            if group.traits.shrinks or group.traits.sleeps:
                self._send_serving(group, signal.SIGTTOU)
        return self._take()

    def grow(self) -> list[Action]:
        """Take back a shrink()."""
        for group in self._groups.values():
            if group.traits.shrinks:
                self._send_serving(group, signal.SIGTTIN)
        return self._take()

    def silent(self, number: int) -> list[Action]:
        """End a process whose heart has stopped beating."""
        _, process = self._find(number)
        self._abort(process)
        return self._take()

    def tick(self, now: float) -> list[Action]:
        """Do what is due by now."""
        for group in self._groups.values():
            for process in group.processes():
                if self._overdue(process, now):
                    self._abort(process)
            if self._stopping is not None:
                continue
            waits = group.main is None and group.settled and not group.traits.sleeps
            if waits and now >= group.not_before:
                group.main = self._start(group, LENIENT, now)
            retry = group.retry_at is not None and now >= group.retry_at
            if retry and group.replacement is None and group.main is not None:
                group.retry_at = None
                group.replacement = self._start(group, STRICT, now)
        return self._take()

    def deadline(self, now: float) -> float | None:
        """Return when tick(), or watched(), has something new; None for never."""
        times = [self._limit(one) for one in self.processes() if not one.aborted]
        if self._stopping is None:
            for group in self._groups.values():
                if group.main is not None:
                    times.append(group.retry_at)
                elif group.settled and not (group.state == SLEEPS and group.not_before <= now):
                    times.append(group.not_before)
        return min((one for one in times if one is not None), default=None)

    def watched(self, now: float) -> set[str]:
        """Return the groups to be woken by the first connection to their sockets."""
        return {
            name
            for name, group in self._groups.items()
            if self._stopping is None and group.state == SLEEPS and now >= group.not_before
        }

    def processes(self) -> Iterator[Process]:
        """Yield all processes that have not ended."""
        for group in self._groups.values():
            yield from group.processes()

    def status(self) -> str:
        """Return a sentence about all groups."""
        serving = [one for one in self._groups.values() if one.told and one.state == SERVES]
        told = [group.told for group in serving]
        others = [_in_words(one) for one in self._groups.values() if one not in serving]
        isolated = [f"isolated: {', '.join(others)}"] if others else []
        missing = ", ".join(group.missing for group in self._groups.values() if group.missing)
        without = [f"can't load {missing}"] if missing else []
        latest = [f"latest replacement: {self._recycled}"] if self._recycled else []
        return "; ".join([*told, *isolated, *without, *latest])

    def _take(self) -> list[Action]:
        actions, self._actions = self._actions, []
        return actions

    def _find(self, number: int) -> tuple[Group, Process]:
        for group in self._groups.values():
            for process in group.processes():
                if process.number == number:
                    return group, process
        raise KeyError(number)

    def _start(self, group: Group, kind: str, now: float) -> Process:
        self._numbers += 1
        self._actions.append(Start(group.traits.name, self._numbers, kind))
        return Process(self._numbers, kind, now)

    def _say(self, group: Group, text: str) -> None:
        self._actions.append(Say(f"{_name(group)}: {text}"))

    def _try_next(self, now: float) -> None:
        """Try the next app that sleeps: one at a time, so that few are in memory at once."""
        waiting = [one for one in self._groups.values() if one.traits.sleeps and not one.settled]
        if waiting and not any(one.main for one in waiting):
            waiting[0].main = self._start(waiting[0], TRIAL, now)

    def _settle(self) -> None:
        if not self._ready and all(group.settled for group in self._groups.values()):
            self._ready = True
            self._actions.append(Ready())

    def _slept(self, group: Group, now: float) -> None:
        """Note an end in peace: by sleeping, or of a trial."""
        group.settled = True
        group.deaths = 0
        self._fill(group)
        self._settle()
        self._try_next(now)

    def _lost(self, group: Group, process: Process, now: float, reason: str) -> None:
        """Go on after a process that has ended by itself."""
        delay = self._back_off(group, process, now)
        if process.kind == TRIAL:
            self._say(group, f"it is tried again when it is asked: {reason}")
            group.settled, group.missing = True, group.traits.name
        elif process.stage == STARTING and process.kind != DOWN:
            # Nobody would answer on its socket.
            self._say(group, f"its process has {reason} while it started; the answer is 503")
            group.main = self._start(group, DOWN, now)
        else:
            self._say(group, f"its process has {reason}; the next one starts in {delay:.0f} s")
            group.settled = True
            self._fill(group)
        self._settle()
        self._try_next(now)

    def _fill(self, group: Group) -> None:
        """Have the process in preparation, if any, take the place of one that has gone."""
        group.main, group.replacement = group.replacement, None

    def _retire(self, group: Group, process: Process) -> None:
        process.stage = LEAVING
        group.leaving.append(process)
        self._send(process, signal.SIGTERM)

    def _back_off(self, group: Group, process: Process, now: float) -> float:
        """Return how long to wait for the next start, longer each time; none after steady work."""
        if process.stage != STARTING and now - process.accepted >= STEADY_SECONDS:
            group.deaths = 0
        delay = BACK_OFF_SECONDS[min(group.deaths, len(BACK_OFF_SECONDS) - 1)]
        group.deaths += 1
        group.not_before = now + delay
        return delay

    def _wait(self, group: Group) -> float:
        """Return how long to wait for the next try to load what did not, longer each time."""
        group.refusals += 1
        return RETRY_SECONDS[min(group.refusals, len(RETRY_SECONDS)) - 1]

    def _stop(self, reason: str, now: float) -> None:
        if self._stopping is None:
            self._stopping = now
            self._reason = reason
            for process in self.processes():
                if process.stage != LEAVING:
                    self._send(process, signal.SIGTERM)

    def _end(self) -> None:
        if self._stopping is not None and not self._exited and not any(self.processes()):
            self._exited = True
            self._actions.append(Exit(self._reason))

    def _forget(self, group: Group, process: Process) -> None:
        if process is group.main:
            group.main = None
        else:
            group.replacement = None

    def _limit(self, process: Process) -> float | None:
        """Return when a process is to be ended by force."""
        if self._stopping is not None:
            return self._stopping + STOP_SECONDS
        return process.began + START_SECONDS if process.stage == STARTING else None

    def _overdue(self, process: Process, now: float) -> bool:
        limit = self._limit(process)
        return limit is not None and now >= limit and not process.aborted

    def _abort(self, process: Process) -> None:
        """End a process; one that has been told before is killed."""
        kill = process.aborted or self._stopping is not None or process.stage == STARTING
        process.aborted = True
        self._send(process, signal.SIGKILL if kill else signal.SIGABRT)

    def _send(self, process: Process, signal_: int) -> None:
        self._actions.append(Send(process.number, signal_))

    def _send_serving(self, group: Group, signal_: int) -> None:
        if group.main is not None and group.main.stage == ACCEPTING and self._stopping is None:
            self._send(group.main, signal_)


def _name(group: Group) -> str:
    return group.traits.name or "the shared apps"


def _has(group: Group, reason: str) -> str:
    return f"{_name(group)}: its process has {reason}"


def _in_words(group: Group) -> str:
    why = f" ({group.traits.reason})" if group.traits.reason else ""
    return f"{_name(group)} {group.state}{why}"
