"""The whole path on one machine: two pools behind nginx, restarted, limited, and recovering."""

from __future__ import annotations

import http.client
import json
import re
import time

import pytest

from harness.load import Target, load
from shared.vps import Vps

RESTARTS = 20
KILLS = 3
SETTLE_SECONDS = 2.0  # to be seen in the report: how it is before, and after
HOG_MB = 600  # twice what the pool may have
SOCKETS = {
    "/run/kechi/main.sock": [
        Target("new", "motd.example"),
        Target("new", "blog.example"),
        Target("keep-alive", "motd.example"),
        Target("keep-alive", "blog.example"),
        Target("slow", "motd.example", "/slow?seconds=2"),
        Target("upload", "echo.example"),
    ],
    "/run/kechi/main/notes.sock": [
        Target("new", "notes.example"),
        Target("keep-alive", "notes.example"),
    ],
    "/run/kechi/main/team.sock": [Target("rare", "team.example")],
    "/run/kechi/clock.sock": [
        Target("new", "clock.example"),
        Target("keep-alive", "clock.example"),
        Target("slow", "clock.example", "/slow?seconds=2"),
    ],
}
# of what no unit of a pool has; it may have gone by now, as workers do that are idle or recycled
FOREIGN = "test ! -e /proc/$pid || grep -q kechi@ /proc/$pid/cgroup || echo $pid"
TARGETS = [target for targets in SOCKETS.values() for target in targets]
POOLS = ("main", "clock")


@pytest.fixture
def vps(host, address):
    return Vps(host, address(host))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("blog.example", "Tests &amp; "),
        ("www.blog.example", "100 % ケチ"),
        ("BLOG.example", "ケチ"),
        ("clock.example", "generation"),
    ],
)
def test_each_site_answers_by_its_host(vps, name, words):
    answer = vps.get(name)
    assert answer.status == 200
    assert words in answer.text


def test_an_app_reads_a_file_by_relative_path_from_its_own_directory(vps, host):
    answer = vps.get("motd.example")
    assert answer.status == 200
    assert answer.text.strip() in host.file("/srv/www/motd/current/quotes.txt").content_string
    assert answer.headers["X-Directory"].startswith("/srv/www/motd/releases/")


def test_a_host_that_nobody_has_reaches_no_app(vps):
    assert vps.get("other.example").status == 421


def test_the_blog_keeps_its_posts_over_a_restart(vps):
    connection = http.client.HTTPConnection(vps.address, timeout=10)
    headers = {"Host": "blog.example", "Content-Type": "application/x-www-form-urlencoded"}
    connection.request("POST", "/posts", "headline=Kept&text=words", headers)
    assert connection.getresponse().status == 303
    vps.reload("main")
    assert "Kept" in vps.get("blog.example").text


def test_the_super_daemon_and_its_workers_run_unprivileged(vps, host):
    for pool in POOLS:
        users = host.check_output(f"ps -o user:32= -p {','.join(map(str, vps.pids(pool)))}")
        assert set(users.split()) == {f"kechi-{pool}"}


def test_the_environment_directory_reaches_the_child(vps, host):
    for pool in POOLS:
        environment = vps.environment(vps.generations(pool)[0].pid)
        assert environment["KILL_OLD_DELAY"] == "1"
        assert environment["ENABLE_AUTO_RESTART"] == "1"
        assert environment["AUTO_RESTART_INTERVAL"] == "3600"
        assert "SERVER_STARTER_PORT" in environment
    assert environment["GREETING"] == 'hello "you", 100 %'


def test_swap_says_why_it_leaves_a_container_alone(host):
    assert not host.file("/swapfile").exists
    assert not host.file("/etc/sysctl.d/99-zz-kechi-swap.conf").exists


def test_memory_of_the_workers_is_told(host, vps):
    pids = " ".join(map(str, vps.pids("main")))
    table = json.loads(host.check_output(f"shared_memory_size --json {pids}"))
    assert len(table) == len(pids.split())
    assert host.run("shared_memory_size 999999").rc != 0


def test_no_request_fails_in_restarts_by_hup(vps, proof):
    first = {pool: vps.generation(pool) for pool in POOLS}
    with proof.load(vps, TARGETS, pools=POOLS) as watch:
        time.sleep(SETTLE_SECONDS)
        for number in range(1, RESTARTS + 1):
            watch.event(f"HUP {number}")
            for pool in POOLS:
                vps.hup(pool)
            for pool in POOLS:
                vps.wait_for_generation(pool, first[pool] + number)
        time.sleep(SETTLE_SECONDS)
    report = watch.reports["nginx"]
    assert report.reopened == 0, "a restart must not close what the front end keeps"
    assert {pool: vps.generation(pool) - first[pool] for pool in POOLS} == dict.fromkeys(
        POOLS, RESTARTS
    )
    for target in TARGETS:
        began = first["clock" if target.host.startswith("clock") else "main"]
        seen = report.generations(target.host)
        assert seen <= set(range(began, began + RESTARTS + 1))
        if target.kind in ("new", "keep-alive"):
            assert seen == set(range(began, began + RESTARTS + 1)), target


def test_a_generation_that_fails_to_start_is_told_and_the_old_one_goes_on(vps, host):
    generation = vps.generation("main")
    with vps.broken_file("/etc/kechi/pools/main.toml", "not = [toml"):
        with load(vps.address, [Target("new", "motd.example")]) as report:
            reload = host.run("systemctl reload kechi@main.service")
        assert reload.rc != 0
        assert "failed to start" in vps.journal("main")
        assert report.failures == [], str(report)
        assert [g.number for g in vps.generations("main")] == [generation]
    vps.reload("main")
    assert vps.generation("main") > generation
    assert vps.get("motd.example").status == 200


def test_a_memory_hog_is_killed_by_the_limit_and_the_sites_recover(vps, host):
    limit = host.check_output("systemctl show --property=MemoryMax --value kechi@main.service")
    assert int(limit) == 300 * 1024 * 1024
    super_daemon = vps.main_pid("main")
    killed = vps.oom_kills("main")
    assert vps.get("hog.example", "/?megabytes=16").status == 200
    assert vps.get("hog.example", f"/?megabytes={HOG_MB}").status == 503
    assert vps.oom_kills("main") > killed
    vps.wait_until_answers("motd.example")
    vps.wait_until_answers("blog.example")
    assert vps.get("clock.example").status == 200
    assert vps.main_pid("main") == super_daemon, "one worker's death was the whole pool's"


def test_a_kill_9_of_the_super_daemons_costs_no_request_and_leaves_no_orphan(vps, host, proof):
    with proof.load(vps, TARGETS, sockets=SOCKETS, pools=POOLS) as watch:
        for number in range(1, KILLS + 1):
            time.sleep(SETTLE_SECONDS)
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


def test_the_units_are_there_after_a_reboot(host):
    units = [f"kechi@{pool}.{kind}" for pool in POOLS for kind in ("service", "socket")]
    for unit in [*units, "kechi@main.notes.socket", "kechi@main.team.socket"]:
        assert host.run(f"systemctl is-enabled {unit}").stdout.strip() == "enabled"
    assert host.service("nginx").is_enabled
