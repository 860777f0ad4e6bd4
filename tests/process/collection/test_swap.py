"""The module `swap` with a real kernel: small swapfiles that are on for a moment."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

# the module, with locks of its own
PROGRAM = """
import pathlib
from ansible_collections.kechi.vps.plugins.module_utils import locks
from ansible_collections.kechi.vps.plugins.modules import swap
locks.DIRECTORY = pathlib.Path({!r})
swap.main()
"""
COLLECTIONS = Path(__file__).parents[3] / ".config" / "collections"
ROOT = "/dev/root / ext4 defaults 0 1\n"
MB = 1024 * 1024


def switched_on(folder):
    """The swapfiles below a folder that are on: their sizes in MB and priorities."""
    lines = [line.split() for line in Path("/proc/swaps").read_text().splitlines()[1:]]
    return {
        Path(path).name: (round(int(size) / 1024), int(priority))
        for path, _kind, size, _used, priority in lines
        if Path(path).is_relative_to(folder)
    }


@pytest.fixture
def alone():
    """Swap is the machine's: the module sees the files of a test beside this one, too."""
    with Path(tempfile.gettempdir(), "kechi-tests-of-swap.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture
def folder(tmp_path, request):
    if os.geteuid() != 0 or not shutil.which("mkswap"):
        pytest.skip("swap is switched on by root, with mkswap and swapon")
    request.getfixturevalue("alone")
    probe = tmp_path / "probe"
    probe.write_bytes(bytes(MB))
    probe.chmod(0o600)
    subprocess.run(["mkswap", "--quiet", probe], check=True, capture_output=True)
    on = subprocess.run(["swapon", probe], check=False, capture_output=True, text=True)
    if on.returncode:
        pytest.skip(f"no swap can be switched on here: {on.stderr.strip()}")
    subprocess.run(["swapoff", probe], check=True)
    probe.unlink()
    (tmp_path / "fstab").write_text(ROOT)
    yield tmp_path
    for name in switched_on(tmp_path):
        subprocess.run(["swapoff", tmp_path / name], check=True)


def run(folder, **arguments):
    given = {
        "path": str(folder / "swapfile"),
        "fstab": str(folder / "fstab"),
        "zram_config": str(folder / "none"),
        **arguments,
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(f"{folder}.locks")],
        env={**os.environ, "PYTHONPATH": str(COLLECTIONS)},
        input=json.dumps({"ANSIBLE_MODULE_ARGS": given}),
        capture_output=True,
        text=True,
        check=False,
    )
    return json.loads(done.stdout)


def names(folder):
    return {path.name for path in folder.iterdir()} - {"fstab"}


def test_swap_is_made_resized_and_removed_and_a_second_run_changes_nothing(folder):
    for size, name in ((4, "swapfile"), (8, "swapfile.2"), (2, "swapfile")):
        would = run(folder, file_size_mb=size, _ansible_check_mode=True)
        done = run(folder, file_size_mb=size)
        assert done["changed"], done
        assert would["steps"] == done["steps"]
        assert switched_on(folder) == {name: (size, 10)}
        assert names(folder) == {name}
        assert (folder / name).stat().st_mode & 0o777 == 0o600
        assert (folder / "fstab").read_text() == f"{ROOT}{folder / name} none swap sw,pri=10 0 0\n"
        again = run(folder, file_size_mb=size)
        assert (again["changed"], again["steps"]) == (False, [])
    assert run(folder, file=False)["changed"]
    assert (switched_on(folder), names(folder)) == ({}, set())
    assert (folder / "fstab").read_text() == ROOT
    assert not run(folder, file=False)["changed"]


@pytest.mark.parametrize("left", ["swapfile.kechi-part", "swapfile", "swapfile.2"])
def test_what_an_interrupted_run_has_left_is_finished(folder, left):
    (folder / left).write_bytes(bytes(MB))
    assert run(folder, file_size_mb=4)["changed"]
    assert list(switched_on(folder).values()) == [(4, 10)]
    run(folder, file_size_mb=4)
    assert len(names(folder)) == 1


def test_swap_that_it_has_not_made_stays_and_is_said(folder):
    path = folder / "swapfile"
    path.write_bytes(bytes(MB))
    path.chmod(0o600)
    subprocess.run(["mkswap", "--quiet", path], check=True)
    subprocess.run(["swapon", path], check=True)
    before = switched_on(folder)
    for arguments in ({"file_size_mb": 4}, {"file": False}):
        done = run(folder, **arguments)
        assert not done["changed"], done
        assert any(f"{path} (1 MB" in note for note in done["notes"]), done["notes"]
    assert switched_on(folder) == before


def test_a_file_that_is_no_swap_is_refused_and_kept(folder):
    (folder / "swapfile").write_text("precious")
    told = run(folder, file_size_mb=4)
    assert told["failed"]
    assert "is there and is no swapfile; choose another swap_path" in told["msg"]
    assert (folder / "swapfile").read_text() == "precious"


def test_too_small_a_disk_is_refused_before_anything_is_written(folder):
    free = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize // MB
    told = run(folder, file_size_mb=free)
    assert told["failed"]
    assert f"a swapfile of {free} MB does not fit" in told["msg"]
    assert names(folder) == set()


def test_a_file_system_in_memory_is_refused(folder):
    told = run(folder, path="/dev/shm/swapfile", file_size_mb=4)
    assert told["failed"]
    assert "no safe swapfile on tmpfs" in told["msg"]


@pytest.fixture
def btrfs(folder):
    if not shutil.which("mkfs.btrfs"):
        pytest.skip("there is no mkfs.btrfs")
    image, place = folder / "image", folder / "btrfs"
    with image.open("wb") as file:
        file.truncate(400 * MB)
    subprocess.run(["mkfs.btrfs", "--quiet", image], check=True, capture_output=True)
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-o", "loop,compress=zstd", image, place],
        check=False,
        capture_output=True,
        text=True,
    )
    if mounted.returncode:
        pytest.skip(f"no btrfs can be mounted here: {mounted.stderr.strip()}")
    yield place
    for name in ("swapfile", "swapfile.2"):
        subprocess.run(["swapoff", place / "swap" / name], check=False, capture_output=True)
    subprocess.run(["umount", place], check=True)


def test_btrfs_gets_a_swapfile_without_copy_on_write_that_stops_no_snapshot(folder, btrfs):
    (btrfs / "other").touch()
    told = run(folder, path=str(btrfs / "swapfile"), file_size_mb=4)
    assert told["failed"]
    assert "has to be a subvolume with nothing else in it" in told["msg"]
    assert {path.name for path in btrfs.iterdir()} == {"other"}

    subprocess.run(["btrfs", "subvolume", "create", btrfs / "swap"], check=True)
    path = btrfs / "swap" / "swapfile"
    for size in (4, 8):
        assert run(folder, path=str(path), file_size_mb=size)["changed"]
        assert not run(folder, path=str(path), file_size_mb=size)["changed"]
        assert list(switched_on(btrfs).values()) == [(size, 10)]
    flags = subprocess.check_output(["lsattr", f"{path}.2"], text=True).split()[0]
    assert "C" in flags
    subprocess.run(["btrfs", "subvolume", "snapshot", btrfs, btrfs / "snapshot"], check=True)
    assert run(folder, path=str(path), file=False)["changed"]
    assert switched_on(btrfs) == {}
