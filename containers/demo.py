"""Put the example sites on a container VPS of this machine and show what came of it.

$ make demo         # python3 -m containers.demo
$ make demo-clean   # python3 -m containers.demo clean
"""

from __future__ import annotations

import http.client
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from supervisor_py.vhost import hosts

from . import build, engine
from .machines import MachineError, Machines

ROOT = Path(__file__).parent.parent
INVENTORY = "inventory/local/"
FIRST_RUN = ROOT / ".ansible/demo-first-run-seconds"
SITE_SECONDS = 10.0  # a site that does not answer for so long is down


class DemoError(Exception):
    """The demo did not come up; the message says where."""


@dataclass(frozen=True)
class Address:
    """What a visitor asks for: a host's name, as browsers send it, and a path."""

    host: str
    path: str = "/"


@dataclass(frozen=True)
class Site:
    """One app, as a visitor sees it."""

    app: str
    addresses: tuple[Address, ...]


@dataclass(frozen=True)
class Demo:
    """What the inventory says about the demo's machine."""

    machine: str
    release: str  # of Debian
    pools: tuple[str, ...]
    sites: tuple[Site, ...]


def read_inventory(listed: Mapping[str, Any]) -> Demo:
    """Read the output of `ansible-inventory --list`. Raises DemoError."""
    machines = listed.get("containers", {}).get("hosts", [])
    if len(machines) != 1:
        raise DemoError(f"{INVENTORY}: the demo wants one host in `containers`, not {machines}")
    variables = listed["_meta"]["hostvars"][machines[0]]
    pools = variables.get("vhost_app_pools", [])
    return Demo(
        machine=machines[0],
        release=str(variables["container_image"]).rpartition(":")[2],
        pools=tuple(pool["name"] for pool in pools),
        sites=tuple(
            Site(app["name"], tuple(address_of(host) for host in app["hosts"]))
            for pool in pools
            for app in pool["apps"]
        ),
    )


def address_of(host: str) -> Address:
    """Return an address that an entry of an app's hosts stands for. Raises DemoError."""
    known = hosts.site(host)
    if known is None:
        raise DemoError(f'{INVENTORY}: "{host}" is not a host')
    name = "any.example" if known.host == hosts.ALL else known.host.replace("*", "www", 1)
    return Address(name, f"{known.prefix}/")


def changed_tasks(recap: str) -> int:
    """Count what `ansible-playbook` says it changed, over all hosts."""
    return sum(int(count) for count in re.findall(r"\bchanged=(\d+)", recap))


def curl_line(asked: Address, machine: str) -> str:
    """Spell the command that opens a site without any DNS."""
    name, _, port = machine.rpartition(":")
    return f"curl --resolve {asked.host}:{port}:{name} http://{asked.host}:{port}{asked.path}"


class Clock:
    """Prefixes lines with the time since `make` began."""

    def __init__(self, began: float) -> None:
        self._began = began

    def seconds(self) -> float:
        """Tell the time since the beginning."""
        return time.time() - self._began

    def say(self, text: str) -> None:
        """Print one line."""
        print(f"[{self.seconds():4.0f} s] {text}", flush=True)


