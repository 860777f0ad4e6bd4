"""The role `crawlers`: policies for hosts that there are, and limits that hit nobody by mistake."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from ipaddress import ip_address, ip_network
from typing import Any

from ....supervisor_py.crawlers.known import TRAINING
from .. import robots_policy, server_blocks
from ..pools import source_directory
from ..settings import problem
from .common import Machine, Values, at_least, within

# a path as robots.txt has it: it begins with "/", or with "*" for any
PATH = re.compile(r"[/*][!-\"$-~]*")  # no "#", which begins a comment
AGENT = re.compile(r"[A-Za-z0-9_.!-]+")
SITEMAP = re.compile(r"https?://[!-~]+")
LOG = re.compile(r"/[A-Za-z0-9._/*?-]+")
SERVER = re.compile(r"(?P<v4>[0-9.]+)(:[0-9]{1,5})?|\[(?P<v6>[0-9a-fA-F:.]+)\](:[0-9]{1,5})?")
SOME = "allowed: a path that begins with / or *, without spaces and #"


def crawlers(values: Values, machine: Machine) -> Iterator[str]:
    """Policies, numbers, and what the report is told."""
    yield from at_least(values, "crawlers_report_days", 1, "days")
    yield from at_least(values, "crawlers_report_keep_days", 1, "days")
    yield from within(values, "crawlers_limit_requests_per_minute", 1, 60_000)
    yield from at_least(values, "crawlers_limit_burst_requests", 0, "requests")
    yield from at_least(values, "crawlers_limit_hours", 1, "hours")
    yield from at_least(values, "crawlers_memory_max_mb", 128, "MB")
    for number, log in enumerate(values["crawlers_logs"]):
        if not LOG.fullmatch(str(log)):
            allowed = "is no log; allowed: an absolute path, with * and ? for more than one"
            yield problem(f"crawlers_logs[{number}]", log, allowed)
    for number, network in enumerate(values["crawlers_limit_never"]):
        if not _is_network(str(network)):
            allowed = "is neither an address nor a network, as 192.0.2.0/24"
            yield problem(f"crawlers_limit_never[{number}]", network, allowed)
    resolver = str(values["crawlers_resolver"])
    if resolver and not _is_server(resolver):
        fault = "is no DNS server; allowed: an address, with :PORT where it isn't 53"
        yield problem("crawlers_resolver", values["crawlers_resolver"], fault)
    house = str(values["crawlers_wheel_house"])
    if house and not (directory := source_directory(house, machine.inventory)).is_dir():
        fault = f"is no directory on the control machine ({directory})"
        yield problem("crawlers_wheel_house", house, fault)
    yield from _policies(values)


def _policies(values: Values) -> Iterator[str]:
    # before the sites are derived from the pools there are none
    known = server_blocks.hosts(values["crawlers_sites"])
    seen: dict[str, int] = {}
    for number, policy in enumerate(values["crawlers_robots"]):
        at = f"crawlers_robots[{number}]"
        named = policy.get("hosts") or [""]
        for place, text in enumerate(named):
            path = f"{at}.hosts[{place}]" if text else f"{at}.hosts"
            host = robots_policy.host(str(text)) if text else ""
            if host is None:
                fault = 'is no host; allowed: "name", "*.name", "*", without a path'
                yield problem(path, text, fault, policy)
            elif host in seen:
                what = "has" if host else "is for all hosts that no other one names, as"
                tail = "it, too" if host else f"crawlers_robots[{seen[host]}] is"
                fault = f"is named twice: crawlers_robots[{seen[host]}] {what} {tail}"
                yield problem(path, text, fault, policy)
            elif host and known and host not in known:
                fault = f"is no site's host; allowed: {', '.join(known)}"
                yield problem(path, text, fault, policy)
            else:
                seen[host] = number
        yield from _rules(at, policy)
        yield from _agents(at, policy)
        for place, url in enumerate(policy.get("sitemaps") or []):
            if not SITEMAP.fullmatch(str(url)):
                fault = "is no address of a sitemap; allowed: https://…"
                yield problem(f"{at}.sitemaps[{place}]", url, fault, policy)


def _agents(at: str, policy: Mapping[str, Any]) -> Iterator[str]:
    training = policy.get("ai_training", True) in (False, "false", "no", "False")
    seen = {name.lower(): "opted out of, by ai_training" for name in TRAINING} if training else {}
    for number, entry in enumerate(policy.get("agents") or []):
        path = f"{at}.agents[{number}]"
        if not entry["names"]:
            yield problem(f"{path}.names", entry["names"], "names nobody", policy)
        for place, name in enumerate(entry["names"]):
            if not AGENT.fullmatch(str(name)):
                fault = "is no name of a crawler; allowed: as User-agent lines have it, Applebot"
                yield problem(f"{path}.names[{place}]", name, fault, policy)
            elif str(name).lower() in seen:
                fault = f"is {seen[str(name).lower()]}, too"
                yield problem(f"{path}.names[{place}]", name, fault, policy)
            seen[str(name).lower()] = f"named by {path}"
        yield from _rules(path, entry)


def _rules(at: str, rules: Mapping[str, Any]) -> Iterator[str]:
    for kind in ("allow", "disallow"):
        for place, path in enumerate(rules.get(kind) or []):
            if not PATH.fullmatch(str(path)):
                yield problem(f"{at}.{kind}[{place}]", path, f"is no path; {SOME}", rules)
    delay = rules.get("crawl_delay_seconds")
    if delay is not None and int(delay) < 0:
        yield problem(f"{at}.crawl_delay_seconds", delay, "is negative", rules)


def _is_network(text: str) -> bool:
    try:
        ip_network(text)
    except ValueError:
        return False
    return True


def _is_server(text: str) -> bool:
    found = SERVER.fullmatch(text)
    try:
        return found is not None and bool(ip_address(found["v4"] or found["v6"]))
    except ValueError:
        return False
