"""What the super-daemon knows, and what follows from that: phases of generations, and times.

All pure. Times are seconds of a monotonic clock. machine.py says how one state becomes the next.
"""

from __future__ import annotations

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
    (STARTING, DRAINING): "it was not ready in time, left processes behind, or a stop was asked",
    (STARTING, GONE): "it died, a failed attempt that is tried again after a back-off",
    (SERVING, RETIRING): "a newer generation serves",
    (SERVING, DRAINING): "a stop was asked, or it died and left processes behind",
    (SERVING, GONE): "it died, and a new one is started at once",
    (RETIRING, SERVING): "the newer generation died before this one was signalled",
    (RETIRING, DRAINING): "the kill-old delay is over, it left processes, or a stop was asked",
    (RETIRING, GONE): "it died by itself",
    (DRAINING, GONE): "it ended, by its signal or by SIGKILL when the grace was over",
}

# How readiness is told.
AUTO, NOTIFY, INTERVAL, PROBE = "auto", "notify", "interval", "probe"

BACKOFF_FACTOR = 1.5  # einhorn's
BACKOFF_CAP = 30.0  # seconds
BACKOFF_FLOOR = 0.1  # seconds, for --interval=0
STEADY = 10.0  # seconds of serving after which a death counts as the first one again
JITTER = 0.1  # of the auto-restart interval, so that many pools don't restart together
DEFAULT_DELAY = 5.0  # seconds; Perl's kill-old delay when auto-restart is on
ROOM_CHECK = 1.0  # seconds between two looks for memory, while a restart waits for it
MIN_WORKERS = 1  # a generation is not asked to shrink below that
PUT_OFF_CHECK = 30.0  # seconds, once it has waited long enough

# Why there was a restart, besides HUP.
BOOT, DEATH, TIMED, MEMORY, SHARED = "boot", "death", "auto-restart", "memory", "shared memory"


class Policy(Record):
    """What the operator asked for, in seconds and signals; the envdir may change it any time.

    `kill_old_delay` None means unset: none for a generation that says itself when it is ready, and
    for others `default_kill_old_delay`, or Perl's default.
    """

    interval: float
    readiness: str
    readiness_timeout: float
    grace: float
    signal_on_hup: Signal
    signal_on_term: Signal
    kill_old_delay: float | None = None
    default_kill_old_delay: float | None = None
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
    left: bool = False  # its main process has ended, and others of it have not
    jitter: float = 0.0  # 0 to 1, drawn by the loop
    status: str = ""  # the last STATUS= that it sent
    fresh_kb: float = 0.0  # what it and its workers held when it was taken to serve
    pss_kb: float = 0.0  # what they held when they were measured last
    shared_percent: float = 0.0
    processes: int = 0
    measured: float | None = None


class Restart(Record):
    """A wish for a new generation, until that one serves and the older one is gone.

    `candidate` is the number of the generation that it started, 0 when none is under way.
    `clients` are those who wait for its outcome. `fits` says that two generations fit into memory;
    until they do, it waits since `waiting`, and has asked the serving one `shrunk` times to shrink.
    """

    reason: str
    planned: bool
    clients: tuple[int, ...] = ()
    candidate: int = 0
    retry_at: float | None = None
    fits: bool = False
    measuring: bool = False
    waiting: float | None = None
    put_off: bool = False
    shrunk: int = 0


class Upgrade(Record):
    """A wish for a new version of the super-daemon itself, and the clients who wait for it."""

    clients: tuple[int, ...] = ()
    stage: str = "asked"  # then "checking", whether the new version would run, then "checked"


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
    upgrade: Upgrade | None = None
    restarts: tuple[tuple[str, int], ...] = ()  # how many have been done, by reason
    failed_attempts: int = 0  # in all
    last_reason: str = ""  # of the last generation that was taken to serve
    stopping: bool = False
    over: bool = False


def in_phase(state: State, phase: str) -> tuple[Generation, ...]:
    """Return the generations that are in a phase, oldest first."""
    return tuple(one for one in state.generations if one.phase == phase)


