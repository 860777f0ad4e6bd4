from dataclasses import replace
from ipaddress import ip_network

import pytest

from supervisor_py.crawlers import classify
from supervisor_py.crawlers.classify import Facts, Verdict, verdict
from supervisor_py.crawlers.known import CRAWLERS, MANNERS, NETWORKS, TRAINING, Ranges
from supervisor_py.crawlers.names import Names
from supervisor_py.crawlers.visits import Visit

from .test_claims import CHROME

GOOGLEBOT = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
APPLEBOT = "Mozilla/5.0 (Macintosh) (Applebot/0.1; +http://www.apple.com/go/applebot)"
GPTBOT = "Mozilla/5.0 (compatible; GPTBot/1.3; +https://openai.com/gptbot)"
SOMEWHERE = "203.0.113.5"
READER = Visit(requests=40, pages=8, assets=32, referers=39, most_in_a_minute=3)


def of(
    agent: str, visit: Visit = READER, facts: Facts | None = None, address: str = SOMEWHERE
) -> Verdict:
    return verdict(agent, address, visit, facts or Facts())


def named(*confirmed: str, unconfirmed: tuple[str, ...] = ()) -> Facts:
    return Facts(Names(confirmed, unconfirmed))


@pytest.mark.parametrize(
    ("facts", "group"),
    [
        (named("crawl-203-0-113-5.googlebot.com"), "verified"),
        (named("mail.example", "rate-limited-proxy-203-0-113-5.google.com"), "verified"),
        (named(), "impostor"),
        (named("host.example"), "impostor"),
        (named("googlebot.com.evil.example"), "impostor"),
        (named("evilgooglebot.com"), "impostor"),
        (named(unconfirmed=("crawl-203-0-113-5.googlebot.com",)), "impostor"),
        (Facts(None), "unverified"),
        (Facts(None, offline=True), "unverified"),
    ],
)
def test_a_claimed_crawler_is_verified_by_a_name_that_leads_back(facts: Facts, group: str) -> None:
    assert of(GOOGLEBOT, facts=facts).group == group


def test_an_impostors_reason_says_what_it_is_and_what_it_should_be() -> None:
    assert of(GOOGLEBOT, facts=named("host.example")).reason == (
        "is host.example; its name should end in googlebot.com or google.com"
    )


def test_published_ranges_verify_without_a_name() -> None:
    found = of(APPLEBOT, address="17.22.237.9", facts=Facts(None, offline=True))
    assert found.group == "verified"
    assert "search.developer.apple.com/applebot.json of 2026-" in found.reason
    assert of(APPLEBOT, address="::ffff:17.22.237.9").group == "verified", "IPv4 in IPv6"


def test_ranges_that_may_be_old_prove_nobody_an_impostor_and_fetched_ones_do() -> None:
    assert of(GPTBOT).group == "unverified"
    fetched = {"GPTBot": Ranges((ip_network("198.51.100.0/24"),), "2026-11-25", "gptbot.json")}
    assert of(GPTBOT, facts=Facts(lists=fetched)).group == "impostor"
    assert of(GPTBOT, facts=Facts(lists=fetched), address="198.51.100.9").group == "verified"


@pytest.mark.parametrize("address", ["10.0.0.1", "127.0.0.1", "::1", "fd00::1", "unix:", "junk"])
def test_nobody_is_an_impostor_for_an_address_that_is_not_his_own(address: str) -> None:
    assert of(GOOGLEBOT, address=address, facts=named()).group == "unverified"


def test_a_browser_from_an_advertising_network_is_an_undeclared_bot() -> None:
    found = of(CHROME, facts=named("target.microad.jp"))
    assert (found.group, found.name) == ("undeclared", "MicroAd, an advertising network")
    assert found.reason == "a browser's User-Agent, from target.microad.jp"


NO_ASSETS = replace(READER, assets=0)
SIGNS = {
    "robots.txt": replace(NO_ASSETS, robots=1),
    "probes": replace(READER, probes=5),
    "pace": Visit(requests=90, pages=90, assets=2, referers=90, most_in_a_minute=60),
    "pages alone": Visit(requests=20, pages=20, most_in_a_minute=1),
}


@pytest.mark.parametrize("visit", SIGNS.values(), ids=SIGNS)
def test_who_behaves_like_a_bot_with_a_browsers_user_agent_is_an_undeclared_one(
    visit: Visit,
) -> None:
    assert of(CHROME, visit).group == "undeclared"


INNOCENT = {
    "a reader": READER,
    "curious about robots.txt": replace(READER, robots=1),
    "robots.txt alone": Visit(requests=1, robots=1),
    "some probes": replace(READER, probes=4),
    "19 pages alone": Visit(requests=19, pages=19),
    "pages with referrers, from a cache": Visit(requests=40, pages=40, referers=1),
    "an office": Visit(requests=700, pages=70, assets=630, most_in_a_minute=60),
    "slower than a page a second": Visit(requests=90, pages=59, referers=9, most_in_a_minute=59),
}


@pytest.mark.parametrize("visit", INNOCENT.values(), ids=INNOCENT)
def test_people_are_who_no_rule_is_against(visit: Visit) -> None:
    assert of(CHROME, visit).group == "person"
    assert of(CHROME, visit, named("198-51-100-1.isp.example")).group == "person"


@pytest.mark.parametrize("visit", [SIGNS["robots.txt"], SIGNS["pace"], SIGNS["pages alone"]])
def test_where_no_page_has_pictures_or_styles_nobody_is_blamed_for_loading_none(
    visit: Visit,
) -> None:
    assert of(CHROME, visit, Facts(has_assets=False)).group == "person"


@pytest.mark.parametrize(
    ("agent", "visit", "group"),
    [
        ("", READER, "undeclared"),
        ("Feedly/1.0", READER, "feed_reader"),
        (CHROME, Visit(requests=3, feeds=3), "feed_reader"),
        (CHROME, Visit(requests=2, feeds=2), "person"),
        ("Mozilla/5.0+(compatible; UptimeRobot/2.0)", READER, "monitor"),
        ("DotBot/1.2", SIGNS["pace"], "unverified"),
        ("curl/8.1", SIGNS["pages alone"], "unverified"),
    ],
)
def test_the_other_groups(agent: str, visit: Visit, group: str) -> None:
    assert of(agent, visit).group == group


def test_every_group_that_a_verdict_has_is_one_of_the_reports() -> None:
    assert {"verified", "impostor", "unverified", "undeclared", "feed_reader", "monitor"} | {
        "person", "rest",
    } == set(classify.GROUPS)  # fmt: skip


def test_each_row_of_the_tables_has_its_source() -> None:
    assert min(len(CRAWLERS), len(MANNERS), len(NETWORKS)) > 3
    assert all(one.source.startswith("https://") for one in (*CRAWLERS, *MANNERS))
    assert all(one.source for one in NETWORKS)
    assert all(one.domains or one.ranges for one in CRAWLERS), "else it can't be checked"
    assert all(one.delay_source for one in MANNERS if one.delay is not None)
    assert {one.name for one in MANNERS} >= set(TRAINING)
