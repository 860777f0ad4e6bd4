"""Create, find and remove the containers that stand in for VPSes.

``create.yml`` and ``destroy.yml`` call this as a command, with a JSON list of machines on stdin
(each a list: name, image, network), and read the names that changed from its stdout:

    $ echo '[["kechi-demo", "localhost/kechi-debian:12", "kechi-demo"]]' \
        | python3 -m containers.machines up
    {"changed": ["kechi-demo"]}

With KECHI_TARGET=debian:testing in the environment, all are of that release.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from . import engine

BOOT_SECONDS = 60
TARGET = "KECHI_TARGET"  # the variable that says what all machines are, such as debian:testing
LABEL = "kechi.vps.machine"  # on every container and network made here
HTTP = 80
HTTPS = 443
PORT_TAKEN = "address already in use"
PORT_TRIES = 5


class MachineError(Exception):
    """A container could not be made, reached or removed."""


@dataclass(frozen=True)
class Machine:
    """One container, as the inventory describes it."""

    name: str
    image: str
    network: str


def of_target(machine: Machine, environ: Mapping[str, str]) -> Machine:
    """The machine, of the distribution and release that all are to be of, where that is said."""
    target = environ.get(TARGET)
    if not target:
        return machine
    # what follows the release is kept: -preinstalled
    _, dash, kind = machine.image.rpartition(":")[2].partition("-")
    return replace(machine, image=f"localhost/kechi-{target}{dash}{kind}")


def run_command(plan: engine.Plan, machine: Machine) -> list[str]:
    """Spell the engine's command line that starts a machine."""
    return [
        *plan.command,
        "run",
        "--detach",
        f"--name={machine.name}",
        f"--hostname={machine.name}",
        f"--label={LABEL}",
        f"--network={machine.network}",
        f"--publish=127.0.0.1::{HTTP}",
        f"--publish=127.0.0.1::{HTTPS}",
        *plan.run_flags,
        machine.image,
        "/sbin/init",
    ]


