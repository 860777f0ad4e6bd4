"""A client's connection to a worker with an event loop: HTTP/1.1, one request after the other."""

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from gunicorn.http import Request

from . import http_message
from .client_socket import HEAD_BYTES, Patience
from .failures import ClientGoneError
from .http_message import END_OF_HEAD, END_OF_LINE
from .pool import Timeouts
from .pool_worker import FIRST_BYTE_SECONDS, LINGER_SECONDS

KEEPALIVE_SECONDS = 2.0
WRITE_BYTES = 65536  # not taken by the client; then the app has to wait
PIPELINED_BYTES = 65536  # of requests behind the one that is being answered
LOOK_SECONDS = 1.0  # between two looks at a client that does not take what is for it


class Conversation(Protocol):
    """What an app and a client have to say to each other: a request, or a WebSocket."""

    @property
    def awaits_data(self) -> bool:
        """Whether what the client sends belongs to it."""

    def feed(self, data: bytes) -> bytes:
        """Take what has come; returns what is behind it. Raises gunicorn's errors."""

    def half_close(self) -> bool:
        """Note that nothing more comes; returns whether there may be an answer all the same."""

    def hang_up(self) -> None:
        """Note that there is no client any more."""


class Server(Protocol):
    """What a connection needs of its worker."""

    leaving: bool
    cfg: Any
    timeouts: Timeouts

    def disconnected(self) -> None:
        """Note that a connection has gone."""

    def converse(
        self, client: "Connection", request: Request
    ) -> tuple[Conversation, Callable[[], None]]:
        """Return what a request leads to, and how that is begun."""

    def reject(self, client: Any, peer: object, error: Exception) -> None:
        """Write an answer to what is no request."""

    def count(self) -> None:
        """Note that a request has been served."""

    def count_slow(self) -> None:
        """Note that a client has been given up."""

    def log_failure(self, error: BaseException, request: Request) -> None:
        """Log what an app has raised."""


