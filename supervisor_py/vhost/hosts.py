"""Which app a request is for, from its host and path alone. Pure."""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Generic, TypeVar
from urllib.parse import urlsplit

LONGEST_NAME = 253  # RFC 1035 section 2.3.4, less the root's dot and length byte
LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
# RFC 9110 section 7.2: uri-host [":" port]. The name itself is checked by canonical().
HOST_HEADER = re.compile(r"(?P<name>\[[0-9a-fA-F:.]{2,45}\]|[^:\[\]]+)(:[0-9]{0,5})?", re.ASCII)
PREFIX = re.compile(r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+", re.ASCII)
DOT_SEGMENT = re.compile(r"(^|/)\.\.?(/|$)")
SLASHES = re.compile("//+")
ALL = "*"  # the host of the app that gets what no other app has
# Unicode's other full stops (UTS 46 section 4.5), as typed on a Chinese or Japanese keyboard
FULL_STOPS = str.maketrans("\u3002\uff0e\uff61", "...")
# Letters, digits and marks make a label (RFC 5892 section 2.1); punctuation and symbols do not.
LABEL_CATEGORIES = frozenset({"Ll", "Lo", "Lm", "Mn", "Mc", "Nd"})
JOINERS = frozenset("\u00b7\u0375\u05f3\u05f4\u30fb")  # RFC 5892's exceptions, by context

Target = TypeVar("Target")


class BadHostError(ValueError):
    """The Host header is missing, duplicated or nonsense: the answer is 400."""


class UnknownHostError(LookupError):
    """The Host header is fine, and nobody here has that name: the answer is 421."""


class UnknownPathError(LookupError):
    """The host is served here, but under other paths only: the answer is 404."""


@dataclass(frozen=True, slots=True)
class Site:
    """One entry of an app's hosts: a name, and the path under which the app lives there."""

    host: str  # canonical; or "*.name" for all names below that one, or "*" for all others
    prefix: str = ""  # "" for the whole host, or "/wiki"

    def __str__(self) -> str:
        return self.host + self.prefix


def canonical(name: str) -> str | None:
    """Return a host name in its one comparable form, or None where it is no host name.

    Lower case, and without the root's trailing dot. Letters, digits, "-" and "." only (RFC 1123):
    internationalized names travel in their xn-- form.
    """
    bare = name.removesuffix(".")
    if not bare.isascii() or len(bare) > LONGEST_NAME:
        return None
    lowered = bare.lower()
    if not all(LABEL.fullmatch(label) for label in lowered.split(".")):
        return None
    return lowered


def to_ascii(name: str) -> str | None:
    """Return the canonical form of a name that may be written in Unicode, None if it is none.

    As browsers map it (UTS 46, non-transitional: "ß" stays a letter of its own), which Python's
    codec "idna" doesn't.
    """
    lowered = "".join(letter.lower() for letter in name.translate(FULL_STOPS))
    labels = unicodedata.normalize("NFKC", lowered).split(".")
    return canonical(".".join(label if label.isascii() else _punycode(label) for label in labels))


def _punycode(label: str) -> str:
    for letter in label:
        known = letter == "-" or letter in JOINERS
        if not known and unicodedata.category(letter) not in LABEL_CATEGORIES:
            return ""  # which is no label
    return "xn--" + label.encode("punycode").decode("ascii")


def site(text: str) -> Site | None:
    """Return an entry of an app's hosts, or None where the text is none.

    `name`, `*.name` or `*`, each with a `/path` behind it or not.
    """
    host, slash, path = text.partition("/")
    prefix = f"/{path.removesuffix('/')}" if slash and path else ""
    if prefix and not PREFIX.fullmatch(prefix):
        return None
    if host == ALL:
        return Site(ALL, prefix)
    wildcard = "*." if host.startswith("*.") else ""
    name = to_ascii(host.removeprefix(wildcard))
    return Site(wildcard + name, prefix) if name else None


@lru_cache(maxsize=1024)
def host_of(header: str | None) -> str:
    """Return the canonical name in a Host header; an IPv6 literal keeps its brackets.

    Raises BadHostError when there is none, more than one (WSGI servers join those with commas), or
    one that is no host name.
    """
    if not header:
        raise BadHostError("no Host header")
    match = HOST_HEADER.fullmatch(header)
    if match is None:
        raise BadHostError("the Host header is not a host name with an optional port")
    name = match["name"]
    if name.startswith("["):
        return name.lower()
    known = canonical(name)
    if known is None:
        raise BadHostError("the Host header is not a host name")
    return known


def host_of_request(header: str | None, target: str) -> str:
    """Return the canonical name that a whole request is for; raises BadHostError.

    A request target in absolute form carries a name, too (RFC 9112 section 3.2.2), which must be
    the header's: servers in a row that each trust another one of them can be made to disagree.
    """
    name = host_of(header)
    if target[:1] not in ("/", "*"):
        try:
            authority = urlsplit(target).netloc
        except ValueError:
            authority = ""
        if host_of(authority) != name:
            raise BadHostError("the request's target and its Host header name different hosts")
    return name


class Router(Generic[Target]):
    """Sites to their targets: the nearest host, and under it the longest path that fits."""

    def __init__(self, sites: Mapping[Site, Target] | Iterable[tuple[Site, Target]]) -> None:
        """Take sites, each of them once: the pool file has been checked for that."""
        self._hosts: dict[str, list[tuple[str, Target]]] = {}
        for site, target in dict(sites).items():
            self._hosts.setdefault(site.host, []).append((site.prefix, target))
        for mounts in self._hosts.values():
            mounts.sort(key=lambda mount: len(mount[0]), reverse=True)

    def pick(self, header: str | None, target: str, path: str) -> tuple[Target, str, str]:
        """Return whom a request is for, the prefix of its path that has led there, and the rest.

        By its Host header, its request target, and the path of that, decoded.
        Raises BadHostError, UnknownHostError or UnknownPathError.
        """
        name = host_of_request(header, target)
        mounts = self._hosts.get(name) or self._nearest(name)
        if len(mounts) > 1 or mounts[0][0]:
            if DOT_SEGMENT.search(path):
                # Who resolves "/wiki/../shop", here or in the front end, would decide who gets it.
                raise BadHostError('the path has segments "." or ".."')
            merged = SLASHES.sub("/", path)  # as nginx compares it
            for prefix, found in mounts:
                rest = merged[len(prefix) :]
                if merged.startswith(prefix) and rest[:1] in ("", "/"):
                    return found, prefix, rest if prefix else path
            raise UnknownPathError(path)
        return mounts[0][1], "", path

    def _nearest(self, name: str) -> list[tuple[str, Target]]:
        rest = name
        while rest:
            _, _, rest = rest.partition(".")
            if rest and (mounts := self._hosts.get(f"*.{rest}")):
                return mounts
        if mounts := self._hosts.get(ALL):
            return mounts
        raise UnknownHostError(name)