class Machines:
    """The machines of one engine."""

    def __init__(self, plan: engine.Plan) -> None:
        self.plan = plan

    def up(self, machines: list[Machine]) -> list[str]:
        """Start what does not run, wait for systemd, and name what was started.

        Raises MachineError when one does not come up within BOOT_SECONDS.
        """
        for network in sorted({machine.network for machine in machines}):
            if self._ask("network", "inspect", network).returncode:
                self._do("network", "create", f"--label={LABEL}", network)
        with ThreadPoolExecutor(max(len(machines), 1)) as pool:
            started = list(pool.map(self._start, machines))
        return [machine.name for machine, new in zip(machines, started, strict=True) if new]

    def down(self, machines: list[Machine]) -> list[str]:
        """Remove the machines, and the networks that nobody uses any more; name what was removed.

        Raises MachineError when the engine refuses.
        """
        gone = [machine.name for machine in machines if self._state(machine.name) is not None]
        if gone:
            self._do("rm", *self.plan.remove_flags, *gone)
        for network in sorted({machine.network for machine in machines}):
            if self._ask("network", "inspect", network).returncode == 0:
                self._remove_network(network)
        return gone

    def address(self, name: str, port: int = HTTP) -> str:
        """Say where *this* machine reaches the container's port 80 or 443, as HOST:PORT.

        Raises MachineError when the container does not run.
        """
        published = self._ask("port", name, f"{port}/tcp")
        if published.returncode:
            raise MachineError(f"{name}: {_last_line(published)}")
        return published.stdout.split()[0]

    def cut_power(self, name: str) -> None:
        """Boot a machine anew, as after a power cut; its address may be another one then.

        On cgroup v1 an orderly shutdown would trim the other machines' cgroups. Raises MachineError
        when it does not end, or come up, within BOOT_SECONDS.
        """
        self._do("kill", name)
        deadline = time.monotonic() + BOOT_SECONDS
        while self._state(name) != "exited":  # podman's "stopped" still has its network
            if time.monotonic() > deadline:
                raise MachineError(f"{name}: is {self._state(name)} {BOOT_SECONDS} s after its end")
            time.sleep(0.1)
        self._do("start", name)
        self._wait_for_systemd(name)

    def within(self, name: str) -> list[str]:
        """Spell what a command is written after that is to run inside."""
        return [*self.plan.command, "exec", "-i", name]

    @property
    def version_command(self) -> list[str]:
        """Spell what tells the engine and its version."""
        return [self.plan.command[0], "--version"]

    def execute(self, name: str, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command inside, whatever its exit code."""
        return self._ask("exec", name, *command)

    def _start(self, machine: Machine) -> bool:
        state = self._state(machine.name)
        if state is None:
            self._run(machine)
        elif state != "running":
            self._do("start", machine.name)
        self._wait_for_systemd(machine.name)
        return state != "running"

    def _run(self, machine: Machine) -> None:
        """Start a new container.

        The engine looks for free ports, and takes them later: in between another may have them.
        """
        command = run_command(self.plan, machine)
        for left in reversed(range(PORT_TRIES)):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if not (left and done.returncode and PORT_TAKEN in done.stderr):
                break
            self._ask("rm", *self.plan.remove_flags, machine.name)
        if done.returncode and self._ask("image", "inspect", machine.image).returncode:
            raise MachineError(
                f"{machine.name}: there is no image {machine.image}: "
                "`.venv/bin/python -m containers.build` makes all of them"
            )
        _check(done)

    def _wait_for_systemd(self, name: str) -> None:
        deadline = time.monotonic() + BOOT_SECONDS
        while True:
            state = self.execute(name, "systemctl", "is-system-running", "--wait").stdout.strip()
            if state == "running":
                return
            if state == "degraded":
                failed = self.execute(name, "systemctl", "--failed", "--no-legend", "--plain")
                raise MachineError(f"{name}: units failed at boot:\n{failed.stdout}")
            if time.monotonic() > deadline:
                log = self._ask("logs", "--tail=20", name)
                raise MachineError(
                    f'{name}: systemd is "{state or "absent"}" after {BOOT_SECONDS} s:\n'
                    f"{log.stdout}{log.stderr}"
                )
            time.sleep(0.1)  # the bus is not there yet, so --wait returned at once

    def _remove_network(self, network: str) -> None:
        removed = self._ask("network", "rm", network)
        in_use = "in use" in removed.stderr or "being used" in removed.stderr
        if removed.returncode and not in_use and "active endpoints" not in removed.stderr:
            _check(removed)

    def _state(self, name: str) -> str | None:
        shown = self._ask("container", "inspect", name, "--format", "{{.State.Status}}")
        return shown.stdout.strip() if shown.returncode == 0 else None

    def _do(self, *command: str) -> None:
        _check(self._ask(*command))

    def _ask(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.plan.command, *command], capture_output=True, text=True, check=False
        )


def _check(done: subprocess.CompletedProcess[str]) -> None:
    if done.returncode:
        raise MachineError(f"`{' '.join(done.args)}` failed: {done.stderr.strip()}")


def _last_line(done: subprocess.CompletedProcess[str]) -> str:
    return (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]


def main() -> int:
    """Run as a command: `up` or `down`, with the machines on stdin."""
    match sys.argv[1:]:
        case ["up" | "down" as direction]:
            pass
        case _:
            print("usage: python3 -m containers.machines up|down < MACHINES.json", file=sys.stderr)
            return 2
    try:
        listed = [Machine(*fields) for fields in json.load(sys.stdin)]
        machines = [of_target(machine, os.environ) for machine in listed]
        engine_machines = Machines(engine.plan())
        act = engine_machines.up if direction == "up" else engine_machines.down
        print(json.dumps({"changed": act(machines)}))
    except (MachineError, engine.EngineError) as error:
        print(f"containers.machines: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
