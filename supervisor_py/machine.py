"""The super-daemon's decisions, pure: (state, event, now) gives (state, actions).

Times are seconds of a monotonic clock. Nothing here reads a clock, a file or a process: the loop
brings events and carries out the actions in order. docs/state-machine.md draws it.

Invariants: at most one restart at a time; never more than two generations alive; a generation
that serves is signalled only when a newer one serves, or at a stop; numbers only rise.
"""

from __future__ import annotations

from . import signals
from .record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .signals import Signal

# The phases of a generation.
STARTING = "starting"  # forked, not ready yet
SERVING = "serving"  # ready; the newest of those
RETIRING = "retiring"  # a newer one serves; unsignalled until the kill-old delay is over
DRAINING = "draining"  # signalled; killed when the grace is over
GONE = "gone"

# Every transition that there is; docs/state-machine.md is tested against it.
TRANSITIONS = {
    (STARTING, SERVING): "it said READY=1, or was alive after the interval",
    (STARTING, DRAINING): "it was not ready in time, or a stop was asked",
    (STARTING, GONE): "it died, a failed attempt that is tried again after a back-off",
    (SERVING, RETIRING): "a newer generation serves",
    (SERVING, DRAINING): "a stop was asked",
    (SERVING, GONE): "it died, and a new one is started at once",
    (RETIRING, SERVING): "the newer generation died before this one was signalled",
    (RETIRING, DRAINING): "the kill-old delay is over, or a stop was asked",
    (RETIRING, GONE): "it died by itself",
    (DRAINING, GONE): "it ended, by its signal or by SIGKILL when the grace was over",
}

# How readiness is told.
AUTO, NOTIFY, INTERVAL = "auto", "notify", "interval"

BACKOFF_FACTOR = 1.5  # einhorn's
BACKOFF_CAP = 30.0  # seconds
BACKOFF_FLOOR = 0.1  # seconds, for --interval=0
STEADY = 10.0  # seconds of serving after which a death counts as the first one again
JITTER = 0.1  # of the auto-restart interval, so that many pools don't restart together
DEFAULT_DELAY = 5.0  # seconds; Perl's kill-old delay when auto-restart is on
MOST_GENERATIONS = 2


class Policy(Record):
    """What the operator asked for, in seconds and signals; the envdir may change it any time.

    `kill_old_delay` None means unset: Perl's default, but none for a generation that says
    itself when it is ready.
    """

    interval: float
    readiness: str
    readiness_timeout: float
    grace: float
    signal_on_hup: Signal
    signal_on_term: Signal
    kill_old_delay: float | None = None
    auto_restart: bool = False
    auto_restart_interval: float = 360.0
    max_generations: int = 2
    memory_budget_kb: float = 0.0  # of a generation's processes together; 0: none
    shared_floor_percent: float = 0.0
    memory_interval: float = 60.0
    min_restart_interval: float = 600.0
    memory_wait: float = 30.0
    signal_on_shrink: Signal | None = None
    signal_on_grow: Signal | None = None


class Generation(Record):
    """One run of the child command. `pid` is 0 until the fork is reported."""

    number: int
    started: float
    phase: str = STARTING
    since: float = 0.0  # when it came into its phase
    pid: int = 0
    ready: float | None = None  # when it was first taken to serve
    told: bool = False  # it said READY=1 itself
    killed: bool = False
    jitter: float = 0.0  # 0 to 1, drawn by the loop


class Restart(Record):
    """A wish for a new generation, until that one serves and the older one is gone.

    `candidate` is the number of the generation that it started, 0 when none is under way.
    `clients` are those who wait for its outcome.
    """

    reason: str
    planned: bool
    clients: tuple[int, ...] = ()
    candidate: int = 0
    retry_at: float | None = None


class State(Record):
    """All that the super-daemon knows between two events."""

    policy: Policy
    generations: tuple[Generation, ...] = ()  # those alive, oldest first
    last_number: int = 0
    restart: Restart | None = None
    queued: Restart | None = None  # all that was asked while a generation was under way
    failures: int = 0  # in a row
    trouble: str = ""  # the last failure, until a generation serves
    speaks: bool = False  # some generation has said READY=1: later ones are waited for
    announced: bool = False  # systemd was told READY=1
    stopping: bool = False
    over: bool = False


