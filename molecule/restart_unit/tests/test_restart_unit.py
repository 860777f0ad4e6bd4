"""What is done to a unit and its processes, in turn, under load from all sides."""

from __future__ import annotations

import re
from functools import partial

from shared.targets import POOLS, SOCKETS, TARGETS, pool_of

ROUNDS = 2
# of what no unit of a pool has; it may have gone by now, as workers do that are idle or recycled
FOREIGN = "test ! -e /proc/$pid || grep -q kechi@ /proc/$pid/cgroup || echo $pid"
HOSTS = {pool: {one.host for one in TARGETS if pool_of(one) == pool} for pool in POOLS}
ISOLATED = {"notes.example", "team.example"}


def test_no_request_fails_in_restarts_of_the_units_and_a_daemon_reload(vps, host, proof):
    units = " ".join(f"kechi@{pool}.service" for pool in POOLS)
    with proof.load(vps, TARGETS, sockets=SOCKETS, pools=POOLS) as watch:
        for number in range(1, ROUNDS + 1):
            before = {pool: vps.state(pool) for pool in POOLS}
            watch.settle()
            watch.event(f"daemon-reload, {number}")
            host.check_output("systemctl daemon-reload")
            watch.settle()
            assert {pool: vps.state(pool) for pool in POOLS} == before
            watch.event(f"systemctl restart, {number}")
            host.check_output(f"systemctl restart {units}")
            for pool, (super_daemon, _) in before.items():
                assert vps.main_pid(pool) != super_daemon
        watch.settle()


def test_a_kill_9_of_the_super_daemons_costs_no_request_and_leaves_no_orphan(vps, host, proof):
    with proof.load(vps, TARGETS, sockets=SOCKETS, pools=POOLS) as watch:
        for number in range(1, ROUNDS + 1):
            watch.settle()
            watch.event(f"kill -9, {number}")
            before = {pool: (vps.main_pid(pool), vps.pids(pool)) for pool in POOLS}
            host.check_output(f"kill -9 {' '.join(str(pid) for pid, _ in before.values())}")
            for pool, (super_daemon, orphans) in before.items():
                vps.wait_for_another_super_daemon(pool, super_daemon)
                assert host.run(f"ps -o pid= -p {','.join(map(str, orphans))}").stdout == ""
            held = [host.check_output(f"ss --no-header -xlp src {path}") for path in SOCKETS]
            holders = set(re.findall(r"pid=(\d+)", str(held))) - {"1"}
            assert holders, held
            assert host.check_output(f"for pid in {' '.join(holders)}; do {FOREIGN}; done") == ""


def test_a_kill_9_of_the_servers_master_costs_no_request(vps, host, proof):
    """Its workers finish what they have, and a new generation takes the rest."""
    with proof.load(vps, TARGETS, sockets=SOCKETS, pools=POOLS) as watch:
        for number in range(1, ROUNDS + 1):
            watch.settle()
            super_daemon, generation = vps.state("main")
            master = vps.newest("main").pid
            assert vps.processes("main")[master] == "kechi:parent"
            watch.event(f"kill -9 of the master, {number}")
            host.check_output(f"kill -9 {master}")
            vps.wait_for_generation("main", generation + 1)
            assert vps.main_pid("main") == super_daemon
        watch.settle()


def killed_awake(vps, pool, name, site, killed):
    """Kill a worker that has just answered; on a busy machine it may have fallen asleep again."""
    vps.wait_until_answers(site)
    killed |= vps.kill(pool, name)
    return killed


def test_a_kill_9_of_a_worker_costs_what_it_has_in_work_and_nothing_else(vps, host, proof):
    workers = {
        "kechi:shared": ("main", HOSTS["main"] - ISOLATED),
        "kechi:notes": ("main", {"notes.example"}),
        "kechi:team": ("main", {"team.example"}),
        "node": ("clock", HOSTS["clock"]),
    }
    before = {pool: vps.state(pool) for pool in POOLS}
    with proof.load(vps, TARGETS, sockets=SOCKETS, pools=POOLS) as watch:
        for number in range(1, ROUNDS + 1):
            for name, (pool, hosts) in workers.items():
                watch.settle()
                killed: set[int] = set()
                with watch.kill(f"kill -9 of {name}, {number}", hosts):
                    vps.wait_until(partial(killed_awake, vps, pool, name, min(hosts), killed), name)
                for site in hosts:
                    vps.wait_until_answers(site)
                assert killed.isdisjoint(vps.pids(pool))
        watch.settle()
    assert vps.state("main") == before["main"], "one worker's death was the whole pool's"
    super_daemon, generation = before["clock"]
    assert vps.state("clock") == (super_daemon, generation + ROUNDS)
