"""How a scenario's machines are reached: containers by their engine, virtual ones by ssh."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from pathlib import Path

import yaml
from testinfra.host import Host

import containers.machines
import vms.machines
from containers import engine as container_engine
from vms import qemu

GROUPS = ("containers", "vms")
SSH = "ssh"


def specification(machine: str, group: str) -> str:
    """Spell a machine of one of the groups as testinfra asks for it."""
    if group == "vms":
        seconds = qemu.accelerator().answer_seconds
        return f"{SSH}://{machine}?ssh_config={vms.machines.ssh_config()}&timeout={seconds}"
    return f"{container_engine.choose(os.environ, shutil.which)}://{machine}"


def listed() -> dict[str, str]:
    """The machines of the scenario's inventory, and the group that each of them is in."""
    own = Path(os.environ["MOLECULE_SCENARIO_DIRECTORY"]) / "inventory"
    found: dict[str, str] = {}
    for file in sorted(own.glob("*.yml")):  # ansible-inventory takes a second to say the same
        said = yaml.safe_load(file.read_text(encoding="utf-8"))
        found |= {name: group for group in GROUPS for name in said.get(group, {}).get("hosts", {})}
    return found


def name(host: Host) -> str:
    """The machine's name in the inventory."""
    return str(host.backend.hostname)


def network_address(host: Host) -> str:
    """Say where another container of its network reaches it at this moment.

    Its name can take 40 s to resolve after a power cut: the bridge then often has another MAC
    address, which the others still send their questions to.
    """
    show = "ip -4 -o address show dev eth0 scope global"
    return str(host.check_output(f"{show} | grep -o '[0-9.]*/' | tr -d /"))


def machines(host: Host) -> containers.machines.Machines | vms.machines.Machines:
    """Those of its kind: where its ports are, how its power is cut, what a command is run by."""
    return _virtual() if host.backend.get_connection_type() == SSH else _contained()


@functools.cache
def _virtual() -> vms.machines.Machines:
    return vms.machines.Machines(qemu.accelerator())


@functools.cache  # the engine takes half a second to say what it needs
def _contained() -> containers.machines.Machines:
    return containers.machines.Machines(container_engine.plan())


def engine(host: Host) -> str:
    """What the machine runs in, and its version."""
    command = machines(host).version_command
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[0]
