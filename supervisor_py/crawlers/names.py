"""The names of addresses, confirmed by asking the other way round (forward-confirmed reverse DNS).

All at once but never more than `_AT_ONCE`, each for `_SECONDS` at most and all together for a
budget: what is not answered by then is unknown, which is no verdict on anybody.
"""

import asyncio
import contextlib
import time
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import NamedTuple

import dns.asyncresolver
import dns.exception
import dns.rdatatype
import dns.resolver
import dns.reversename

from ..errors import FatalError
from .cache import Cache

_AT_ONCE = 32
_SECONDS = 3.0  # for one question, with all that the resolver tries
_MOST_NAMES = 4  # of one address: whoever owns it may give it thousands
_PORTS = 1 << 16
_NONE = (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer)


@dataclass(frozen=True, slots=True)
class Names:
    """What an address is called: the names that lead back to it, and those that don't."""

    confirmed: tuple[str, ...] = ()
    unconfirmed: tuple[str, ...] = ()


class Server(NamedTuple):
    """A DNS server to ask instead of those in /etc/resolv.conf."""

    address: str
    port: int


def server(text: str) -> Server:
    """Read `ADDRESS` or `ADDRESS:PORT`, of IPv6 `[ADDRESS]:PORT`; raises FatalError."""
    address, port = text, "53"
    if text.startswith("["):
        address, _, port = text[1:].partition("]")
        port = port.removeprefix(":") or "53"
    elif text.count(":") == 1:
        address, _, port = text.partition(":")
    try:
        ip_address(address)
    except ValueError:
        address = ""
    if not address or not (port.isascii() and port.isdecimal() and 0 < int(port) < _PORTS):
        raise FatalError(
            f"--resolver={text} is not allowed: an address, with :PORT where it isn't 53", 1
        )
    return Server(address, int(port))


def look_up(
    addresses: Iterable[str],
    cache: Cache,
    asked: Server | None,
    seconds: float,
    *,
    offline: bool = False,
) -> dict[str, Names | None]:
    """Return the names of addresses, None of those that nobody could tell in time.

    Offline those are told that the cache has.
    """
    found: dict[str, Names | None] = {}
    now = time.time()
    for address in dict.fromkeys(addresses):
        kept = cache.get(address, now)
        found[address] = kept and Names(*kept)
    missing = [address for address, names in found.items() if names is None]
    if offline or not missing:
        return found
    try:
        resolver = _resolver(asked)
    except dns.resolver.NoResolverConfiguration:
        return found
    learnt = asyncio.run(_all(resolver, missing, seconds))
    for address, names in learnt.items():
        found[address] = names
        cache.put(address, (names.confirmed, names.unconfirmed), now)
    return found


def _resolver(asked: Server | None) -> dns.asyncresolver.Resolver:
    resolver = dns.asyncresolver.Resolver(configure=asked is None)
    if asked is not None:
        resolver.nameservers = [asked.address]
        resolver.port = asked.port
    resolver.timeout = _SECONDS / 2
    resolver.lifetime = _SECONDS
    return resolver


async def _all(
    resolver: dns.asyncresolver.Resolver, addresses: list[str], seconds: float
) -> dict[str, Names]:
    waiting = iter(addresses)
    learnt: dict[str, Names] = {}

    async def work() -> None:
        for address in waiting:
            names = await _names(resolver, address)
            if names is not None:
                learnt[address] = names

    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await asyncio.gather(*(work() for _ in range(min(_AT_ONCE, len(addresses)))))
    return learnt


async def _names(resolver: dns.asyncresolver.Resolver, address: str) -> Names | None:
    """Return what an address is called; None when that could not be learnt."""
    confirmed: list[str] = []
    unconfirmed: list[str] = []
    try:
        wanted = ip_address(address)
        try:
            answer = await resolver.resolve(
                dns.reversename.from_address(address), dns.rdatatype.PTR
            )
        except _NONE:
            return Names()
        # DNS is in capitals or not as it likes, and its names end with a dot
        called = [str(one.target).rstrip(".").lower() for one in answer]
        kind = dns.rdatatype.A if wanted.version == 4 else dns.rdatatype.AAAA  # noqa: PLR2004
        for name in called[:_MOST_NAMES]:
            try:
                forward = await resolver.resolve(f"{name}.", kind)
                back = any(ip_address(one.address) == wanted for one in forward)
            except _NONE:
                back = False
            (confirmed if back else unconfirmed).append(name)
    # ValueError: of what a server may send, and dnspython passes on
    except (dns.exception.DNSException, OSError, ValueError):
        return None
    return Names(tuple(confirmed), tuple(unconfirmed))
