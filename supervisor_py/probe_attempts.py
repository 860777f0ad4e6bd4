"""What the helper process of a probe does: it asks until the generation answers."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import time

from . import effects
from .probe import GENERATION_HEADER, HTTP, HTTP_UNIX, UNIX, Probe, Target

ATTEMPT = 2.0  # seconds that one attempt may take
_FIRST_PAUSE, _LONGEST_PAUSE, _FACTOR = 0.05, 0.5, 1.5  # seconds between attempts
_GOOD = range(200, 400)
_SLOW = f"no answer within {ATTEMPT:g} seconds"


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=ATTEMPT)
        self._path = path

    def connect(self) -> None:
        """Connect to the path; raises OSError."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(ATTEMPT)
        self.sock.connect(self._path)


def run(probe: Probe, target: Target, parent: int) -> int:
    """Try until the generation answers, and return the helper's exit status."""
    # One clock for the whole of an attempt: a server may send a byte now and then.
    signal.signal(signal.SIGALRM, _too_slow)
    ends = time.monotonic() + target.limit
    pause = _FIRST_PAUSE
    while os.getppid() == parent:
        trouble = _attempt(probe, target)
        if not trouble:
            return 0
        left = ends - time.monotonic()
        if left <= 0:
            effects.say(
                f"probe {probe.text} of generation {target.number} gave up after "
                f"{target.limit:g} secs: {trouble}"
            )
            return 1
        time.sleep(min(pause, left))
        pause = min(pause * _FACTOR, _LONGEST_PAUSE)
    return 1


def _too_slow(_number: int, _frame: object) -> None:
    raise TimeoutError(_SLOW)


def _attempt(probe: Probe, target: Target) -> str:
    """Ask once; return why it doesn't count, or an empty text."""
    try:
        signal.setitimer(signal.ITIMER_REAL, ATTEMPT)
        try:
            return _ask(probe, target)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except TimeoutError:
        return _SLOW
    except http.client.RemoteDisconnected:
        return "the connection was closed without an answer"
    except http.client.HTTPException as error:
        return f"the answer is not HTTP: {error!r}"
    except OSError as error:
        return str(error.strerror or error).lower()


def _ask(probe: Probe, target: Target) -> str:
    if probe.kind == UNIX:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(probe.path)
        return ""
    if probe.kind not in (HTTP, HTTP_UNIX):
        socket.create_connection((probe.host, probe.port), ATTEMPT).close()
        return ""
    connection = (
        http.client.HTTPConnection(probe.host, probe.port, timeout=ATTEMPT)
        if probe.kind == HTTP
        else _UnixConnection(probe.path)
    )
    try:
        connection.request("GET", probe.url, headers={"Connection": "close"})
        answer = connection.getresponse()
        return _judge(answer.status, answer.getheader(GENERATION_HEADER), probe.own, target)
    finally:
        connection.close()


def _judge(status: int, bears: str | None, own: bool, target: Target) -> str:
    """Return why an HTTP answer doesn't count, or an empty text."""
    other = f"answered, but not by generation {target.number}"
    if bears is not None and bears.strip() != str(target.number):
        return f"{other}: {GENERATION_HEADER} is {bears}"
    if status not in _GOOD:
        return f"answered {status}"
    if bears is None and own and not target.alone:
        return f"{other}: no {GENERATION_HEADER} header"
    return ""
