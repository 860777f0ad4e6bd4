"""Whom a proof asks, how often, what it refuses, and what has to come out of it."""

from dataclasses import replace
from typing import Any

import pytest

from ansible_collections.kechi.vps.plugins.modules import pool_restarts
from ansible_collections.kechi.vps.plugins.plugin_utils import proving
from ansible_collections.kechi.vps.plugins.plugin_utils.proving import Refused, Site
from harness.results import Run
from tests.unit.harness import runs

APPS: list[dict[str, Any]] = [
    {"name": "blog", "hosts": ["*.blog.example", "blog.example"], "health_path": "/up"},
    {"name": "wiki", "hosts": ["example.org/wiki"], "health_statuses": [200, 302]},
    {"name": "asleep", "hosts": ["asleep.example"], "idle_seconds": 60},
]
POOLS: list[dict[str, Any]] = [
    {"name": "main", "memory_max_mb": 200, "apps": APPS},
    {"name": "clock", "command": ["node"], "apps": [{"name": "clock", "hosts": ["c.example"]}]},
    {"name": "old", "state": "absent", "apps": []},
]
SERVING = {"generations": [{"number": 1, "phase": "serving"}]}
FOUND: dict[str, Any] = {
    "pools": [
        {"name": "main", "unit": "active (running)", "status": SERVING,
         "apps": [{"name": app["name"]} for app in APPS]},
        {"name": "clock", "unit": "active (running)", "status": SERVING,
         "apps": [{"name": "clock"}]},
    ],
    "certificates": [
        {"name": "blog", "wanted": "acme", "served": "self-signed"},
        {"name": "wiki", "wanted": "self-signed", "served": "self-signed"},
    ],
}  # fmt: skip
VALUES = {
    **proving.DEFAULTS,
    "frontend_tls": False,
    "frontend_acme_email": "",
    "frontend_port": 80,
    "frontend_tls_port": 443,
    "frontend_requests_per_second": 0,
}
TOLD = {"error": "", "oom_kills": {"main": 0}}
RESTARTS = {"prove_restarts": len(runs.run().events)}


def plan(pool="", app="", pools=POOLS, found=FOUND, **values):
    return proving.plan(pools, found, {**VALUES, **values}, pool=pool, app=app)


def test_each_app_with_a_health_check_is_asked_for_by_its_own_name_and_path():
    made = plan()
    assert [(site.pool, str(site)) for site in made.sites] == [
        ("main", "http://blog.example/up"),
        ("main", "http://example.org/wiki/"),
        ("clock", "http://c.example/"),
    ]
    assert made.unasked == ("asleep",)
    assert [pool["name"] for pool in made.pools] == ["main", "clock"]


@pytest.mark.parametrize(
    ("changes", "scheme", "port"),
    [
        ({}, "http", 80),
        ({"frontend_port": 8080}, "http", 8080),
        ({"frontend_tls": "true"}, "https", 443),
        ({"frontend_tls": "false"}, "http", 80),
        ({"frontend_acme_email": "me@example.org", "frontend_tls_port": 8443}, "https", 8443),
    ],
)
def test_they_are_asked_for_as_the_front_end_serves_them(changes, scheme, port):
    site = plan(**changes).sites[0]
    assert str(site).startswith(f"{scheme}://")
    assert site.address("") == f"blog.example:{port}"


def test_a_certificate_has_to_be_trusted_unless_a_self_signed_one_is_wanted():
    """That none was had yet is no reason to trust anybody."""
    assert [(site.app, site.verified) for site in plan(frontend_tls=True).sites] == [
        ("blog", True),
        ("wiki", False),
        ("clock", False),
    ]


@pytest.mark.parametrize(
    ("instead", "address"),
    [
        ("", "blog.example:80"),
        ("192.0.2.1", "192.0.2.1:80"),
        ("192.0.2.1:8080", "192.0.2.1:8080"),
        ("[2001:db8::1]", "[2001:db8::1]:80"),
        ("[2001:db8::1]:8080", "[2001:db8::1]:8080"),
    ],
)
def test_a_site_is_reached_by_its_name_or_where_the_user_says(instead, address):
    assert plan().sites[0].address(instead) == address


