import json

from supervisor_py.memory import Reading
from supervisor_py.shared_memory_size import view
from supervisor_py.shared_memory_size.sample import Process, Sample

SUPER = Process(Reading(7, 9000, 6000, 4096, 3000), "start_server", worker=False)
ARBITER = Process(Reading(8, 60000, 50000, 20480, 10000), "kechi:shared", False, "(shared)", 100)
WORKER = Process(Reading(9, 70000, 63000, 30720, 7000), "kechi:shared", True, "(shared)", 20)
SHOP = Process(Reading(12345, 30000, 12000, 20480, 18000), "kechi:shop", True, "shop", 3)
POOL = Sample(1763923423.5, "main", (SUPER, ARBITER, WORKER, SHOP))


def test_the_table_has_the_columns_of_the_well_known_script_and_more() -> None:
    lines = view.table([POOL]).splitlines()
    assert lines[0].split() == [
        "PID", "NAME", "GROUP", "RSS", "SHARED", "PSS", "PRIVATE", "REQUESTS",
    ]  # fmt: skip
    assert lines[1].split() == [
        "7",
        "start_server",
        "-",
        "9000",
        "6000",
        "(67%)",
        "4096",
        "3000",
        "-",
    ]
    assert lines[3].split()[-3:] == ["30720", "7000", "20"]
    assert len({len(line) for line in lines[:5]}) == 1


def test_sums_are_told_for_the_pool_and_each_app() -> None:
    assert view.table([POOL]).splitlines()[5:] == [
        "pool main: 4 processes, 74.0 MB (PSS), workers share 75.0 %, 123 requests",
        "by app: (shared) 50.0 MB, shop 20.0 MB",
    ]


def test_processes_that_say_nothing_of_themselves_have_no_sums_by_app() -> None:
    lines = view.table([Sample(0, None, (SUPER, SUPER))]).splitlines()
    assert lines[3:] == ["2 processes, 8.0 MB (PSS)"]
    assert len(view.table([Sample(0, None, (SUPER,))]).splitlines()) == 2


def test_a_line_has_it_all_in_short() -> None:
    said = view.line(POOL)
    assert said[8:] == " main: 4 processes, 74.0 MB (PSS), workers share 75.0 %, 123 requests"
    assert view.line(Sample(0, None, (SUPER,)))[8:] == " processes: 1 process, 4.0 MB (PSS)"


def test_json_says_its_units() -> None:
    document = json.loads(json.dumps(view.as_json(POOL)))
    processes = document.pop("processes")
    assert document == {
        "time": 1763923423.5,
        "pool": "main",
        "requests": 123,
        "pss_kb": 75776,
        "workers_shared_percent": 75.0,
        "groups_pss_kb": {"(shared)": 51200, "shop": 20480},
    }
    assert processes[3] == {
        "pid": 12345,
        "name": "kechi:shop",
        "group": "shop",
        "worker": True,
        "rss_kb": 30000,
        "shared_kb": 12000,
        "shared_percent": 40,
        "pss_kb": 20480,
        "private_kb": 18000,
        "requests": 3,
    }
