"""The listening sockets: from --port and --path, or inherited from systemd."""

from __future__ import annotations

import fcntl
import os

from . import sockets
from .effects import say
from .errors import FatalError, from_os_error
from .handoff import PORT_VARIABLE, UNNAMED, Handed, encode_listen, encode_ports
from .record import Record
from .sockets import AF_INET, AF_INET6, AF_UNIX, SOCK_DGRAM, SOCK_STREAM, Socket
from .unixpath import UnixListener

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

ANY_HOST = "0.0.0.0"  # noqa: S104  a bare port means IPv4, all addresses, as in Perl
ALLOWED_PORT = "[HOST:][u]PORT[=FD], HOST a name, an IPv4 address or [IPv6], PORT 0 to 65535"
_PATH_MODE = 0o777  # Perl's: who may connect is the directory's business
_MOST_PORT = 65535


class Port(Record):
    """A --port value. `name` is what SERVER_STARTER_PORT calls it; `fd` None is automatic."""

    name: str
    host: str
    number: int
    kind: int
    fd: int | None

    def family(self) -> int:
        """Return AF_INET6 for a host with a colon, else AF_INET (names resolve to IPv4)."""
        return AF_INET6 if ":" in self.host else AF_INET


def _digits(text: str) -> bool:
    return text.isascii() and text.isdecimal()


def parse_port(text: str) -> Port:
    """Read a --port value by the rules of Server::Starter 0.35; raises FatalError."""
    wrong = FatalError(f"invalid ``port'' value:{text} (allowed: {ALLOWED_PORT})")
    host, colon, rest = text.strip().rpartition(":")
    port, equals, fd = rest.strip().partition("=")
    port = port.rstrip()
    kind = SOCK_DGRAM if port.startswith("u") else SOCK_STREAM
    port = port.removeprefix("u")
    if not _digits(port) or int(port) > _MOST_PORT or (equals and not _digits(fd)):
        raise wrong
    number = int(fd) if equals else None
    if number is not None and 0 < number < 3:  # noqa: PLR2004
        raise FatalError(f"invalid ``port'' value:{text} (fd {number} is taken for messages)")
    if not colon:
        return Port(port, ANY_HOST, int(port), kind, number)
    host = host.strip().removeprefix("[").removesuffix("]").strip()
    if "[" in host or "]" in host:
        raise wrong
    if not host or (":" in host and not sockets.is_ip6(host)):
        raise FatalError(f"failed to resolve host:{host}: no such address (in --port={text})")
    name = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return Port(name, host, int(port), kind, number)


class _Opened:
    """A socket on its way to the number that children will see."""

    def __init__(self, name: str, label: str, fd: int, wanted: int | None = None) -> None:
        self.name = name
        self.label = label
        self.fd = fd
        self.wanted = wanted


class Listeners:
    """All listening sockets, at the fd numbers that children see; they are inheritable."""

    def __init__(self, opened: Sequence[_Opened], made: Sequence[UnixListener]) -> None:
        self._opened = opened
        self._made = made

    def variables(self) -> dict[str, str]:
        """Return the variables that tell a child of its sockets (LISTEN_PID is the child's)."""
        handed = [Handed(one.name, one.fd) for one in self._opened]
        labels = {one.fd: one.label for one in self._opened}
        return {PORT_VARIABLE: encode_ports(handed), **encode_listen(labels)}

    def names(self) -> tuple[str, ...]:
        """Return the names of all sockets, as SERVER_STARTER_PORT has them."""
        return tuple(one.name for one in self._opened)

    def fds(self) -> list[int]:
        """Return the fds of all sockets."""
        return [one.fd for one in self._opened]

    def remove(self) -> None:
        """Unlink the paths that we made; inherited ones are systemd's."""
        for one in self._made:
            one.remove()


def open_all(
    ports: Sequence[str], paths: Sequence[str], backlog: int, inherited: Sequence[Handed]
) -> Listeners:
    """Open every listener, ports first, then paths, then what was inherited beyond them.

    An inherited socket that already is at the address of a --port or --path takes its place.
    Raises FatalError, with the sockets that were made removed again.
    """
    specs = [parse_port(text) for text in ports]
    _check_fds(specs)
    for path in paths:
        if ";" in path:
            raise FatalError(f'--path: "{path}" has a ";", which {PORT_VARIABLE} can\'t carry', 1)
    spare = [(handed, _inherited_socket(handed)) for handed in inherited]
    opened: list[_Opened] = []
    made: list[UnixListener] = []
    try:
        for port in specs:
            opened.append(_adopt_port(port, spare) or _open_port(port, backlog))
        for path in paths:
            adopted = _adopt_path(path, spare)
            if adopted is None:
                listener = UnixListener(path, backlog, _PATH_MODE)
                made.append(listener)
                adopted = _Opened(path, path, listener.socket.detach())
            opened.append(adopted)
        opened += [_take(_own_name(handed, socket), handed, socket) for handed, socket in spare]
        _place(opened)
    except BaseException:
        for listener in made:
            listener.remove()
        raise
    return Listeners(opened, made)


