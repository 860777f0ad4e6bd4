"""A line of nginx's access log, combined or JSON, as what the report needs of it."""

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache
from typing import Any, NamedTuple

MOST_AGENT, MOST_URI, MOST_NAME = 256, 2048, 255  # of UTF-8, in bytes: visitors choose them
NO_VHOST = "-"

# The first word is the vhost where the log begins with it, as Apache's vhost_combined does.
_COMBINED = re.compile(
    r"(\S{1,300}) (?:([^\s-]\S{0,63}) )?- .{0,256}? \[([^\]]{1,40})\] "
    r'"([^"\\]*(?:\\.[^"\\]*)*)" (\d{3}) (\d{1,18}|-) '
    r'"([^"\\]*(?:\\.[^"\\]*)*)" "([^"\\]*(?:\\.[^"\\]*)*)"'
)
_COMBINED_TIME = re.compile(
    r"([0-9]{2}/[A-Z][a-z]{2}/[0-9]{4}:[0-9]{2}:[0-9]{2}):([0-9]{2}) ([+-][0-9]{4})"
)
_SECONDS = 60
_MONTHS = {
    "Jan": 1, "Feb": 2, "Mar": 3, "Apr": 4, "May": 5, "Jun": 6,
    "Jul": 7, "Aug": 8, "Sep": 9, "Oct": 10, "Nov": 11, "Dec": 12,
}  # fmt: skip
_METHOD = re.compile(r"[A-Z]{1,16}")
# By field its names, ours (docs/crawlers.md) before nginx's own, which most other formats use.
_FIELDS = (
    ("address", "remote_addr", "client_ip", "remote_ip", "client", "ip"),
    ("time", "time_iso8601", "time_local", "timestamp", "@timestamp", "msec", "ts"),
    ("server_name", "host", "vhost", "http_host"),
    ("method", "request_method"),
    ("uri", "request_uri", "path", "url"),
    ("request",),
    ("status",),
    ("bytes", "body_bytes_sent", "bytes_sent"),
    ("referer", "http_referer", "referrer"),
    ("agent", "http_user_agent", "user_agent"),
    ("app_seconds", "upstream_response_time"),
    ("seconds", "request_time"),
)


class Hit(NamedTuple):
    """One request. `app_seconds` is None where the log doesn't tell the time that it took."""

    vhost: str
    address: str
    time: float
    method: str
    uri: str
    status: int
    size: int
    referer: str
    agent: str
    app_seconds: float | None


def reader(vhost: str = "") -> Callable[[str], Hit | None]:
    """Return what reads a line of either kind; None stands for no line of an access log.

    `vhost` is that of lines which don't name theirs.
    """
    unnamed = vhost or NO_VHOST

    def read(line: str) -> Hit | None:
        if line.startswith("{"):
            return _json(line, unnamed)
        return _combined(line, unnamed)

    return read


def _combined(line: str, unnamed: str) -> Hit | None:
    match = _COMBINED.match(line)
    if match is None:
        return None
    first, second, time, request, status, size, referer, agent = match.groups()
    seconds = when(time)
    if seconds is None:
        return None
    method, uri = _request(request)
    return Hit(
        _vhost(first) or unnamed if second else unnamed,
        (second or first)[:64],
        seconds,
        method,
        uri,
        int(status),
        0 if size == "-" else int(size),
        _said(referer)[:MOST_URI],
        _cut(_said(agent), MOST_AGENT),
        None,
    )


def _json(line: str, unnamed: str) -> Hit | None:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    # fmt: off
    (
        address, time, host, method, uri, request, status, size, referer, agent, app, all_,
    ) = map(found.get, _keys(tuple(found)))
    # fmt: on
    seconds = when(time) if isinstance(time, str) else _number(time)
    code = _number(status)
    if not (address and isinstance(address, str)) or seconds is None or code is None:
        return None
    method, uri = _text(method), _text(uri)
    if not uri:
        method, uri = _request(_text(request))
    return Hit(
        _vhost(_text(host)) or unnamed,
        address[:64],
        seconds,
        method if _METHOD.fullmatch(method) else "",
        uri[:MOST_URI],
        int(code),
        int(_number(size) or 0),
        _said(_text(referer))[:MOST_URI],
        _cut(_said(_text(agent)), MOST_AGENT),
        _number(all_) if app is None else _sum(app),
    )


@lru_cache(64)
def _keys(present: tuple[str, ...]) -> tuple[str, ...]:
    """Return the name that each field has, of those that are present; "" for none."""
    return tuple(next((name for name in names if name in present), "") for names in _FIELDS)


def _request(request: str) -> tuple[str, str]:
    """Return the method and the address of a request line; empty ones of what is none."""
    words = request.split(" ")
    if len(words) > 1 and _METHOD.fullmatch(words[0]):
        return words[0], words[1][:MOST_URI]
    return "", ""


def _cut(value: str, most: int) -> str:
    """Cut text to that many bytes: one picture among its letters makes all of them four bytes."""
    if value.isascii():
        return value[:most]
    return value.encode("utf-8", "replace")[:most].decode("utf-8", "ignore")


def _said(value: str) -> str:
    return "" if value == "-" else value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _number(value: Any) -> float | None:
    """Return a number that is neither negative nor beyond reason, written as one or as text."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value < 1e15 else None  # noqa: PLR2004  # NaN is not, either


def _sum(value: Any) -> float | None:
    """Return how long the app took: of several tries the sum; 0 where nginx answered itself."""
    if not isinstance(value, str):
        return _number(value)
    if "," not in value and ":" not in value:
        return _number(value) or 0.0
    parts = value.replace(":", ",").split(",")
    return sum(_number(part.strip()) or 0.0 for part in parts)


@lru_cache(4096)
def _vhost(name: str) -> str:
    """Return a host's name as one that is the same however it was asked for."""
    name = name.lower()[: MOST_NAME + 6]
    if not name.startswith("[") and name.count(":") == 1:
        name = name.partition(":")[0]
    name = _cut(name.rstrip("."), MOST_NAME)
    return "" if name in ("-", "_") else name


@lru_cache(64)
def _minute(text: str, zone: str) -> float:
    """Return when a minute of a combined log began; raises ValueError, KeyError, OverflowError."""
    day, month, rest = text.split("/")
    numbers = (int(rest[:4]), _MONTHS[month], int(day), int(rest[5:7]), int(rest[8:]))
    offset = timedelta(hours=int(zone[1:3]), minutes=int(zone[3:]))
    return datetime(*numbers, tzinfo=timezone(-offset if zone[0] == "-" else offset)).timestamp()


@lru_cache(256)
def when(text: str) -> float | None:
    """Return a time of a log as Unix time; None when it is none."""
    match = _COMBINED_TIME.fullmatch(text)
    try:
        if match:
            minute, second, zone = match.groups()
            begun = _minute(minute, zone)
            return begun + int(second) if int(second) < _SECONDS else None
        if text[:1].isdigit() and "-" not in text:
            return _number(text)
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, KeyError, OverflowError):
        return None