# Events


class Event(Record):
    """Something that happened outside."""


class Boot(Event):
    """The sockets are open: start the first generation."""


class Spawned(Event):
    """The fork that was asked for went well; `jitter` is a random number from 0 to 1."""

    number: int
    pid: int
    jitter: float = 0.0


class SpawnFailed(Event):
    """The fork failed, and why."""

    number: int
    error: str


class Ready(Event):
    """A generation said READY=1."""

    number: int


class Died(Event):
    """A generation ended, with its raw wait status."""

    number: int
    status: int


class RestartAsked(Event):
    """A restart is wanted: `reason` HUP, or a control client (its number; 0 is none)."""

    reason: str
    client: int = 0


class StopAsked(Event):
    """TERM or INT came in."""

    signal: str


class PolicyRead(Event):
    """The environment directory was read again and says something else."""

    policy: Policy


class Tick(Event):
    """The time of `deadline` has come."""


# Actions


class Action(Record):
    """Something to do outside."""


class Spawn(Action):
    """Fork and exec; answered by Spawned or SpawnFailed."""

    number: int


class Send(Action):
    """Send a signal to a generation's process."""

    number: int
    signal: int


class Say(Action):
    """Write a line to stderr."""

    text: str


class Tell(Action):
    """Tell a waiting client how the restart goes on."""

    client: int
    text: str


class Answer(Action):
    """Tell a waiting client the outcome of the restart."""

    client: int
    done: bool
    text: str


class Notify(Action):
    """Send a state to systemd, as in sd_notify(3)."""

    text: str


class Exit(Action):
    """End the super-daemon: all generations are gone."""


def describe_exit(status: int) -> str:
    """Put a raw wait status in words: `exit status 7`, `signal KILL`."""
    if status & 0x7F:
        return f"signal {signals.name_of(status & 0x7F)}"
    return f"exit status {status >> 8}"


def in_phase(state: State, phase: str) -> tuple[Generation, ...]:
    """Return the generations that are in a phase, oldest first."""
    return tuple(one for one in state.generations if one.phase == phase)


def _serving(state: State) -> Generation | None:
    found = in_phase(state, SERVING)
    return found[-1] if found else None


def _backoff(state: State) -> float:
    """Return the least time from one attempt's start to the next one's."""
    base = max(state.policy.interval, BACKOFF_FLOOR)
    # The exponent is bounded, so that a year of failures can't overflow a float.
    return min(BACKOFF_CAP, base * BACKOFF_FACTOR ** min(max(state.failures - 1, 0), 50))


def _delay(policy: Policy, newer: Generation) -> float:
    """Return how long older generations are left alone once `newer` serves."""
    if policy.kill_old_delay is not None:
        return policy.kill_old_delay
    return DEFAULT_DELAY if policy.auto_restart and not newer.told else 0.0


def _ready_by_interval(state: State) -> bool:
    """Tell whether being alive after the interval counts as ready."""
    readiness = state.policy.readiness
    return readiness == INTERVAL or (readiness == AUTO and not state.speaks)


def _has_room(state: State) -> bool:
    """Tell whether a new generation may be started now.

    A restart waits until the older generation has gone; with none serving there is no time to.
    """
    if _serving(state):
        return len(state.generations) == 1
    return len(state.generations) < MOST_GENERATIONS


def _phase_ends(state: State, one: Generation) -> float | None:
    """Return when time alone moves a generation on, or None."""
    policy = state.policy
    if one.phase == STARTING:
        limit = policy.interval if _ready_by_interval(state) else policy.readiness_timeout
        return one.started + limit
    if one.phase == RETIRING:
        newer = _serving(state)
        return None if newer is None else one.since + _delay(policy, newer)
    if one.phase == DRAINING and not one.killed:
        return one.since + policy.grace
    return None


