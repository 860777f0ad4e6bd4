"""What there is to do about swap, for every state that a machine may be found in."""

import os
import struct

import pytest

from ansible_collections.kechi.vps.plugins.modules import swap
from ansible_collections.kechi.vps.plugins.modules.swap import (
    BLANK,
    DATA,
    FOREIGN,
    MB,
    OURS,
    Area,
    Facts,
    File,
    RefusedError,
    Wanted,
)

PATH, OTHER, PART = "/swapfile", "/swapfile.2", "/swapfile.kechi-part"
ROOT = "/dev/vda1 / ext4 errors=remount-ro 0 1\n"
LINE = f"{PATH} none swap sw,pri=10 0 0\n"
LINE_2 = f"{OTHER} none swap sw,pri=10 0 0\n"
OLD = File(OURS, 64 * MB, 64 * MB)
HALF = File(BLANK, 10 * MB, 10 * MB, whole=False)
NEW = File(OURS, 96 * MB, 96 * MB)


def area(path=PATH, size_mb=64, used_mb=0, priority=10):
    return {path: Area(path, size_mb * 1024 - 4, used_mb * 1024, priority)}


def facts(**known):
    return Facts(**{"available_kb": 500 * 1024, "disk_free": 10_000 * MB, "fstab": ROOT, **known})


def steps(found, file_mb=64, zram_mb=0):
    planned = swap.plan(found, Wanted(PATH, file_mb * MB, zram_mb * MB))
    return [" ".join(step) for step in planned.steps]


def notes(found, file_mb=64, zram_mb=0):
    return swap.plan(found, Wanted(PATH, file_mb * MB, zram_mb * MB)).notes


def refusal(found, file_mb=64, zram_mb=0):
    with pytest.raises(RefusedError) as refused:
        swap.plan(found, Wanted(PATH, file_mb * MB, zram_mb * MB))
    return str(refused.value)


SETTLED = {"files": {PATH: OLD}, "areas": area(), "fstab": ROOT + LINE}


@pytest.mark.parametrize(
    ("known", "wanted"),
    [
        ({}, [f"make {PATH}", f"on {PATH}", "write /etc/fstab"]),
        (
            {"files": {PART: HALF}},
            [f"remove {PART}", f"make {PATH}", f"on {PATH}", "write /etc/fstab"],
        ),
        (
            {"files": {PATH: HALF}},
            [f"remove {PATH}", f"make {PATH}", f"on {PATH}", "write /etc/fstab"],
        ),
        ({"files": {PATH: OLD}}, [f"on {PATH}", "write /etc/fstab"]),
        ({"files": {PATH: OLD}, "fstab": ROOT + LINE}, [f"on {PATH}"]),
        ({**SETTLED, "fstab": ROOT}, ["write /etc/fstab"]),
        ({**SETTLED, "fstab": ROOT + f"{PATH} swap swap defaults 0 0\n"}, ["write /etc/fstab"]),
        (SETTLED, []),
        ({**SETTLED, "files": {PATH: OLD, PART: HALF}}, [f"remove {PART}"]),
        ({**SETTLED, "files": {PATH: OLD._replace(private=False)}}, [f"protect {PATH}"]),
        ({"fstab": ROOT + LINE}, [f"make {PATH}", f"on {PATH}"]),
        (
            {"files": {PATH: OLD._replace(whole=False)}, "fstab": ROOT + LINE},
            [f"remove {PATH}", f"make {PATH}", f"on {PATH}"],
        ),
    ],
)
def test_a_swapfile_is_completed_from_any_interrupted_state(known, wanted):
    assert steps(facts(**known)) == wanted


RESIZE = [
    f"make {OTHER}",
    f"on {OTHER}",
    f"off {PATH}",
    "write /etc/fstab",
    f"remove {PATH}",
]


@pytest.mark.parametrize("size_mb", [96, 32])
def test_the_new_swapfile_is_on_before_the_old_one_is_off(size_mb):
    assert steps(facts(**SETTLED), size_mb) == RESIZE


def test_swap_of_a_wrong_priority_is_made_anew():
    assert steps(facts(**{**SETTLED, "areas": area(priority=-2)})) == RESIZE


