"""Continuous load on one address, with the fate of every single request.

Several kinds at once, because a restart can fail each in its own way: a connection for each
request, connections that are kept, requests whose answer or whose body is under way for seconds,
and rare ones, between which an app may fall asleep. A request that ends in anything but a whole
response of the right status, within TIMEOUT_SECONDS, is a failure, also where the load is stopped
meanwhile; nothing is retried. A kept connection that the server has closed between two requests is
opened anew, as every HTTP client does (RFC 9112 section 9.5), and counted. While the front end
itself is reloaded, that may cross a request: then it is asked again, as browsers do (section
9.3.1), and counted alike; the pools get no such grace.

No load generator that we know tells all this, see docs/harness.md.

As a program it loads a unix socket of the machine that it runs on, until its stdin is closed:

    $ python3 load.py /run/kechi/main.sock '[["new", "motd.example", "/"]]'
"""

from __future__ import annotations

import http.client
import json
import select
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

TIMEOUT_SECONDS = 30.0
PAUSE_SECONDS = 0.1  # between two requests of one client: load, not a flood
RARE_SECONDS = 6.0  # the same of a rare one
UPLOAD_PARTS = 20
UPLOAD_PART = b"kechi upload" * 1024
UPLOAD_PAUSE_SECONDS = 0.1  # between two parts of the body
GRACE_SECONDS = 1.0  # for a client to note that its time is over

Tls = ssl.SSLContext | Mapping[str, ssl.SSLContext] | None  # for all hosts, or by host


@dataclass(frozen=True)
class Target:
    """One URL by its Host, and the kind of client that asks for it again and again."""

    kind: str  # "new", "keep-alive", "slow", "upload" or "rare"
    host: str
    path: str = "/"
    status: int = 200  # what it is to be answered with


@dataclass(frozen=True)
class Outcome:
    """The fate of one request; `error` is empty for a whole response of its target's status."""

    target: Target
    started: float  # monotonic seconds
    seconds: float
    error: str
    generation: str
    reopened: bool  # the server had closed the kept connection before


def _epoch() -> float:
    """The time of day at which this machine's monotonic clock was zero."""
    return time.time() - time.monotonic()


@dataclass
class Report:
    """Every request of a run."""

    outcomes: list[Outcome] = field(default_factory=list)
    epoch: float = field(default_factory=_epoch)  # `started` counts from this time of day

    def of(self, kind: str) -> list[Outcome]:
        """The outcomes of one kind of client."""
        return [outcome for outcome in self.outcomes if outcome.target.kind == kind]

    @property
    def failures(self) -> list[Outcome]:
        """The requests that were not answered as they should be."""
        return [outcome for outcome in self.outcomes if outcome.error]

    @property
    def reopened(self) -> int:
        """How often a kept connection was found closed by the server."""
        return sum(1 for outcome in self.outcomes if outcome.reopened)

    def generations(self, host: str) -> set[int]:
        """The generations that answered for a host."""
        return {int(o.generation) for o in self.outcomes if o.target.host == host and not o.error}

    def __str__(self) -> str:
        lines = []
        for kind in sorted({outcome.target.kind for outcome in self.outcomes}):
            found = self.of(kind)
            slowest = max(outcome.seconds for outcome in found)
            failed = sum(1 for outcome in found if outcome.error)
            lines.append(f"{kind}: {len(found)} requests, {failed} failed, slowest {slowest:.3f} s")
        lines.append(f"kept connections that the server closed: {self.reopened}")
        lines += [f"  {o.target.kind} {o.target.host}: {o.error}" for o in self.failures[:20]]
        return "\n".join(lines)


def _upload() -> Iterator[bytes]:
    """A body that is under way for seconds."""
    for _ in range(UPLOAD_PARTS):
        yield UPLOAD_PART
        time.sleep(UPLOAD_PAUSE_SECONDS)


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket at a path."""

    timeout: float

    def connect(self) -> None:
        """Connect; raises OSError."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.host)


class TlsConnection(http.client.HTTPConnection):
    """HTTPS to an address, asking for the certificate of a name."""

    def __init__(
        self, address: str, name: str, context: ssl.SSLContext, timeout: float = TIMEOUT_SECONDS
    ) -> None:
        super().__init__(address, timeout=timeout)
        self._name = name
        self._context = context

    def connect(self) -> None:
        """Connect; raises OSError, also where the context does not trust what it is shown."""
        super().connect()
        self.sock = self._context.wrap_socket(self.sock, server_hostname=self._name)


@dataclass(frozen=True)
class Manner:
    """How all clients of a load ask, see `load`."""

    front_end_reloads: bool
    tls: Tls
    timeout_seconds: float
    pause_seconds: float


