import pytest

from supervisor_py.vhost.pool import Workers
from supervisor_py.vhost.recycling import (
    LAST_RETRY_SECONDS,
    SAMPLE_SECONDS,
    Life,
    Limits,
    Retry,
    Watch,
    due,
    limits,
    summary,
)

NEVER = Limits()
BUDGET = Limits(private_kb=50 * 1024)
DAY = 86400.0


@pytest.mark.parametrize(
    ("asked", "life", "now", "reason"),
    [
        (NEVER, Life(0, 10**9, 10**9), 10**9, ""),
        (Limits(requests=500), Life(0, 499), 1, ""),
        (Limits(requests=500), Life(0, 500), 1, "500 requests, of 500 at most"),
        (Limits(requests=500), Life(0, 512), 1, "512 requests, of 500 at most"),
        (BUDGET, Life(0, 1, 50 * 1024), 1, ""),
        (BUDGET, Life(0, 1, 61 * 1024), 1, "private memory 61 MB, over its 50 MB"),
        (BUDGET, Life(0, 1, 51558), 1, "private memory 50.3 MB, over its 50 MB"),
        (Limits(age_seconds=7200), Life(100), 7299, ""),
        (Limits(age_seconds=7200), Life(100), 7300, "2 h 0 min old, of 2 h 0 min at most"),
        (Limits(1, 1, 1), Life(0, 9, 2048), 9, "private memory 2 MB, over its 0 MB"),
        (Limits(1, 0, 1), Life(0, 9, 2048), 9, "9 requests, of 1 at most"),
    ],
)
def test_a_worker_is_due_with_its_reason(
    asked: Limits, life: Life, now: float, reason: str
) -> None:
    assert due(asked, life, now) == reason


@pytest.mark.parametrize(
    ("draw", "requests", "seconds"),
    [(0.0, 500, 100.0), (0.5, 550, 110.0), (0.99, 599, 119.8)],
)
def test_requests_and_age_have_a_fifth_of_jitter_and_memory_has_none(
    draw: float, requests: int, seconds: float
) -> None:
    asked = Workers(max_requests=500, max_private_mb=50, max_age_seconds=100)
    drawn = limits(asked, lambda: draw)
    assert drawn.requests == requests
    assert drawn.private_kb == 50 * 1024
    assert drawn.age_seconds == pytest.approx(seconds)


def test_no_limit_stays_none_with_any_jitter() -> None:
    assert limits(Workers(), lambda: 0.9) == NEVER


class Process:
    """A process whose memory is read: every reading is counted."""

    def __init__(self, kb: int, limits: Limits = BUDGET) -> None:
        self.kb = kb
        self.readings = 0
        self.said: list[str] = []
        self.watch = Watch(limits, 0.0, self.read, self.said.append)

    def read(self) -> int:
        self.readings += 1
        return self.kb


def test_memory_is_not_read_where_it_is_not_limited() -> None:
    process = Process(10**9, Limits(requests=5))
    assert process.watch.due(4, 1.0) == ""
    assert process.watch.due(5, 2.0) == "5 requests, of 5 at most"
    assert process.readings == 0


def test_memory_is_read_at_most_once_in_an_interval() -> None:
    process = Process(1024)
    times = [step / 100 for step in range(int(10 * SAMPLE_SECONDS * 100))]
    for count, now in enumerate(times):
        assert process.watch.due(count, now) == ""
    assert process.readings == 10


def test_memory_is_not_read_while_nothing_is_served() -> None:
    process = Process(1024)
    for day in range(1, 100):
        process.watch.due(7, day * DAY)
    assert process.readings == 1
    process.kb = 51 * 1024
    assert process.watch.due(8, 101 * DAY) == "private memory 51 MB, over its 50 MB"


def test_a_reading_stays_true_until_the_next_one() -> None:
    process = Process(1024)
    process.watch.due(0, 0.0)
    process.kb = 60 * 1024
    for now in (SAMPLE_SECONDS, SAMPLE_SECONDS + 0.1):
        assert process.watch.due(1, now) == "private memory 60 MB, over its 50 MB"


def test_a_budget_below_what_a_new_worker_has_does_not_recycle_for_ever() -> None:
    process = Process(60 * 1024)
    assert process.watch.due(0, 0.0) == ""
    assert process.watch.due(1, SAMPLE_SECONDS) == ""
    assert process.said == [
        "begins with 60 MB of private memory, over its 50 MB: it is recycled above 120 MB"
        " instead; max_private_mb is too small"
    ]
    process.kb = 121 * 1024
    assert process.watch.due(2, 2 * SAMPLE_SECONDS) == "private memory 121 MB, over its 120 MB"


def test_what_fails_is_tried_again_later_and_later() -> None:
    retry = Retry()
    now, waits = 100.0, []
    for _ in range(9):
        assert retry.may(now)
        wait = retry.failed(now)
        assert not retry.may(now + wait - 0.01)
        now += wait
        waits.append(wait)
    assert waits[:4] == [1, 2, 4, 8]
    assert waits[-1] == LAST_RETRY_SECONDS
    retry.succeeded()
    assert retry.may(now)
    assert retry.failed(now) == 1


def test_the_latest_recycling_is_told_with_its_reason() -> None:
    assert summary(0, "") == ""
    assert summary(3, "too old") == "3 recycled, the latest: too old"