def _inventory() -> Demo:
    command = ["ansible-inventory", f"--inventory={INVENTORY}", "--list"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise DemoError(done.stderr.strip())
    return read_inventory(json.loads(done.stdout))


def _play(playbook: str, clock: Clock) -> int:
    """Run a playbook with one line per task, and count its changes. Raises DemoError."""
    command = ["ansible-playbook", f"--inventory={INVENTORY}", playbook]
    environment = os.environ | {"ANSIBLE_NOCOLOR": "1", "ANSIBLE_FORCE_COLOR": "0"}
    lines = []
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as running:
        assert running.stdout is not None
        for line in running.stdout:
            lines.append(line)
            task = re.match(r"(?:TASK|RUNNING HANDLER) \[(.*)\] \**$", line)
            if task and "Validating arguments" not in task[1]:
                clock.say(f"  {task[1].removeprefix('kechi.vps.')}")
    if running.returncode:
        last = max((i for i, line in enumerate(lines) if line.startswith("TASK ")), default=0)
        raise DemoError(f"`{' '.join(command)}` failed:\n{''.join(lines[last:])}")
    return changed_tasks("".join(lines))


def _answers(machine: str, asked: Address) -> str:
    """Open a site and tell how it answered. Raises DemoError when it did not, or not with 200."""
    connection = http.client.HTTPConnection(machine, timeout=SITE_SECONDS)
    began = time.monotonic()
    try:
        connection.request("GET", asked.path, headers={"Host": asked.host})
        response = connection.getresponse()
        size = len(response.read())
    except (OSError, http.client.HTTPException) as error:
        raise DemoError(f"{asked.host} does not answer: {error!r}") from error
    finally:
        connection.close()
    took = (time.monotonic() - began) * 1000
    if response.status != http.client.OK:
        raise DemoError(f"{asked.host} answers {response.status} {response.reason}")
    return f"{response.status}, {size} bytes in {took:.0f} ms"


def _inside(machines: Machines, machine: str, script: str, *arguments: str) -> str:
    done = machines.execute(machine, "sh", "-c", script, "sh", *arguments)
    if done.returncode:
        raise DemoError(f"{machine}: {script}: {done.stderr.strip()}")
    return done.stdout


def _pool_report(machines: Machines, machine: str, pool: str) -> Iterator[str]:
    status = _inside(machines, machine, 'cat "/run/kechi-$1/status"', pool)
    generations = [line.partition(":")[0] for line in status.split()]
    yield f"Pool {pool}: generation {', '.join(generations)}; super-daemon and workers:"
    table = _inside(machines, machine, 'shared_memory_size "$1"', pool)
    yield from (f"  {line}" for line in table.splitlines())


def _report(demo: Demo, machines: Machines, chosen: str) -> None:
    address = machines.address(demo.machine)
    print(f"\nThe sites on {demo.machine} (Debian {demo.release}), at http://{address}/")
    for site in demo.sites:
        print(f"  {site.app}: {_answers(address, site.addresses[0])}")
        for asked in site.addresses:
            print(f"    {curl_line(asked, address)}")
    asked_for = [asked for site in demo.sites for asked in site.addresses]
    names = " ".join(dict.fromkeys(asked.host for asked in asked_for))
    name, _, port = address.rpartition(":")
    print(f"In a browser: add the line `{name} {names}` to /etc/hosts of this machine,")
    print(f"  then open http://{asked_for[0].host}:{port}{asked_for[0].path}")
    for pool in demo.pools:
        print()
        for line in _pool_report(machines, demo.machine, pool):
            print(line)
    inside = f"{chosen} exec {demo.machine}"
    pool = demo.pools[0]
    print(
        f"""
Try next:
  {inside} systemctl reload kechi@{pool}          # a restart: no request is lost
  {inside} cat /run/kechi-{pool}/status           # GENERATION:PID
  {inside} systemctl status kechi@{pool}
  {inside} shared_memory_size {pool}
  edit {INVENTORY}group_vars/all.yml and run `make demo` again
  make demo-clean"""
    )


def run() -> None:
    """Bring the demo up, or up to date, and show it. Raises DemoError and those of its parts."""
    clock = Clock(float(os.environ.get("KECHI_BEGAN", time.time())))
    demo = _inventory()
    clock.say(f"the image of Debian {demo.release}")
    build.build([demo.release])
    plan = engine.plan()
    machines = Machines(plan)
    clock.say(f"the container {demo.machine}")
    created = _play("molecule/shared/create.yml", clock) > 0
    clock.say("playbooks/site.yml")
    changed = _play("playbooks/site.yml", clock)
    clock.say(f"playbooks/site.yml is done: {changed} changed")
    _report(demo, machines, plan.engine)
    took = clock.seconds()
    if created:
        FIRST_RUN.write_text(f"{took:.0f}\n")
        print(f"\nDone in {took:.0f} s. Run it again: nothing will change, and it will be quick.")
    else:
        first = FIRST_RUN.read_text().strip() if FIRST_RUN.exists() else "?"
        print(f"\nDone in {took:.0f} s with {changed} changed (the first run took {first} s).")


def clean() -> None:
    """Remove the container, network and images of the demo. Raises those of its parts."""
    clock = Clock(time.time())
    demo = _inventory()
    _play("molecule/shared/destroy.yml", clock)
    FIRST_RUN.unlink(missing_ok=True)
    kept = build.remove(engine.plan())
    print(f"Removed {demo.machine}, its network, and the images.")
    if kept:
        print(f"Kept, as other containers use them: {', '.join(kept)}")
    print("Left on this machine: .venv (`make clean`), and packages that were installed by apt.")


def main() -> int:
    """Run as a command."""
    match sys.argv[1:]:
        case []:
            act = run
        case ["clean"]:
            act = clean
        case _:
            print("usage: python3 -m containers.demo [clean]", file=sys.stderr)
            return 2
    try:
        act()
    except (DemoError, MachineError, build.BuildError, engine.EngineError) as error:
        print(f"containers.demo: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
