"""The memory that is left, by the files of hosts of all kinds."""

import pytest

from supervisor_py import room

MEMINFO = (
    "MemTotal: 1000000 kB\nMemAvailable:  500000 kB\nSwapFree: 200000 kB\nHugePages_Total: 0\n"
)
V2 = "0::/kechi.slice/main.service\n"
SLICE = "/sys/fs/cgroup/kechi.slice"
UNIT = f"{SLICE}/main.service"
V1 = "12:pids:/x\n5:cpu,memory:/pool/main\n1:name=systemd:/y\n"
POOL = "/sys/fs/cgroup/memory/pool"
PIDS = "/sys/fs/cgroup/pids/a"
KB = 1024
UNLIMITED_V1 = "9223372036854771712\n"


def _of(files: dict[str, str]) -> tuple[float, str]:
    return room.left({"/proc/meminfo": MEMINFO, **files}.get)


def _group(path: str, most: int | str, used: int, **more: int | str) -> dict[str, str]:
    """Return a cgroup v2's files; sizes in kB."""
    sizes = {"max": most, "current": used}
    sizes |= {name.replace("_", "."): size for name, size in more.items() if name != "cache"}
    files = {
        f"{path}/memory.{name}": f"{size * KB if isinstance(size, int) else size}\n"
        for name, size in sizes.items()
    }
    cache = more.get("cache", 0)
    assert isinstance(cache, int)
    stat = f"anon 5\nfile 7\ninactive_file {cache * KB}\nactive_file 9\n"
    return {**files, f"{path}/memory.stat": stat}


def _group_v1(
    path: str, most: int, used: int, both: tuple[int, int] | None = None
) -> dict[str, str]:
    files = {
        f"{path}/memory.limit_in_bytes": f"{most * KB}\n",
        f"{path}/memory.usage_in_bytes": f"{used * KB}\n",
        f"{path}/memory.stat": f"inactive_file 1\ntotal_inactive_file {3 * KB}\n",
    }
    if both:
        files[f"{path}/memory.memsw.limit_in_bytes"] = f"{both[0] * KB}\n"
        files[f"{path}/memory.memsw.usage_in_bytes"] = f"{both[1] * KB}\n"
    return files


@pytest.mark.parametrize("cgroup", [None, "", "0::/\n", V2, V1, "rubbish\n::\n0::relative\n"])
def test_without_limits_it_is_what_the_machine_has_with_its_swap(cgroup: str | None) -> None:
    files = {} if cgroup is None else {"/proc/self/cgroup": cgroup}
    assert _of(files) == (700_000, room.MACHINE)


def test_an_unknown_machine_has_all_the_memory_in_the_world() -> None:
    left, where = room.left(lambda _path: None)
    assert left > 1 << 40
    assert where == room.MACHINE


def test_a_limit_of_our_own_cgroup_counts_with_what_could_be_swapped() -> None:
    files = {"/proc/self/cgroup": V2, **_group(UNIT, 300_000, 100_000, cache=7000)}
    assert _of(files) == (200_000 + 7000 + 200_000, f"limit of the cgroup {UNIT}")


def test_the_nearest_of_nested_limits_counts() -> None:
    files = {"/proc/self/cgroup": V2}
    files |= _group(UNIT, 300_000, 100_000)
    files |= _group(SLICE, 400_000, 350_000)
    assert _of(files) == (50_000 + 200_000, f"limit of the cgroup {SLICE}")
    files |= _group(UNIT, 120_000, 100_000)
    assert _of(files) == (20_000 + 200_000, f"limit of the cgroup {UNIT}")


def test_the_machine_is_the_nearest_limit_when_cgroups_allow_more_than_it_has() -> None:
    files = {"/proc/self/cgroup": V2, **_group(UNIT, 9_000_000, 100_000)}
    assert _of(files) == (700_000, room.MACHINE)


def test_no_more_is_swapped_than_the_cgroup_may() -> None:
    group = _group(UNIT, 300_000, 100_000, swap_max=50_000, swap_current=20_000)
    assert _of({"/proc/self/cgroup": V2, **group})[0] == 200_000 + 30_000
    group = _group(UNIT, 300_000, 100_000, swap_max=50_000, swap_current=60_000)
    assert _of({"/proc/self/cgroup": V2, **group})[0] == 200_000
    group = _group(UNIT, 300_000, 100_000, swap_max=0)
    assert _of({"/proc/self/cgroup": V2, **group})[0] == 200_000
    group = _group(UNIT, 300_000, 100_000, swap_max="max", swap_current=0)
    assert _of({"/proc/self/cgroup": V2, **group})[0] == 400_000


def test_a_swap_limit_holds_for_all_cgroups_below() -> None:
    files = {"/proc/self/cgroup": V2, f"{SLICE}/memory.swap.max": "0\n"}
    files |= _group(UNIT, 300_000, 100_000, swap_max="max", swap_current=0)
    assert _of(files)[0] == 200_000


