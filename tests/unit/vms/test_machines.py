"""Virtual machines by a QEMU that only writes down what it was asked, and sleeps."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from vms import build
from vms.machines import Machine, MachineError, Machines, clean, down, ssh_config
from vms.qemu import ACCELERATORS

VPS = Machine("vps", "12", 1024)

# a shell that has the pid file among its words, as QEMU has
QEMU = """#!/bin/sh
echo "qemu $*" >>DIRECTORY/calls
for pid; do :; done
setsid sh -c 'while :; do sleep 0.1; done' "$pid" </dev/null >/dev/null 2>&1 &
echo $! >"$pid"
"""
IMG = """#!/bin/sh
echo "qemu-img $*" >>DIRECTORY/calls
for disk; do :; done
: >"$disk"
"""
SSH = """#!/bin/sh
for command; do :; done
echo "ssh $*" >>DIRECTORY/calls
case "$command" in
    *is-system-running*) cat DIRECTORY/boot ;;
    *--failed*) echo sad.service ;;
    printf*) bash -c "$command" ;;
esac
"""


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "boot").write_text("running\n")
    for name, text in (("qemu-system-x86_64", QEMU), ("qemu-img", IMG), ("ssh", SSH)):
        script = tmp_path / name
        script.write_text(text.replace("DIRECTORY", str(tmp_path)))
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(build, "build", lambda release: None)
    monkeypatch.setattr(build, "current", lambda release: tmp_path / f"image-{release}")
    monkeypatch.setattr(build, "private_key", lambda: tmp_path / "key")
    yield tmp_path
    clean()


@pytest.fixture
def machines() -> Machines:
    return Machines(ACCELERATORS["kvm"])


def calls(directory: Path) -> list[str]:
    """The commands that were called, without ssh's."""
    lines = (directory / "calls").read_text().splitlines()
    return [line.split()[0] for line in lines if not line.startswith("ssh")]


def test_a_machine_gets_a_disk_over_its_image_and_is_waited_for(
    machines: Machines, directory: Path
) -> None:
    assert machines.up([VPS]) == ["vps"]
    assert calls(directory) == ["qemu-img", "qemu"]
    asked = (directory / "calls").read_text()
    assert f"-F raw -b {directory}/image-12/disk" in asked
    assert "vps systemctl is-system-running --wait" in asked


def test_a_second_up_changes_nothing(machines: Machines, directory: Path) -> None:
    machines.up([VPS])
    (directory / "calls").unlink()
    assert machines.up([VPS]) == []
    assert calls(directory) == []


def test_a_power_cut_keeps_the_disk(machines: Machines, directory: Path) -> None:
    machines.up([VPS])
    machines.cut_power("vps")
    assert calls(directory) == ["qemu-img", "qemu", "qemu"]


def test_a_machine_that_boots_with_a_failed_unit_is_refused_by_its_name(
    machines: Machines, directory: Path
) -> None:
    (directory / "boot").write_text("degraded\n")
    with pytest.raises(MachineError, match=r"vps: units failed at boot:\nsad\.service"):
        machines.up([VPS])


def test_down_ends_a_machine_and_removes_its_disk(machines: Machines, directory: Path) -> None:
    machines.up([VPS])
    folder = directory / "cache" / "kechi-vms" / "machines" / "vps"
    pid = int((folder / "pid").read_text())
    assert down(["vps"]) == ["vps"]
    assert not folder.exists()
    words = Path(f"/proc/{pid}/cmdline")
    assert not words.exists() or words.read_bytes() == b""  # gone, or not yet reaped
    assert down(["vps"]) == []


def test_a_process_that_has_got_a_dead_machines_pid_is_left_alone(
    machines: Machines, directory: Path
) -> None:
    folder = directory / "cache" / "kechi-vms" / "machines" / "vps"
    folder.mkdir(parents=True)
    (folder / "pid").write_text(f"{os.getpid()}\n")
    assert down(["vps"]) == ["vps"]


def test_ssh_finds_the_machine_by_its_name(machines: Machines, directory: Path) -> None:
    machines.up([VPS])
    words = ["printf", "%s|", "a b", "$HOME", "it's\n"]
    said = subprocess.check_output([*machines.within("vps"), *words], text=True)
    assert said == "a b|$HOME|it's\n|"
    assert f"-F {ssh_config()} vps" in (directory / "calls").read_text()
    own = directory / "cache" / "kechi-vms" / "machines" / "vps" / "ssh_config"
    _, _, port = machines.address("vps", 22).partition(":")
    assert f"Port {port}\n" in own.read_text()


def test_a_port_that_leads_nowhere_is_refused(machines: Machines, directory: Path) -> None:
    machines.up([VPS])
    with pytest.raises(MachineError, match="vps: has no way to its port 81"):
        machines.address("vps", 81)
