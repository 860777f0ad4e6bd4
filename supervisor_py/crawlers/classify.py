"""Who somebody is, by what he says, where he comes from and what he does: pure rules.

docs/crawlers.md explains each to administrators. None of them is sure; all are said with the
verdict, and people are who no rule is against.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from . import claims, known
from .claims import Claim
from .known import Crawler, Ranges
from .names import Names
from .visits import Visit

VERIFIED, IMPOSTOR, UNVERIFIED, UNDECLARED, FEED_READER, MONITOR, PERSON, REST = (
    "verified", "impostor", "unverified", "undeclared", "feed_reader", "monitor", "person", "rest",
)  # fmt: skip
GROUPS = {
    VERIFIED: "verified crawlers",
    IMPOSTOR: "impostors",
    UNVERIFIED: "unverified bots",
    UNDECLARED: "undeclared bots",
    FEED_READER: "feed readers",
    MONITOR: "monitors",
    PERSON: "people",
    REST: "not looked into",
}
# A browser loads the files of a page, and says on most pages where it came from.
_PAGES_ALONE = 20
# Nobody reads a page a second, also not several people of one office.
_PAGES_A_MINUTE = 60
_PAGES_PER_ASSET = 10
_PROBES = 5
_FEEDS = 3
_DECLARED = {
    claims.FEED_READER: (FEED_READER, "its User-Agent is a feed reader's"),
    claims.MONITOR: (MONITOR, "its User-Agent is a monitor's"),
    claims.CRAWLER: (UNVERIFIED, "no way is known to check this name"),
    claims.PROGRAM: (UNVERIFIED, "its User-Agent is a program's, and no browser's"),
}
_ROBOTS_PAGES = 2  # who has only looked at robots.txt may be a curious person
_OWN = tuple(ip_network(one) for one in known.OWN)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The group of a client, under which name, and why."""

    group: str
    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a client beside what it does.

    `names` is None when nobody could tell; `offline` that nobody was asked. `lists` are ranges that
    the administrator has fetched, by a crawler's name: those prove both ways. `has_assets` tells
    that the sites it visits have pictures, styles and the like for somebody.
    """

    names: Names | None = None
    offline: bool = False
    lists: Mapping[str, Ranges] | None = None
    has_assets: bool = True


def address(text: str) -> IPv4Address | IPv6Address | None:
    """Return an address of the internet; None of what is none, and of one's own network."""
    try:
        found = ip_address(text)
    except ValueError:
        return None
    if isinstance(found, IPv6Address) and found.ipv4_mapped:
        found = found.ipv4_mapped
    return None if any(found in network for network in _OWN) else found


def verdict(agent: str, client: str, visit: Visit, facts: Facts) -> Verdict:
    """Tell which group a client belongs to."""
    claim = claims.claim(agent)
    if claim.crawler is not None:
        where = address(client)
        if where is None:
            reason = "its address is none of the internet's: is nginx behind a proxy?"
            return Verdict(UNVERIFIED, claim.name, reason)
        return _by_ranges(claim.crawler, where, facts) or _by_name(claim.crawler, facts)
    if claim.kind in (claims.BROWSER, claims.NOTHING):
        sign = next(_signs(claim, visit, facts), "")
        if sign:
            return Verdict(UNDECLARED, _network(facts), sign)
        if visit.feeds >= _FEEDS and not visit.pages and not visit.assets:
            return Verdict(FEED_READER, "", "asks for feeds alone")
        return Verdict(PERSON, "", "a browser, and nothing speaks against it")
    group, reason = _DECLARED[claim.kind]
    return Verdict(group, claim.name, reason)


def checks_names(agent: str) -> bool:
    """Tell whether who has this User-Agent is checked by the name of his address."""
    crawler = claims.claim(agent).crawler
    return crawler is not None and bool(crawler.domains)


def is_browser(agent: str) -> bool:
    """Tell whether this is a browser's User-Agent."""
    return claims.claim(agent).kind == claims.BROWSER


def _by_ranges(crawler: Crawler, where: IPv4Address | IPv6Address, facts: Facts) -> Verdict | None:
    """Check by published ranges; None when only the address's name can tell."""
    fetched = (facts.lists or {}).get(crawler.name)
    for ranges in (fetched, crawler.ranges):
        if ranges and any(where in network for network in ranges.networks):
            reason = f"in the ranges of {ranges.source} of {ranges.date}"
            return Verdict(VERIFIED, crawler.name, reason)
    if crawler.domains:
        return None
    if fetched:
        reason = f"not in the ranges of {fetched.source} of {fetched.date}"
        return Verdict(IMPOSTOR, crawler.name, reason)
    reason = "not in the ranges that are known, which may be too old"
    return Verdict(UNVERIFIED, crawler.name, reason)


def _by_name(crawler: Crawler, facts: Facts) -> Verdict:
    """Check by the name of the address, which has to lead back to it."""
    wanted = " or ".join(crawler.domains)
    if facts.names is None:
        why = "offline" if facts.offline else "its name could not be learnt"
        return Verdict(UNVERIFIED, crawler.name, f"{why}; it should end in {wanted}")
    for name in facts.names.confirmed:
        if _ends_in(name, crawler.domains):
            return Verdict(VERIFIED, crawler.name, f"{name}, confirmed")
    what = "has no name"
    for name in called(facts.names):
        what = f"is {name}"
        if _ends_in(name, crawler.domains):
            what = f"calls itself {name}, which is not its address"
            break
    return Verdict(IMPOSTOR, crawler.name, f"{what}; its name should end in {wanted}")


def _signs(claim: Claim, visit: Visit, facts: Facts) -> Iterator[str]:
    """Tell what speaks against a person."""
    if claim.kind == claims.NOTHING:
        yield "has no User-Agent"
    if _network(facts):
        yield f"a browser's User-Agent, from {', '.join(called(facts.names))}"
    if visit.probes >= _PROBES:
        yield f"asked for {visit.probes} things that only attacks ask for"
    if not facts.has_assets:
        return
    if visit.robots and not visit.assets and visit.pages >= _ROBOTS_PAGES:
        yield "reads robots.txt, and of its pages no picture or style"
    few_assets = visit.assets * _PAGES_PER_ASSET < visit.pages
    if few_assets and visit.most_in_a_minute >= _PAGES_A_MINUTE:
        yield f"{visit.most_in_a_minute} pages in one minute"
    if visit.pages >= _PAGES_ALONE and not visit.assets and not visit.referers:
        yield f"{visit.pages} pages without a picture, style or referrer"


def called(names: Names | None) -> tuple[str, ...]:
    """Return all names of an address."""
    return () if names is None else names.confirmed + names.unconfirmed


def _network(facts: Facts) -> str:
    """Return whose machines those are that an address says to be of, if they only crawl."""
    for name in called(facts.names):
        for network in known.NETWORKS:
            if _ends_in(name, (network.domain,)):
                return network.operator
    return ""


def _ends_in(name: str, domains: tuple[str, ...]) -> bool:
    return any(name == domain or name.endswith(f".{domain}") for domain in domains)
