"""Whose memory is whose: processes belong to the generation that they descend from."""

from harness.sampler import summed

GENERATIONS = [
    {"number": 1, "phase": "draining", "pid": 10},
    {"number": 2, "phase": "serving", "pid": 20},
    {"number": 3, "phase": "starting", "pid": None},
]
PARENTS = {1: 0, 10: 1, 11: 10, 12: 11, 20: 1, 99: 1}


def _process(pid: int) -> dict[str, object]:
    return {
        "pid": pid,
        "worker": pid in (11, 12),
        "rss_kb": pid * 200,
        "shared_kb": pid * 100,
        "pss_kb": pid * 100,
        "private_kb": pid,
    }


def test_each_generation_has_the_memory_of_all_its_descendants() -> None:
    first, second = summed(GENERATIONS, [_process(pid) for pid in (10, 11, 12, 20)], PARENTS)
    assert first == {
        "number": 1,
        "phase": "draining",
        "processes": 3,
        "pss_kb": 3300,
        "private_kb": 33,
        "workers_shared_percent": 50.0,
    }
    assert (second["number"], second["pss_kb"]) == (2, 2000)
    assert second["workers_shared_percent"] is None, "it has no worker yet"


def test_a_process_of_none_and_one_that_has_ended_are_left_out() -> None:
    (only,) = summed(GENERATIONS, [_process(pid) for pid in (20, 99, 77)], PARENTS)
    assert (only["number"], only["processes"]) == (2, 1)
