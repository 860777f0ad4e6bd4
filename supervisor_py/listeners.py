"""The listening sockets: from --port and --path, or inherited from systemd or one of us."""

from __future__ import annotations

import errno
import fcntl
import os

from . import fdstore, sockets
from .effects import say
from .errors import FatalError, from_os_error
from .handoff import PORT_VARIABLE, UNNAMED, Handed, encode_listen, encode_ports
from .ports import ANY_HOST
from .sockets import AF_INET, AF_INET6, AF_UNIX, SOCK_STREAM, Socket
from .unixpath import LIVE, Made, UnixListener, in_use, look

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager
    from typing import Any

    from .ports import Port
    from .settings import Settings

_PATH_MODE = 0o777  # Perl's: who may connect is the directory's business


class _Opened:
    """A socket on its way to the number that children will see.

    `ours`: one of us has made it, now or earlier, and with it what is at its path (`made`).
    """

    def __init__(self, name: str, label: str, fd: int, wanted: int | None = None) -> None:
        self.name = name
        self.label = label
        self.fd = fd
        self.wanted = wanted
        self.ours = False
        self.made: Made | None = None

    def owned(self, made: Made | None) -> _Opened:
        """Say that it is ours."""
        self.ours, self.made = True, made
        return self

    def stored_name(self) -> str:
        """Return what it is called in systemd's fd store."""
        return fdstore.name_of(self.fd, self.made)


class _Spare:
    """A socket that we were started with, until it has found its place."""

    def __init__(self, handed: Handed) -> None:
        self.handed = handed
        try:
            self.socket = sockets.from_fd(handed.fd)
        except OSError as error:
            what = f"LISTEN_FDS: fd {handed.fd} ({handed.name}) is not a socket"
            raise from_os_error(what, error) from error
        self.socket.setblocking(True)  # systemd's are not; Perl's always were
        self.ours = fdstore.is_ours(handed.name, handed.fd)

    def made(self) -> Made | None:
        """Return the file that one of us has made at its path, if it is there still."""
        address = self.socket.getsockname()
        if not self.ours or self.socket.family != AF_UNIX or not isinstance(address, str):
            return None
        made = fdstore.made_at(self.handed.name, address)
        return made if made and made.is_there() else None

    def take(self, name: str, wanted: int | None = None) -> _Opened:
        """Give it a name; its label, for LISTEN_FDNAMES, is systemd's if that gave it one."""
        labelled = not self.ours and self.handed.name != UNNAMED
        made = self.made()
        label = self.handed.name if labelled else name
        taken = _Opened(name, label, self.socket.detach(), wanted)
        return taken.owned(made) if self.ours else taken

    def name(self) -> str:
        """Name it by its address, which is what its clients know; else as it was handed."""
        address = self.socket.getsockname()
        if self.socket.family == AF_UNIX and isinstance(address, str) and address:
            return address
        if self.socket.family in (AF_INET, AF_INET6):
            host, port = address[:2]
            if host in (ANY_HOST, "::"):
                return str(port)
            return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        return self.handed.name


class Listeners:
    """All listening sockets, at the fd numbers that children see; they are inheritable."""

    def __init__(self, opened: Sequence[_Opened], forgotten: Sequence[str]) -> None:
        self._opened = opened
        self.forgotten = forgotten  # stored names of sockets that nobody asks for any more

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

    def to_store(self) -> list[tuple[str, int]]:
        """Return the sockets that are ours, by the names that say so."""
        return [(one.stored_name(), one.fd) for one in self._opened if one.ours]

    def handed(self) -> list[dict[str, Any]]:
        """Return all sockets, as `resume` in a successor of ours in this process takes them."""
        return [
            {
                "name": one.name,
                "label": one.label,
                "fd": one.fd,
                "ours": one.ours,
                "made": one.made and [one.made.path, one.made.device, one.made.inode],
            }
            for one in self._opened
        ]

    def made(self) -> list[Made]:
        """Return the paths that are ours."""
        return [one.made for one in self._opened if one.made]

    def remove(self, making: Callable[[str], AbstractContextManager[None]]) -> list[str]:
        """Unlink the paths that are ours; return the stored names of their sockets.

        Each in the context that `making` returns for it. Inherited paths are systemd's. Ports stay
        stored: systemd closes them when we are really stopped, and keeps them open when we are
        restarted.
        """
        for made in self.made():
            with making(made.path):
                made.remove()
        return [one.stored_name() for one in self._opened if one.made]


def resume(handed: Sequence[Mapping[str, Any]]) -> Listeners:
    """Take over the sockets of our predecessor in this process, as they are."""
    opened = []
    for values in handed:
        one = _Opened(values["name"], values["label"], values["fd"])
        made = values["made"]
        opened.append(one.owned(made and Made(*made)) if values["ours"] else one)
    return Listeners(opened, [])


def bound_paths(inherited: Sequence[Handed]) -> set[str]:
    """Return the real paths of the unix sockets that we were started with."""
    found = set()
    for handed in inherited:
        try:
            socket = sockets.from_fd(handed.fd)
        except OSError:
            continue  # no socket: `open_all` says so
        address = socket.getsockname() if socket.family == AF_UNIX else ""
        socket.detach()
        if isinstance(address, str) and address:
            found.add(os.path.realpath(address))
    return found


def is_open(fd: int) -> bool:
    """Tell whether an fd is in use in this process."""
    try:
        fcntl.fcntl(fd, fcntl.F_GETFD)
    except (OSError, OverflowError):
        return False
    return True


