"""How listening sockets are told to a child: SERVER_STARTER_PORT and systemd's LISTEN_FDS.

Children may import this module: `inherited(os.environ, os.getpid())` is all that they need.
"""

from __future__ import annotations

from .record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

FIRST_FD = 3  # sd_listen_fds(3)
UNNAMED = "unknown"  # what sd_listen_fds_with_names(3) says of a socket without a name
PORT_VARIABLE = "SERVER_STARTER_PORT"
GENERATION_VARIABLE = "SERVER_STARTER_GENERATION"


class HandoffError(ValueError):
    """The variables that hand sockets over can't be read; the text says which and why."""


class Handed(Record):
    """A listening socket in a child: its name (`8080`, `host:port` or a path) and its fd."""

    name: str
    fd: int


def encode_ports(sockets: Iterable[Handed]) -> str:
    """Return SERVER_STARTER_PORT's value: `name=fd;name=fd`."""
    return ";".join(f"{socket.name}={socket.fd}" for socket in sockets)


def decode_ports(value: str) -> list[Handed]:
    """Read SERVER_STARTER_PORT's value; raises HandoffError."""
    sockets = []
    for item in filter(None, value.split(";")):
        name, _, fd = item.rpartition("=")
        if not name or not fd.isdecimal():
            raise HandoffError(f'{PORT_VARIABLE}: "{item}" is not NAME=FD')
        sockets.append(Handed(name, int(fd)))
    return sockets


def encode_listen(names_by_fd: Mapping[int, str]) -> dict[str, str]:
    """Return LISTEN_FDS and LISTEN_FDNAMES, or nothing when the fds aren't exactly 3, 4, ….

    LISTEN_PID is the child's own to set, after the fork. A name that the protocol can't carry
    (it must be ASCII, printable, without a colon) is given as "unknown", as systemd does.
    """
    fds = sorted(names_by_fd)
    if not fds or fds != list(range(FIRST_FD, FIRST_FD + len(fds))):
        return {}
    names = (names_by_fd[fd] for fd in fds)
    legal = (
        name if name.isascii() and name.isprintable() and ":" not in name and name else UNNAMED
        for name in names
    )
    return {"LISTEN_FDS": str(len(fds)), "LISTEN_FDNAMES": ":".join(legal)}


def decode_listen(environment: Mapping[str, str], pid: int) -> list[Handed]:
    """Read LISTEN_FDS as sd_listen_fds(3) does: only when LISTEN_PID is this process.

    Raises HandoffError.
    """
    if environment.get("LISTEN_PID") != str(pid):
        return []
    count = environment.get("LISTEN_FDS", "")
    if not count.isdecimal():
        raise HandoffError(f'LISTEN_FDS: "{count}" is not a number of sockets')
    names = environment.get("LISTEN_FDNAMES", "").split(":")
    names += [""] * (int(count) - len(names))
    return [Handed(names[at] or UNNAMED, FIRST_FD + at) for at in range(int(count))]


def inherited(environment: Mapping[str, str], pid: int) -> list[Handed]:
    """Return the sockets that a child was handed: by start_server's variable, else by systemd's.

    Raises HandoffError.
    """
    sockets = decode_ports(environment.get(PORT_VARIABLE, ""))
    return sockets or decode_listen(environment, pid)
