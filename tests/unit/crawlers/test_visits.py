from dataclasses import fields

import pytest

from supervisor_py.crawlers import visits as visits_
from supervisor_py.crawlers.lines import Hit
from supervisor_py.crawlers.visits import Key, Visit, Visits

HIT = Hit("example.org", "192.0.2.1", 60_000.0, "GET", "/", 200, 10, "", "a browser", 0.5)


def counted(*hits: Hit, visits: Visits | None = None) -> Visit:
    visits = visits or Visits()
    visits.read(hits)
    visit = Visit()
    for one in visits.visits.values():
        visit.add(one)
    return visit


def test_all_that_is_counted_is_added_up() -> None:
    names = [one.name for one in fields(Visit) if one.name not in ("minute", "in_minute")]
    visit = Visit()
    visit.add(Visit(**dict.fromkeys(names, 3)))
    assert {name: getattr(visit, name) for name in names} == dict.fromkeys(names, 3)


def test_requests_bytes_time_and_errors_are_added_up() -> None:
    visit = counted(HIT, HIT._replace(status=404), HIT._replace(status=503, app_seconds=None))
    assert (visit.requests, visit.size, visit.app_seconds, visit.timed) == (3, 30, 1.0, 2)
    assert (visit.client_errors, visit.server_errors) == (1, 1)


@pytest.mark.parametrize(
    ("uri", "kind"),
    [
        ("/", "pages"), ("/a/b?x=/c.css", "pages"), ("/v1.2/page", "pages"),
        ("/sitemap.xml", "pages"),
        ("/static/app.css", "assets"), ("/logo.PNG?v=2", "assets"), ("/robots.txt", "robots"),
        ("/robots.txt?x", "robots"), ("/feed", "feeds"), ("/blog/feed/", "feeds"),
        ("/atom.xml", "feeds"), ("/posts.rss", "feeds"), ("/index.xml", "feeds"),
    ],
)  # fmt: skip
def test_what_was_asked_for_is_told_apart(uri: str, kind: str) -> None:
    visit = counted(HIT._replace(uri=uri))
    found = {name: getattr(visit, name) for name in ("pages", "assets", "robots", "feeds")}
    assert found == dict.fromkeys(found, 0) | {kind: 1}


def test_only_a_refused_probe_counts_as_one() -> None:
    assert counted(HIT._replace(uri="/wp-login.php", status=404)).probes == 1
    assert counted(HIT._replace(uri="/wp-login.php", status=200)).probes == 0, "there is one here"


def test_the_pace_is_the_busiest_minutes() -> None:
    hits = [HIT._replace(time=60_000.0 + second) for second in (0, 1, 2, 60, 61)]
    assert counted(*hits).most_in_a_minute == 3


def test_a_client_is_an_address_and_a_user_agent_on_a_vhost() -> None:
    visits = Visits()
    visits.read([HIT, HIT._replace(address="192.0.2.2"), HIT._replace(vhost="b"), HIT])
    assert {key: visit.requests for key, visit in visits.visits.items()} == {
        Key("example.org", "192.0.2.1", "a browser"): 2,
        Key("example.org", "192.0.2.2", "a browser"): 1,
        Key("b", "192.0.2.1", "a browser"): 1,
    }


def test_memory_is_bounded_and_no_request_is_lost() -> None:
    visits = Visits(most_clients=10)
    most = 0
    for number in range(1000):
        busy = 3 if number < 5 else 1
        for _ in range(busy):
            visits.count(HIT._replace(agent=f"made up {number}"))
        most = max(most, len(visits.visits))
    visits.finish()
    assert most <= 20
    assert len(visits.visits) == 10
    assert {f"made up {number}" for number in range(5)} <= {key.agent for key in visits.visits}
    assert visits.rest_clients == 990
    kept = sum(visit.requests for visit in visits.visits.values())
    assert kept + visits.rest["example.org"].requests == 1010


def test_made_up_hosts_take_no_memory_either() -> None:
    visits = Visits()
    visits.read(HIT._replace(vhost=f"{number}.example") for number in range(1500))
    vhosts = {key.vhost for key in visits.visits}
    assert len(vhosts) == visits_.MOST_VHOSTS + 1
    assert visits_.OTHER_VHOSTS in vhosts


def test_rules_broken_are_counted_where_a_robots_txt_is_known() -> None:
    visits = Visits({"example.org": lambda agent, uri: not uri.startswith("/private")})
    visit = counted(
        HIT, HIT._replace(uri="/private/1"), HIT._replace(vhost="b", uri="/private"), visits=visits
    )
    assert (visit.judged, visit.broken) == (2, 1)