def _attempt_at(state: State) -> float | None:
    """Return when the restart under way starts its next generation, or None."""
    restart = state.restart
    if state.stopping or restart is None or restart.candidate or not _has_room(state):
        return None
    return restart.retry_at if restart.retry_at is not None else float("-inf")


def auto_restart_at(state: State) -> float | None:
    """Return when the next timed restart is due, or None."""
    one = _serving(state)
    busy = state.stopping or state.restart or state.queued
    if busy or not state.policy.auto_restart or one is None or one.ready is None:
        return None
    return one.ready + state.policy.auto_restart_interval * (1 + JITTER * one.jitter)


def deadline(state: State) -> float | None:
    """Return when the next Tick is due; None when nothing is timed."""
    times = [_phase_ends(state, one) for one in state.generations]
    times += [_attempt_at(state), auto_restart_at(state)]
    return min((time for time in times if time is not None), default=None)


def summary(state: State) -> str:
    """Return the state in a line, for `systemctl status`."""
    parts = [f"generation {one.number} {one.phase} (pid {one.pid})" for one in state.generations]
    if state.stopping:
        parts.insert(0, "stopping")
    if state.trouble:
        parts.append(state.trouble)
    return "; ".join(parts) or "no generation alive"


def step(state: State, event: Event, now: float) -> tuple[State, tuple[Action, ...]]:
    """Take in one event, and all that time has brought by `now`."""
    if state.over:
        return state, ()
    scratch = _Step(state, now)
    scratch.take(event)
    scratch.settle()
    return scratch.state, tuple(scratch.actions)


