"""Create, find and remove the virtual machines that stand in for VPSes.

``create.yml`` and ``destroy.yml`` call this as a command, with a JSON list of machines on stdin
(each a list: name, Debian's release, MB of memory), and read the names that changed from its
stdout:

    $ echo '[["kechi-vps", "12", 1024]]' | python3 -m vms.machines up
    {"changed": ["kechi-vps"]}

``ssh -F ~/.cache/kechi-vms/ssh_config kechi-vps`` logs in to each of them. Their ports are bound to
127.0.0.1, and are others after each start.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from . import build, qemu

SSH = 22
HTTP = 80
HTTPS = 443
CLOSED = 8080  # what a firewall should let nobody reach
PORTS = (SSH, HTTP, HTTPS, CLOSED)
END_SECONDS = 30
POLL_SECONDS = 0.2
CONSOLE_LINES = 20
BOOT_ID = ("cat", "/proc/sys/kernel/random/boot_id")


class MachineError(Exception):
    """A virtual machine could not be made, reached or removed."""


@dataclass(frozen=True)
class Machine:
    """One virtual machine, as the inventory describes it."""

    name: str
    release: str
    memory_mb: int


def ssh_config() -> Path:
    """Name the configuration by which ssh reaches all machines by their names."""
    return build.cache() / "ssh_config"


def down(names: Iterable[str]) -> list[str]:
    """End machines, remove their disks, and name what was removed. Raises MachineError."""
    gone = [name for name in names if _folder(name).exists()]
    for name in gone:
        _end(name)
        shutil.rmtree(_folder(name))
    return gone


def clean() -> list[str]:
    """Remove all machines and images, and name the machines. Raises MachineError."""
    gone = down(sorted(path.name for path in _folder("x").parent.glob("*")))
    shutil.rmtree(build.cache(), ignore_errors=True)
    return gone


class Machines:
    """The virtual machines of this user."""

    def __init__(self, accelerator: qemu.Accelerator) -> None:
        self._accelerator = accelerator

    def up(self, machines: list[Machine]) -> list[str]:
        """Start what does not run, wait for systemd, and name what was started.

        Raises MachineError when one does not come up in time, BuildError where it has no image.
        """
        for release in sorted({machine.release for machine in machines}):
            build.build(release)
        with ThreadPoolExecutor(max(len(machines), 1)) as pool:
            started = list(pool.map(self._start, machines))
        return [machine.name for machine, new in zip(machines, started, strict=True) if new]

    def address(self, name: str, port: int = HTTP) -> str:
        """Say where this machine reaches a port of the virtual one, as HOST:PORT.

        Raises MachineError when there is no such machine, or its port is not forwarded.
        """
        try:
            ports = json.loads((_folder(name) / "ports").read_text())
            return f"127.0.0.1:{ports[str(port)]}"
        except (OSError, KeyError) as error:
            raise MachineError(f"{name}: has no way to its port {port}: {error!r}") from error

    def cut_power(self, name: str) -> None:
        """Boot a machine anew, as after a power cut; its address may be another one then.

        Raises MachineError when it does not come up in time.
        """
        _end(name)
        self._run(name)
        self._wait_for_systemd(name)

    def reboot(self, name: str) -> None:
        """Have a machine boot anew, in good order. Raises MachineError when it does not."""
        before = self.execute(name, *BOOT_ID).stdout
        # the connection may end before the answer is there
        self.execute(name, "systemctl", "reboot")
        deadline = time.monotonic() + self._accelerator.boot_seconds
        while self.execute(name, *BOOT_ID).stdout in ("", before):
            if time.monotonic() > deadline:
                raise MachineError(f"{name}: has not booted anew:\n{_console(name)}")
            time.sleep(POLL_SECONDS)
        self._wait_for_systemd(name)

    @staticmethod
    def within(name: str) -> list[str]:
        """Spell what a command is written after that is to run inside."""
        return ["bash", "-c", WITHIN, str(ssh_config()), name]

    @property
    def version_command(self) -> list[str]:
        """Spell what tells the emulator and its version."""
        return [qemu.PROGRAM, "--version"]

    def execute(self, name: str, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command inside, whatever its exit code; 255 where the machine is not reached."""
        return subprocess.run(
            [*self.within(name), *command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def _start(self, machine: Machine) -> bool:
        running = _pid(machine.name) is not None
        if not running:
            if not (_folder(machine.name) / "disk").exists():
                self._make(machine)
            self._run(machine.name)
        self._wait_for_systemd(machine.name)
        return not running

    @staticmethod
    def _make(machine: Machine) -> None:
        image, folder = build.current(machine.release), _folder(machine.name)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "image").write_text(str(image))
        (folder / "memory_mb").write_text(str(machine.memory_mb))
        # what differs from the image's, and so nothing at first
        create = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(image / "disk")]
        _do([*create, str(folder / "disk")])

    def _run(self, name: str) -> None:
        """Start QEMU, which goes on in the background."""
        folder = _folder(name)
        image = Path((folder / "image").read_text())
        memory_mb = int((folder / "memory_mb").read_text())
        files = qemu.Files(
            kernel=image / "vmlinuz",
            initrd=image / "initrd",
            disk=folder / "disk",
            console=folder / "console",
            pid=folder / "pid",
        )
        ports = dict(zip(PORTS, _free_ports(len(PORTS)), strict=True))
        command = qemu.command(name, memory_mb, files, ports, self._accelerator)
        _do(command)
        # in the background it is a session of its own, of which nice alone says nothing
        with suppress(OSError):
            Path(f"/proc/{_pid(name)}/autogroup").write_text(str(self._accelerator.niceness))
        (folder / "ports").write_text(json.dumps(ports))
        (folder / "ssh_config").write_text(
            f"Host {name}\n  Port {ports[SSH]}\n"
            f"  ConnectTimeout {self._accelerator.answer_seconds}\n"
        )
        _write_ssh_config(folder / "ssh_config.all")

    def _wait_for_systemd(self, name: str) -> None:
        deadline = time.monotonic() + self._accelerator.boot_seconds
        while True:
            asked = self.execute(name, "systemctl", "is-system-running", "--wait")
            state = asked.stdout.strip()
            if state == "running":
                return
            if state == "degraded":
                failed = self.execute(name, "systemctl", "--failed", "--no-legend", "--plain")
                raise MachineError(f"{name}: units failed at boot:\n{failed.stdout}")
            if _pid(name) is None or time.monotonic() > deadline:
                raise MachineError(
                    f'{name}: systemd is "{state or "absent"}" by '
                    f"{self._accelerator.name}: {asked.stderr.strip()}\n{_console(name)}"
                )
            time.sleep(POLL_SECONDS)


