"""A swapfile that grows and shrinks under programs that need it: they live, or it is refused."""

from __future__ import annotations

import pytest

from shared.swapping import Swapping

SMALL_MB, MIDDLE_MB, LARGE_MB = 128, 256, 384
HELD_MB = 100  # of which most is swapped out
LEFT_MB = 48
RESERVE_MB = 64  # with less available than that nothing is moved
CHANGES = (
    {"swap_size_mb": SMALL_MB // 2},
    {"swap_size_mb": LARGE_MB},
    {"swap_state": "absent"},
)


@pytest.fixture
def swapping(host):
    return Swapping(host)


def test_it_grows_and_shrinks_under_a_program_that_is_swapped_out(swapping):
    assert swapping.sizes == {"/swapfile": (MIDDLE_MB, 10)}
    with swapping.hog(HELD_MB, "MemoryHigh=40M") as hog:
        assert swapping.areas["/swapfile"].used_mb > 0
        for size_mb, name in ((LARGE_MB, "/swapfile.2"), (SMALL_MB, "/swapfile")):
            swapping.role.apply(swap_size_mb=size_mb)
            assert swapping.sizes == {name: (size_mb, 10)}
            assert swapping.files == [name]
            assert swapping.table == [f"{name} none swap sw,pri=10 0 0"]
            assert hog.is_whole()


def test_it_stays_while_a_control_group_has_no_room_without_it(swapping):
    with swapping.hog(HELD_MB, "MemoryMax=40M") as hog:
        said = swapping.role.refuse(swap_state="absent")
        assert "the control group /system.slice/hog.service would be over its memory limit" in said
        assert swapping.sizes == {"/swapfile": (SMALL_MB, 10)}
        assert hog.is_whole()


def test_with_memory_exhausted_it_neither_shrinks_nor_grows_nor_goes(swapping):
    before = swapping.sizes
    with swapping.hog(HELD_MB, "MemoryHigh=40M") as hog:
        with swapping.hog(swapping.available_mb - LEFT_MB, locked=True):
            assert swapping.available_mb < RESERVE_MB
            for changes in CHANGES:
                said = swapping.role.refuse(**changes)
                assert "can't be switched off without ending programs" in said
                assert "nothing was changed" in said
                assert swapping.sizes == before
            assert hog.is_whole()
        swapping.role.apply(swap_size_mb=LARGE_MB)
        assert list(swapping.sizes.values()) == [(LARGE_MB, 10)]
        assert hog.is_whole()
