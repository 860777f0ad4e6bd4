"""Counts what each client does on each vhost, in memory that does not grow with the log."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from .lines import Hit

MOST_CLIENTS = 20_000  # looked into one by one, the busiest; the others are only added up
MOST_VHOSTS = 1000
OTHER_VHOSTS = "(other vhosts)"
_CLIENT_ERROR, _SERVER_ERROR = 400, 500
_MINUTE = 60
_ASSETS = frozenset(
    (
        "css", "js", "mjs", "map", "json", "png", "jpg", "jpeg", "gif", "webp", "avif", "svg",
        "ico", "woff", "woff2", "ttf", "otf", "eot", "mp3", "mp4", "webm", "ogg", "wav", "pdf",
        "wasm", "webmanifest",
    )
)  # fmt: skip
_FEED = re.compile(r"\.(rss|atom)$|/(feed|rss|atom)(\.xml|/)?$|^/index\.xml$")
# What no app here has, and whoever looks for holes asks for first.
_PROBES = (
    "/wp-login", "/wp-admin", "/wp-includes", "/wp-content", "/xmlrpc.php", "/.env", "/.git/",
    "/.aws/", "/.ssh/", "/phpmyadmin", "/pma/", "/vendor/phpunit", "/cgi-bin/", "/boaform/",
    "/hnap1", "/owa/", "/actuator", "/solr/", "/_ignition", "/shell",
)  # fmt: skip
# Whether the robots.txt of a vhost lets this User-Agent have that address.
Allows = Callable[[str, str], bool]


class Key(NamedTuple):
    """A client on a vhost."""

    vhost: str
    address: str
    agent: str


@dataclass(slots=True)
class Visit:
    """What a client has done on a vhost."""

    requests: int = 0
    size: int = 0
    app_seconds: float = 0.0
    timed: int = 0  # of the requests, those that the log tells the time of
    client_errors: int = 0
    server_errors: int = 0
    robots: int = 0
    broken: int = 0
    judged: int = 0  # of the requests, those that a robots.txt was there for
    pages: int = 0
    assets: int = 0
    feeds: int = 0
    referers: int = 0
    probes: int = 0
    most_in_a_minute: int = 0
    minute: int = 0
    in_minute: int = 0

    def add(self, other: "Visit") -> None:
        """Add what was done elsewhere, or by others."""
        self.requests += other.requests
        self.size += other.size
        self.app_seconds += other.app_seconds
        self.timed += other.timed
        self.client_errors += other.client_errors
        self.server_errors += other.server_errors
        self.robots += other.robots
        self.broken += other.broken
        self.judged += other.judged
        self.pages += other.pages
        self.assets += other.assets
        self.feeds += other.feeds
        self.referers += other.referers
        self.probes += other.probes
        self.most_in_a_minute = max(self.most_in_a_minute, other.most_in_a_minute)


class Visits:
    """All visits that a log tells of."""

    def __init__(
        self, robots: Mapping[str, Allows] | None = None, most_clients: int = MOST_CLIENTS
    ) -> None:
        self.visits: dict[Key, Visit] = {}
        self.rest: dict[str, Visit] = {}  # by vhost, those of clients that were not kept
        self.rest_clients = 0
        self.first = self.last = 0.0
        self._robots = dict(robots or {})
        self._most = most_clients
        self._vhosts: set[str] = set()

    def read(self, hits: Iterable[Hit]) -> None:
        """Count requests."""
        for hit in hits:
            self.count(hit)

    def count(self, hit: Hit) -> None:
        """Count a request."""
        vhost, address, time, method, uri, status, size, referer, agent, app_seconds = hit
        if vhost not in self._vhosts:
            vhost = self._admit(vhost)
        key = Key(vhost, address, agent)
        visit = self.visits.get(key)
        if visit is None:
            if len(self.visits) >= 2 * self._most:
                self._make_room()
            visit = self.visits[key] = Visit()
        visit.requests += 1
        visit.size += size
        if app_seconds is not None:
            visit.app_seconds += app_seconds
            visit.timed += 1
        if status >= _CLIENT_ERROR:
            if status >= _SERVER_ERROR:
                visit.server_errors += 1
            else:
                visit.client_errors += 1
        if referer:
            visit.referers += 1
        self._what(visit, method, uri.partition("?")[0].lower(), status, int(time) // _MINUTE)
        allows = self._robots.get(vhost)
        if allows is not None:
            visit.judged += 1
            visit.broken += not allows(agent, uri)
        self.last = max(self.last, time)
        if not self.first or time < self.first:
            self.first = time

    def _what(self, visit: Visit, method: str, path: str, status: int, minute: int) -> None:
        """Count what kind of thing was asked for."""
        ending = path.rpartition("/")[2].rpartition(".")[2] if "." in path else ""
        if ending in _ASSETS:
            visit.assets += 1
            return
        if path == "/robots.txt":
            visit.robots += 1
            return
        if status >= _CLIENT_ERROR and path.startswith(_PROBES):
            visit.probes += 1
        if _FEED.search(path):
            visit.feeds += 1
        elif method in ("GET", "HEAD"):
            visit.pages += 1
            if minute != visit.minute:
                visit.minute, visit.in_minute = minute, 0
            visit.in_minute += 1
            visit.most_in_a_minute = max(visit.most_in_a_minute, visit.in_minute)

    def _admit(self, vhost: str) -> str:
        """Return the name to count a vhost under: whoever sends Host headers may make up many."""
        if len(self._vhosts) >= MOST_VHOSTS:
            return OTHER_VHOSTS
        self._vhosts.add(vhost)
        return vhost

    def _make_room(self) -> None:
        """Keep the busiest clients, and add the others up."""
        by_requests = sorted(self.visits, key=lambda key: self.visits[key].requests, reverse=True)
        for key in by_requests[self._most :]:
            self.rest.setdefault(key.vhost, Visit()).add(self.visits.pop(key))
            self.rest_clients += 1

    def finish(self) -> None:
        """Keep no more clients than were asked for, now that the log is read."""
        if len(self.visits) > self._most:
            self._make_room()
