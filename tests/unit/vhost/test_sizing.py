from collections.abc import Callable

import pytest

from supervisor_py.vhost import sizing
from supervisor_py.vhost.pool import Workers
from supervisor_py.vhost.sizing import Machine, look, sized, workers

GB = 1024


@pytest.mark.parametrize(
    ("cores", "memory_mb", "count"),
    [
        (1, 0.93 * GB, 1),  # what is sold as 1 GB
        (2, 0.93 * GB, 1),
        (4, 1.9 * GB, 2),
        (1, 16 * GB, 1),
        (2, 3.8 * GB, 2),
        (4, 7.7 * GB, 4),
        (8, 3.8 * GB, 4),
        (0.5, 4 * GB, 1),
        (1.5, 4 * GB, 1),
        (4, 400, 1),
        (4, 0, 1),  # nobody says
        (256, 1024 * GB, 64),
    ],
)
def test_a_machine_gets_a_worker_for_each_core_and_each_gigabyte(
    cores: float, memory_mb: float, count: int
) -> None:
    assert workers(Machine(cores, memory_mb)) == count


def reader(**files: str) -> Callable[[str], str | None]:
    names = {
        "meminfo": "/proc/meminfo",
        "ours": "/proc/self/cgroup",
        "top_memory": "/sys/fs/cgroup/memory.max",
        "slice_memory": "/sys/fs/cgroup/pool.slice/memory.max",
        "slice_cpu": "/sys/fs/cgroup/pool.slice/cpu.max",
        "unit_cpu": "/sys/fs/cgroup/pool.slice/a.service/cpu.max",
        "old_memory": "/sys/fs/cgroup/memory/box/memory.limit_in_bytes",
        "old_quota": "/sys/fs/cgroup/cpu/box/cpu.cfs_quota_us",
        "old_period": "/sys/fs/cgroup/cpu/box/cpu.cfs_period_us",
    }
    return {names[name]: text for name, text in files.items()}.get


MEMINFO = "MemTotal:        4096000 kB\nMemFree: 12 kB\n"
V2 = "0::/pool.slice/a.service\n"
V1 = "4:memory:/box\n3:cpu,cpuacct:/box\n0::/\n"


@pytest.mark.parametrize(
    ("files", "machine"),
    [
        ({}, Machine(4, 4000)),
        ({"ours": V2}, Machine(4, 4000)),
        ({"ours": V2, "slice_memory": "max\n", "slice_cpu": "max 100000\n"}, Machine(4, 4000)),
        ({"ours": V2, "slice_memory": "524288000\n"}, Machine(4, 500)),
        ({"ours": V2, "slice_memory": "524288000\n", "top_memory": "1048576\n"}, Machine(4, 1)),
        ({"ours": V2, "slice_cpu": "150000 100000\n"}, Machine(1.5, 4000)),
        (
            {"ours": V2, "slice_cpu": "150000 100000\n", "unit_cpu": "50000 100000\n"},
            Machine(0.5, 4000),
        ),
        ({"ours": V1, "old_memory": "9223372036854771712\n"}, Machine(4, 4000)),
        ({"ours": V1, "old_memory": "524288000\n"}, Machine(4, 500)),
        ({"ours": V1, "old_quota": "-1\n", "old_period": "100000\n"}, Machine(4, 4000)),
        ({"ours": V1, "old_quota": "200000\n", "old_period": "100000\n"}, Machine(2, 4000)),
        ({"ours": V2, "slice_cpu": "900000 100000\n"}, Machine(4, 4000)),
    ],
)
def test_the_nearest_limit_of_our_cgroups_counts(files: dict[str, str], machine: Machine) -> None:
    assert look(reader(meminfo=MEMINFO, **files), 4) == machine


def test_what_was_asked_for_stays() -> None:
    asked = Workers(count=7, threads=3, max_requests=100)
    assert sized(asked) == asked


def test_what_was_not_asked_for_suits_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizing, "look", lambda read, cores: Machine(3, 64 * GB))
    assert sized(Workers(max_requests=9)) == Workers(3, sizing.THREADS, 9)
    assert sized(Workers(count=5)) == Workers(5, sizing.THREADS)
    assert sized(Workers(threads=2)) == Workers(3, 2)
