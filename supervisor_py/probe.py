"""Readiness by a probe of --probe: what it asks, and of whom; `probe_helper` has it asked.

The listening sockets are shared by all generations. A connection to one of them succeeds before
anything is ready, so only an HTTP answer can tell: by the header Server-Starter-Generation.
"""

from __future__ import annotations

import _socket
import os

from . import sockets
from .errors import FatalError
from .record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

TCP, UNIX, HTTP, HTTP_UNIX = "tcp", "unix", "http", "http+unix"
GENERATION_HEADER = "Server-Starter-Generation"
ALLOWED = "tcp:HOST:PORT, unix:PATH, http://HOST:PORT/PATH, http+unix:SOCKET:/PATH"
_PLACEHOLDERS = ("{generation}", "{pid}")
_MOST_PORT = 65535
_HTTP_PORT = 80
_LONGEST_PATH = 107  # bytes that sun_path holds
_DIGITS = 7  # the most that a process id has
_ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  where connect(2) takes them


class Probe(Record):
    """A --probe value. `own`: it asks one of our own listeners, so that any generation answers."""

    text: str
    kind: str
    host: str = ""
    port: int = 0
    path: str = ""  # of a unix socket; may hold placeholders, as `url` may
    url: str = ""
    own: bool = False

    def filled(self, target: Target) -> Probe:
        """Return the probe of one generation, its number and process id filled in."""
        first, second = _PLACEHOLDERS
        values = {
            name: value.replace(first, str(target.number)).replace(second, str(target.pid))
            for name, value in (("text", self.text), ("path", self.path), ("url", self.url))
        }
        return self.but(**values)


class Target(Record):
    """The generation that a probe asks about, for at most `limit` seconds.

    `alone`: no older one is alive, so that any answer of our own listeners is this one's.
    """

    number: int
    pid: int
    alone: bool
    limit: float


def parse(text: str, own: Sequence[str]) -> Probe:
    """Read a --probe value; `own` are the names of our stream listeners, as children see them.

    Raises FatalError (exit status 1) for a wrong value, and for one that would always succeed.
    """
    kind, colon, rest = text.partition(":")
    kind = kind.lower()
    if not colon or kind not in (TCP, UNIX, HTTP, HTTP_UNIX):
        raise _wrong(text, f"is not a probe (allowed: {ALLOWED})")
    bare = rest
    for placeholder in _PLACEHOLDERS:
        bare = bare.replace(placeholder, "")
    if "{" in bare or "}" in bare:
        names = " and ".join(_PLACEHOLDERS)
        raise _wrong(text, f"has braces that stand for nothing (allowed: {names})")
    if not bare.isprintable() or (kind in (TCP, HTTP) and (" " in bare or not bare.isascii())):
        raise _wrong(text, "has characters that are not allowed there")
    if kind in (UNIX, HTTP_UNIX):
        return _parse_unix(text, kind, rest, own)
    return _parse_tcp(text, kind, rest, own)


def _wrong(text: str, why: str) -> FatalError:
    return FatalError(f'--probe: "{text}" {why}', 1)


def _parse_unix(text: str, kind: str, rest: str, own: Sequence[str]) -> Probe:
    path, url = rest, ""
    if kind == HTTP_UNIX:
        path, colon, url = rest.partition(":/")
        url = f"/{url}"
        if not colon or " " in url or not url.isascii() or "#" in url:
            raise _wrong(text, "is not http+unix:SOCKET:/PATH")
    if not path:
        raise _wrong(text, f"has no path of a socket (allowed: {ALLOWED})")
    longest = path
    for placeholder in _PLACEHOLDERS:
        longest = longest.replace(placeholder, "9" * _DIGITS)
    if len(os.fsencode(longest)) > _LONGEST_PATH:
        raise _wrong(text, f"has too long a path (allowed: {_LONGEST_PATH} bytes)")
    real = os.path.realpath(path)
    ours = any("/" in name and os.path.realpath(name) == real for name in own)
    if ours and kind == UNIX:
        raise _always(text, f"http+unix:{path}:/…")
    return Probe(text, kind, path=path, url=url, own=ours)


def _parse_tcp(text: str, kind: str, rest: str, own: Sequence[str]) -> Probe:
    url = ""
    if kind == HTTP:
        if not rest.startswith("//") or "#" in rest:
            raise _wrong(text, "is not http://HOST:PORT/PATH")
        rest, _, url = rest[2:].partition("/")
        url = f"/{url}"
        if "@" in rest or "?" in rest:
            raise _wrong(text, "is not http://HOST:PORT/PATH")
        if not rest.rpartition("]")[2].count(":"):
            rest = f"{rest}:{_HTTP_PORT}"
    host, _, digits = rest.rpartition(":")
    if not digits.isdecimal() or not 0 < int(digits) <= _MOST_PORT:
        raise _wrong(text, f'has no port that can be asked: "{digits}" (allowed: 1 to 65535)')
    if host.startswith("[") != host.endswith("]") or (":" in host and not host.startswith("[")):
        raise _wrong(text, "has an IPv6 address that is not in brackets")
    host = host.removeprefix("[").removesuffix("]")
    if not host or (":" in host and not sockets.is_ip6(host)):
        raise _wrong(text, f'has no host that can be asked: "{host}"')
    port = int(digits)
    try:
        ours = _is_own(host, port, own)
    except (OSError, UnicodeError) as error:
        raise _wrong(text, f"failed to resolve host:{host}: {error}") from error
    if ours and kind == TCP:
        raise _always(text, f"http://{rest}/…")
    return Probe(text, kind, host=host, port=port, url=url, own=ours)


def _always(text: str, instead: str) -> FatalError:
    return _wrong(
        text,
        "is a listener of start_server itself, where a connection succeeds before any generation "
        f"is ready; probe a socket that the program makes, or {instead} whose answers have the "
        f"header {GENERATION_HEADER}",
    )


def _is_own(host: str, port: int, own: Sequence[str]) -> bool:
    asked = _addresses(host)
    for name in own:
        at, _, number = name.rpartition(":")
        if "/" in name or not number.isdecimal() or int(number) != port:
            continue
        at = at.removeprefix("[").removesuffix("]")
        if at in ("", *_ANYWHERE):  # a bare port may be systemd's [::], which takes in IPv4 too
            if any(_is_local(address) for address in asked):
                return True
        elif asked & _addresses(at):
            return True
    return False


def _addresses(host: str) -> set[str]:
    """Return all addresses of a host; raises OSError or UnicodeError."""
    # As bytes: as str it would load the IDNA codec.
    found = _socket.getaddrinfo(host.encode("ascii"), None, 0, _socket.SOCK_STREAM, 0, 0)
    addresses = {str(one[4][0]).removeprefix("::ffff:") for one in found}
    return {_ANYWHERE.get(address, address) for address in addresses}


def _is_local(address: str) -> bool:
    """Tell whether an address is this machine's: only those can be bound."""
    family = sockets.AF_INET6 if ":" in address else sockets.AF_INET
    try:
        socket = sockets.Socket(family, sockets.SOCK_DGRAM)
    except OSError:  # no IPv6 here
        return False
    try:
        socket.bind((address, 0))
    except OSError:
        return False
    finally:
        socket.close()
    return True
