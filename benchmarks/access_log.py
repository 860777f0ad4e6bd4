"""Writes an access log as nginx would, of visitors whose kind is known."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

_BEGAN = datetime(2026, 11, 16, tzinfo=UTC).timestamp()
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_CHROME = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko)"
    " Chrome/{version}.0.0.0 Safari/537.36"
)
_GOOGLEBOT = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
_APPLEBOT = (
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_5) AppleWebKit/605.1.15 (KHTML, like Gecko)"
    " Version/13.1.1 Safari/605.1.15 (Applebot/0.1; +http://www.apple.com/go/applebot)"
)
_FEEDLY = "Feedly/1.0 (+http://www.feedly.com/fetcher.html; 12 subscribers)"
_UPTIME = "Mozilla/5.0+(compatible; UptimeRobot/2.0; http://www.uptimerobot.com/)"
_CURL = "curl/8.14.1"
_SITES = ("blog.example.org", "shop.example.org", "notes.example.org")
_ASSETS = ("/static/style.css", "/static/app.js", "/static/logo.svg")
# The kinds' shares of all sessions, in percent.
_KINDS = (
    ("person", 45), ("googlebot", 15), ("applebot", 8), ("impostor", 6), ("undeclared", 8),
    ("feed_reader", 10), ("monitor", 5), ("program", 3),
)  # fmt: skip
GROUPS = {
    "person": "person", "googlebot": "verified", "applebot": "verified", "impostor": "impostor",
    "undeclared": "undeclared", "feed_reader": "feed_reader", "monitor": "monitor",
    "program": "unverified",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Request:
    """A request, and the kind of visitor that it is of."""

    kind: str
    time: float
    vhost: str
    address: str
    path: str
    status: int
    size: int
    app_seconds: float | None
    referer: str
    agent: str


def name(address: str, kind: str) -> str | None:
    """Return what the address of a visitor is called in the DNS; None when it has no name."""
    dashed = address.replace(".", "-")
    if kind == "googlebot":
        return f"crawl-{dashed}.googlebot.com"
    if kind == "person":
        return f"{dashed}.isp.example"
    return None


def requests(count: int, seed: int = 1) -> Iterator[Request]:
    """Yield some requests, in order of time, the same ones for a seed."""
    chance = random.Random(seed)  # noqa: S311
    kinds, weights = zip(*_KINDS, strict=True)
    time, made = _BEGAN, 0
    while made < count:
        kind = chance.choices(kinds, weights)[0]
        for request in _session(kind, chance, time):
            time = request.time
            yield request
            made += 1
            if made == count:
                return


def combined(request: Request) -> str:
    """Return a request as a line of nginx's combined log."""
    moment = datetime.fromtimestamp(request.time, UTC)
    month = _MONTHS[moment.month - 1]
    when = f"{moment.day:02}/{month}/{moment.year}:{moment:%H:%M:%S} +0000"
    return (
        f'{request.address} - - [{when}] "GET {request.path} HTTP/1.1" {request.status}'
        f' {request.size} "{request.referer or "-"}" "{request.agent or "-"}"\n'
    )


def as_json(request: Request) -> str:
    """Return a request as a line of the role frontend's JSON log."""
    app = "" if request.app_seconds is None else f"{request.app_seconds:.3f}"
    line = {
        "time": datetime.fromtimestamp(request.time, UTC).isoformat(timespec="seconds"),
        "host": request.vhost,
        "address": request.address,
        "method": "GET",
        "uri": request.path,
        "protocol": "HTTP/1.1",
        "status": request.status,
        "bytes": request.size,
        "seconds": round((request.app_seconds or 0) + 0.001, 3),
        "app_seconds": app,
        "referer": request.referer,
        "agent": request.agent,
    }
    return f"{json.dumps(line, separators=(',', ':'))}\n"


def _session(kind: str, chance: random.Random, time: float) -> Iterator[Request]:
    vhost = chance.choice(_SITES)

    def ask(path: str, agent: str, address: str, referer: str = "", status: int = 200) -> Request:
        nonlocal time
        time += chance.expovariate(2.0)
        asset = path.startswith("/static/")
        return Request(
            kind, time, vhost, address, path, status, chance.randint(300, 30_000),
            None if asset else round(chance.uniform(0.005, 0.08), 3), referer, agent,
        )  # fmt: skip

    page = f"/posts/{chance.randint(1, 500)}"
    if kind == "person":
        agent = _CHROME.format(version=chance.randint(120, 142))
        address = f"198.51.{chance.randint(0, 255)}.{chance.randint(1, 254)}"
        for _ in range(chance.randint(1, 4)):
            yield ask(page, agent, address, f"https://{vhost}/")
            for asset in _ASSETS:
                yield ask(asset, agent, address, f"https://{vhost}{page}")
    elif kind in ("googlebot", "impostor"):
        third = 66 if kind == "googlebot" else 113
        first = "66.249" if kind == "googlebot" else "203.0"
        address = f"{first}.{third}.{chance.randint(1, 60)}"
        yield ask("/robots.txt", _GOOGLEBOT, address)
        for _ in range(chance.randint(1, 12)):
            yield ask(f"/posts/{chance.randint(1, 500)}", _GOOGLEBOT, address)
    elif kind == "applebot":
        yield ask(page, _APPLEBOT, f"17.22.237.{chance.randint(1, 254)}")
    elif kind == "undeclared":
        agent = _CHROME.format(version=99)
        address = f"192.0.2.{chance.randint(1, 40)}"
        yield ask("/robots.txt", agent, address)
        for _ in range(chance.randint(5, 30)):
            yield ask(f"/posts/{chance.randint(1, 500)}", agent, address)
    elif kind == "feed_reader":
        yield ask("/feed", _FEEDLY, "203.0.113.200", status=304)
    elif kind == "monitor":
        yield ask("/", _UPTIME, "203.0.113.201")
    else:
        yield ask(page, _CURL, "203.0.113.202")
