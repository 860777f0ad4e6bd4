"""prove.yml, as its user runs it: from outside, asked first, and it fails where there is reason."""

from __future__ import annotations

import copy
import functools

import pytest

from containers.machines import HTTPS
from harness import store
from harness.results import lives
from shared.inventory import Inventory

RESTARTS = 3
POOLS = ("main", "hasty")


@pytest.fixture
def inventory(host):
    return Inventory(host.backend.name, playbook="playbooks/prove.yml")


@pytest.fixture
def prove(inventory, host, address, tmp_path):
    """The playbook's variables; its reports are no proofs of this scenario."""
    common = {"prove_address": address(host, HTTPS), "prove_reports": str(tmp_path)}
    return functools.partial(dict, **common, prove_restarts=1, prove_yes=True)


@pytest.fixture(autouse=True)
def _untouched(request, vps):
    """What is refused has restarted nothing."""
    before = {pool: vps.state(pool) for pool in POOLS}
    yield
    if "refused" in request.node.name:
        assert {pool: vps.state(pool) for pool in POOLS} == before


def changed(inventory, **options):
    """The inventory's pools, with other options of the first one."""
    pools = copy.deepcopy(inventory.variables["vhost_app_pools"])
    pools[0].update(options)
    return pools


def test_restarts_that_cost_no_request_pass_and_leave_a_report(
    vps, host, inventory, prove, tmp_path
):
    before = vps.generation("main")
    said = inventory.apply(**prove(pool="main", prove_restarts=RESTARTS))
    assert "restarts the pools main gracefully, 3 times each" in said, said
    assert "https://motd.example/" in said, said
    assert vps.generation("main") == before + RESTARTS
    run = store.load(tmp_path / f"prove.{host.backend.name}" / store.RESULTS)
    assert run.passed
    print(
        f"shared by the workers, at least: {[one.workers_shared_percent for one in lives(run)]} %"
    )
    assert len(run.events) == RESTARTS
    assert run.generations["main"][-1] == before + RESTARTS
    assert {(one.kind, one.host) for one in run.clients} == {
        (kind, name) for kind in ("new", "keep-alive") for name in ("motd.example", "echo.example")
    }
    began = [event.at - run.began for event in run.events]
    assert all(0 < at < run.ended - run.began for at in began), began
    assert "prove." in (tmp_path / store.PAGE).read_text(encoding="utf-8")


def test_a_server_that_drops_its_visitors_fails_and_its_report_says_so(
    host, inventory, prove, tmp_path
):
    said = inventory.refuse(**prove(app="hasty", prove_restarts=RESTARTS))
    assert "requests failed" in said, said
    run = store.load(tmp_path / f"prove.{host.backend.name}" / store.RESULTS)
    assert not run.passed
    assert {one.client.host for one in run.failures} == {"hasty.example"}


def test_a_restart_that_fails_fails_the_proof(vps, inventory, prove):
    with vps.broken_file("/srv/kechi/main/venv/bin/vhost_server", "#!/bin/false"):
        said = inventory.refuse(**prove(pool="main"))
    assert "restart 1 of 1: the reload of kechi@main.service failed" in said, said
    assert "requests failed" not in said, "the old generation goes on"


def test_too_much_memory_and_too_little_shared_fail(inventory, prove):
    pools = changed(inventory, memory_max_mb=32)
    said = inventory.refuse(
        **prove(pool="main", vhost_app_pools=pools, prove_shared_floor_percent=100)
    )
    assert "over its memory_max_mb of 32" in said, said
    assert "under 100 %" in said, said


def test_it_is_refused_where_nobody_has_said_yes(inventory, prove):
    assert "Nothing was done:" in inventory.refuse(**prove(prove_yes=False))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"pool": "nobody"}, "nobody"),
        ({"app": "nobody"}, "nobody"),
        ({"prove_restarts": 0}, "prove_restarts: 0 is outside 1 to 1000"),
        ({"prove_restart": 3}, "prove_restart: 3 is not a known setting"),
        ({"prove_address": "127.0.0.1:1"}, "https://motd.example/: [Errno 111]"),
    ],
)
def test_it_is_refused_where_something_is_not_there(inventory, prove, changes, words):
    said = inventory.refuse(**prove(**changes))
    assert "Nothing was done:" in said, said
    assert words in said, said


def test_it_is_refused_for_a_pool_or_site_that_is_not_well(vps, host, inventory, prove):
    apps = inventory.variables["vhost_app_pools"][0]["apps"]
    for options, words in [
        ({"name": "second"}, "pool second: is not on the machine, there: hasty, main"),
        ({"apps": [*apps, {**apps[0], "name": "new", "hosts": ["new.example"]}]},
         "app new: is not on the machine"),
        ({"apps": [{**apps[0], "health_statuses": [204]}]},
         "https://motd.example/: status 200, expected is 204"),
    ]:  # fmt: skip
        said = inventory.refuse(**prove(vhost_app_pools=changed(inventory, **options)))
        assert words in said, said