@pytest.mark.parametrize(
    ("pool", "app", "words"),
    [
        ("nobody", "", 'pool: "nobody" is not in the inventory; there: main, clock'),
        ("old", "", 'pool: "old" is not in the inventory'),
        ("", "nobody", 'app: "nobody" is not in the inventory; there: blog, wiki, asleep, clock'),
        ("clock", "blog", 'app: "blog" is not in the pool "clock"'),
        ("", "asleep", "nobody can be asked: no health_path for asleep"),
    ],
)
def test_who_is_not_there_is_refused_with_who_is(pool, app, words):
    with pytest.raises(Refused, match=words.replace("?", r"\?")):
        plan(pool, app)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ({**FOUND, "pools": []}, "pool main: is not on the machine, there: none"),
        (
            {**FOUND, "pools": [{**FOUND["pools"][0], "apps": [{"name": "blog"}]}]},
            "app wiki: is not on the machine, pool main there has: blog",
        ),
        (
            {**FOUND, "pools": [{**FOUND["pools"][0], "status": {}, "unit": "failed (failed)"}]},
            "pool main: does not serve, it is failed",
        ),
    ],
)
def test_a_machine_that_is_not_what_the_inventory_says_is_refused(found, words):
    with pytest.raises(Refused, match=words):
        plan(found=found)


def test_a_pool_or_an_app_alone_leaves_the_others():
    assert {site.pool for site in plan("clock").sites} == {"clock"}
    made = plan(app="wiki")
    assert [site.app for site in made.sites] == ["wiki"]
    assert [pool["name"] for pool in made.pools] == ["main"]


@pytest.mark.parametrize(
    ("values", "limit", "pause"),
    [
        ({}, None, 6 / 20),  # three sites, each of two clients
        ({"prove_requests_per_second": 60}, None, 6 / 60),
        ({"frontend_requests_per_second": 20}, None, 6 / 10),  # half of what one may ask
        ({"frontend_requests_per_second": 100}, None, 6 / 20),
        ({}, 2, 2 / 1),  # two clients of a site that takes two requests a second
        ({}, 100, 6 / 20),
    ],
)
def test_no_more_is_asked_than_nginx_lets_one_visitor(values, limit, pause):
    pools = [{**POOLS[0], "apps": [{**APPS[0], "requests_per_second": limit}, *APPS[1:]]}, POOLS[1]]
    assert plan(pools=pools, **values).pause_seconds == pytest.approx(pause, abs=0.001)


@pytest.mark.parametrize(
    ("statuses", "status", "fault"),
    [
        ((), 200, ""),
        ((), 302, ""),
        ((), 404, ""),
        ((), 503, "status 503, expected is below 500"),
        ((200, 302), 404, "status 404, expected is 200 or 302"),
        ((), 421, "status 421: the front end there does not know this name; run site.yml first"),
        ((429,), 429, "status 429: nginx limits what this machine may ask; try again later"),
    ],
)
def test_a_site_that_is_not_healthy_before_is_refused(statuses, status, fault):
    site = Site("main", "blog", "blog.example", "/", statuses, 80, tls=False, verified=False)
    assert site.fault(status) == fault


def test_a_site_has_to_go_on_answering_as_it_did():
    site = plan().sites[0]
    found = proving.targets({site: 302})
    assert [(one.kind, one.host, one.path, one.status) for one in found] == [
        ("new", "blog.example", "/up", 302),
        ("keep-alive", "blog.example", "/up", 302),
    ]


