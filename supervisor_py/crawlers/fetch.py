"""Fetches a robots.txt as a crawler would: by http or https alone, within bounds."""

import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from urllib.parse import urlsplit

from ..errors import FatalError
from .robots import MOST_BYTES

_SECONDS = 10.0  # without any answer
_ALL_SECONDS = 30.0
_MOST_REDIRECTS = 5  # RFC 9309, 2.3.1.2
_CHUNK = 64 * 1024
_SCHEMES = ("http", "https")


@dataclass(frozen=True, slots=True)
class Fetched:
    """What was answered, and by which address in the end."""

    url: str
    status: int
    content: bytes


def url_of(host: str) -> str:
    """Return the address of a host's robots.txt; raises FatalError when that is no host."""
    whole = host if "://" in host else f"https://{host}"
    try:
        parts = urlsplit(whole)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    name = parts.hostname or ""
    printable = name.isascii() and name.isprintable() and " " not in name
    right = parts.scheme in _SCHEMES and name and printable and "@" not in parts.netloc
    if not right or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise FatalError(
            f"{host} is not allowed: a host (example.org), with https:// or http:// before it and"
            " :PORT behind it where they are needed; of other names than ASCII ones the xn-- form",
            1,
        )
    shown = f"[{name}]" if ":" in name else name
    return f"{parts.scheme}://{shown}{f':{port}' if port else ''}/robots.txt"


def fetch(url: str) -> Fetched:
    """Fetch a robots.txt; raises FatalError when no HTTP answer comes."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _Redirects(),
    ):
        opener.add_handler(handler)
    request = urllib.request.Request(  # noqa: S310  # url_of lets through nothing else
        url, headers={"User-Agent": "kechi-robots (explains robots.txt)"}
    )
    try:
        try:
            answer = opener.open(request, timeout=_SECONDS)
        except urllib.error.HTTPError as error:
            return Fetched(error.url or url, error.code, b"")
        assert isinstance(answer, HTTPResponse)
        with answer:
            return Fetched(answer.url or url, answer.status, _read(answer))
    except (OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise FatalError(f"{url}: could not be fetched: {reason}", 1) from None


def _read(answer: HTTPResponse) -> bytes:
    """Read up to one byte more than is looked at, and not for ever."""
    until = time.monotonic() + _ALL_SECONDS
    parts: list[bytes] = []
    size = 0
    while size <= MOST_BYTES and (part := answer.read1(_CHUNK)):
        parts.append(part)
        size += len(part)
        if time.monotonic() > until:
            raise TimeoutError(f"took more than {_ALL_SECONDS:g} seconds")
    return b"".join(parts)[: MOST_BYTES + 1]


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows as many as RFC 9309 asks for; out of http there is no handler to follow with."""

    max_redirections = _MOST_REDIRECTS