def above(ports: Sequence[Port], others: int) -> int:
    """Return an fd above all that sockets will get, if there are so many `others`."""
    return max(_targets([*(port.fd for port in ports), *([None] * others)]), default=2) + 1


def open_all(
    chosen: Settings,
    inherited: Sequence[Handed],
    stop_asked: Callable[[], str],
    making: Callable[[str], AbstractContextManager[None]],
) -> Listeners:
    """Open every listener, ports first, then paths, then what was inherited beyond them.

    An inherited socket that already is at the address of a --port or --path takes its place.
    Workers of a dead start_server that hold an address are ended first, unless `stop_asked` tells
    of a signal that ends us. Files are made, and removed, in the context that `making` returns for
    their path. Raises FatalError, with the paths that were made removed again.
    """
    spare = [_Spare(handed) for handed in inherited]
    opened: list[_Opened] = []
    fresh: list[UnixListener] = []
    forgotten: list[str] = []
    try:
        for port in chosen.ports:
            opened.append(
                _adopt_port(port, chosen.ports, spare) or _open_port(port, chosen, stop_asked)
            )
        for path in chosen.paths:
            one = _adopt_path(path, spare)
            if one is None:
                with making(path):
                    listener = _open_path(path, chosen, stop_asked)
                fresh.append(listener)
                one = _Opened(path, path, listener.socket.detach()).owned(listener.made)
            opened.append(one)
        for one_more in spare:
            if one_more.ours:
                forgotten.append(one_more.handed.name)
                _discard(one_more)
            else:
                opened.append(one_more.take(one_more.name()))
        _place(opened)
    except BaseException:
        for listener in fresh:
            with making(listener.made.path):
                listener.remove()
        raise
    return Listeners(opened, forgotten)


def _discard(spare: _Spare) -> None:
    """Close a socket of ours that nobody asks for any more."""
    made = spare.made()
    if made:
        made.remove()
    spare.socket.close()


def _adopt_port(port: Port, ports: Sequence[Port], spare: list[_Spare]) -> _Opened | None:
    for one in spare:
        if one.socket.type == port.kind and one.socket.family in (AF_INET, AF_INET6):
            host, number = one.socket.getsockname()[:2]
            # systemd binds a bare port to [::], which takes IPv4 in as well.
            everywhere = port.host == ANY_HOST and host == "::" and sockets.takes_ip4(one.socket)
            # Of port 0, it is any that is ours and nobody else's.
            any_number = not port.number and one.ours and number not in [p.number for p in ports]
            if (number == port.number or any_number) and (host == port.address or everywhere):
                spare.remove(one)
                return one.take(port.name, port.fd)
    return None


def _adopt_path(path: str, spare: list[_Spare]) -> _Opened | None:
    for one in spare:
        if one.socket.family == AF_UNIX and one.socket.type == SOCK_STREAM:
            bound = one.socket.getsockname()
            if (
                isinstance(bound, str)
                and bound
                and os.path.realpath(bound) == os.path.realpath(path)
                and (not one.ours or one.made())  # else nobody can reach it any more
            ):
                spare.remove(one)
                return one.take(path)
    return None


def _open_port(port: Port, chosen: Settings, stop_asked: Callable[[], str]) -> _Opened:
    what = f"failed to bind to {port.name}"
    try:
        return _bind(port, chosen.backlog)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise from_os_error(what, error) from error
    from . import takeover  # noqa: PLC0415  seldom needed

    def find() -> takeover.Held:
        return takeover.holders_of_port(port, chosen.status_file)

    held = takeover.clear(f"--port={port.name}", find, chosen.policy, stop_asked)
    try:
        return _bind(port, chosen.backlog)
    except OSError as error:
        refusal = from_os_error(what, error)
        raise FatalError(f"{refusal}{held.by_whom()}", refusal.code) from error


def _bind(port: Port, backlog: int) -> _Opened:
    socket = Socket(port.family(), port.kind)
    try:
        if port.family() == AF_INET6:
            sockets.only_ip6(socket)
        if port.kind == SOCK_STREAM:
            sockets.allow_reuse(socket)
        socket.bind((port.address, port.number))
        if port.kind == SOCK_STREAM:
            socket.listen(backlog)
        else:
            sockets.allow_reuse(socket)  # as in Perl; before bind it would share another's port
    except OSError:
        socket.close()
        raise
    return _Opened(port.name, port.name, socket.detach(), port.fd).owned(None)


def _open_path(path: str, chosen: Settings, stop_asked: Callable[[], str]) -> UnixListener:
    if look(path) == LIVE:
        from . import takeover  # noqa: PLC0415  seldom needed

        def find() -> takeover.Held:
            return takeover.holders_of_path(path, chosen.status_file)

        held = takeover.clear(f"--path={path}", find, chosen.policy, stop_asked)
        if look(path) == LIVE:
            raise in_use(path, held.by_whom())
    return UnixListener(path, chosen.backlog, _PATH_MODE)


def _targets(wanted: Sequence[int | None]) -> list[int]:
    """Return each socket's number: the one asked for, else the lowest free one from 3 up."""
    asked = {number for number in wanted if number is not None}
    free = (number for number in range(3, 4 + 2 * len(wanted)) if number not in asked)
    return [next(free) if number is None else number for number in wanted]


def _place(opened: Sequence[_Opened]) -> None:
    """Move each socket to its number."""
    targets = _targets([one.wanted for one in opened])
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
