"""A machine that site.yml has made: its sites from outside, its pools from inside."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message

from testinfra.host import Host

from shared import reach

WAIT_SECONDS = 120.0  # of a machine that has much else to do
POLL_SECONDS = 0.1
ASK_SECONDS = 0.3  # between two questions, each of which takes a process of the engine
MICROSECONDS = 1_000_000


@dataclass(frozen=True)
class Answer:
    """A response through the front end."""

    status: int
    headers: Message
    text: str


@dataclass(frozen=True)
class Generation:
    """One line of a pool's status file."""

    number: int
    pid: int


class Vps:
    """Asks a machine; `address` is where its port 80 is reached, as HOST:PORT."""

    def __init__(self, host: Host, address: str) -> None:
        self.host = host
        self.address = address
        self._cgroups: dict[tuple[str, str], str] = {}

    def get(self, site: str, path: str = "/") -> Answer:
        """Ask for one page by its Host."""
        connection = http.client.HTTPConnection(self.address, timeout=WAIT_SECONDS)
        try:
            connection.request("GET", path, headers={"Host": site})
            response = connection.getresponse()
            text = response.read().decode("utf-8", "replace")
            return Answer(response.status, response.headers, text)
        finally:
            connection.close()

    def wait_until_answers(self, site: str) -> None:
        """Wait until a site answers 200; raises AssertionError after WAIT_SECONDS."""
        self.wait_until(lambda: self.get(site).status == http.HTTPStatus.OK, f"{site} answers")

    def generations(self, pool: str) -> list[Generation]:
        """The generations that are alive, by the pool's status file."""
        lines = self.host.check_output(f"cat /run/kechi-{pool}/status").splitlines()
        pairs = (line.split(":") for line in lines)
        return [Generation(int(number), int(pid)) for number, pid in pairs]

    def newest(self, pool: str) -> Generation:
        """The newest generation; one that ends may still be there."""
        return max(self.generations(pool), key=lambda one: one.number)

    def generation(self, pool: str) -> int:
        """The number of the newest generation."""
        return self.newest(pool).number

    def state(self, pool: str) -> tuple[int, int]:
        """The super-daemon's pid and the generation's number: what a restart changes."""
        return self.main_pid(pool), self.generation(pool)

    def memory_limit(self, pool: str) -> int:
        """The limit in bytes that the kernel holds the pool to, not what systemd shows."""
        group = self._cgroup(pool, "memory")
        command = f"cat {group}/memory.max {group}/memory.limit_in_bytes 2>/dev/null || true"
        return int(self.host.check_output(command))

    def tasks_limit(self, pool: str) -> int:
        """How many processes and threads the kernel lets the pool have."""
        return int(self.host.check_output(f"cat {self._cgroup(pool, 'pids')}/pids.max"))

    def tasks(self, pool: str) -> int:
        """How many processes and threads the pool has."""
        return int(self.host.check_output(f"cat {self._cgroup(pool, 'pids')}/pids.current"))

    def tasks_refused(self, pool: str) -> int:
        """How often the kernel has refused the pool another process or thread."""
        text = str(self.host.check_output(f"cat {self._cgroup(pool, 'pids')}/pids.events"))
        return int(dict(line.split() for line in text.splitlines())["max"])

    def wait_for_generation(self, pool: str, number: int) -> None:
        """Wait until this generation is the only one."""
        self.wait_within(
            f'test "$(cut -d: -f1 /run/kechi-{pool}/status)" = {number}',
            f"generation {number} of {pool} is the only one",
        )

    def wait_for_next_generation(self, pool: str, number: int) -> None:
        """Wait until this generation, or a later one, has begun."""
        self.wait_within(
            f'test "$(cut -d: -f1 /run/kechi-{pool}/status | sort -n | tail -n 1)" -ge {number}',
            f"generation {number} of {pool}",
        )

    @property
    def within(self) -> list[str]:
        """What a command of the machine itself is written after."""
        return reach.machines(self.host).within(reach.name(self.host))

    def hup(self, pool: str) -> None:
        """Ask the super-daemon for a new generation, as an administrator's kill would."""
        self.host.check_output(f"kill -HUP {self.main_pid(pool)}")

    def reload(self, pool: str) -> None:
        """Restart gracefully, and wait until the old generation has gone.

        Raises AssertionError where it fails.
        """
        self.host.check_output(f"systemctl reload kechi@{pool}.service")
        self.wait_for_generation(pool, self.generation(pool))

    def main_pid(self, pool: str) -> int:
        """The super-daemon's pid, 0 while there is none."""
        show = "systemctl show --property=MainPID --value"
        return int(self.host.check_output(f"{show} kechi@{pool}.service"))

    def wait_for_another_super_daemon(self, pool: str, before: int) -> None:
        """Wait until a generation serves under another super-daemon than this one."""
        unit = f"kechi@{pool}.service"
        show = f'pid="$(systemctl show --property=MainPID --value {unit})"'
        active = f"systemctl is-active --quiet {unit}"  # which it is once a generation was ready
        self.wait_within(
            f'{show} && test "$pid" != 0 && test "$pid" != {before} && {active}',
            f"{pool} comes back",
        )

    def pids(self, pool: str) -> list[int]:
        """The pids of everything in the pool's unit."""
        group = self._cgroup(pool, "name=systemd")
        return [int(pid) for pid in self.host.check_output(f"cat {group}/cgroup.procs").split()]

    def processes(self, pool: str) -> dict[int, str]:
        """The processes in the pool's unit, by their pids: the names say what they are for."""
        pids = ",".join(map(str, self.pids(pool)))
        lines = str(self.host.run(f"ps -o pid=,comm= -p {pids}").stdout).splitlines()
        return {int(pid): name for pid, name in (line.split() for line in lines)}

    def commands(self, pool: str) -> list[str]:
        """Their names alone."""
        return list(self.processes(pool).values())

    def kill(self, pool: str, name: str) -> set[int]:
        """Send KILL to the pool's processes of a name, which come and go; returns their pids.

        They have closed their sockets then: on a busy machine it takes its time to die.
        """
        listed = f"{self._cgroup(pool, 'name=systemd')}/cgroup.procs"
        # by all its threads: the last one closes the sockets
        gone = "while grep -qs '^State:.[^ZX]' /proc/$pid/task/*/status; do sleep 0.01; done"
        kill = f'test "$(cat /proc/$pid/comm)" = {name} && kill -9 $pid && echo $pid && {gone}'
        done = self.host.run(f"for pid in $(cat {listed}); do {kill}; done 2> /dev/null")
        return {int(pid) for pid in done.stdout.split()}

    def wait_until_asleep(self, pool: str, app: str) -> None:
        """Wait until an app has no process; raises AssertionError after WAIT_SECONDS."""
        self.wait_until(lambda: f"kechi:{app}" not in self.commands(pool), f"{app} has no process")

    def environment(self, pid: int) -> dict[str, str]:
        """The environment that a process was started with."""
        text = self.host.check_output(f"tr '\\0' '\\n' < /proc/{pid}/environ")
        return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)

    def oom_kills(self, pool: str) -> int:
        """How often the kernel has killed a process of the pool for its memory limit."""
        group = self._cgroup(pool, "memory")
        text = self.host.check_output(
            f"cat {group}/memory.events {group}/memory.oom_control 2>/dev/null || true"
        )
        counts = dict(line.split() for line in text.splitlines())
        return int(counts["oom_kill"])

    def journal(self, pool: str) -> str:
        """The last lines of the pool's journal."""
        read = "journalctl --no-pager --output=cat --lines=100"
        return str(self.host.check_output(f"{read} --unit=kechi@{pool}.service"))

    def timed_journal(self, pool: str) -> list[tuple[float, str]]:
        """All lines of the pool's journal since boot, each with its time of day."""
        read = "journalctl --no-pager --quiet --output=json --output-fields=MESSAGE --boot"
        lines = self.host.check_output(f"{read} --unit=kechi@{pool}.service").splitlines()
        told = [json.loads(line) for line in lines]
        return [
            (int(one["__REALTIME_TIMESTAMP"]) / MICROSECONDS, str(one["MESSAGE"])) for one in told
        ]

    @contextmanager
    def broken_file(self, path: str, content: str) -> Iterator[None]:
        """Replace a file's content while the block runs."""
        path = self.host.check_output(f"readlink -f {path}")
        self.host.check_output(f"cp -p {path} {path}.whole && printf %s '{content}' > {path}")
        try:
            yield
        finally:
            self.host.check_output(f"mv {path}.whole {path}")

    def _cgroup(self, pool: str, controller: str) -> str:
        """The unit's directory in the cgroup hierarchy that has a controller (v1 or v2)."""
        found = self._cgroups.get((pool, controller))
        if found is None:
            show = "systemctl show --property=ControlGroup --value"
            path = str(self.host.check_output(f"{show} kechi@{pool}.service"))
            v2 = self.host.file("/sys/fs/cgroup/cgroup.controllers").exists
            part = "" if v2 else f"/{controller.removeprefix('name=')}"
            found = self._cgroups[pool, controller] = f"/sys/fs/cgroup{part}{path}"
        return found

    def wait_within(self, command: str, what: str) -> None:
        """Wait until a command of the machine succeeds; raises AssertionError after WAIT_SECONDS.

        It is tried in there: from here each try would take 0.2 s of a processor.
        """
        done = self.host.run(
            f"timeout {WAIT_SECONDS:g} sh -c %s",
            f"until {command}; do sleep {POLL_SECONDS:g}; done",
        )
        assert done.rc == 0, f"not within {WAIT_SECONDS:g} s: {what}"

    @staticmethod
    def wait_until(condition: Callable[[], object], what: str) -> None:
        """Wait until something is so; raises AssertionError after WAIT_SECONDS."""
        deadline = time.monotonic() + WAIT_SECONDS
        while not condition():
            assert time.monotonic() < deadline, f"not within {WAIT_SECONDS:g} s: {what}"
            time.sleep(ASK_SECONDS)  # between two looks at what does not tell that it has changed
