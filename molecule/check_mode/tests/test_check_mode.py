"""What `--check` says of a changed inventory is what the real run then does."""

from __future__ import annotations

import re

import pytest

from shared.inventory import NEW_APP, Inventory

ROOTS = "/etc /srv /usr/local /var/www /run/kechi /run/kechi-main /run/kechi-clock"
ALL_FILES = f"find {ROOTS} -newer /run/before ! -type s"
SECRET = "s3cret-of-an-app"
TASK = re.compile(r"^(?:TASK|RUNNING HANDLER) \[(.*)\] \**$")
CHANGED = re.compile(r"^changed: \[")


@pytest.fixture
def inventory(host):
    return Inventory(host.backend.name)


def changed(output: str) -> list[str]:
    """The tasks and handlers that a run has reported as changed."""
    tasks, found = "", []
    for line in output.splitlines():
        named = TASK.match(line)
        tasks = named[1] if named else tasks
        if CHANGED.match(line):
            found.append(tasks)
    return found


def different(inventory: Inventory) -> dict[str, object]:
    """An inventory with something new for each role: an app, secrets, a limit, a delay, a page."""
    pools = inventory.variables["vhost_app_pools"]
    for pool in pools:
        pool["apps"][0]["environment"] |= {"TOKEN": SECRET, "LINES": f"a\n{SECRET}"}
    pools[0]["apps"].append(NEW_APP)
    pools[0]["memory_max_mb"] += 16
    return {
        "vhost_app_pools": pools,
        "supervisor_kill_old_delay_seconds": 2,
        "frontend_retry_after_seconds": 7,
        "host_journal_runtime_max_mb": 24,
    }


def test_a_check_of_a_changed_inventory_says_what_the_run_does_and_changes_nothing(
    vps, host, inventory
):
    changes = different(inventory)
    before = vps.state("main"), vps.state("clock")
    host.check_output("touch /run/before")
    told = inventory.apply(check=True, **changes)
    assert host.check_output(ALL_FILES) == ""
    assert (vps.state("main"), vps.state("clock")) == before
    assert vps.get("second.example").status == 421
    done = inventory.apply(**changes)
    assert vps.get("second.example").status == 200
    assert told.count("TOKEN=(hidden: ") == len(inventory.variables["vhost_app_pools"])
    assert SECRET not in told + done
    assert changed(told) == changed(done)
    assert len(changed(told)) > 5, told
    # and the next check has nothing more to say
    assert changed(inventory.apply(check=True, **changes)) == []
