"""Memory figures from smaps_rollup."""

import json

import pytest

from supervisor_py import memory
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


def test_the_table_has_the_columns_of_the_well_known_script_and_more() -> None:
    lines = memory.table([memory.parse(7, ROLLUP), Reading(12345, 10, 5, 5, 5)]).splitlines()
    assert lines[0].split() == ["PID", "RSS", "SHARED", "PSS", "PRIVATE"]
    assert lines[1].split() == ["7", "1000", "750", "(75%)", "400", "250"]
    assert len({len(line) for line in lines}) == 1


def test_json_says_its_units() -> None:
    document = json.loads(memory._as_json([memory.parse(7, ROLLUP)]))
    assert document == [
        {
            "pid": 7,
            "rss_kb": 1000,
            "shared_kb": 750,
            "shared_percent": 75,
            "pss_kb": 400,
            "private_kb": 250,
        }
    ]
