"""Runs the real vhost_server as a super-daemon would, and clients that count what fails."""

import contextlib
import http.client
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..waiting import LIMIT, holds_within

ROOT = Path(__file__).parents[3]
EXAMPLES = ROOT / "examples"
COMMAND = [
    sys.executable,
    "-c",
    "import sys; from supervisor_py.vhost.cli import main; sys.exit(main())",
]
START_SERVER = [
    sys.executable,
    "-c",
    "import sys; from supervisor_py.cli import main; sys.exit(main())",
]


@dataclass
class Reply:
    status: int
    headers: http.client.HTTPMessage
    body: bytes


class Connection(http.client.HTTPConnection):
    """http.client over a unix path or a TCP port."""

    def __init__(self, address: str | int, timeout: float = LIMIT) -> None:
        super().__init__("127.0.0.1", timeout=timeout)
        self._address = address

    def connect(self) -> None:
        if isinstance(self._address, int):
            self.sock = socket.create_connection(("127.0.0.1", self._address), self.timeout)
            return
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._address)

    def ask(self, host: str, path: str = "/", **headers: str) -> Reply:
        self.request("GET", path, headers={"Host": host, **headers})
        response = self.getresponse()
        return Reply(response.status, response.headers, response.read())


def get(address: str | int, host: str, path: str = "/", **headers: str) -> Reply:
    """Ask once, over a connection of its own."""
    with contextlib.closing(Connection(address)) as connection:
        return connection.ask(host, path, **{"Connection": "close", **headers})


def wait_until(condition: Callable[[], bool], seconds: float = LIMIT) -> None:
    assert holds_within(condition, seconds), f"waited {seconds:g} s"


def wait_read(client: socket.socket) -> None:
    """Wait until the server has read all that a client has sent over TCP."""
    ports = [f":{client.getpeername()[1]:04X}", f":{client.getsockname()[1]:04X}"]

    def is_read() -> bool:
        rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        # its queue of what is sent and of what nobody has read; no inode: nobody has accepted it
        return [
            (row[4].partition(":")[2], row[9] != "0")
            for row in rows
            if [row[1][-5:], row[2][-5:]] == ports
        ] == [("00000000", True)]

    wait_until(is_read)


def closes(kept: "Connection", host: str, path: str = "/") -> bool:
    """Tell whether a connection that was kept is not kept any more: its server drains."""
    reply = kept.ask(host, path)
    assert reply.status == 200
    return reply.headers["Connection"] == "close"


def opened(pid: int) -> set[Path]:
    """Return what a process has open, while it may be opening and closing."""
    found = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.add(link.readlink())
    return found


@dataclass
class Sockets:
    """The listeners that outlive every generation: a unix path and a TCP port."""

    folder: Path
    path: str = ""
    port: int = 0
    _sockets: list[socket.socket] = field(default_factory=list)

    def __enter__(self) -> "Sockets":
        self.path = str(self.folder / "pool.sock")
        unix = socket.socket(socket.AF_UNIX)
        unix.bind(self.path)
        tcp = socket.create_server(("127.0.0.1", 0))
        unix.listen(512)
        tcp.listen(512)
        self.port = tcp.getsockname()[1]
        self._sockets = [unix, tcp]
        return self

    def __exit__(self, *_: object) -> None:
        for listener in self._sockets:
            listener.close()

    @property
    def fds(self) -> list[int]:
        return [listener.fileno() for listener in self._sockets]

    @property
    def variable(self) -> str:
        unix, tcp = self.fds
        return f"127.0.0.1:{self.port}={tcp};{self.path}={unix}"


