"""A changed inventory, and site.yml again: exactly what is needed, gracefully, and nothing else."""

from __future__ import annotations

import copy

import pytest

from harness.load import Target, load
from shared.inventory import NEW_APP, Inventory

SITES = [Target("new", "motd.example"), Target("keep-alive", "clock.example")]
ISOLATED_SITES = [
    *SITES,
    Target("slow", "motd.example", "/slow?seconds=2"),
    Target("new", "notes.example"),
    Target("keep-alive", "notes.example"),
    Target("rare", "team.example"),
]


@pytest.fixture
def inventory(host):
    inventory = Inventory(host.backend.name)
    yield inventory
    inventory.restore()


def test_a_bigger_limit_holds_at_once_and_restarts_nothing_nor_does_a_pool_that_is_gone(
    vps, inventory
):
    main, _clock = inventory.variables["vhost_app_pools"]
    main["memory_max_mb"] += 16
    main["tasks_max"] = 200
    before = vps.state("main"), vps.state("clock")
    output = inventory.apply(vhost_app_pools=[main])
    assert "the pool clock goes on, and is not in the inventory" in " ".join(output.split())
    assert (vps.state("main"), vps.state("clock")) == before
    assert vps.memory_limit("main") == main["memory_max_mb"] * 1024 * 1024
    assert vps.tasks_limit("main") == 200


def test_another_delay_reaches_both_pools_by_graceful_restart(vps, inventory):
    before = {pool: vps.state(pool) for pool in ("main", "clock")}
    delay = inventory.variables["supervisor_kill_old_delay_seconds"] + 1
    with load(vps.address, SITES) as report:
        inventory.apply(supervisor_kill_old_delay_seconds=delay)
    assert report.failures == [], str(report)
    for pool, (super_daemon, generation) in before.items():
        assert vps.state(pool) == (super_daemon, generation + 1)
        environment = vps.environment(vps.generations(pool)[0].pid)
        assert environment["KILL_OLD_DELAY"] == str(delay)


def test_a_new_app_joins_its_pool_by_graceful_restart_and_goes_only_when_that_is_said(
    vps, host, inventory
):
    pools = copy.deepcopy(inventory.variables["vhost_app_pools"])
    pools[0]["apps"].append(NEW_APP)
    super_daemon, generation = vps.state("main")
    clock = vps.state("clock")
    with load(vps.address, SITES, front_end_reloads=True) as report:
        inventory.apply(vhost_app_pools=pools)
    assert report.failures == [], str(report)
    assert vps.get("second.example").text == "hello from /srv/www/second/shared\n"
    assert vps.state("main") == (super_daemon, generation + 1)
    assert vps.state("clock") == clock
    pools[0]["apps"].pop()
    assert "it serves the app second" in inventory.refuse(vhost_app_pools=pools)
    assert vps.get("second.example").status == 200
    pools[0]["apps"].append(NEW_APP | {"state": "absent"})
    inventory.apply(vhost_app_pools=pools)
    assert vps.get("second.example").status == 421
    assert host.file("/srv/www/second/shared/greeting").exists
    inventory.is_restored()


def test_an_isolated_app_comes_and_goes_and_no_request_to_the_others_fails(vps, host, inventory):
    """systemd opens its socket for a new super-daemon only; the others' sockets stay open."""
    pools = copy.deepcopy(inventory.variables["vhost_app_pools"])
    pools[0]["apps"].append(NEW_APP | {"isolation": "process"})
    super_daemon = vps.main_pid("main")
    clock = vps.state("clock")
    with load(vps.address, ISOLATED_SITES, front_end_reloads=True) as report:
        inventory.apply(vhost_app_pools=pools)
        answer = vps.get("second.example")
        assert vps.main_pid("main") != super_daemon
        assert "kechi:second" in vps.commands("main")
        pools[0]["apps"][-1]["state"] = "absent"
        inventory.apply(vhost_app_pools=pools)
    print(report)
    assert answer.text == "hello from /srv/www/second/shared\n"
    assert report.failures == [], str(report)
    assert vps.state("clock") == clock
    assert host.run("systemctl is-active kechi@main.second.socket").stdout == "inactive\n"
    for left in ("/etc/systemd/system/kechi@main.second.socket", "/run/kechi/main/second.sock"):
        assert not host.file(left).exists
    assert vps.get("second.example").status == 421
    inventory.is_restored()


def test_an_isolated_app_that_does_not_load_is_refused_before_its_pool_is_stopped(
    vps, host, inventory
):
    pools = copy.deepcopy(inventory.variables["vhost_app_pools"])
    pools[0]["apps"].append(NEW_APP | {"isolation": "process", "wsgi": "greeter:nothing"})
    before = vps.state("main")
    with load(vps.address, SITES) as report:
        output = inventory.refuse(vhost_app_pools=pools)
        assert vps.state("main") == before
        inventory.apply()
    assert "pool main: what is new can't be served, so it goes on as it is" in output
    assert "nothing is not there" in output
    assert report.failures == [], str(report)
    assert vps.state("main") == before