def test_who_is_asked_to_agree_reads_what_is_done_to_whom_and_for_how_long():
    said = "\n".join(proving.words(plan(), "vps1", VALUES))
    for part in (
        "vps1: restarts the pools main, clock gracefully, 5 times each",
        "3 sites, by GET alone, some 20 times a second",
        "http://example.org/wiki/",
        "at most 300 seconds",
        "no machine for production",
        "not asked, having no health_path: asleep",
    ):
        assert part in said


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"prove_restarts": 0}, "prove_restarts: 0 is outside 1 to 1000"),
        ({"prove_restarts": "many"}, 'prove_restarts: "many" is not a whole number'),
        ({"prove_seconds": 9}, "prove_seconds: 9 is outside 10 to 86400"),
        ({"prove_shared_floor_percent": 101}, "prove_shared_floor_percent: 101 is outside 0 to"),
        ({"prove_yes": "perhaps"}, 'prove_yes: "perhaps" is not true or false'),
    ],
)
def test_settings_that_can_not_be_used_are_named(changes, words):
    values = {**proving.DEFAULTS, **changes}
    assert [found[: len(words)] for found in proving.wrong(values, {})] == [words]
    assert proving.wrong(proving.DEFAULTS, {}) == []


def test_a_misspelt_setting_is_named():
    (found,) = proving.wrong(proving.DEFAULTS, {"prove_restart": 3})
    assert found.startswith("prove_restart: 3 is not a known setting; known: prove_address")


@pytest.mark.parametrize(
    ("began", "ended", "ahead"),
    [
        (101, 109, 0.0),  # between ours of 100 and 110: they may well agree
        (99, 107, -1.0),
        (103, 111, 1.0),
        (1101, 1109, 999.0),
        (-899, -891, -999.0),
    ],
)
def test_another_clock_is_told_by_what_can_not_be(began, ended, ahead):
    assert proving.clock_ahead(100, began, ended, 110) == ahead


def sharing(percent: float | None, phase: str = "serving") -> Run:
    run = runs.run()
    return replace(
        run,
        samples=tuple(
            replace(
                sample,
                generations=tuple(
                    replace(one, workers_shared_percent=percent, phase=phase)
                    for one in sample.generations
                ),
            )
            for sample in run.samples
        ),
    )


@pytest.mark.parametrize(
    ("run", "pool", "told", "words"),
    [
        (sharing(80.0), {}, TOLD, []),
        (sharing(80.0), {"memory_max_mb": 162}, TOLD, []),
        (sharing(80.0), {"memory_max_mb": 161}, TOLD, ["over its memory_max_mb of 161"]),
        (sharing(49.6), {}, TOLD, ["its workers shared 50 % of their memory, under 50 %"]),
        (sharing(10.0, "draining"), {}, TOLD, ["what its workers share was never seen"]),
        (sharing(None), {}, TOLD, ["what its workers share was never seen"]),
        (sharing(None), {"command": ["node"]}, TOLD, []),
        (sharing(80.0), {}, {**TOLD, "error": "only 3 of 5"}, ["only 3 of 5"]),
        (
            replace(sharing(80.0), events=()),
            {},
            TOLD,
            ["0 restarts were made, and 2 were asked for"],
        ),
        (
            sharing(80.0),
            {},
            {**TOLD, "oom_kills": {"main": 2}},
            ["main: the kernel has killed 2 of its processes for their memory"],
        ),
    ],
)
def test_what_was_promised_and_is_not_so_is_told(run, pool, told, words):
    found = list(proving.faults(run, [{"name": "main", **pool}], told, {**VALUES, **RESTARTS}))
    assert len(found) == len(words), found
    assert all(part in sentence for sentence, part in zip(found, words, strict=True)), found


def test_a_floor_of_zero_asks_for_no_sharing():
    values = {**VALUES, **RESTARTS, "prove_shared_floor_percent": 0}
    for percent in (None, 0.0):
        assert not list(proving.faults(sharing(percent), [{"name": "main"}], TOLD, values))


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("low 0\nhigh 3\noom 2\noom_kill 2\n", 2),
        ("oom_kill_disable 0\nunder_oom 0\noom_kill 7\n", 7),
        ("oom_kill_disable 0\nunder_oom 0\n", 0),
    ],
)
def test_the_kernels_kills_are_counted_on_both_kinds_of_cgroups(text, count):
    assert pool_restarts.oom_kills(text) == count
