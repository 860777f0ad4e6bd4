"""Hearing from a generation that it is ready, and how it is: a NOTIFY_SOCKET of its own."""

from __future__ import annotations

import os

from . import sockets
from .sockets import AF_UNIX, NO_BLOCK_NO_EXEC, SOCK_DGRAM, Socket

_MOST = 4096  # bytes of a message
_AT_ONCE = 64  # messages read before others get their turn


class Readiness:
    """An abstract datagram socket, named by the kernel, that one generation is given.

    Abstract: no file to clean up, and nothing in the file system to have rights to. Anyone may
    send to it, so messages count only from root or our own user.
    """

    def __init__(self, bound: int | None = None) -> None:
        """Make a socket, or take over the fd of a `bound` one; raises OSError."""
        self._trusted = (0, os.geteuid())
        if bound is not None:
            os.set_inheritable(bound, False)
            self._socket = Socket(fileno=bound)
            self._socket.setblocking(False)
        else:
            self._socket = Socket(AF_UNIX, SOCK_DGRAM | NO_BLOCK_NO_EXEC)
            try:
                sockets.pass_credentials(self._socket)
                self._socket.bind("")
            except OSError:
                self._socket.close()
                raise
        name = self._socket.getsockname()
        self.address = "@" + name[1:].decode("ascii")

    def fileno(self) -> int:
        """Return the fd to poll."""
        return self._socket.fileno()

    def heard(self) -> tuple[bool, str | None]:
        """Read what has come in: whether READY=1 was among it, and the last STATUS=, if any."""
        ready, status = False, None
        for _ in range(_AT_ONCE):
            try:
                message, uid = sockets.receive(self._socket, _MOST)
            except (BlockingIOError, InterruptedError):
                break
            if uid not in self._trusted:
                continue
            for line in message.split(b"\n"):
                name, _, value = line.partition(b"=")
                if line == b"READY=1":
                    ready = True
                elif name == b"STATUS":
                    status = value.decode("utf-8", "replace")
        return ready, status

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()