@pytest.mark.parametrize(
    ("broken", "sentence"),
    [
        (
            {"supervisor_kill_old_delay_seconds": "soon"},
            'supervisor_kill_old_delay_seconds: "soon" is not a whole number',
        ),
        ({"hosts": []}, "vhost_app_pools[0].apps[1].hosts: [] is not a list of at least one"),
        (
            {"hosts": ["blog.example"]},
            'vhost_app_pools[0].apps[1].hosts: "blog.example" is taken by apps[0].hosts',
        ),
        ({"memory_max_mb": 99_999_999}, "vhost_app_pools[0].memory_max_mb: 99999999 is over the"),
        ({"vhost_app_reserve_mb": 99_999_999}, "MB are more than the pools may take together"),
    ],
)
def test_a_wrong_inventory_is_refused_before_the_host_changes(
    vps, host, inventory, broken, sentence
):
    pools = inventory.variables["vhost_app_pools"]
    for key, value in broken.items():
        if key == "hosts":
            pools[0]["apps"][1]["hosts"] = value
        elif key == "memory_max_mb":
            pools[0]["memory_max_mb"] = value
    changes = {k: v for k, v in broken.items() if k.startswith(("supervisor_", "vhost_app_"))}
    # something that would change the host, were the mistake not found first
    changes["frontend_client_max_body_mb"] = 77
    before = vps.state("main"), vps.state("clock")
    host.check_output("touch /run/before")
    output = inventory.refuse(vhost_app_pools=pools, **changes)
    assert sentence in output
    assert host.check_output("find /etc /srv /usr/local -newer /run/before -type f") == ""
    assert (vps.state("main"), vps.state("clock")) == before


@pytest.mark.parametrize(
    ("start", "sentence"),
    [
        ({"wsgi": "greeter:nothing"}, "its first generation can't load broken"),
        ({"command": ["/bin/cat", "/nothing"]}, "its first generation does not start"),
    ],
)
def test_a_new_pool_that_does_not_start_whole_is_told_at_once_with_the_reason(
    vps, host, inventory, start, sentence
):
    pools = inventory.variables["vhost_app_pools"]
    app = {"name": "broken", "hosts": ["broken.example"], "source": NEW_APP["source"]}
    pool = {"name": "broken", "apps": [app]}
    (app if "wsgi" in start else pool).update(start)
    pools.append(pool)
    before = vps.state("main"), vps.state("clock")
    try:
        output = inventory.refuse(vhost_app_pools=pools)
    finally:
        inventory.apply(vhost_app_pools=[*pools[:-1], {**pool, "state": "absent"}])
        inventory.is_restored()
    assert host.run(
        "systemctl is-active kechi@broken.service kechi@broken.socket"
    ).stdout.split() == (["inactive"] * 2)
    assert f"pool broken: {sentence}" in output
    assert "nothing is not there" in output or "/nothing: No such file" in output
    assert (vps.state("main"), vps.state("clock")) == before


def test_a_pool_that_was_taken_away_serves_no_old_release_when_it_comes_back_broken(
    vps, host, inventory
):
    main, clock = copy.deepcopy(inventory.variables["vhost_app_pools"])
    inventory.apply(vhost_app_pools=[main, clock | {"state": "absent"}])
    assert vps.get("clock.example").status == 421
    output = inventory.refuse(vhost_app_pools=[main, clock | {"command": ["/bin/cat", "/nothing"]}])
    assert "pool clock: its first generation does not start" in output
    assert "stopped and disabled again" in " ".join(output.split())
    units = "kechi@clock.service kechi@clock.socket"
    assert host.run(f"systemctl is-active {units}").stdout.split() == ["inactive"] * 2
    assert host.run(f"systemctl is-enabled {units}").stdout.split() == ["disabled"] * 2
    inventory.apply()
    assert vps.get("clock.example").status == 200


def test_other_static_files_are_refused_where_nginx_alone_would_have_them(host, inventory):
    main, clock = copy.deepcopy(inventory.variables["vhost_app_pools"])
    main["apps"][0]["static"] = [{"url": "/new/", "directory": "new", "inside": "shared"}]
    host.check_output("touch /run/before")
    output = Inventory(host.backend.name, "frontend").refuse(vhost_app_pools=[main, clock])
    assert "main (other directories of static files)" in " ".join(output.split())
    assert host.check_output("find /etc /srv /usr/local -newer /run/before -type f") == ""
