"""inventory/example on a machine of 1 GB: what only a kernel of its own can show."""

from __future__ import annotations

import ssl
import time

import pytest
import yaml

from harness.load import Target, load
from shared import reach
from shared.inventory import REPOSITORY
from shared.swapping import Swapping

POOL = "main"
SITES_OF_IT = ("blog", "motd", "notes", "team")
CLOSED = 8080
MB = 1024 * 1024
OVER_MB = 20  # what goes far over the soft limit is slowed down to a standstill
RESTARTS = 2
LOAD = [
    Target("new", "motd.example.org"),
    Target("keep-alive", "motd.example.org"),
    Target("new", "blog.example.org"),
    Target("keep-alive", "notes.example.org"),
    Target("rare", "team.example.org"),
]
SEVERAL_SECONDS = 5
SWAPPED_MB = 100  # of what the machine holds in a restart
STEP_MB = 4
PAUSE_SECONDS = 2.0  # of each visitor: an emulated processor is busy with a handshake for long
# takes memory in the control group of a pool, as a worker's leak would, and says how far it came
LEAK = f"""
import os, sys
with open(sys.argv[1] + "/cgroup.procs", "w") as group:
    group.write(str(os.getpid()))
held = []
for taken in range(0, int(sys.argv[2]), {STEP_MB}):
    held.append(os.urandom({STEP_MB} << 20))
    print(taken + {STEP_MB}, flush=True)
"""
VPS1 = REPOSITORY / "inventory" / "example" / "host_vars" / "vps1.yml"


@pytest.fixture
def swapping(host):
    return Swapping(host)


def unverified():
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def expect_all(vps, swapping, address):
    """The machine is what the inventory says."""
    assert swapping.sizes == {"/swapfile": (1024, 10)}
    wanted = [Target("new", f"{site}.example.org") for site in SITES_OF_IT]
    with load(address(vps.host, 443), wanted, tls=unverified()) as report:
        time.sleep(SEVERAL_SECONDS)  # for each client to have asked
    assert report.failures == [], str(report)
    assert {outcome.target for outcome in report.outcomes} == set(wanted)


def test_every_site_answers_by_https_and_swap_is_on(vps, swapping, address):
    expect_all(vps, swapping, address)
    answer = vps.get("blog.example.org")
    assert (answer.status, answer.headers["Location"]) == (301, "https://blog.example.org/")


def test_only_ssh_and_the_web_are_reached_from_outside(host, address):
    serve = f"systemd-run --quiet --collect --unit=listen python3 -m http.server {CLOSED}"
    host.check_output(serve)
    listens = f"until true >/dev/tcp/127.0.0.1/{CLOSED}; do sleep 1; done"
    ask = "curl --silent --show-error --max-time 10 --output /dev/null http://%s/"
    try:
        host.check_output(f"timeout 60 bash -c '{listens}' 2>&1")
        assert host.backend.run_local(ask % address(host, 80)).rc == 0
        assert host.backend.run_local(ask % address(host, CLOSED)).rc != 0
        host.check_output("nft delete table inet kechi")
        assert host.backend.run_local(ask % address(host, CLOSED)).rc == 0
    finally:
        host.check_output("systemctl stop listen; systemctl restart kechi-firewall")
    assert host.backend.run_local(ask % address(host, CLOSED)).rc != 0


def test_a_restart_costs_no_request_while_the_machine_swaps(vps, swapping, address):
    first = vps.generation(POOL)
    with swapping.hog(swapping.available_mb + SWAPPED_MB) as hog:
        assert swapping.areas["/swapfile"].used_mb > 0
        with load(
            address(vps.host, 443), LOAD, tls=unverified(), pause_seconds=PAUSE_SECONDS
        ) as report:
            time.sleep(SEVERAL_SECONDS)  # for each client to have asked
            for number in range(1, RESTARTS + 1):
                vps.hup(POOL)
                vps.wait_for_generation(POOL, first + number)
            time.sleep(SEVERAL_SECONDS)  # no event tells that nothing fails afterwards
        assert hog.is_whole()
    print(report)
    assert report.failures == [], str(report)
    assert {outcome.target for outcome in report.outcomes} == set(LOAD)


def group(vps):
    show = "systemctl show --property=ControlGroup --value"
    return f"/sys/fs/cgroup{vps.host.check_output(f'{show} kechi@{POOL}.service')}"


def leak(vps, megabytes):
    """Take memory as the pool, and say how much it got."""
    # told by a shell: ssh itself says of a killed command only that it is lost
    words = vps.host.check_output(
        "python3 -c %s %s %s; echo $?", LEAK, group(vps), str(megabytes)
    ).split()
    return int(words[-1]), int(["0", *words[:-1]][-1])


def held(vps, what):
    return int(vps.host.check_output(f"cat {group(vps)}/memory.{what}"))


def test_the_kernel_holds_a_pool_to_its_limits_and_a_leak_dies_alone(vps):
    (pool,) = yaml.safe_load(VPS1.read_text())["vhost_app_pools"]
    most, high, swap = (
        pool[key] for key in ("memory_max_mb", "memory_high_mb", "memory_swap_max_mb")
    )
    assert [held(vps, what) // MB for what in ("max", "high", "swap.max")] == [most, high, swap]

    before = vps.state(POOL)
    pids, kills = vps.pids(POOL), vps.oom_kills(POOL)
    size_mb = (high + OVER_MB - held(vps, "current") // MB) // STEP_MB * STEP_MB
    assert leak(vps, size_mb) == (0, size_mb)
    events = vps.host.check_output(f"cat {group(vps)}/memory.events")
    assert int(dict(line.split() for line in events.splitlines())["high"]) > 0
    assert vps.oom_kills(POOL) == kills

    code, got = leak(vps, 2 * (most + swap))
    assert code != 0
    assert got < most + swap
    assert vps.oom_kills(POOL) == kills + 1
    assert vps.pids(POOL) == pids, "it died alone"
    assert vps.state(POOL) == before


def test_all_is_there_again_after_a_reboot(vps, swapping, address):
    machines, name = reach.machines(vps.host), reach.name(vps.host)
    machines.reboot(name)
    expect_all(vps, swapping, address)
    assert vps.host.run("nft list table inet kechi").rc == 0
    assert vps.host.check_output("systemctl is-system-running") == "running"