# ssh alone would have the shell inside split the words anew
WITHIN = """exec ssh -F "$0" "$1" "$(printf '%q ' "${@:2}")" """

# ours alone, whatever the user's own configuration says
SSH_CONFIG = """\
Include {cache}/machines/*/ssh_config
Host *
  HostName 127.0.0.1
  User root
  IdentityFile {key}
  IdentitiesOnly yes
  StrictHostKeyChecking no
  UserKnownHostsFile /dev/null
  LogLevel ERROR
  ServerAliveInterval 30
  ControlMaster auto
  ControlPath {cache}/%C
  ControlPersist 60
"""


def _folder(name: str) -> Path:
    """Where all that a machine consists of is kept."""
    return build.cache() / "machines" / name


def _write_ssh_config(part: Path) -> None:
    """Write it at once, as others may read it; `part` is a name that is our own."""
    part.write_text(SSH_CONFIG.format(cache=build.cache(), key=build.private_key()))
    part.rename(ssh_config())


def _end(name: str) -> None:
    """Have QEMU end at once, without the guest's consent. Raises MachineError."""
    pid = _pid(name)
    if pid is None:
        return
    os.kill(pid, signal.SIGTERM)  # it completes its own files, and asks nobody inside
    deadline = time.monotonic() + END_SECONDS
    while _pid(name) is not None:
        if time.monotonic() > deadline:
            raise MachineError(f"{name}: QEMU, process {pid}, has not ended")
        time.sleep(POLL_SECONDS / 10)


def _pid(name: str) -> int | None:
    """The process of a machine that runs, and None where it does not."""
    file = _folder(name) / "pid"
    try:
        pid = int(file.read_text())
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return None
    return pid if os.fsencode(file) in words else None


def _free_ports(count: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(one.getsockname()[1]) for one in held]
    for one in held:
        one.close()
    return ports


def _console(name: str) -> str:
    text = (_folder(name) / "console").read_text(errors="replace")
    return "\n".join(text.splitlines()[-CONSOLE_LINES:])


def _do(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise MachineError(f"`{' '.join(command)}` failed: {done.stderr.strip()}")


def _described() -> list[Machine]:
    return [Machine(*fields) for fields in json.load(sys.stdin)]


def main() -> int:
    """Run as a command: `up` or `down`, with the machines on stdin; or `clean`."""
    try:
        match sys.argv[1:]:
            case ["up"]:
                changed = Machines(qemu.accelerator()).up(_described())
            case ["down"]:
                changed = down(machine.name for machine in _described())
            case ["clean"]:
                changed = clean()
            case _:
                print("usage: python3 -m vms.machines up|down|clean", file=sys.stderr)
                return 2
        print(json.dumps({"changed": changed}))
    except (MachineError, build.BuildError, qemu.QemuError) as error:
        print(f"vms.machines: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