class Client:
    """Asks for one target until told to stop."""

    def __init__(
        self, address: str, target: Target, outcomes: list[Outcome], manner: Manner
    ) -> None:
        self._address = address
        self._target = target
        self._outcomes = outcomes
        tls = manner.tls
        self._tls = tls.get(target.host) if isinstance(tls, Mapping) else tls
        self._front_end_reloads = manner.front_end_reloads
        self._timeout = manner.timeout_seconds
        self._pause = RARE_SECONDS if target.kind == "rare" else manner.pause_seconds
        self._connection: http.client.HTTPConnection | None = None
        self._asking_since: float | None = None
        self._given_up = False
        self._noting = threading.Lock()

    def run(self, stopped_within: Callable[[float], bool], after: float = 0.0) -> None:
        """Ask, note the outcome, pause; the first time after that many seconds."""
        if after and stopped_within(after):
            return
        while True:
            self._asking_since = time.monotonic()
            outcome = self._ask(self._asking_since)
            with self._noting:
                self._asking_since = None
                if self._given_up:
                    return
                self._outcomes.append(outcome)
            if stopped_within(self._pause):
                break
        self._close()

    def end(self, thread: threading.Thread) -> None:
        """Wait for the thread that runs this; a request that is not over in time has failed."""
        since = self._asking_since
        left = 0.0 if since is None else since + self._timeout - time.monotonic()
        thread.join(max(left, 0.0) + GRACE_SECONDS)
        with self._noting:
            if self._asking_since is None:
                return
            self._given_up = True
            self._outcomes.append(self._too_late(self._asking_since))

    def _too_late(self, started: float, generation: str = "", reopened: bool = False) -> Outcome:
        seconds = time.monotonic() - started
        error = f"TimeoutError: not whole after {self._timeout:g} s"
        return Outcome(self._target, started, seconds, error, generation, reopened)

    def _ask(self, started: float) -> Outcome:
        error = generation = ""
        reopened = self._closed_meanwhile()
        if reopened:
            self._close()
        kept = self._connection is not None
        try:
            try:
                generation = self._request()
            except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
                if not (kept and self._front_end_reloads):
                    raise
                reopened = True
                self._close()
                generation = self._request()
        except Exception as failure:  # noqa: BLE001 - whatever it is, it was not answered
            error = f"{type(failure).__name__}: {failure}"
            self._close()
        seconds = time.monotonic() - started
        if not error and seconds > self._timeout:  # a socket's time-out is for each part alone
            return self._too_late(started, generation, reopened)
        return Outcome(self._target, started, seconds, error, generation, reopened)

    def _closed_meanwhile(self) -> bool:
        """Whether the server has ended a connection on which nothing was asked."""
        if self._connection is None:
            return False
        readable, _, _ = select.select([self._connection.sock], [], [], 0)
        return bool(readable)

    def _request(self) -> str:
        if self._connection is None:
            self._connection = self._connect()
        headers = {"Host": self._target.host}
        if self._target.kind in ("new", "rare", "upload"):
            headers["Connection"] = "close"
        if self._target.kind == "upload":
            headers["Content-Length"] = str(UPLOAD_PARTS * len(UPLOAD_PART))
            self._connection.request("POST", self._target.path, _upload(), headers)
        else:
            self._connection.request("GET", self._target.path, headers=headers)
        response = self._connection.getresponse()
        body = response.read()  # raises IncompleteRead when it is cut short
        if response.status != self._target.status:
            raise http.client.HTTPException(f"status {response.status}: {body[:200]!r}")
        if self._target.kind == "slow" and not body.endswith(b"done\n"):
            raise http.client.HTTPException(f"cut short: {body[-200:]!r}")
        if self._target.kind == "upload":
            received = response.headers["X-Received"]
            if received != str(UPLOAD_PARTS * len(UPLOAD_PART)):
                raise http.client.HTTPException(f"received {received} bytes of the upload")
        if response.will_close:
            self._close()
        return response.headers["X-Generation"] or "0"

    def _connect(self) -> http.client.HTTPConnection:
        if self._tls:
            return TlsConnection(self._address, self._target.host, self._tls, self._timeout)
        kind = _UnixConnection if "/" in self._address else http.client.HTTPConnection
        return kind(self._address, timeout=self._timeout)

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


@contextmanager
def load(  # noqa: PLR0913  # whom, and each way in which a load may differ
    address: str | Mapping[str, str],
    targets: list[Target],
    *,
    front_end_reloads: bool = False,
    tls: Tls = None,
    timeout_seconds: float = TIMEOUT_SECONDS,
    pause_seconds: float = PAUSE_SECONDS,
) -> Iterator[Report]:
    """Load `address` (HOST:PORT, a path, or such by host) while the block runs.

    One client for each target, which pauses between two requests; the clients begin one after the
    other within the first pause. With `tls` it is HTTPS, for the hosts that have one.
    `front_end_reloads`: nginx before 1.27.4 then closes kept connections without a look at what
    comes in on them. The report is complete when the block has ended.
    """
    report = Report()
    stop = threading.Event()
    manner = Manner(front_end_reloads, tls, timeout_seconds, pause_seconds)
    clients = [
        Client(
            address if isinstance(address, str) else address[target.host],
            target,
            report.outcomes,
            manner,
        )
        for target in targets
    ]
    threads = [
        threading.Thread(
            target=client.run,
            args=[stop.wait, number * pause_seconds / len(clients)],
            daemon=True,
        )
        for number, client in enumerate(clients)
    ]
    for thread in threads:
        thread.start()
    try:
        yield report
    finally:
        stop.set()
        for client, thread in zip(clients, threads, strict=True):
            client.end(thread)


def main() -> None:
    """Load what the arguments say, and print each outcome as JSON."""
    address, targets = sys.argv[1], [Target(*words) for words in json.loads(sys.argv[2])]
    with load(address, targets) as report:
        sys.stdin.read()
    print(json.dumps(asdict(report)))


@contextmanager
def load_within(machine: list[str], path: str, targets: list[Target]) -> Iterator[Report]:
    """Load a unix socket of a machine while the block runs; `machine` begins commands for it.

    The report is complete when the block has ended.
    """
    asked = json.dumps([[target.kind, target.host, target.path] for target in targets])
    command = [*machine, "python3", "-c", Path(__file__).read_text(encoding="utf-8"), path, asked]
    report = Report()
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield report
        finally:
            try:
                printed, _ = process.communicate(timeout=2 * TIMEOUT_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
            told = json.loads(printed)
            report.epoch = told["epoch"]
            for found in told["outcomes"]:
                report.outcomes.append(Outcome(**{**found, "target": Target(**found["target"])}))


if __name__ == "__main__":
    main()