def test_a_cgroup_over_its_limit_has_nothing_left_but_swap() -> None:
    files = {"/proc/self/cgroup": V2, **_group(UNIT, 100_000, 150_000)}
    assert _of(files)[0] == 200_000


def test_max_is_no_limit() -> None:
    files = {"/proc/self/cgroup": V2, **_group(UNIT, "max", 100_000)}
    assert _of(files) == (700_000, room.MACHINE)


def test_the_root_of_a_containers_cgroups_may_have_the_limit() -> None:
    files = {"/proc/self/cgroup": "0::/\n", **_group("/sys/fs/cgroup", 256_000, 200_000)}
    assert _of(files) == (256_000, "limit of the cgroup /sys/fs/cgroup")


def test_cgroup_v1_counts_too_at_every_level() -> None:
    files = {"/proc/self/cgroup": V1}
    files |= _group_v1(f"{POOL}/main", 300_000, 100_000)
    assert _of(files) == (200_000 + 3 + 200_000, f"limit of the cgroup {POOL}/main")
    files |= _group_v1(POOL, 150_000, 120_000)
    assert _of(files) == (30_000 + 3 + 200_000, f"limit of the cgroup {POOL}")


def test_cgroup_v1_limits_memory_and_swap_together() -> None:
    files = {"/proc/self/cgroup": V1}
    files |= _group_v1(f"{POOL}/main", 300_000, 100_000, both=(300_000, 100_000))
    assert _of(files)[0] == 200_000 + 3, "no swap"
    files |= _group_v1(f"{POOL}/main", 300_000, 100_000, both=(350_000, 110_000))
    assert _of(files)[0] == 200_000 + 3 + 40_000
    files |= _group_v1(POOL, 900_000, 100_000, both=(900_000, 100_000))
    assert _of(files)[0] == 200_000 + 3, "nor does a cgroup below that may not swap"


def test_cgroup_v1_without_a_limit_says_a_huge_number() -> None:
    files = {"/proc/self/cgroup": V1, **_group_v1(f"{POOL}/main", 1, 100_000)}
    files[f"{POOL}/main/memory.limit_in_bytes"] = UNLIMITED_V1
    assert _of(files) == (700_000, room.MACHINE)


def test_on_a_hybrid_host_the_side_with_the_memory_controller_counts() -> None:
    files = {"/proc/self/cgroup": f"{V1}{V2}", **_group_v1(f"{POOL}/main", 300_000, 250_000)}
    assert _of(files) == (50_000 + 3 + 200_000, f"limit of the cgroup {POOL}/main")


@pytest.mark.parametrize("odd", ["", "\n", "-1\n", "12 34\n", "0x10\n", "\ufffd\n"])
def test_odd_files_are_no_limit(odd: str) -> None:
    group = _group(UNIT, 300_000, 100_000)
    for name in ("max", "current"):
        files = {"/proc/self/cgroup": V2, **group, f"{UNIT}/memory.{name}": odd}
        assert _of(files) == (700_000, room.MACHINE)
    files = {"/proc/self/cgroup": V2, **group, f"{UNIT}/memory.stat": odd}
    assert _of(files)[0] == 400_000
    assert room.left({"/proc/meminfo": f"MemAvailable: {odd}"}.get)[1] == room.MACHINE


def test_this_machine_has_some_memory_left() -> None:
    left, where = room.left()
    assert 0 < left < 1 << 40
    assert where


def test_a_file_that_is_not_there_is_none() -> None:
    assert room.read_file("/proc/self/no-such-file") is None


@pytest.mark.parametrize(
    ("table", "files", "said"),
    [
        (V2, {f"{SLICE}/pids.max": "64\n", f"{SLICE}/pids.current": "64\n"}, (64, 64, SLICE)),
        (V2, {f"{UNIT}/pids.max": "64\n", f"{UNIT}/pids.current": "65\n"}, (65, 64, UNIT)),
        (V2, {f"{UNIT}/pids.max": "64\n", f"{UNIT}/pids.current": "63\n"}, None),
        (V2, {f"{UNIT}/pids.max": "max\n", f"{UNIT}/pids.current": "63\n"}, None),
        (V2, {f"{UNIT}/pids.max": "64\n"}, None),
        ("3:pids:/a\n", {f"{PIDS}/pids.max": "5", f"{PIDS}/pids.current": "5"}, (5, 5, PIDS)),
        ("", {}, None),
    ],
)  # fmt: skip
def test_the_limit_of_tasks_that_is_reached_is_named(
    table: str, files: dict[str, str], said: tuple[int, int, str] | None
) -> None:
    words = room.tasks_in_use({"/proc/self/cgroup": table, **files}.get)
    if said is None:
        assert words == ""
    else:
        used, most, group = said
        assert words == f"{used} of {most} tasks are in use (limit of the cgroup {group})"
