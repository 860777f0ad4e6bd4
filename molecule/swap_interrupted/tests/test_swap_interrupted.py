"""First runs that die at each step: the next one goes on from whatever is there."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from shared import reach
from shared.swapping import Swapping

PATH = "/swapfile"
PART = f"{PATH}.kechi-part"
SIZE_MB = 64
OTHER_MB = 96
LARGE_MB = 1024  # which takes a moment to write
TRAPS = "/usr/local/sbin"  # the first on root's path
# kills what has called it, for this once, as the kernel's lack of memory would
TRAP = """#!/bin/sh
rm -- "$0"
kill -KILL $PPID
"""
BEGUN_SECONDS = 600


@pytest.fixture
def swapping(host):
    return Swapping(host)


def die_at(swapping, command, **changes):
    """Run the role, and have it die where it calls a command."""
    trap = f"{TRAPS}/{command}"
    swapping.host.check_output(f"printf %s '{TRAP}' >{trap} && chmod +x {trap}")
    swapping.role.refuse(**changes)
    assert not swapping.host.file(trap).exists, f"it never came to {command}"


def cut_power_while_it_is_written(swapping):
    """Run the role until the first of a large file is there."""
    machine = reach.machines(swapping.host)
    name = reach.name(swapping.host)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(swapping.role.refuse, swap_size_mb=LARGE_MB)
        # it is on the disk then, whatever of its content is
        begun = f"until [ -s {PART} ]; do sleep 0.05; done; sync /"
        swapping.host.check_output(f"timeout {BEGUN_SECONDS} sh -c '{begun}'")
        machine.cut_power(name)
        running.result()


def test_the_run_after_one_that_has_died_finishes_its_work(swapping):
    cut_power_while_it_is_written(swapping)
    assert (swapping.sizes, swapping.files) == ({}, [PART])
    die_at(swapping, "mkswap")  # written
    assert (swapping.sizes, swapping.files) == ({}, [PART])
    die_at(swapping, "swapon")  # labelled, and in its place
    assert (swapping.sizes, swapping.files) == ({}, [PATH])
    die_at(swapping, "findmnt")  # on
    assert (swapping.sizes, swapping.table) == ({PATH: (SIZE_MB, 10)}, [])
    die_at(swapping, "sysctl")  # in the table
    swapping.role.apply()
    assert (swapping.sizes, swapping.files) == ({PATH: (SIZE_MB, 10)}, [PATH])
    assert swapping.table == [f"{PATH} none swap sw,pri=10 0 0"]
    assert swapping.kernel("swappiness") == 30


def test_a_resize_that_has_died_between_two_swapfiles_is_finished(swapping):
    die_at(swapping, "swapoff", swap_size_mb=OTHER_MB)
    assert swapping.sizes == {PATH: (SIZE_MB, 10), f"{PATH}.2": (OTHER_MB, 10)}
    swapping.role.apply(swap_size_mb=OTHER_MB)
    assert swapping.sizes == {f"{PATH}.2": (OTHER_MB, 10)}
    assert swapping.files == [f"{PATH}.2"]


def test_nothing_is_left_to_do(swapping):
    assert "changed=0" in swapping.role.apply(swap_size_mb=OTHER_MB)
