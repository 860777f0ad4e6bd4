"""The whole path on one machine: two pools behind nginx."""

from __future__ import annotations

import http.client
import json

import pytest

from harness.load import Target, load
from shared.targets import POOLS


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
        newest = max(vps.generations(pool), key=lambda generation: generation.number)
        environment = vps.environment(newest.pid)
        assert environment["KILL_OLD_DELAY"] == "1"
        assert environment["ENABLE_AUTO_RESTART"] == "1"
        assert environment["AUTO_RESTART_INTERVAL"] == "3600"
        assert "SERVER_STARTER_PORT" in environment
    assert environment["GREETING"] == 'hello "you", 100 %'


def test_the_environment_of_a_command_is_read_by_root_and_its_own_processes_alone(host):
    drop_ins = host.file("/etc/systemd/system/kechi@clock.service.d").listdir()
    shown = host.check_output("systemctl show --property=Environment,EnvironmentFiles kechi@clock")
    assert "hello" not in shown
    assert "/kechi@clock.service.d/environment" in shown
    readable = [name for name in drop_ins if name != "environment"]
    assert readable
    for name in readable:
        assert (
            "hello"
            not in host.file(f"/etc/systemd/system/kechi@clock.service.d/{name}").content_string
        )
    for secret in (
        "/etc/systemd/system/kechi@clock.service.d/environment",
        "/srv/kechi/clock/current/units/environment",
    ):
        file = host.file(secret)
        assert (file.user, file.mode & 0o077) == ("root", 0), secret
        assert "hello" in file.content_string


def test_swap_says_why_it_leaves_a_container_alone(host):
    assert not host.file("/swapfile").exists
    assert not host.file("/etc/sysctl.d/99-zz-kechi-swap.conf").exists


def test_memory_of_the_workers_is_told(host, vps):
    # no process ends while we look: neither an older generation's, nor that of an app that sleeps
    vps.wait_for_generation("main", vps.generation("main"))
    vps.wait_until_asleep("main", "team")
    pids = " ".join(map(str, vps.pids("main")))
    table = json.loads(host.check_output(f"shared_memory_size --json {pids}"))
    assert len(table) == len(pids.split())
    assert host.run("shared_memory_size 999999").rc != 0


def test_a_generation_that_fails_to_start_is_told_and_the_old_one_goes_on(vps, host):
    generation = vps.generation("main")
    vps.wait_for_generation("main", generation)  # an older one has ended
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


def test_the_units_are_there_after_a_reboot(host):
    units = [f"kechi@{pool}.{kind}" for pool in POOLS for kind in ("service", "socket")]
    for unit in [*units, "kechi@main.notes.socket", "kechi@main.team.socket"]:
        assert host.run(f"systemctl is-enabled {unit}").stdout.strip() == "enabled"
    assert host.service("nginx").is_enabled
