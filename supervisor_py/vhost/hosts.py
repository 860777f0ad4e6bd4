"""Which app a request is for, from what it says of its host alone. Pure."""

import re
from collections.abc import Iterable, Mapping
from typing import Generic, TypeVar
from urllib.parse import urlsplit

LONGEST_NAME = 253  # RFC 1035 section 2.3.4, less the root's dot and length byte
LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
# RFC 9110 section 7.2: uri-host [":" port]. The name itself is checked by canonical().
HOST_HEADER = re.compile(r"(?P<name>\[[0-9a-fA-F:.]{2,45}\]|[^:\[\]]+)(:[0-9]{0,5})?", re.ASCII)

Target = TypeVar("Target")


class BadHostError(ValueError):
    """The Host header is missing, duplicated or nonsense: the answer is 400."""


class UnknownHostError(LookupError):
    """The Host header is fine, and nobody here has that name: the answer is 421."""


def canonical(name: str) -> str | None:
    """Return a host name in its one comparable form, or None where it is no host name.

    Lower case, and without the root's trailing dot. Letters, digits, "-" and "." only (RFC 1123),
    so an internationalized name is given in its xn-- form, as browsers send it.
    """
    bare = name.removesuffix(".")
    if not bare.isascii() or len(bare) > LONGEST_NAME:
        return None
    lowered = bare.lower()
    if not all(LABEL.fullmatch(label) for label in lowered.split(".")):
        return None
    return lowered


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
    """Exact host names to their targets; what is not there is nobody's."""

    def __init__(self, hosts: Mapping[str, Target] | Iterable[tuple[str, Target]]) -> None:
        """Take canonical names, each of them once: the pool file has been checked for that."""
        self._targets = dict(hosts)

    def pick(self, header: str | None, target: str = "/") -> Target:
        """Return whom a request is for, by its Host header and request target.

        Raises BadHostError or UnknownHostError.
        """
        name = host_of_request(header, target)
        try:
            return self._targets[name]
        except KeyError:
            raise UnknownHostError(name) from None
