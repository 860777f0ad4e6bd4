"""What the role crawlers tells crawlers, read as those read it."""

import tomllib
from collections.abc import Mapping
from pathlib import Path

import jinja2
import pytest
import yaml

from ansible_collections.kechi.vps.plugins.plugin_utils.robots_policy import robots_files, text
from supervisor_py.crawlers import known, robots

TOP = Path(__file__).parents[3]
Policy = Mapping[str, object]
ROLE = TOP / "roles" / "crawlers"
SITES = [
    {"name": "a", "hosts": ["a.example", "WWW.a.example", "*.bücher.example"], "socket": "/a"},
    {"name": "b", "hosts": ["a.example/wiki", "b.example"], "socket": "/b"},
    {"name": "rest", "hosts": ["*"], "socket": "/c"},
]


def allowed(policy: Policy, agent: str, path: str = "/x") -> bool:
    return robots.explain(robots.parse(text(policy).encode()), agent, path).allowed


def test_each_host_has_the_policy_that_names_it_or_the_one_for_all_others():
    files = robots_files(
        SITES, [{"hosts": ["A.example", "*.xn--bcher-kva.example"], "disallow": ["/a"]}, {}]
    )
    assert [(one["host"], one["name"]) for one in files] == [
        ("a.example", "a.example.txt"),
        ("www.a.example", "www.a.example.txt"),
        ("*.xn--bcher-kva.example", "_.xn--bcher-kva.example.txt"),
        ("b.example", "b.example.txt"),
        ("default", "_.txt"),
    ]
    assert ["Disallow: /a" in one["content"] for one in files] == [True, False, True, False, False]


def test_a_host_without_a_policy_is_left_to_its_app():
    assert robots_files(SITES, []) == []
    found = robots_files(SITES, [{"hosts": ["b.example"]}])
    assert [one["host"] for one in found] == ["b.example"]


@pytest.mark.parametrize("agent", known.TRAINING)
def test_who_trains_models_is_opted_out_of_and_search_engines_are_not(agent):
    opted = {"ai_training": False}
    assert not allowed(opted, agent)
    assert allowed({}, agent)
    for other in ("Googlebot", "Applebot", "bingbot", "Claude-SearchBot", "OAI-SearchBot", "Any"):
        assert allowed(opted, other), other


def test_rules_are_obeyed_as_they_are_meant():
    policy = {"disallow": ["/private", "/*.pdf$"], "allow": ["/private/open"]}
    paths = ["/", "/private/x", "/private/open/x", "/a/b.pdf", "/a/b.pdf?c"]
    assert [allowed(policy, "Any", path) for path in paths] == [True, False, True, False, True]
    assert not allowed({"disallow": ["/"]}, "Any")


def test_a_crawler_that_is_named_obeys_its_own_rules_alone():
    named = {"disallow": ["/"], "agents": [{"names": ["Applebot", "Foo"], "disallow": ["/a"]}]}
    for agent in ("Applebot", "Foo"):
        assert allowed(named, agent, "/b")
        assert not allowed(named, agent, "/a")
    assert not allowed(named, "Bar", "/b")
    assert allowed({"disallow": ["/"], "agents": [{"names": ["Foo"]}]}, "Foo")


@pytest.mark.parametrize("agent", [one.name for one in known.MANNERS if one.delay])
def test_whoever_honours_a_crawl_delay_finds_it(agent):
    policy = {"crawl_delay_seconds": 10, "disallow": ["/private"]}
    found = robots.explain(robots.parse(text(policy).encode()), agent, "/")
    assert (found.delay, found.delay_reason) == (10, "which it honours")


def test_sitemaps_are_named_for_everybody():
    assert text({"sitemaps": ["https://a.example/s.xml"]}).endswith(
        "\nSitemap: https://a.example/s.xml\n"
    )


def test_the_role_installs_what_the_package_asks_for():
    project = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]
    defaults = yaml.safe_load((ROLE / "defaults" / "main.yml").read_text())
    assert defaults["crawlers_requirements"] == project["optional-dependencies"]["crawlers"]


def http_conf(policies, limits):
    environment = jinja2.Environment(
        trim_blocks=True, keep_trailing_newline=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["bool"] = bool
    return environment.from_string((ROLE / "templates" / "http.conf.j2").read_text()).render(
        _crawlers_robots=robots_files(SITES, policies),
        _crawlers_limits=limits,
        _crawlers_nginx="/etc/nginx/kechi.d",
        crawlers_limit_requests_per_minute=10,
    )


def test_nginx_has_one_default_whether_or_not_a_policy_is_for_it():
    choices: list[list[Policy]] = [[{}], [{"hosts": ["b.example"]}]]
    for policies in choices:
        map_ = http_conf(policies, False).partition("}")[0]
        assert map_.count("default ") == 1
    assert 'default "";' in http_conf([{"hosts": ["b.example"]}], False)
    assert "default _.txt;" in http_conf([{}], False)


def test_nginx_limits_only_where_that_was_asked_for():
    assert "limit_req_zone" not in http_conf([{}], False)
    assert "zone=kechi-crawlers:1m rate=10r/m" in http_conf([], True)
    assert "kechi_robots" not in http_conf([], True)


def test_nginx_is_told_of_long_keys_before_its_first_map():
    text_ = http_conf([{}], True)
    assert text_.index("map_hash_bucket_size") < text_.index("map $")
