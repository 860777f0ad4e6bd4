"""When a worker is replaced: pure, the clock, the readings and the random numbers come in."""

from collections.abc import Callable
from dataclasses import dataclass

from ..tables import age
from .pool import Workers

JITTER = 5  # up to a fifth more requests and time, so that not all workers end together
SAMPLE_SECONDS = 2.0  # between two readings of a worker's memory, and only if it has served since
FIRST_RETRY_SECONDS, LAST_RETRY_SECONDS = 1.0, 30.0
_KB_PER_MB = 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """What a worker is replaced at; 0: never for that."""

    requests: int = 0
    private_kb: int = 0  # memory that it alone holds; above it
    age_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Life:
    """What a worker has behind it; `began` is a time of the same clock as `now` elsewhere."""

    began: float
    requests: int = 0
    private_kb: int = 0


def limits(workers: Workers, draw: Callable[[], float]) -> Limits:
    """Return one worker's limits; `draw` gives its random number, from 0 to below 1.

    A budget of memory gets no jitter: it is there to be kept.
    """
    more = 1 + draw() / JITTER
    return Limits(
        int(workers.max_requests * more),
        workers.max_private_mb * _KB_PER_MB,
        workers.max_age_seconds * more,
    )


def due(limits: Limits, life: Life, now: float) -> str:
    """Return why a worker has to be replaced, or ""."""
    if limits.private_kb and life.private_kb > limits.private_kb:
        return f"private memory {_mb(life.private_kb)} MB, over its {_mb(limits.private_kb)} MB"
    if limits.requests and life.requests >= limits.requests:
        return f"{life.requests} requests, of {limits.requests} at most"
    if limits.age_seconds and now - life.began >= limits.age_seconds:
        return f"{age(now - life.began)} old, of {age(limits.age_seconds)} at most"
    return ""


def stuck(seconds: float) -> str:
    """Return why a worker whose threads are all stuck has to be replaced, or ""."""
    return f"all its threads busy for {age(seconds)} or longer" if seconds else ""


def _mb(kb: int) -> str:
    return f"{kb / _KB_PER_MB:.1f}".removesuffix(".0")


class Watch:
    """Watches one worker, and reads its memory no more often than there is something to see."""

    def __init__(
        self,
        limits: Limits,
        began: float,
        read_kb: Callable[[], int],
        warn: Callable[[str], None],
    ) -> None:
        """`read_kb` reads its private memory, and is only asked when that is limited."""
        self._limits = limits
        self._began = began
        self._read_kb = read_kb
        self._warn = warn
        self._private_kb = 0
        self._read_at: float | None = None
        self._requests_read_at = 0

    def due(self, requests: int, now: float) -> str:
        """Return why the worker, that has served so many requests, has to be replaced, or ""."""
        if self._limits.private_kb:
            self._sample(requests, now)
        return due(self._limits, Life(self._began, requests, self._private_kb), now)

    def _sample(self, requests: int, now: float) -> None:
        if self._read_at is None:
            self._first_sample()
        elif requests == self._requests_read_at or now - self._read_at < SAMPLE_SECONDS:
            return
        else:
            self._private_kb = self._read_kb()
        self._read_at, self._requests_read_at = now, requests

    def _first_sample(self) -> None:
        """Don't go on replacing workers where each new one is over the budget already."""
        self._private_kb = self._read_kb()
        asked = self._limits
        if self._private_kb > asked.private_kb:
            self._limits = Limits(asked.requests, 2 * self._private_kb, asked.age_seconds)
            self._warn(
                f"begins with {_mb(self._private_kb)} MB of private memory, over its"
                f" {_mb(asked.private_kb)} MB: it is recycled above"
                f" {_mb(self._limits.private_kb)} MB instead; max_private_mb is too small"
            )


class Retry:
    """When to try again what has failed: after a second, then two, up to half a minute."""

    def __init__(self) -> None:
        self._wait = 0.0
        self._not_before = 0.0

    def failed(self, now: float) -> float:
        """Take note of a failure; returns the seconds until the next try."""
        self._wait = min(max(2 * self._wait, FIRST_RETRY_SECONDS), LAST_RETRY_SECONDS)
        self._not_before = now + self._wait
        return self._wait

    def succeeded(self) -> None:
        """Forget all failures."""
        self._wait = self._not_before = 0.0

    def may(self, now: float) -> bool:
        """Tell whether it is time for a try."""
        return now >= self._not_before


def summary(count: int, reason: str) -> str:
    """Return what a generation says of its recyclings, the latest one's reason included."""
    return f"{count} recycled, the latest: {reason}" if count else ""
