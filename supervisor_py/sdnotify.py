"""Telling systemd how we are, as in sd_notify(3)."""

from __future__ import annotations

import os
import time

from .sockets import AF_UNIX, NO_BLOCK_NO_EXEC, SOCK_DGRAM, Socket, send_with_fds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

NOTIFY_SOCKET = "NOTIFY_SOCKET"
# What systemd says to us and a child must not take for its own.
OURS_ALONE = (
    NOTIFY_SOCKET,
    "LISTEN_PID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "FDSTORE",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
)


def socket_name(address: str) -> bytes:
    """Turn a NOTIFY_SOCKET value into what connect(2) takes: `@` begins an abstract name."""
    name = address.encode("utf-8", "surrogateescape")
    return b"\0" + name[1:] if name.startswith(b"@") else name


class Notifier:
    """Sends to the NOTIFY_SOCKET of an environment; does nothing where there is none.

    Where systemd has a watchdog for us (WatchdogSec=), `tick` tells it that we are not stuck.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._address = environment.get(NOTIFY_SOCKET, "")
        limit = environment.get("WATCHDOG_USEC", "")
        ours = environment.get("WATCHDOG_PID") in (None, str(os.getpid()))
        # at half the limit, as sd_watchdog_enabled(3) has it
        self._pause = int(limit) / 2e6 if ours and limit.isdecimal() else 0.0
        self._due = time.monotonic()

    def deadline(self) -> float | None:
        """Return when `tick` has something to do, or None."""
        return self._due if self._address and self._pause else None

    def tick(self) -> None:
        """Feed the watchdog when that is due; raises OSError."""
        due, now = self.deadline(), time.monotonic()
        if due is not None and due <= now:
            self._due = now + self._pause
            self.send("WATCHDOG=1")

    def send(self, text: str, fds: Sequence[int] = ()) -> None:
        """Send lines such as `READY=1`, and fds with them; raises OSError when it can't be done."""
        if not self._address:
            return
        socket = Socket(AF_UNIX, SOCK_DGRAM | NO_BLOCK_NO_EXEC)
        try:
            socket.connect(socket_name(self._address))
            send_with_fds(socket, text.encode("utf-8", "replace"), fds)
        finally:
            socket.close()
