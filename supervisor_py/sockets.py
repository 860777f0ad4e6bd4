"""The standard `socket` module without enum: `_socket` under a typed name."""

from __future__ import annotations

import _socket
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

Socket = _socket.socket
AF_INET, AF_INET6, AF_UNIX = int(_socket.AF_INET), int(_socket.AF_INET6), int(_socket.AF_UNIX)
SOCK_STREAM, SOCK_DGRAM = int(_socket.SOCK_STREAM), int(_socket.SOCK_DGRAM)
NO_BLOCK_NO_EXEC = int(_socket.SOCK_NONBLOCK | _socket.SOCK_CLOEXEC)


def resolve(host: str) -> str:
    """Return the IPv4 address of a host name; raises OSError.

    The name goes in as bytes: as str it would load the IDNA codec.
    """
    found = _socket.getaddrinfo(host.encode(), None, _socket.AF_INET, _socket.SOCK_STREAM, 0, 0)
    return str(found[0][4][0])


def is_ip6(text: str) -> bool:
    """Tell whether this is an IPv6 address."""
    try:
        _socket.inet_pton(_socket.AF_INET6, text)
    except OSError:
        return False
    return True


def allow_reuse(socket: Socket) -> None:
    """Set SO_REUSEADDR."""
    socket.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)


def only_ip6(socket: Socket) -> None:
    """Set IPV6_V6ONLY."""
    socket.setsockopt(_socket.IPPROTO_IPV6, _socket.IPV6_V6ONLY, 1)


def takes_ip4(socket: Socket) -> bool:
    """Tell whether an IPv6 socket takes IPv4 connections in too."""
    return not socket.getsockopt(_socket.IPPROTO_IPV6, _socket.IPV6_V6ONLY)


def from_fd(fd: int) -> Socket:
    """Wrap an inherited fd; family and type are found out. Raises OSError for a non-socket."""
    return Socket(fileno=fd)


def pass_credentials(socket: Socket) -> None:
    """Have the kernel name the sender of each message (unix(7), SO_PASSCRED)."""
    socket.setsockopt(_socket.SOL_SOCKET, _socket.SO_PASSCRED, 1)


def peer(socket: Socket) -> tuple[int, int]:
    """Return the process and the user at the other end of a unix connection (SO_PEERCRED)."""
    found = socket.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12)  # pid, uid, gid
    return int.from_bytes(found[:4], sys.byteorder), int.from_bytes(found[4:8], sys.byteorder)


def receive(socket: Socket, most: int) -> tuple[bytes, int | None]:
    """Return one message and the uid of its sender, None when the kernel told none."""
    space = _socket.CMSG_SPACE(12)  # struct ucred: pid, uid, gid
    # No room for SCM_RIGHTS: the kernel closes fds that a sender adds.
    message, extras, _flags, _address = socket.recvmsg(most, space, _socket.MSG_CMSG_CLOEXEC)
    for level, kind, data in extras:
        if level == _socket.SOL_SOCKET and kind == _socket.SCM_CREDENTIALS:
            return message, int.from_bytes(data[4:8], sys.byteorder)
    return message, None


def send_with_fds(socket: Socket, message: bytes, fds: Sequence[int]) -> None:
    """Send one message, and duplicates of fds with it (unix(7), SCM_RIGHTS); raises OSError."""
    rights = b"".join(fd.to_bytes(4, sys.byteorder) for fd in fds)
    extras = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)] if fds else []
    socket.sendmsg([message], extras)


def accept(listener: Socket) -> Socket | None:
    """Accept a connection from a non-blocking listener; None when there is none.

    Raises OSError when there is no descriptor for it.
    """
    try:
        # `_socket` has no accept of its own but this: a bare fd, close-on-exec.
        fd, _address = listener._accept()  # type: ignore[attr-defined]
    except (BlockingIOError, ConnectionAbortedError):
        return None
    socket = Socket(fileno=fd)
    socket.setblocking(False)
    return socket


def as_in_proc(address: str) -> str:
    """Return an IPv4 or IPv6 address as /proc/net/tcp and its like write it; raises OSError."""
    family = _socket.AF_INET6 if ":" in address else _socket.AF_INET
    packed = _socket.inet_pton(family, address)
    words = (packed[at : at + 4] for at in range(0, len(packed), 4))
    return "".join(f"{int.from_bytes(word, sys.byteorder):08X}" for word in words)