@pytest.mark.parametrize(
    ("known", "wanted"),
    [
        ({"files": {PATH: OLD, PART: HALF}, "areas": area()}, [f"remove {PART}", *RESIZE]),
        ({"files": {PATH: OLD, OTHER: NEW}, "areas": area()}, RESIZE[1:]),
        (
            {"files": {PATH: OLD, OTHER: NEW}, "areas": area() | area(OTHER, 96)},
            RESIZE[2:],
        ),
        ({"files": {PATH: OLD, OTHER: NEW}, "areas": area(OTHER, 96)}, [RESIZE[3], RESIZE[4]]),
        (
            {"files": {PATH: OLD, OTHER: NEW}, "areas": area(OTHER, 96), "fstab": ROOT + LINE_2},
            [RESIZE[4]],
        ),
        (
            {"files": {PATH: OLD, OTHER: OLD}, "areas": area() | area(OTHER)},
            [
                f"off {PATH}",
                f"off {OTHER}",
                f"remove {PATH}",
                f"remove {OTHER}",
                f"make {PATH}",
                f"on {PATH}",
            ],
        ),
    ],
)
def test_an_interrupted_resize_is_finished(known, wanted):
    assert steps(facts(**{"fstab": ROOT + LINE, **known}), 96) == wanted


def test_the_old_file_is_off_first_where_the_disk_has_no_room_for_both():
    found = facts(**SETTLED, disk_free=300 * MB)
    assert steps(found, 96) == [f"off {PATH}", f"remove {PATH}", f"make {PATH}", f"on {PATH}"]


def test_a_swapfile_that_the_disk_cannot_hold_is_refused_with_the_numbers():
    told = refusal(facts(**SETTLED, disk_free=300 * MB), 200)
    assert "200 MB does not fit on the disk of /swapfile: 364 MB are free" in told
    assert "256 MB must stay free; allowed: 108 MB at most" in told
    # what is there already needs no further room
    assert steps(facts(**SETTLED, disk_free=0)) == []


def in_use(used_mb, **known):
    return facts(**{**SETTLED, "areas": area(used_mb=used_mb), **known})


def test_swap_in_use_is_not_shrunk_without_room_for_what_it_holds():
    told = refusal(in_use(60, available_kb=74 * 1024), 32)
    assert "/swapfile can't be switched off without ending programs: 60 MB are swapped out" in told
    assert "room for 10 MB in memory (74 MB are available, 64 MB must stay so) and 32 MB" in told


@pytest.mark.parametrize(
    ("used_mb", "available_mb", "size_mb"),
    [
        (60, 65, 96),  # into the new one, which is on first
        (60, 92, 32),  # into the new one and memory
        (0, 0, 32),
    ],
)
def test_swap_in_use_is_resized_where_there_is_room(used_mb, available_mb, size_mb):
    assert steps(in_use(used_mb, available_kb=available_mb * 1024), size_mb) == RESIZE


def test_swap_in_use_is_not_moved_without_memory_to_move_it_through():
    assert "0 MB in memory (64 MB are available" in refusal(in_use(60, available_kb=64 * 1024), 96)


def test_a_file_that_must_be_off_first_has_no_new_one_as_its_room():
    both = {"available_kb": 70 * 1024, "disk_free": 300 * MB}
    assert "0 MB in other swap" in refusal(in_use(60, **both), 96)
    second = {"files": {OTHER: OLD}, "areas": area(OTHER, used_mb=60)}
    assert "0 MB in other swap" in refusal(facts(**second, **both), 96)


def test_other_swap_on_a_disk_is_room_and_zram_is_not():
    elsewhere = area(used_mb=60) | area("/dev/vda2", 100, 30, -2)
    little = 65 * 1024
    assert steps(in_use(60, available_kb=little, areas=elsewhere), 0)
    assert "can't be switched off" in refusal(
        in_use(60, available_kb=little, areas=area(used_mb=60) | area("/dev/zram0", 900, 0, 100)), 0
    )


def test_no_control_group_is_pushed_over_its_limit():
    over = {"/kechi.slice/kechi@main.service": 40 * 1024}
    told = refusal(in_use(60, over_kb=over), 0)
    assert "kechi@main.service would be over its memory limit by 40 MB, and there is room" in told
    assert steps(in_use(60, over_kb=over), 96) == RESIZE, "it swaps to the new file"
    assert steps(in_use(0, over_kb=over), 0), "its swap is elsewhere"


def test_what_was_made_is_removed_on_request():
    removed = [f"off {PATH}", "write /etc/fstab", f"remove {PATH}"]
    assert steps(facts(**SETTLED), 0) == removed
    assert steps(facts(files={PATH: OLD}, fstab=ROOT + LINE), 0) == removed[1:]
    assert steps(facts(fstab=ROOT + LINE), 0) == removed[1:2]
    assert steps(facts(files={PART: HALF}), 0) == [f"remove {PART}"]
    assert steps(facts(), 0) == []
    assert swap.plan(facts(**SETTLED), Wanted(PATH, 0, 0)).fstab == ROOT


def test_a_removal_without_room_is_refused_for_file_and_zram_together():
    both = {"zram_is_ours": True, "zram_bytes": 64 * MB, "available_kb": 150 * 1024}
    areas = area(used_mb=60) | area("/dev/zram0", 64, 50, 100)
    assert "/swapfile and /dev/zram0" in refusal(in_use(60, areas=areas, **both), 0)


