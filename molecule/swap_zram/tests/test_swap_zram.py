"""zram by the distribution's generator, and a swapfile behind it."""

from __future__ import annotations

import pytest

from shared import reach
from shared.swapping import Swapping

ZRAM = "/dev/zram0"
FILE = "/swapfile"
# of the machine's 1 GB: half of it, and as much
SIZES = {ZRAM: (512, 100), FILE: (1024, 10)}
GENERATOR = "systemd-zram-generator"


@pytest.fixture
def swapping(host):
    return Swapping(host)


def test_zram_and_a_file_are_sized_by_the_machines_memory(swapping):
    assert swapping.sizes == SIZES
    assert swapping.kernel("swappiness") == 150


def test_a_second_run_changes_nothing(swapping):
    assert "changed=0" in swapping.role.apply()


def test_zram_is_there_after_a_reboot_and_filled_before_the_file(swapping):
    reach.machines(swapping.host).reboot(reach.name(swapping.host))
    assert swapping.sizes == SIZES
    with swapping.hog(96, "MemoryMax=32M") as hog:
        areas = swapping.areas
        assert areas[ZRAM].used_mb >= 48
        assert areas[FILE].used_mb == 0
        assert hog.is_whole()


def test_zram_goes_alone_with_its_generator(swapping):
    swapping.role.apply(swap_zram=False)
    assert swapping.sizes == {FILE: SIZES[FILE]}
    assert not swapping.host.package(GENERATOR).is_installed
