"""What an administrator does between two runs of site.yml: look, and restart."""

from __future__ import annotations

import re

import pytest

from harness.load import Target, load
from shared.inventory import Inventory

MOST_EXPOSED = 2.0
POOLS = ("main", "clock")
SITES = [
    Target("new", "motd.example"),
    Target("keep-alive", "clock.example"),
    Target("slow", "motd.example", "/slow?seconds=2"),
]


@pytest.fixture
def inventory(host):
    return Inventory(host.backend.name)


@pytest.mark.parametrize("pool", POOLS)
def test_a_pools_unit_is_sandboxed(host, pool):
    told = host.check_output(f"systemd-analyze security --no-pager kechi@{pool}.service")
    exposed = re.search(r"Overall exposure level for .*: ([0-9.]+)", told)
    assert exposed, told
    assert float(exposed[1]) <= MOST_EXPOSED, told


def test_status_tells_of_pools_apps_and_releases_and_changes_nothing(vps, inventory):
    told = inventory.apply(playbook="status")
    assert "changed=0" in told
    for pool in POOLS:
        assert re.search(rf"{pool} +{vps.generation(pool)} +serving .* MB ", told), told
    release = vps.host.check_output("readlink --canonicalize /srv/www/blog/current").rpartition(
        "/"
    )[2]
    assert re.search(rf"blog +main +{release} +\d", told), told


def test_a_restart_of_one_pool_loses_nothing_and_leaves_the_other_alone(vps, inventory):
    main, clock = vps.state("main"), vps.state("clock")
    with load(vps.address, SITES) as report:
        inventory.apply(playbook="restart", pool="main")
    assert report.failures == [], str(report)
    assert vps.state("main") == (main[0], main[1] + 1)
    assert vps.state("clock") == clock


def test_a_restart_of_a_pool_that_is_not_there_is_refused(vps, inventory):
    before = vps.state("main"), vps.state("clock")
    told = inventory.refuse(playbook="restart", pool="nope")
    assert 'pool: "nope" is on no machine; there: clock, main' in told
    assert (vps.state("main"), vps.state("clock")) == before
