"""The HTTP half of the health gate: one request to an app, as a visitor's would come.

It goes through the front end of this machine where that knows the app, and else straight to the
pool's socket. ``/etc/kechi/frontend.json``, which the role `frontend` writes, says where the front
end listens.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

FRONT_END = Path("/etc/kechi/frontend.json")
LOOPBACK = "127.0.0.1"
BODY = 300  # characters of an answer that are shown
FAILURE = 500
UNKNOWN_HOST = 421  # what the front end and the vhost server say of a host that they do not have

Check = Mapping[str, Any]


class Unhealthy(Exception):  # noqa: N818 - it is what the app is
    """An app does not answer as it should; the message says what it did."""


class _Unix(http.client.HTTPConnection):
    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.host)


class _Tls(http.client.HTTPSConnection):
    """By the app's name, but to this machine; whose certificate it is does not matter here."""

    def __init__(self, name: str, port: int, seconds: float) -> None:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        super().__init__(name, port, timeout=seconds, context=context)
        self._create_connection = lambda address, *rest: socket.create_connection(
            (LOOPBACK, address[1]), *rest
        )


def front_end(path: Path = FRONT_END) -> dict[str, Any] | None:
    """Where the front end listens: `scheme` and `port`; None where there is none yet."""
    try:
        found: dict[str, Any] = json.loads(path.read_text())
        return {"scheme": str(found["scheme"]), "port": int(found["port"])}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def check(wanted: Check, seconds: float, front: Mapping[str, Any] | None) -> None:
    """Ask an app once; raises Unhealthy.

    Args:
        wanted: `host`, `path`, `statuses` (none: any below 500), `socket`.
        seconds: how long connection and answer may take, all in all: an app may send a byte at a
            time.
        front: what `front_end` found; None goes to the socket.
    """
    if front is not None:
        try:
            status, body = _ask(_through(front, wanted, seconds), wanted, seconds)
        except ConnectionRefusedError:
            front = None  # it does not run: that is no fault of the app
        except (OSError, http.client.HTTPException) as error:
            raise Unhealthy(f"{_asked(wanted, front)} fails: {_words(error)}") from error
        else:
            # it does not have the host yet: the role `frontend` comes after this one
            if status != UNKNOWN_HOST:
                return _judge(wanted, front, status, body)
    try:
        status, body = _ask(_Unix(wanted["socket"], timeout=seconds), wanted, seconds)
    except (OSError, http.client.HTTPException) as error:
        raise Unhealthy(f"{_asked(wanted, None)} fails: {_words(error)}") from error
    return _judge(wanted, None, status, body)


def _through(front: Mapping[str, Any], wanted: Check, seconds: float) -> Any:
    if front["scheme"] == "https":
        return _Tls(wanted["host"], front["port"], seconds)
    return http.client.HTTPConnection(LOOPBACK, front["port"], timeout=seconds)


def _ask(connection: http.client.HTTPConnection, wanted: Check, seconds: float) -> tuple[int, str]:
    headers = {"Host": wanted["host"], "Connection": "close", "User-Agent": "kechi-health"}
    deadline = time.monotonic() + seconds
    try:
        connection.connect()
        with _ended_at(connection.sock, deadline, seconds):
            connection.request("GET", wanted["path"], headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read(4 * BODY).decode("utf-8", "replace")
    finally:
        connection.close()


@contextmanager
def _ended_at(connected: socket.socket, deadline: float, seconds: float) -> Iterator[None]:
    """Shut a connection down at a time, whatever still comes; raises TimeoutError then.

    A socket's own timeout starts anew with each byte.
    """
    late = threading.Event()

    def end() -> None:
        late.set()
        with suppress(OSError):
            # not SSLSocket's: that forgets its state, which the other thread reads
            socket.socket.shutdown(connected, socket.SHUT_RDWR)

    timer = threading.Timer(max(deadline - time.monotonic(), 0), end)
    timer.start()
    try:
        yield
    except TimeoutError:  # the socket's own, of as many seconds
        late.set()
    except (OSError, http.client.HTTPException):
        if not late.is_set():
            raise
    finally:
        timer.cancel()
        timer.join()
    if late.is_set():
        raise TimeoutError(f"no whole answer within {seconds:g} s")


def _judge(wanted: Check, front: Mapping[str, Any] | None, status: int, body: str) -> None:
    allowed = wanted["statuses"]
    if status in allowed if allowed else status < FAILURE:
        return
    expected = " or ".join(map(str, allowed)) if allowed else f"below {FAILURE}"
    raise Unhealthy(
        f"{_asked(wanted, front)} gives {status}, expected is {expected}; it begins with:"
        f" {body[:BODY].strip()!r}"
    )


def _asked(wanted: Check, front: Mapping[str, Any] | None) -> str:
    way = f"through the front end ({front['scheme']})" if front else f"at {wanted['socket']}"
    return f"GET {wanted['path']} for {wanted['host']} {way}"


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__
