"""A swapfile by the role alone, on a real kernel."""

from __future__ import annotations

import pytest

from shared import reach
from shared.swapping import Swapping

PATH = "/swapfile"
SIZE_MB = 256
LINE = f"{PATH} none swap sw,pri=10 0 0"
SETTINGS = "/etc/sysctl.d/99-zz-kechi-swap.conf"
DISK_MB = 900


@pytest.fixture
def swapping(host):
    return Swapping(host)


def expect(swapping):
    """All is as the inventory says."""
    assert swapping.sizes == {PATH: (SIZE_MB, 10)}
    assert swapping.table == [LINE]
    assert swapping.kernel("swappiness") == 30
    assert swapping.kernel("vfs_cache_pressure") == 50


def test_the_swapfile_is_on_and_the_kernel_uses_it_as_told(swapping):
    expect(swapping)
    assert swapping.host.file(PATH).mode == 0o600


def test_a_second_run_changes_nothing(swapping):
    assert "changed=0" in swapping.role.apply()


def test_it_is_on_again_after_a_reboot(swapping):
    reach.machines(swapping.host).reboot(reach.name(swapping.host))
    expect(swapping)


@pytest.fixture
def disk(host, request):
    """A disk with another file system, mounted."""
    kind = request.param
    host.check_output(f"truncate --size={DISK_MB}M /{kind}.disk && mkfs.{kind} -q /{kind}.disk")
    host.check_output(f"mkdir /{kind} && mount -o loop /{kind}.disk /{kind}")
    return f"/{kind}"


@pytest.mark.parametrize("disk", ["btrfs"], indirect=True)
def test_on_btrfs_it_wants_a_subvolume_of_its_own_and_moves_there(swapping, disk):
    swapping.host.check_output(f"touch {disk}/of-somebody")
    said = swapping.role.refuse(swap_path=f"{disk}/swapfile")
    assert "has to be a subvolume with nothing else in it" in said
    expect(swapping)
    swapping.host.check_output(f"btrfs --quiet subvolume create {disk}/swap")
    swapping.role.apply(swap_path=f"{disk}/swap/swapfile")
    assert swapping.sizes == {f"{disk}/swap/swapfile": (SIZE_MB, 10)}
    assert swapping.files == []


@pytest.mark.parametrize("disk", ["xfs"], indirect=True)
def test_on_xfs_it_is_as_on_ext4(swapping, disk):
    swapping.role.apply(swap_path=f"{disk}/swapfile")
    assert swapping.sizes == {f"{disk}/swapfile": (SIZE_MB, 10)}


def test_it_is_removed_on_request(swapping):
    swapping.role.apply(swap_state="absent")
    assert (swapping.sizes, swapping.table, swapping.files) == ({}, [], [])
    assert not swapping.host.file(SETTINGS).exists