def serving(state: State) -> Generation | None:
    """Return the generation that serves."""
    found = in_phase(state, SERVING)
    return found[-1] if found else None


def backoff(state: State) -> float:
    """Return the least time from one attempt's start to the next one's."""
    base = max(state.policy.interval, BACKOFF_FLOOR)
    # The exponent is bounded, so that a year of failures can't overflow a float.
    return min(BACKOFF_CAP, base * BACKOFF_FACTOR ** min(max(state.failures - 1, 0), 50))


def kill_delay(policy: Policy, newer: Generation) -> float:
    """Return how long older generations are left alone once `newer` serves."""
    if policy.kill_old_delay is not None:
        return policy.kill_old_delay
    if newer.told:
        return 0.0
    if policy.default_kill_old_delay is not None:
        return policy.default_kill_old_delay
    return DEFAULT_DELAY if policy.auto_restart else 0.0


def ready_by_interval(state: State) -> bool:
    """Tell whether being alive after the interval counts as ready."""
    readiness = state.policy.readiness
    return readiness == INTERVAL or (readiness == AUTO and not state.speaks)


def has_room(state: State) -> bool:
    """Tell whether one more generation may be alive."""
    return len(state.generations) < state.policy.max_generations


def phase_ends(state: State, one: Generation) -> float | None:
    """Return when time alone moves a generation on, or None."""
    policy = state.policy
    if one.phase == STARTING:
        if not one.pid:
            return None  # time counts only for a process
        limit = policy.interval if ready_by_interval(state) else policy.readiness_timeout
        return one.started + limit
    if one.phase == RETIRING:
        newer = serving(state)
        return None if newer is None else one.since + kill_delay(policy, newer)
    if one.phase == DRAINING and not one.killed:
        return one.since + policy.grace
    return None


def attempt_at(state: State) -> float | None:
    """Return when the restart under way starts its next generation, or None."""
    restart = state.restart
    if state.stopping or restart is None or restart.candidate or not has_room(state):
        return None
    if restart.measuring:
        return None
    return restart.retry_at if restart.retry_at is not None else float("-inf")


def auto_restart_at(state: State) -> float | None:
    """Return when the next timed restart is due, or None."""
    one = serving(state)
    busy = state.stopping or state.restart or state.queued
    if busy or not state.policy.auto_restart or one is None or one.ready is None:
        return None
    return one.ready + state.policy.auto_restart_interval * (1 + JITTER * one.jitter)


def memory_matters_at(state: State) -> float | None:
    """Return from when on a restart for memory is allowed, or None."""
    policy = state.policy
    one = serving(state)
    if not (policy.memory_budget_kb or policy.shared_floor_percent):
        return None
    if state.stopping or state.restart or state.queued or one is None or one.ready is None:
        return None
    return one.ready + policy.min_restart_interval * (1 + JITTER * one.jitter)


def measure_at(state: State) -> float | None:
    """Return when memory is to be measured next, to see whether a restart is needed; or None.

    Not before that could matter: a look at the memory of many processes costs a while.
    """
    one, earliest = serving(state), memory_matters_at(state)
    if one is None or earliest is None or one.measured is None:
        return earliest
    return max(earliest, one.measured + state.policy.memory_interval)


def need_of_memory(state: State, now: float) -> str:
    """Return the reason for a restart, if what was measured last is one; else an empty string."""
    policy = state.policy
    one, earliest = serving(state), memory_matters_at(state)
    if one is None or one.measured is None or earliest is None or earliest > now:
        return ""
    if policy.memory_budget_kb and one.pss_kb > policy.memory_budget_kb:
        return MEMORY
    # The main process alone has nobody to share with.
    if one.processes > MIN_WORKERS and one.shared_percent < policy.shared_floor_percent:
        return SHARED
    return ""


def deadline(state: State) -> float | None:
    """Return when the next Tick is due; None when nothing is timed."""
    times = [phase_ends(state, one) for one in state.generations]
    times += [attempt_at(state), auto_restart_at(state), measure_at(state)]
    return min((time for time in times if time is not None), default=None)
