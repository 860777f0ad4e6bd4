"""Backups while an app writes, their limits and failures, and the way back."""

from __future__ import annotations

import http.client
import json
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from harness.load import Target, load
from shared.inventory import REPOSITORY, Inventory
from shared.vps import WAIT_SECONDS, Vps

UNIT = "kechi-backup.service"
LOCAL = "/var/backups/kechi"
SHARED = "/srv/www/blog/shared"
COUNT = """
import sqlite3, sys
database = sqlite3.connect(f"file:{sys.argv[1]}?immutable=1", uri=True)
(state,) = database.execute("pragma integrity_check").fetchone()
posts = "select count(*) from posts where headline like ?"
print(state, database.execute(posts, (f"{sys.argv[2]}%",)).fetchone()[0])
"""


@pytest.fixture
def vps(host, address):
    return Vps(host, address(host))


@pytest.fixture
def playbook(host):
    """Run a playbook of the checkout on this machine."""
    inventory = Inventory(host.backend.name)

    def run(name, *options):
        command = ["ansible-playbook", *inventory.options, *options]
        limit = f"--limit={inventory.machine}"
        return subprocess.run(
            [*command, limit, f"playbooks/{name}.yml"],
            cwd=REPOSITORY, capture_output=True, text=True, check=False,
        )  # fmt: skip

    return run


def post(vps: Vps, headline: str) -> None:
    connection = http.client.HTTPConnection(vps.address, timeout=WAIT_SECONDS)
    headers = {"Host": "blog.example", "Content-Type": "application/x-www-form-urlencoded"}
    connection.request("POST", "/posts", f"headline={headline}&text=words", headers)
    assert connection.getresponse().status == 303
    connection.close()


@contextmanager
def posting(vps: Vps, headline: str) -> Iterator[list[int]]:
    """Post all the time while the block runs; the list grows with each post that was taken."""
    done: list[int] = []
    enough = threading.Event()

    def work() -> None:
        while not enough.is_set():
            post(vps, f"{headline}-{len(done)}")
            done.append(len(done))

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield done
    finally:
        enough.set()
        thread.join()


def newest(host, app="blog"):
    names = host.check_output(f"ls {LOCAL}/{app}").split()
    return f"{LOCAL}/{app}/{max(names)}"


def count(host, database, headline):
    state, number = host.check_output("python3 -c %s %s %s", COUNT, database, headline).split()
    assert state == "ok"
    return int(number)


def back_up(host):
    """Run the unit, and return its exit code and what it has said."""
    since = host.check_output("date +%s")
    code = host.run(f"systemctl start {UNIT}").rc
    journal = "journalctl --no-pager --output=cat"
    return code, host.check_output(f"{journal} --unit={UNIT} --since=@{since}")


def test_the_timer_waits_for_its_next_time_and_is_there_after_a_reboot(host):
    assert host.run("systemctl is-enabled kechi-backup.timer").stdout.strip() == "enabled"
    show = "systemctl show --property=NextElapseUSecRealtime --value kechi-backup.timer"
    assert " 04:" in host.check_output(show)


def test_a_backup_that_is_taken_while_the_app_writes_is_whole(vps, host):
    host.check_output(f"mkdir -p {SHARED}/cache && touch {SHARED}/cache/x {SHARED}/file")
    headline = f"run-{time.time_ns()}"
    with posting(vps, headline) as done:
        while not done:
            time.sleep(0.05)  # until the thread's first post: a list tells nobody
        already = len(done)
        code, said = back_up(host)
    assert code == 0, said
    copy = newest(host)
    assert already <= count(host, f"{copy}/blog.sqlite3", headline) <= len(done)
    assert host.check_output(f"ls {copy}").split() == ["blog.sqlite3", "file"]
    assert "posts" not in said
    for path in (LOCAL, f"{LOCAL}/blog", copy):
        found = host.file(path)
        assert (found.user, found.mode) == ("root", 0o700)
    assert host.file(f"{SHARED}/blog.sqlite3").user == "kechi-main", "a backup takes nothing over"
    listed = json.loads(host.check_output("kechi_backup list --json blog"))
    assert "restic:" in str(listed)


@pytest.mark.parametrize("backup", ["latest", "restic:latest"])
def test_destroyed_data_comes_back_and_meanwhile_no_request_fails(vps, host, playbook, backup):
    post(vps, "kept")
    assert back_up(host)[0] == 0
    host.check_output(f"rm {SHARED}/* -r && echo junk > {SHARED}/blog.sqlite3")
    assert vps.get("blog.example").status == 500
    super_daemon = vps.main_pid("main")
    with load(vps.address, [Target("new", "motd.example")]) as report:
        done = playbook("restore", "-e", "app=blog", "-e", f"backup={backup}")
    assert done.returncode == 0, done.stdout
    assert report.failures == [], str(report)
    assert vps.main_pid("main") != super_daemon, "nobody had the old files open"
    page = vps.get("blog.example")
    assert (page.status, "kept" in page.text) == (200, True)
    restored = host.file(f"{SHARED}/blog.sqlite3")
    assert (restored.user, restored.group) == ("kechi-main", "kechi-main")
    post(vps, f"after-{backup}")
    assert f"after-{backup}" in vps.get("blog.example").text
    database = host.check_output(f"ls -d {SHARED}.before-* | tail -n1") + "/blog.sqlite3"
    assert host.file(database).content_string == "junk\n", "what was replaced is kept"
    assert host.run(f"test -e {SHARED}.restoring").rc != 0
    assert host.run("ls /run/systemd/system/kechi@main.service.d").rc != 0


