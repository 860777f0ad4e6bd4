"""What --port may say, by the rules of Server::Starter 0.35."""

from __future__ import annotations

import errno

from . import sockets
from .errors import FatalError
from .record import Record
from .sockets import AF_INET, AF_INET6, SOCK_DGRAM, SOCK_STREAM

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from .errors import Complaints

ANY_HOST = "0.0.0.0"  # noqa: S104  a bare port means IPv4, all addresses, as in Perl
ALLOWED_PORT = "[HOST:][u]PORT[=FD], HOST a name, an IPv4 address or [IPv6], PORT 0 to 65535"
MOST_PORT = 65535


class Port(Record):
    """A --port value. `name` is what SERVER_STARTER_PORT calls it; `fd` None is automatic.

    `address` is the host as bind(2) takes it, once it was resolved.
    """

    name: str
    host: str
    number: int
    kind: int
    fd: int | None
    address: str = ""

    def family(self) -> int:
        """Return AF_INET6 for a host with a colon, else AF_INET (names resolve to IPv4)."""
        return AF_INET6 if ":" in self.host else AF_INET

    def resolved(self) -> Port:
        """Return it with its address; raises FatalError when there is no such host."""
        if self.family() == AF_INET6 or self.host == ANY_HOST:
            return self.but(address=self.host)
        try:
            return self.but(address=sockets.resolve(self.host))
        except (OSError, UnicodeError) as error:
            why = getattr(error, "strerror", None) or error
            raise FatalError(f"failed to resolve host:{self.host}: {why}") from error


def _digits(text: str) -> bool:
    return text.isascii() and text.isdecimal()


def parse_port(text: str) -> Port:
    """Read a --port value; raises FatalError."""
    wrong = FatalError(f"invalid ``port'' value:{text} (allowed: {ALLOWED_PORT})")
    host, colon, rest = text.strip().rpartition(":")
    port, equals, fd = rest.strip().partition("=")
    port = port.rstrip()
    kind = SOCK_DGRAM if port.startswith("u") else SOCK_STREAM
    port = port.removeprefix("u")
    if not _digits(port) or int(port) > MOST_PORT or (equals and not _digits(fd)):
        raise wrong
    number = int(fd) if equals else None
    if number is not None and 0 < number < 3:  # noqa: PLR2004
        raise FatalError(f"invalid ``port'' value:{text} (fd {number} is taken for messages)")
    if not colon:
        return Port(port, ANY_HOST, int(port), kind, number)
    host = host.strip().removeprefix("[").removesuffix("]").lstrip()
    if "[" in host or "]" in host:
        raise wrong
    if not host or (":" in host and not sockets.is_ip6(host)):
        raise FatalError(f"failed to resolve host:{host}: no such address (in --port={text})")
    name = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return Port(name, host, int(port), kind, number)


def parse_ports(texts: Iterable[str], wrong: Complaints) -> tuple[Port, ...]:
    """Read all --port values; one that is wrong, or wants what another has, is a complaint."""
    found: list[Port] = []
    fds: dict[int, str] = {}
    addresses: dict[tuple[int, str, int], str] = {}
    for text in texts:
        with wrong:
            port = parse_port(text)
            address = (port.kind, port.host, port.number)
            if port.number and address in addresses:
                raise FatalError(
                    f"--port={text}: the same as --port={addresses[address]}", errno.EADDRINUSE
                )
            if port.fd in fds:
                raise FatalError(f"--port={text}: its fd is taken by --port={fds[port.fd]}", 1)
            addresses[address] = text
            if port.fd is not None:
                fds[port.fd] = text
            found.append(port)
    return tuple(found)