def test_a_swapfile_of_an_earlier_path_is_replaced():
    areas = area("/var/swap")
    found = facts(
        files={"/var/swap": OLD}, areas=areas, fstab=ROOT + LINE.replace(PATH, "/var/swap")
    )
    assert steps(found) == [
        f"make {PATH}",
        f"on {PATH}",
        "off /var/swap",
        "write /etc/fstab",
        "remove /var/swap",
    ]
    assert swap.plan(found, Wanted(PATH, 64 * MB, 0)).fstab == ROOT + LINE


@pytest.mark.parametrize("size_mb", [0, 32, 64])
def test_swap_that_it_has_not_made_stays_and_is_said(size_mb):
    files = {PATH: File(FOREIGN, 64 * MB, 64 * MB)}
    areas = area(priority=-2) | area("/dev/vda2", 512, 0, -3)
    found = facts(files=files, areas=areas, fstab=f"{PATH} none swap sw 0 0\n")
    assert steps(found, size_mb) == []
    assert notes(found, size_mb) == [
        "/swapfile (64 MB, priority -2) is swap that this role has not made",
        "/dev/vda2 (512 MB, priority -3) is swap that this role has not made",
    ]


def test_its_own_swapfile_is_made_beside_a_partition():
    found = facts(areas=area("/dev/vda2", 512, 0, -2))
    assert steps(found) == [f"make {PATH}", f"on {PATH}", "write /etc/fstab"]
    assert notes(found) == ["/dev/vda2 (512 MB, priority -2) is swap that this role has not made"]


def test_a_file_that_is_no_swap_is_never_replaced():
    found = facts(files={PATH: File(DATA)})
    assert "/swapfile is there and is no swapfile" in refusal(found)
    assert steps(found, 0) == []
    assert notes(found, 0) == ["/swapfile is a file that this role has not made"]
    assert steps(facts(files={PATH: HALF}), 0) == [], "nor are zeros, where none is wanted"
    for kind in (DATA, FOREIGN):
        assert f"{PART} is there" in refusal(facts(files={PART: File(kind)}))
        assert steps(facts(files={PART: File(kind)}), 0) == []


def test_a_file_system_without_safe_swapfiles_is_refused():
    assert refusal(facts(disk_fault="it is tmpfs")) == "/swapfile can't be a swapfile: it is tmpfs"
    assert steps(facts(disk_fault="it is tmpfs"), 0) == []
    assert steps(facts(disk_fault="it is read-only", **SETTLED)) == [], "what works goes on"


ZRAM = {"zram_is_ours": True, "zram_bytes": 48 * MB, "areas": area("/dev/zram0", 48, 0, 100)}


@pytest.mark.parametrize(
    ("known", "zram_mb", "wanted"),
    [
        ({}, 48, ["start /dev/zram0"]),
        ({"zram_is_ours": True}, 48, ["start /dev/zram0"]),
        ({"zram_is_ours": True, "zram_bytes": 48 * MB}, 48, ["start /dev/zram0"]),
        (ZRAM, 48, []),
        (ZRAM, 32, ["off /dev/zram0", "start /dev/zram0"]),
        (
            {**ZRAM, "areas": area("/dev/zram0", 48, 0, 5)},
            48,
            ["off /dev/zram0", "start /dev/zram0"],
        ),
        (ZRAM, 0, ["off /dev/zram0", "reset /dev/zram0"]),
        ({"zram_is_ours": True, "zram_bytes": 48 * MB}, 0, ["reset /dev/zram0"]),
        ({"zram_is_ours": True}, 0, []),
        ({"zram_fault": "no module"}, 0, []),
    ],
)
def test_zram_is_made_resized_and_removed_from_any_state(known, zram_mb, wanted):
    assert steps(facts(**known), 0, zram_mb) == wanted


def test_zram_is_above_the_file():
    assert swap.ZRAM_PRIORITY > swap.FILE_PRIORITY > 0


def test_zram_in_use_is_resized_only_with_room():
    used = {**ZRAM, "areas": area("/dev/zram0", 48, 40, 100), "available_kb": 70 * 1024}
    assert "/dev/zram0 can't be switched off" in refusal(facts(**used), 0, 32)
    assert steps(facts(**used), 64, 32) == [
        f"make {PATH}",
        f"on {PATH}",
        "off /dev/zram0",
        "write /etc/fstab",
        "start /dev/zram0",
    ]