def test_a_restore_of_nothing_is_told_and_changes_nothing(vps, host, playbook):
    before = vps.state("main")
    done = host.run("kechi_backup restore blog --from=20200101T000000Z")
    assert (done.rc, done.stdout) == (1, "")
    assert "no backup 20200101T000000Z in /var/backups/kechi/blog; there are: 2" in done.stderr
    done = playbook("restore", "-e", "app=blgo")
    assert done.returncode != 0
    assert '"blgo" is on no machine' in done.stdout + done.stderr
    assert vps.state("main") == before
    assert vps.get("blog.example").status == 200


def test_a_wrong_password_is_told_and_the_machine_has_its_backups_all_the_same(vps, host):
    before = newest(host)
    with vps.broken_file(
        "/etc/kechi/backup.secrets.json",
        '{"RESTIC_REPOSITORY": "/var/elsewhere/repository", "RESTIC_PASSWORD": "wrong"}',
    ):
        code, said = back_up(host)
    assert code != 0
    assert "can't open the repository /var/elsewhere/repository" in said
    assert "wrong password" in said
    assert newest(host) > before
    assert back_up(host)[0] == 0, "and the next one is as ever"


def test_an_app_that_fails_fails_the_unit_and_not_the_other_apps(host):
    before = newest(host)
    broken = "/srv/www/motd/shared/broken.sqlite3"
    host.check_output(f"(printf 'SQLite format 3\\0'; head -c 9999 /dev/zero) > {broken}")
    code, said = back_up(host)
    host.check_output(f"rm {broken}")
    assert code != 0
    assert f"motd: not backed up: {broken}: " in said
    assert newest(host) > before


def test_a_disk_without_room_is_told_with_numbers_and_keeps_no_half_of_a_backup(host):
    host.check_output(f"mount -t tmpfs -o size=12m none {LOCAL}")
    host.check_output(f"head -c 5M /dev/urandom > {SHARED}/big")
    try:
        code, said = back_up(host)
        left = host.run(f"ls {LOCAL}/blog").stdout
    finally:
        host.check_output(f"rm {SHARED}/big && umount {LOCAL}")
    assert code != 0
    assert "blog: not backed up: needs 6 MB in /var/backups/kechi, which has 12 MB free" in said
    assert "of which 10 MB are to stay free" in said
    assert left == ""


def test_only_as_many_backups_stay_as_are_asked_for(host):
    for _ in range(2):
        assert back_up(host)[0] == 0
    assert len(host.check_output(f"ls {LOCAL}/blog").split()) == 2
    listed = json.loads(host.check_output("kechi_backup list --json blog"))
    assert sum(row["backup"].startswith("restic:") for row in listed) == 3


def test_a_running_backup_is_held_to_its_memory_and_behind_the_sites(host):
    names = "MemoryMax,Nice,CPUWeight,OOMPolicy"
    shown = host.check_output(f"systemctl show --property={names} {UNIT}").split()
    assert {f"MemoryMax={256 * 1024 * 1024}", "Nice=19", "OOMPolicy=continue"} <= set(shown)


@contextmanager
def under_way(vps: Vps) -> Iterator[str]:
    """A backup that waits for its lock until the block has ended, by its invocation's id."""
    host = vps.host
    holds = "flock /run/kechi/locks/backup sh -c 'systemd-notify --ready; exec sleep infinity'"
    notify = "--property=Type=notify --property=NotifyAccess=all"
    host.check_output(f"systemd-run --quiet --collect --unit=holds {notify} {holds}")
    try:
        host.check_output(f"systemctl start --no-block {UNIT}")
        vps.wait_until(lambda: state(host) == "activating", "a backup")
        yield invocation(host)
    finally:
        host.check_output("systemctl stop holds.service")


def invocation(host) -> str:
    return host.check_output(f"systemctl show --value --property=InvocationID {UNIT}")


def state(host) -> str:
    return host.check_output(f"systemctl show --value --property=ActiveState {UNIT}")


def test_a_play_begins_a_backup_anew_by_its_settings_and_ends_one_that_it_disables(vps, host):
    backups = Inventory(host.backend.name, "backup")
    with under_way(vps) as began:
        backups.apply(backup_exclude=["blog/cache", "blog/file"])
        vps.wait_until(lambda: state(host) == "activating", "the backup anew")
        assert invocation(host) not in ("", began)
    vps.wait_until(lambda: state(host) == "inactive", "the end of the backup")
    assert "file" not in host.check_output(f"ls {newest(host)}").split()
    with under_way(vps):
        backups.apply(backup_enabled=False)
        assert state(host) == "inactive", "and it has not failed"
    backups.restore()


def test_secrets_are_roots_alone(host):
    found = host.file("/etc/kechi/backup.secrets.json")
    assert (found.user, found.mode) == ("root", 0o600)
    assert host.run("grep -r 'only for tests' /etc/systemd /etc/kechi/backup.json").rc != 0