class Server:
    """One generation: a server with the listeners handed over, and its notifications read."""

    def __init__(
        self,
        command: Sequence[str | Path],
        sockets: Sockets,
        generation: int = 1,
        ready: str | None = None,
        variables: dict[str, str] | None = None,
    ) -> None:
        """`ready` is what the server prints once it serves, when it doesn't say READY=1."""
        self._notifications = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notifications.bind("")  # autobind: an abstract name
        self.said: list[str] = []
        self.sockets = sockets
        self._ready = ready
        self._told = False
        self.log = sockets.folder / f"{generation}.log"
        name = self._notifications.getsockname().decode()
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                cwd="/",
                env={
                    "PATH": os.environ["PATH"],
                    "PYTHONPATH": str(ROOT),
                    "SERVER_STARTER_PORT": sockets.variable,
                    "SERVER_STARTER_GENERATION": str(generation),
                    "NOTIFY_SOCKET": name.replace("\0", "@", 1),
                    **(variables or {}),
                },
                pass_fds=sockets.fds,
                stderr=log,
                stdout=log,
            )

    def wait_ready(self) -> None:
        deadline = time.monotonic() + LIMIT
        while not self.is_ready():
            left = deadline - time.monotonic()
            assert self.process.poll() is None, self.log.read_text()
            assert left > 0, f"not ready: {self.said}\n{self.log.read_text()}"
            self.read_notifications(min(left, 0.1))

    def read_notifications(self, patience: float = 0) -> None:
        while select.select([self._notifications], [], [], patience)[0]:
            self.said.append(self._notifications.recv(4096).decode())
            patience = 0

    def is_ready(self) -> bool:
        if self._ready is not None:
            return self._ready in self.log.read_text()
        return any("READY=1" in message for message in self.said)

    def workers(self) -> list[int]:
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text()
        return [int(child) for child in children.split()]

    def terminate(self) -> None:
        # Once: one that comes while Node.js tears itself down would be its exit status.
        if not self._told:
            self._told = True
            self.process.terminate()

    def wait_refused(self) -> int:
        """Return the status of a server that ends by itself without ever having been ready."""
        try:
            status = self.process.wait(LIMIT)
            self.read_notifications()
            assert not self.is_ready()
        finally:
            self.stop()
        return status

    def stop(self) -> int:
        self.terminate()
        return self.wait()

    def wait(self) -> int:
        self._notifications.close()
        try:
            return self.process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            workers = self.workers()
            self.process.kill()
            for worker in workers:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(worker, signal.SIGKILL)
            raise


def vhost_server(
    pool: Path, sockets: Sockets, generation: int = 1, variables: dict[str, str] | None = None
) -> Server:
    return Server([*COMMAND, pool], sockets, generation, variables=variables)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


@contextlib.contextmanager
def start_server(
    port: int, folder: Path, *command: str, options: Sequence[str] = ()
) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [*START_SERVER, f"--port={port}", *options, "--", *command],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
    )
    try:
        yield process
    finally:
        process.terminate()
        assert process.wait(LIMIT) == 0


@contextlib.contextmanager
def serving(server: Server) -> Iterator[Server]:
    """Wait until a server is ready, and leave none behind."""
    try:
        server.wait_ready()
        yield server
    finally:
        server.stop()


def running(
    pool: Path, sockets: Sockets, **variables: str
) -> contextlib.AbstractContextManager[Server]:
    return serving(vhost_server(pool, sockets, variables=variables))


class Load:
    """Clients that go on asking, within the context, and remember every failure."""

    def __init__(self) -> None:
        self.failures: list[str] = []
        self.done: Counter[str] = Counter()
        self.seen: Counter[str] = Counter()  # by generation/pid
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(LIMIT)
            assert not thread.is_alive()

    def _record(self, kind: str, reply: Reply) -> None:
        with self._lock:
            self.done[kind] += 1
            self.seen[f"{reply.headers['X-Generation']}/{reply.headers['X-Pid']}"] += 1
            if reply.status != 200 or (kind == "slow" and not reply.body.endswith(b"done\n")):
                self.failures.append(f"{kind}: {reply.status} {reply.body[-100:]!r}")

    def _client(self, kind: str, ask: Callable[[], Reply], pause: float) -> None:
        def run() -> None:
            while not self._stop.wait(pause):
                try:
                    reply = ask()
                except (OSError, http.client.HTTPException) as error:
                    with self._lock:
                        self.failures.append(f"{kind}: {error!r}")
                else:
                    self._record(kind, reply)

        self._threads.append(threading.Thread(target=run))

    def wait_for(self, generation: int) -> None:
        def has_answered() -> bool:
            return any(name.startswith(f"{generation}/") for name in list(self.seen))

        assert holds_within(has_answered, LIMIT), f"generation {generation} never answered"

    def new_connections(self, address: str | int, host: str, path: str = "/") -> None:
        self._client("new", lambda: get(address, host, path), 0.005)

    def keep_alive(self, address: str | int, host: str, think: float, path: str = "/") -> None:
        held = Connection(address)

        def ask() -> Reply:
            try:
                # http.client opens a new connection only after `Connection: close`.
                return held.ask(host, path)
            except (OSError, http.client.HTTPException):
                held.close()
                raise

        self._client("keep-alive", ask, think)

    def slow(self, address: str | int, host: str, seconds: float) -> None:
        self._client("slow", lambda: get(address, host, f"/slow?seconds={seconds}"), 0)


def restart_under_load(start: Callable[[int], Server], generations: int, load: Load) -> None:
    """Follow one generation by another, each ended as soon as the next one is ready."""
    with contextlib.ExitStack() as stack:

        def begin(generation: int) -> Server:
            server = start(generation)
            stack.callback(server.stop)
            server.wait_ready()
            return server

        servers = [begin(1)]
        with load:
            for generation in range(2, generations + 1):
                servers.append(begin(generation))
                servers[-2].terminate()
                load.wait_for(generation)
        codes = [server.stop() for server in servers]
        assert codes == [0] * generations, str(codes)
