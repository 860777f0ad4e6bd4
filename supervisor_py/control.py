"""The control socket's server side.

The protocol is lines. A client sends one request (`restart`, `status`, `upgrade`); the server
answers with any number of `progress TEXT` and one last `done TEXT` or `failed TEXT`, and closes. A
status is one line of JSON. The socket is of mode 0600: who can connect is the server's own user,
or root.
"""

from __future__ import annotations

import os
import time

from . import sockets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .poller import Poller
    from .sockets import Socket
    from .unixpath import UnixListener

RESTART, STATUS, UPGRADE = "restart", "status", "upgrade"
PROGRESS, DONE, FAILED = "progress", "done", "failed"
MODE = 0o600
BACKLOG = 128
_PAUSE = 1.0  # seconds without listening, when there is not one descriptor
_MOST_CLIENTS = 32
_LONGEST_REQUEST = 1024  # bytes


def _open_spare() -> int | None:
    """Hold a descriptor in reserve."""
    try:
        return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None


class _Client:
    def __init__(self, socket: Socket) -> None:
        self.socket = socket
        self.received = b""
        self.asked = False


class ControlServer:
    """Takes requests in and brings answers out; never blocks.

    `request` is called with a client's number and words.
    """

    def __init__(
        self, listener: UnixListener, poller: Poller, request: Callable[[int, list[str]], None]
    ) -> None:
        self._watch, self._forget, self._request = poller.watch, poller.forget, request
        self._listener = listener
        os.set_inheritable(listener.socket.fileno(), False)
        self._listener.socket.setblocking(False)
        self._clients: dict[int, _Client] = {}
        self.last = 0  # number of the client that came last
        self._spare = _open_spare()
        self._due: float | None = None
        self._watch(self._listener.socket.fileno(), self._accept)

    def fileno(self) -> int:
        """Return the listener's fd."""
        return self._listener.socket.fileno()

    def made(self) -> list[str | int]:
        """Return the listener's path, with what proves that it is ours: see `unixpath.Made`."""
        made = self._listener.made
        return [made.path, made.device, made.inode]

    def clients(self) -> list[list[Any]]:
        """Return each client's number, fd, whether it has asked, and what came in from it."""
        return [
            [number, one.socket.fileno(), one.asked, one.received]
            for number, one in self._clients.items()
        ]

    def adopt(self, clients: list[list[Any]], last: int) -> None:
        """Take over the clients of our predecessor in this process."""
        self.last = last
        for number, fd, asked, received in clients:
            os.set_inheritable(fd, False)
            client = _Client(sockets.from_fd(fd))
            client.socket.setblocking(False)
            client.asked, client.received = asked, received
            self._clients[number] = client
            self._watch(fd, lambda number=number: self._read(number))  # type: ignore[misc]

    def _accept(self) -> None:
        try:
            socket = sockets.accept(self._listener.socket)
        except OSError:
            self._turn_away()
            return
        if socket is None:
            return
        if len(self._clients) >= _MOST_CLIENTS:
            socket.close()
            return
        self.last += 1
        number = self.last
        try:
            self._watch(socket.fileno(), lambda: self._read(number))
        except OSError:  # the kernel's limit of watches: this client is told by its hang-up
            socket.close()
            return
        self._clients[number] = _Client(socket)

    def _turn_away(self) -> None:
        """Close a connection that there is no descriptor for: waiting, it would keep us busy."""
        if self._spare is not None:
            os.close(self._spare)
            try:
                socket = sockets.accept(self._listener.socket)
                if socket:
                    socket.close()
            except OSError:
                pass
        self._spare = _open_spare()
        if self._spare is None:  # not even that is left
            self._forget(self.fileno())
            self._due = time.monotonic() + _PAUSE

    def deadline(self) -> float | None:
        """Return when `tick` has something to do, or None."""
        return self._due

    def tick(self) -> None:
        """Listen again after a pause for want of descriptors."""
        if self._due is not None and self._due <= time.monotonic():
            self._due = None
            self._watch(self.fileno(), self._accept)

    def _read(self, number: int) -> None:
        client = self._clients[number]
        try:
            data = client.socket.recv(_LONGEST_REQUEST)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop(number)
            return
        client.received += data
        line, end, _ = client.received.partition(b"\n")
        if end and not client.asked:
            client.asked = True
            self._request(number, line.decode("utf-8", "replace").split())
        elif client.asked or len(client.received) > _LONGEST_REQUEST:
            self.answer(number, False, "one request, of one line, please")

    def tell(self, number: int, text: str) -> None:
        """Send progress to a client; one that has left, or doesn't read, is dropped."""
        self._send(number, PROGRESS, text)

    def answer(self, number: int, done: bool, text: str) -> None:
        """Send the last line to a client, and close."""
        self._send(number, DONE if done else FAILED, text)
        self._drop(number)

    def _send(self, number: int, word: str, text: str) -> None:
        client = self._clients.get(number)
        if client is None:
            return
        line = f"{word} {text}\n".encode("utf-8", "replace")
        try:
            whole = client.socket.send(line) == len(line)
        except OSError:
            whole = False
        if not whole:
            self._drop(number)

    def _drop(self, number: int) -> None:
        client = self._clients.pop(number, None)
        if client is not None:
            self._forget(client.socket.fileno())
            client.socket.close()

    def close(self) -> None:
        """Say good-bye to all, and unlink the path if it still is ours."""
        for number in list(self._clients):
            self.answer(number, False, "the server has stopped")
        if self._due is None:
            self._forget(self.fileno())
        self._listener.socket.close()
        self._listener.remove()