@pytest.mark.parametrize(
    "known",
    [
        {"zram_bytes": 48 * MB, "areas": area("/dev/zram0", 48, 0, 100)},
        {"zram_bytes": 48 * MB},  # a file system
        {"areas": area("/dev/zram1", 48, 0, 100)},
    ],
)
def test_zram_of_somebody_else_stays_and_is_said(known):
    theirs = facts(**known)
    planned = swap.plan(theirs, Wanted(PATH, 0, 32 * MB))
    assert (planned.steps, planned.zram_bytes) == ([], 0)
    assert "there is zram already that this role has not made" in planned.notes[0]
    assert steps(theirs, 0, 0) == []


def test_a_kernel_without_zram_is_refused():
    told = refusal(facts(zram_fault="the running kernel has no module zram"), 0, 32)
    assert told == "there can be no zram: the running kernel has no module zram"


@pytest.mark.parametrize(
    ("memory_mb", "file_mb", "zram_mb"),
    [(460, 512, 256), (957, 1024, 512), (985, 1024, 512), (1967, 2048, 1024), (15990, 4096, 4096)],
)
def test_sizes_follow_the_memory_in_steps_that_a_kernel_update_keeps(memory_mb, file_mb, zram_mb):
    assert swap.auto_file_mb(memory_mb * 1024) == file_mb
    assert swap.auto_zram_mb(memory_mb * 1024) == zram_mb


def test_other_lines_of_the_fstab_stay_as_they_are():
    text = f"# {PATH} none swap\nUUID=1 none swap sw\n\n{PATH}\tnone swap\tsw 0 0\n/dev/b  /b  ext4"
    new = swap.fstab_with(text, [PATH], PATH)
    assert new == text.replace(f"{PATH}\tnone swap\tsw 0 0\n", LINE) + "\n"
    assert swap.fstab_with(new, [PATH], PATH) == new
    assert swap.fstab_with(ROOT + LINE + LINE, [PATH], PATH) == ROOT + LINE
    assert swap.fstab_with(ROOT + LINE.replace(" ", "\t"), [], PATH) == ROOT + LINE.replace(
        " ", "\t"
    )
    assert swap.fstab_with(ROOT.rstrip(), [PATH], None) == ROOT.rstrip()
    assert swap.fstab_with("", [], PATH) == LINE


def swap_header(size, label):
    page = bytearray(4096)
    page[-10:] = b"SWAPSPACE2"
    page[1052 : 1052 + len(label)] = label
    struct.pack_into("=II", page, 1024, 1, size // 4096 - 1)
    return bytes(page)


@pytest.mark.parametrize(
    ("content", "kind", "whole"),
    [
        (swap_header(65536, b"kechi.vps") + b"x" * 61440, OURS, True),
        (swap_header(65536, b"kechi.vps") + b"x" * 4096, OURS, False),
        (swap_header(65536, b"") + b"x" * 61440, FOREIGN, True),
        (bytes(65536), BLANK, False),
        (b"", BLANK, False),
        (bytes(65536) + b"x", DATA, False),
    ],
)
def test_a_file_is_known_by_what_it_holds(tmp_path, content, kind, whole):
    path = tmp_path / "swapfile"
    path.write_bytes(content)
    found = swap.examined(path)
    assert (found.kind, found.size) == (kind, len(content))
    assert found.whole == whole


def test_a_file_with_holes_is_not_whole(tmp_path):
    path = tmp_path / "swapfile"
    path.write_bytes(swap_header(MB, b"kechi.vps"))
    os.truncate(path, MB)
    assert (swap.examined(path).kind, swap.examined(path).whole) == (OURS, False)


def test_what_is_no_file_is_no_swapfile(tmp_path):
    (tmp_path / "link").symlink_to("elsewhere")
    assert swap.examined(tmp_path / "link").kind == DATA
    assert swap.examined(tmp_path).kind == DATA
    assert swap.examined(tmp_path / "absent") is None


def test_the_kernels_list_of_swap_is_read():
    text = "Filename Type Size Used Priority\n/dev/vda2  partition 524284\t\t12\t-2\n"
    assert swap.areas_of(text) == {"/dev/vda2": Area("/dev/vda2", 524284, 12, -2)}


def test_a_diff_shows_swap_and_fstab_before_and_after():
    wanted = Wanted(PATH, 96 * MB, 0)
    found = facts(**SETTLED)
    assert swap.diff(found, wanted, swap.plan(found, wanted)) == [
        {
            "before_header": "swap",
            "after_header": "swap",
            "before": f"{PATH}: 64 MB, priority 10\n",
            "after": f"{OTHER}: 96 MB, priority 10\n",
        },
        {
            "before_header": "/etc/fstab",
            "after_header": "/etc/fstab",
            "before": ROOT + LINE,
            "after": ROOT + LINE_2,
        },
    ]
    assert swap.diff(found, wanted, swap.plan(found, Wanted(PATH, 64 * MB, 0))) == []
