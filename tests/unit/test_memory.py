"""Memory figures from smaps_rollup."""

import pytest

from supervisor_py import memory
from supervisor_py.errors import FatalError
from supervisor_py.memory import Reading

ROLLUP = """55d0-7ffd ---p 00000000 00:00 0                          [rollup]
Rss:                1000 kB
Pss:                 400 kB
Pss_Anon:            112 kB
Shared_Clean:        500 kB
Shared_Dirty:        250 kB
Private_Clean:        50 kB
Private_Dirty:       200 kB
"""


def test_shared_and_private_are_clean_and_dirty_together() -> None:
    reading = memory.parse(7, ROLLUP)
    assert reading == Reading(7, rss=1000, shared=750, pss=400, private=250)
    assert reading.shared_percent() == 75
    assert Reading(7, 0, 0, 0, 0).shared_percent() == 0


def test_a_figure_that_is_missing_is_an_error() -> None:
    with pytest.raises(ValueError, match="process 7 has no Pss"):
        memory.parse(7, ROLLUP.replace("Pss:", "Gone:"))


def test_the_share_is_that_of_the_workers_without_their_parent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    readings = {
        1: Reading(1, rss=1000, shared=0, pss=900, private=900),
        2: Reading(2, rss=100, shared=80, pss=60, private=20),
        3: Reading(3, rss=300, shared=120, pss=240, private=180),
    }

    def read(pid: int) -> Reading:
        if pid not in readings:
            raise FatalError(f"{pid}: no such process")
        return readings[pid]

    monkeypatch.setattr(memory, "read", read)
    assert memory.whole([1, 2, 3, 4]) == memory.Whole(1200, 50.0, 3), "what has gone is left out"
    assert memory.whole([1]) == memory.Whole(900, 0.0, 1)
    assert memory.whole([4]) == memory.NOTHING
