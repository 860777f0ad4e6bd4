"""What playbooks/status.yml finds on a machine, and how it tells it."""

import pytest

from ansible_collections.kechi.vps.plugins.modules import pool_info
from ansible_collections.kechi.vps.plugins.plugin_utils.status_tables import status_tables

GENERATION = {
    "number": 7,
    "phase": "serving",
    "age_seconds": 90.0,
    "processes": 3,
    "pss_kb": 77_000,
    "shared_percent": 52.4,
}
POOL = {
    "name": "main",
    "unit": "active (running)",
    "memory_max_mb": 300,
    "status": {"generations": [GENERATION], "trouble": None},
    "apps": [{"name": "blog", "release": "0123-cpython-311", "releases": 2}],
    "fault": "",
}
INVENTORY = [{"name": "main"}]


def _found(certificates=(), **changes):
    return {"pools": [POOL | changes], "certificates": list(certificates)}


def test_pools_are_found_by_their_units_and_the_template_is_none():
    units = ["kechi@.service.d", "kechi@main.service.d", "kechi@main.notes.socket", "nginx.service"]
    assert pool_info.pool_names([*units, "kechi@a-b.service.d"]) == ["a-b", "main"]


@pytest.mark.parametrize(
    ("pool_file", "drop_in", "names"),
    [
        ('[[apps]]\nname = "blog"\n[[apps]]\nname = "motd"\n', "", ["blog", "motd"]),
        (None, "Environment=KECHI_OPTIONS=--dir=/srv/www/clock/current\n", ["clock"]),
        (None, "", []),
    ],
)
def test_a_pools_apps_are_those_of_its_pool_file_or_of_its_command(pool_file, drop_in, names):
    assert pool_info.app_names(pool_file, drop_in) == names


@pytest.mark.parametrize("pool_file", ["apps = [", "[server]\n", "apps = 1\n", "[[apps]]\n"])
def test_a_pool_file_that_cant_be_read_is_told(pool_file):
    with pytest.raises(ValueError, match=r"Invalid value|no list of apps"):
        pool_info.app_names(pool_file, "")


@pytest.mark.parametrize(("shown", "limit"), [("314572800", 300), ("infinity", None)])
def test_a_limit_is_told_in_mb_or_as_none(shown, limit):
    assert pool_info.limit_mb(shown) == limit


def test_a_pool_is_a_line_for_each_generation_and_its_apps_follow():
    assert status_tables(_found(), INVENTORY) == [
        "POOL  GENERATION    PHASE         AGE  PROCESSES   MEMORY   LIMIT  SHARED",
        "main           7  serving  1 min 30 s          3  75.2 MB  300 MB    52 %",
        "",
        "APP   POOL           RELEASE  KEPT",
        "blog  main  0123-cpython-311     2",
    ]


def test_certificates_are_told_where_there_are_any_and_what_should_be_another():
    blog = {"name": "blog", "wanted": "acme", "served": "acme", "days": 61}
    motd = {"name": "motd", "wanted": "acme", "served": "self-signed", "days": 3649}
    wild = {"name": "wild.any", "wanted": "self-signed", "served": "self-signed", "days": 3649}
    assert status_tables(_found([blog, motd, wild]), INVENTORY)[-6:] == [
        "SITE      CERTIFICATE  DAYS LEFT",
        "blog             acme         61",
        "motd      self-signed       3649",
        "wild.any  self-signed       3649",
        "",
        "site motd: is served self-signed; `kechi-certificates` there says why",
    ]


@pytest.mark.parametrize(
    ("changes", "inventory", "sentence"),
    [
        (
            {"status": {}, "unit": "failed (failed)"},
            INVENTORY,
            "pool main: its super-daemon does not answer: failed (failed)",
        ),
        (
            {
                "status": {
                    "generations": [GENERATION],
                    "trouble": "generation 8 failed: no module x",
                }
            },
            INVENTORY,
            "pool main: generation 8 failed: no module x",
        ),
        (
            {"fault": "/etc/kechi/pools/main.toml can't be read: no list of apps"},
            INVENTORY,
            "pool main: /etc/kechi/pools/main.toml can't be read: no list of apps",
        ),
        ({}, [], "pool main: is not in the inventory, and was left as it is"),
    ],
)
def test_what_is_wrong_with_a_pool_is_the_last_line(changes, inventory, sentence):
    assert status_tables(_found(**changes), inventory)[-1] == sentence


def test_a_machine_without_pools_is_told_to_be_so():
    assert status_tables({"pools": [], "certificates": []}, INVENTORY) == [
        "no pool is on this machine"
    ]
