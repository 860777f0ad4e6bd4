"""The same machine, by the collection as its users install it, from an empty directory."""

from __future__ import annotations

import pytest

from shared.inventory import Inventory
from tests.process.collection.elsewhere import Elsewhere

TIMER = "/etc/systemd/system/kechi-backup.timer"


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    found = Elsewhere(tmp_path_factory.mktemp("elsewhere"))
    found.install()
    return found


@pytest.fixture(scope="module")
def machine(node):
    """One is enough: it is the control machine that differs."""
    return node("kechi-backup-debian13")


@pytest.fixture
def options(machine):
    inventory = Inventory(machine.backend.name)
    return [*inventory.options, f"--limit={inventory.machine}"]


def test_the_installed_collection_finds_nothing_to_change(elsewhere, options):
    done = elsewhere.output("ansible-playbook", *options, "kechi.vps.site")
    assert "changed=0" in done, done


def test_a_role_alone_takes_its_units_away_and_leaves_the_backups(machine, elsewhere, options):
    apps = [{"name": "blog", "directory": "/srv/www/blog/shared"}]
    role = {"role": "kechi.vps.backup", "backup_apps": apps}
    play = {
        "hosts": "all",
        "pre_tasks": [{"kechi.vps.play_lock": {}}],
        "roles": [{**role, "backup_enabled": False}],
        "post_tasks": [{"kechi.vps.play_lock": {"state": "released"}}],
    }
    before = machine.check_output("ls /var/backups/kechi/blog")
    for changed in ("changed=2", "changed=0"):
        done = elsewhere.play(play, *options)
        assert (done.returncode, changed in done.stdout) == (0, True), done.stdout + done.stderr
        assert not machine.file(TIMER).exists
        assert machine.run("systemctl is-active kechi-backup.timer").rc != 0
    assert machine.check_output("ls /var/backups/kechi/blog") == before
    assert machine.file("/run/kechi/locks/play").size == 0
    done = elsewhere.play({"hosts": "all", "roles": [role]}, *options)
    assert done.returncode == 0, done.stdout
    assert machine.run("systemctl is-active kechi-backup.timer").rc == 0
    assert machine.check_output("kechi_backup list --local | cut -d' ' -f1 | sort -u") == "blog"