class Connection(asyncio.Protocol):
    """One of them; its methods are called on the event loop."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._transport: asyncio.Transport
        self._peer: object = None
        self._conversation: Conversation | None = None
        self._unread = b""
        self._searched = 0  # of it, for the end of a head
        self._timer: asyncio.TimerHandle | None = None
        self._reads = self._wants_more = True
        self._half_closed = self._lingers = self._gone = False
        self._reader = Patience(server.timeouts.send_timeout_seconds)
        self._written = self._taken = 0
        self._look: asyncio.TimerHandle | None = None
        self._writable: asyncio.Event | None = None  # not set while the client is slow

    @property
    def leaving(self) -> bool:
        """Whether the worker is."""
        return self._server.leaving

    @property
    def reads(self) -> bool:
        """Whether what the client sends is read; else it waits."""
        return self._reads

    @property
    def addresses(self) -> tuple[object, object]:
        """The client's and the server's, as sockets have them."""
        return self._peer, self._transport.get_extra_info("sockname")

    # Called by asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the first request."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._peer = transport.get_extra_info("peername")
        transport.set_write_buffer_limits(high=WRITE_BYTES)
        self._wait(FIRST_BYTE_SECONDS, transport.close)

    def data_received(self, data: bytes) -> None:
        """Take what a client has sent."""
        if self._lingers or self._gone:
            return
        conversation = self._conversation
        if conversation is not None and conversation.awaits_data:
            data = self._feed(conversation, data)
        self._unread += data
        if self._conversation is None:
            self._read_head()
        else:
            self._read_or_wait()

    def eof_received(self) -> bool:
        """Close, except where an answer is on its way to who only sends no more."""
        if self._lingers or self._conversation is None:
            return False
        self._half_closed = True
        return self._conversation.half_close()

    def connection_lost(self, error: Exception | None) -> None:
        """Tell all who have to do with it."""
        del error
        self._gone = True
        for timer in (self._timer, self._look):
            if timer is not None:
                timer.cancel()
        if self._conversation is not None:
            self._conversation.hang_up()
            self._conversation = None
            self._server.count()
        self.resume_writing()
        self._server.disconnected()

    def pause_writing(self) -> None:
        """Have the app wait, and the client, who might ask for more than it takes."""
        self._writable = asyncio.Event()
        self._read_or_wait()

    def resume_writing(self) -> None:
        """Have both go on."""
        if self._writable is not None:
            self._writable.set()
            self._writable = None
        self._read_or_wait()
        if self._conversation is None and not (self._lingers or self._gone):
            self._await_request()

    # Called by a conversation

    def write(self, data: bytes) -> None:
        """Send data, as soon as the client takes it."""
        if self._gone or self._lingers or self._transport.is_closing():
            return
        self._transport.write(data)
        self._written += len(data)
        if self._look is None and self._transport.get_write_buffer_size():
            self._taken = self._written - self._transport.get_write_buffer_size()
            self._look_later()

    async def drain(self) -> None:
        """Wait while the client is slow; raises ClientGoneError."""
        if self._writable is not None:
            await self._writable.wait()
        if self._gone:
            raise ClientGoneError

    def set_reading(self, wanted: bool) -> None:
        """Go on reading, or have the client wait."""
        self._wants_more = wanted
        self._read_or_wait()

    def give_up(self) -> None:
        """End the connection of a client that is too slow."""
        if not self._gone:
            self._server.count_slow()
            self._transport.abort()

    def finish(self, *, keep: bool) -> None:
        """Go on with the next request, or end the connection once all has been taken."""
        self._conversation = None
        self._server.count()
        if not keep or self._half_closed:
            self._linger()
            return
        self.set_reading(wanted=True)
        if self._writable is None:
            self._await_request()

    def log_failure(self, error: BaseException, request: Request) -> None:
        """Log what an app has raised."""
        self._server.log_failure(error, request)

    # Requests

    def _await_request(self) -> None:
        self._wait(KEEPALIVE_SECONDS, self._transport.close)
        if self._unread:
            # Not here: there may be many of them.
            asyncio.get_running_loop().call_soon(self._read_head)

    def _read_or_wait(self) -> None:
        takes_more = self._wants_more and len(self._unread) <= PIPELINED_BYTES
        reads = self._lingers or (takes_more and self._writable is None)
        if reads == self._reads or self._gone or self._half_closed:
            return
        self._reads = reads
        if reads:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def _read_head(self) -> None:
        busy = self._conversation is not None or self._writable is not None
        if busy or self._lingers or self._gone:
            return
        while self._unread.startswith(END_OF_LINE):  # RFC 9112 section 2.2: no part of a request
            self._unread = self._unread[len(END_OF_LINE) :]
            self._searched = 0
        end = self._unread.find(END_OF_HEAD, max(0, self._searched - len(END_OF_HEAD) + 1))
        if end >= 0:
            end += len(END_OF_HEAD)
            head, self._unread = self._unread[:end], self._unread[end:]
            self._searched = 0
            self._cancel_timer()
            self._begin(head)
            return
        begins = self._unread and not self._searched
        self._searched = len(self._unread)
        if self._searched >= HEAD_BYTES:
            self._refuse(b"431 Request Header Fields Too Large")
        elif begins:
            self._wait(self._server.timeouts.header_timeout_seconds, self._time_out)

    def _time_out(self) -> None:
        self._server.count_slow()
        self._refuse(b"408 Request Timeout")

    def _refuse(self, status: bytes) -> None:
        self.write(b"HTTP/1.1 %s\r\nConnection: close\r\nContent-Length: 0\r\n\r\n" % status)
        self._linger()

    def _begin(self, head: bytes) -> None:
        if not self._transport.get_write_buffer_size():
            self._reader = Patience(self._server.timeouts.send_timeout_seconds)
        try:
            request = http_message.parse_head(head, self._server.cfg, self._peer)
        except Exception as error:  # noqa: BLE001  # whatever gunicorn makes of it
            self._reject(error)
            return
        conversation, begin = self._server.converse(self, request)
        self._conversation = conversation
        if self._unread and conversation.awaits_data:
            self._unread = self._feed(conversation, self._unread)
        self._read_or_wait()
        if self._conversation is conversation:
            begin()

    def _feed(self, conversation: Conversation, data: bytes) -> bytes:
        try:
            return conversation.feed(data)
        except Exception as error:  # noqa: BLE001
            self._conversation = None
            conversation.hang_up()
            self._reject(error)
            return b""

    def _reject(self, error: Exception) -> None:
        self._server.reject(_Written(self), self._peer, error)
        self._linger()

    # The end

    def _linger(self) -> None:
        """End a connection, once the client has had time to take the end of its answer."""
        self._lingers = True
        self._unread = b""
        if self._gone or self._transport.is_closing():
            return
        if self._half_closed:
            self._transport.close()
            return
        self.set_reading(wanted=True)
        self._transport.write_eof()
        self._wait(LINGER_SECONDS, self._transport.close)

    def _wait(self, seconds: float, then: Callable[[], None]) -> None:
        self._cancel_timer()
        self._timer = asyncio.get_running_loop().call_later(seconds, then)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look_later(self) -> None:
        self._look = asyncio.get_running_loop().call_later(LOOK_SECONDS, self._look_at_reader)

    def _look_at_reader(self) -> None:
        """See whether a client takes what is for it."""
        waits = self._transport.get_write_buffer_size()
        taken = self._written - waits
        self._reader.waited(LOOK_SECONDS)
        self._reader.moved(taken - self._taken)
        self._taken = taken
        if not waits:
            self._look = None
        elif self._reader.seconds_left:
            self._look_later()
        else:
            self.give_up()


class _Written:
    """A connection as gunicorn writes to it, which takes it for a socket."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def gettimeout(self) -> float:
        """Say that nobody waits."""
        return 0.0

    def sendall(self, data: bytes) -> None:
        """Send all of it."""
        self._connection.write(data)