class _Step:
    """The scratch paper of one step: nothing of it outlives the call."""

    def __init__(self, state: State, now: float) -> None:
        self.state = state
        self.now = now
        self.actions: list[Action] = []

    # Events

    def take(self, event: Event) -> None:
        match event:
            case Boot():
                self._set(restart=Restart("boot", planned=False))
            case Spawned():
                self._spawned(event)
            case SpawnFailed():
                self._spawn_failed(event)
            case Ready():
                self._told_ready(event.number)
            case Died():
                self._died(event)
            case RestartAsked():
                self._restart_asked(event)
            case StopAsked():
                self._stop(event.signal)
            case PolicyRead():
                self._set(policy=event.policy)
            case Tick():
                pass
            case _:
                raise TypeError(f"the machine has no rule for {event!r}")

    def _spawned(self, event: Spawned) -> None:
        one = self._find(event.number)
        if one is None:
            return
        self._replace(one.but(pid=event.pid, jitter=event.jitter))
        self._say(f"starting new worker {event.pid}")
        self._tell(f"generation {one.number} starts (pid {event.pid})")
        if one.phase == DRAINING:  # stopped between the fork and its report
            self._send(one, self.state.policy.signal_on_term.number)

    def _spawn_failed(self, event: SpawnFailed) -> None:
        one = self._find(event.number)
        if one is None:
            return
        self._drop(one)
        self._say(f"failed to start generation {one.number}: {event.error}")
        if not self.state.stopping:
            self._attempt_failed(one, f"generation {one.number} can't be started: {event.error}")

    def _told_ready(self, number: int) -> None:
        one = self._find(number)
        if one is None or self.state.policy.readiness == INTERVAL:
            return
        self._set(speaks=True)
        one = self._replace(one.but(told=True))
        if one.phase == STARTING:
            self._accept(one)

    def _died(self, event: Died) -> None:
        one = self._find(event.number)
        if one is None:
            return
        self._drop(one)
        status = event.status
        how = f"generation {one.number} (pid {one.pid}) ended with {describe_exit(status)}"
        if self.state.stopping or (one.phase == DRAINING and one.ready is None):
            self._say(f"worker {one.pid} died, status:{status}")
        elif one.phase in (DRAINING, RETIRING):
            self._say(f"old worker {one.pid} died, status:{status}")
        elif one.phase == STARTING:
            self._say(f"new worker {one.pid} seems to have failed to start, exit status:{status}")
            self._attempt_failed(one, f"{how} before it was ready")
        else:
            self._say(f"worker {one.pid} died unexpectedly with status:{status}, restarting")
            self._serving_died(one, how)

    def _serving_died(self, one: Generation, how: str) -> None:
        retiring = in_phase(self.state, RETIRING)
        if retiring:
            self._move(retiring[-1], SERVING)
            self._say(f"worker {retiring[-1].pid} serves again")
            self._attempt_failed(one, how)
            return
        restart = self.state.restart
        if restart and not restart.candidate:
            self._set(restart=restart.but(retry_at=None), trouble=how)
        elif restart and restart.candidate != one.number:
            self._set(trouble=how)  # the next one is starting already
        else:
            clients = restart.clients if restart else ()
            self._set(restart=Restart("death of a worker", planned=False, clients=clients))
            if one.ready is not None and self.now - one.ready >= STEADY:
                self._set(failures=0)
            self._attempt_failed(one, how)

    def _restart_asked(self, event: RestartAsked) -> None:
        clients = (event.client,) if event.client else ()
        if self.state.stopping:
            self._answer(clients, False, "the server is stopping")
            return
        restart, queued = self.state.restart, self.state.queued
        if restart is None or not restart.candidate:
            if event.reason == "HUP":
                self._say("received HUP, spawning a new worker")
            else:
                self._say(f"restart asked by {event.reason}, spawning a new worker")
            known = restart.clients if restart else ()
            self._set(restart=Restart(event.reason, True, known + clients), failures=0)
        else:
            if queued is None:
                self._say(f"restart asked by {event.reason} during a restart: one more will follow")
            waiting = queued.clients if queued else ()
            self._set(queued=Restart(event.reason, True, waiting + clients))
            for client in clients:
                self._do(Tell(client, "a restart is under way, one more will follow"))

    def _stop(self, signal: str) -> None:
        if self.state.stopping:
            return  # a second TERM or INT changes nothing: the grace bounds the stop
        policy = self.state.policy
        sent = policy.signal_on_term if signal == "TERM" else signals.Signal("TERM", signals.TERM)
        pids = ",".join(str(one.pid) for one in self.state.generations if one.pid)
        self._say(f"received {signal}, sending {sent.name} to all workers:{pids}")
        self._do(Notify("STOPPING=1"))
        for wish in (self.state.restart, self.state.queued):
            if wish:
                self._answer(wish.clients, False, "the server is stopping")
        self._set(stopping=True, restart=None, queued=None)
        for one in self.state.generations:
            if one.phase != DRAINING:
                self._move(one, DRAINING)
            if one.pid and not one.killed:
                self._send(one, sent.number)

    # What time and circumstances bring

    def settle(self) -> None:
        """Move on until nothing is due any more."""
        while self._advance():
            pass

    def _advance(self) -> bool:
        state, now = self.state, self.now
        for one in state.generations:
            ends = _phase_ends(state, one)
            if ends is not None and ends <= now:
                self._phase_over(one)
                return True
        if state.stopping:
            if state.generations or state.over:
                return False
            self._say("exiting")
            self._do(Exit())
            self._set(over=True)
            return True
        return self._advance_restart()

    def _phase_over(self, one: Generation) -> None:
        policy = self.state.policy
        if one.phase == STARTING and _ready_by_interval(self.state):
            self._accept(one)
        elif one.phase == STARTING:
            limit = f"{policy.readiness_timeout:g}"
            self._say(
                f"new worker {one.pid} was not ready within {limit} secs, "
                f"sending {policy.signal_on_term.name}"
            )
            self._move(one, DRAINING)
            self._send(one, policy.signal_on_term.number)
            why = f"generation {one.number} (pid {one.pid}) was not ready within {limit} seconds"
            self._attempt_failed(one, why)
        elif one.phase == RETIRING:
            self._say("killing old workers")
            self._tell(f"generation {one.number} ends (pid {one.pid})")
            self._move(one, DRAINING)
            self._send(one, policy.signal_on_hup.number)
        else:
            self._say(f"worker {one.pid} did not end within {policy.grace:g} secs, sending KILL")
            self._replace(one.but(killed=True))
            self._send(one, signals.KILL)

    def _advance_restart(self) -> bool:
        state = self.state
        restart = state.restart
        if restart and restart.candidate:
            alive = [(one.number, one.phase) for one in state.generations]
            if alive != [(restart.candidate, SERVING)]:
                return False
            pid = state.generations[0].pid
            self._answer(
                restart.clients, True, f"generation {restart.candidate} serves (pid {pid})"
            )
            self._set(restart=None)
            return True
        if restart is None and state.queued:
            self._set(restart=state.queued, queued=None, failures=0)
            return True
        due = auto_restart_at(state)
        if due is not None and due <= self.now:
            self._say(f"autorestart triggered (interval={state.policy.auto_restart_interval:g})")
            self._set(restart=Restart("auto-restart", planned=True), failures=0)
            return True
        attempt = _attempt_at(state)
        if attempt is None or attempt > self.now:
            return False
        self._attempt()
        return True

    def _attempt(self) -> None:
        restart = self.state.restart
        assert restart is not None
        number = self.state.last_number + 1
        one = Generation(number, started=self.now, since=self.now)
        self._set(
            last_number=number,
            generations=(*self.state.generations, one),
            restart=restart.but(candidate=number, retry_at=None),
        )
        self._do(Spawn(number))

    def _accept(self, one: Generation) -> None:
        old = _serving(self.state)
        one = self._move(one, SERVING)
        one = self._replace(one.but(ready=self.now))
        self._set(trouble="")
        restart = self.state.restart
        self._tell(f"generation {one.number} serves (pid {one.pid})")
        if not self.state.announced:
            self._set(announced=True)
            self._do(Notify("READY=1"))
        if old:
            self._move(old, RETIRING)
        if restart and restart.planned:
            name = self.state.policy.signal_on_hup.name
            self._say(
                f"new worker is now running, sending {name} to old workers:"
                f"{old.pid if old else 'none'}"
            )
        delay = _delay(self.state.policy, one)
        if old and delay > 0:
            self._say(f"sleeping {delay:g} secs before killing old workers")
            self._tell(f"waiting {delay:g} seconds before generation {old.number} is ended")

    def _attempt_failed(self, one: Generation, why: str) -> None:
        """Let the restart begin again after a back-off; those who wait for it learn why."""
        restart = self.state.restart
        assert restart is not None
        self._answer(restart.clients, False, why)
        self._set(failures=self.state.failures + 1, trouble=why)
        retry_at: float | None = max(self.now, one.started + _backoff(self.state))
        restart = restart.but(clients=(), candidate=0)
        queued = self.state.queued
        if queued:  # asked for since that attempt began: worth a new one at once
            restart, retry_at = queued, None
        elif retry_at is not None and retry_at > self.now:
            self._say(f"trying again in {retry_at - self.now:.1f} secs")
        self._set(restart=restart.but(retry_at=retry_at), queued=None)

    # The state

    def _set(self, **changes: object) -> None:
        self.state = self.state.but(**changes)

    def _find(self, number: int) -> Generation | None:
        for one in self.state.generations:
            if one.number == number:
                return one
        return None

    def _replace(self, one: Generation) -> Generation:
        self._set(
            generations=tuple(
                one if other.number == one.number else other for other in self.state.generations
            )
        )
        return one

    def _move(self, one: Generation, phase: str) -> Generation:
        assert (one.phase, phase) in TRANSITIONS, (one, phase)
        return self._replace(one.but(phase=phase, since=self.now))

    def _drop(self, one: Generation) -> None:
        kept = tuple(other for other in self.state.generations if other.number != one.number)
        self._set(generations=kept)

    # The actions

    def _do(self, action: Action) -> None:
        self.actions.append(action)

    def _say(self, text: str) -> None:
        self._do(Say(text))

    def _send(self, one: Generation, signal: int) -> None:
        self._do(Send(one.number, signal))

    def _tell(self, text: str) -> None:
        restart = self.state.restart
        for client in restart.clients if restart else ():
            self._do(Tell(client, text))

    def _answer(self, clients: tuple[int, ...], done: bool, text: str) -> None:
        for client in clients:
            self._do(Answer(client, done, text))