def _check_fds(specs: Sequence[Port]) -> None:
    taken: dict[int, str] = {}
    for port in specs:
        if port.fd is not None and port.fd in taken:
            raise FatalError(
                f"--port={port.name}={port.fd}: fd {port.fd} is taken by "
                f"--port={taken[port.fd]}={port.fd}",
                1,
            )
        if port.fd is not None:
            taken[port.fd] = port.name


def _inherited_socket(handed: Handed) -> Socket:
    try:
        socket = sockets.from_fd(handed.fd)
    except OSError as error:
        raise from_os_error(
            f"LISTEN_FDS: fd {handed.fd} ({handed.name}) is not a socket", error
        ) from error
    socket.setblocking(True)  # systemd's are not; Perl's always were
    return socket


_Spare = list[tuple[Handed, Socket]]


def _take(name: str, handed: Handed, socket: Socket, wanted: int | None = None) -> _Opened:
    label = handed.name if handed.name != UNNAMED else name
    return _Opened(name, label, socket.detach(), wanted)


def _adopt_port(port: Port, spare: _Spare) -> _Opened | None:
    if port.number == 0:
        return None
    for handed, socket in spare:
        if socket.type == port.kind and socket.family in (AF_INET, AF_INET6):
            host, number = socket.getsockname()[:2]
            # systemd binds a bare port to [::], which takes IPv4 in as well.
            everywhere = port.host == ANY_HOST and host == "::" and sockets.takes_ip4(socket)
            if number == port.number and (host == _address(port) or everywhere):
                spare.remove((handed, socket))
                return _take(port.name, handed, socket, port.fd)
    return None


def _adopt_path(path: str, spare: _Spare) -> _Opened | None:
    for handed, socket in spare:
        if socket.family == AF_UNIX and socket.type == SOCK_STREAM:
            bound = socket.getsockname()
            if (
                isinstance(bound, str)
                and bound
                and os.path.realpath(bound) == os.path.realpath(path)
            ):
                spare.remove((handed, socket))
                return _take(path, handed, socket)
    return None


def _own_name(handed: Handed, socket: Socket) -> str:
    """Name an inherited socket by its address, which is what its clients know; else as handed."""
    address = socket.getsockname()
    if socket.family == AF_UNIX and isinstance(address, str) and address:
        return address
    if socket.family in (AF_INET, AF_INET6):
        host, port = address[:2]
        if host in (ANY_HOST, "::"):
            return str(port)
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return handed.name


def _address(port: Port) -> str:
    if port.family() == AF_INET6 or port.host == ANY_HOST:
        return port.host
    try:
        return sockets.resolve(port.host)
    except (OSError, UnicodeError) as error:
        raise FatalError(f"failed to resolve host:{port.host}: {error}") from error


def _open_port(port: Port, backlog: int) -> _Opened:
    address = _address(port)
    socket = Socket(port.family(), port.kind)
    try:
        sockets.allow_reuse(socket)
        if port.family() == AF_INET6:
            sockets.only_ip6(socket)
        socket.bind((address, port.number))
        if port.kind == SOCK_STREAM:
            socket.listen(backlog)
    except OSError as error:
        socket.close()
        raise from_os_error(f"failed to bind to {port.name}", error) from error
    return _Opened(port.name, port.name, socket.detach(), port.fd)


def _place(opened: Sequence[_Opened]) -> None:
    """Move each socket to its number: the one asked for, else the lowest free one from 3 up."""
    asked = {one.wanted for one in opened if one.wanted is not None}
    free = (number for number in range(3, 4 + len(asked) + len(opened)) if number not in asked)
    targets = [one.wanted if one.wanted is not None else next(free) for one in opened]
    above = max(targets, default=2) + 1
    # First out of the way, all of them: a target may be where another one is.
    try:
        for one in opened:
            moved = fcntl.fcntl(one.fd, fcntl.F_DUPFD_CLOEXEC, above)
            os.close(one.fd)
            one.fd = moved
        for one, target in zip(opened, targets, strict=True):
            os.dup2(one.fd, target, inheritable=True)
            os.close(one.fd)
            one.fd = target
            if one.wanted is not None:
                say(f"socket is duplicated to file descriptor {target}")
    except OSError as error:
        raise from_os_error(f"failed to give sockets the fds {targets}", error) from error
