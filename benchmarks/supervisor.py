"""start_server beside Perl's: memory, start, and the slowest request while restarting.

    python -m benchmarks.supervisor

Prints one Markdown table. Takes about a minute, uses loopback only. The two take turns, so that
what else the machine does hits both. The server of the restarts is gunicorn, with an application
that takes longer to load than start_server's default interval of 1 second: the case that Perl's
needs a guessed KILL_OLD_DELAY for.
"""

import contextlib
import http.client
import os
import select
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]
MEMORY_ROUNDS = 3
START_ROUNDS = 9
TURNS = 2  # each of RESTARTS / TURNS restarts
RESTARTS = 10
CLIENTS = 4
BOOT_SECONDS = 1.5
LISTEN_FD = 9
PATIENCE = 30.0  # seconds for any one step; more means that something is broken
PAUSE = 0.01  # seconds between two looks at a file, and of each client between requests

APPLICATION = f"""
import time
time.sleep({BOOT_SECONDS})  # what a larger application spends on imports
def application(environ, start_response):
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""


@dataclass
class Contender:
    """A super-daemon, and what was measured of it."""

    name: str
    command: list[str]
    dirty_kb: list[float] = field(default_factory=list)
    start_ms: list[float] = field(default_factory=list)
    slowest_ms: list[float] = field(default_factory=list)
    requests: int = 0
    failed: int = 0


def contenders() -> list[Contender]:
    """Return ours, and Perl's where it is installed."""
    python = "/usr/bin/python3" if Path("/usr/bin/python3").exists() else sys.executable
    run = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); from supervisor_py.cli import main; main()"
    )
    ours = Contender("start_server (ours)", [python, "-ISE", "-c", run])
    perl = shutil.which("perl")
    module = [perl or "perl", "-MServer::Starter", "-e", "print $Server::Starter::VERSION"]
    with contextlib.suppress(OSError):
        found = subprocess.run(module, capture_output=True, text=True, check=False)
        if found.returncode == 0 and Path("/usr/bin/start_server").exists():
            name = f"Server::Starter {found.stdout} (Perl)"
            return [Contender(name, [perl or "perl", "/usr/bin/start_server"]), ours]
    print("Perl's is missing, so there is nothing to compare with: apt install "
          "libserver-starter-perl", file=sys.stderr)  # fmt: skip
    return [ours]


def wait_until(fulfilled: Callable[[], object], what: str) -> None:
    """Look until it is so; raises TimeoutError."""
    ends = time.monotonic() + PATIENCE
    while not fulfilled():
        if time.monotonic() > ends:
            raise TimeoutError(f"waited {PATIENCE:g} s for {what}")
        time.sleep(PAUSE)


@contextlib.contextmanager
def running(
    one: Contender, options: Sequence[str], program: Sequence[str], log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a super-daemon, and leave nothing of its session behind."""
    with log.open("ab") as messages:
        process = subprocess.Popen(
            [*one.command, *options, "--", *program],
            stdout=messages,
            stderr=messages,
            start_new_session=True,
        )
    try:
        yield process
        process.terminate()
        process.wait(PATIENCE)
    except (TimeoutError, subprocess.TimeoutExpired) as error:
        raise RuntimeError(f"{one.name}: {error}\n{log.read_text()}") from error
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def measure_memory(one: Contender, directory: Path) -> None:
    """Take the private dirty memory of an idle super-daemon with one child."""
    status = directory / "status"
    options = [f"--status-file={status}", f"--path={directory / 'listen'}"]
    with running(one, options, ["/bin/sleep", "600"], directory / "log") as process:
        wait_until(status.exists, "the first generation")
        rollup = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
        dirty = next(line for line in rollup.splitlines() if line.startswith("Private_Dirty"))
        one.dirty_kb.append(float(dirty.split()[1]))


def measure_start(one: Contender, directory: Path) -> None:
    """Take the time from our exec of the super-daemon to its exec of the child."""
    fifo = directory / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    program = ["/bin/sh", "-c", f"echo > {fifo}; exec sleep 600"]
    before = time.perf_counter()
    with running(one, [], program, directory / "log"):
        if not select.select([reader], [], [], PATIENCE)[0]:
            raise TimeoutError("the child did not start")
        one.start_ms.append((time.perf_counter() - before) * 1000)
        os.close(reader)


class Load:
    """Clients that make one new connection after the other, and note how long each answer took."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(CLIENTS)]
        self.answers: list[tuple[float, float]] = []  # when it began and ended
        self.failed = 0

    def _ask(self) -> None:
        while not self._over.is_set():
            began = time.perf_counter()
            try:
                self.once()
            except (OSError, http.client.HTTPException):
                self.failed += 1
            self.answers.append((began, time.perf_counter()))
            time.sleep(PAUSE)

    def once(self) -> None:
        """Make one request over a connection of its own; raises OSError or HTTPException."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE)
        with contextlib.closing(connection):
            connection.request("GET", "/")
            if connection.getresponse().read() != b"ok":
                raise http.client.HTTPException("not the answer of the application")

    def slowest_ms(self, began: float, ended: float) -> float:
        """Return the longest that a request took that was under way in this time."""
        times = [
            stop - start for start, stop in list(self.answers) if stop > began and start < ended
        ]
        return max(times) * 1000

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()


def measure_restarts(one: Contender, directory: Path, restarts: int) -> None:
    """Restart a real server under load, and note the slowest request of each restart."""
    (directory / "app.py").write_text(APPLICATION)
    status = directory / "status"
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    options = [f"--status-file={status}", f"--port=127.0.0.1:{port}={LISTEN_FD}"]
    gunicorn = [sys.executable, "-m", "gunicorn", "--preload", "--workers=2"]
    gunicorn += [f"--bind=fd://{LISTEN_FD}", f"--chdir={directory}", "--log-level=error"]
    program = [*gunicorn, "app:application"]
    with running(one, options, program, directory / "log") as process:
        wait_until(status.exists, "the first generation")
        load = Load(port)
        load.once()
        with load:
            time.sleep(20 * PAUSE)
            for number in range(2, restarts + 2):
                began = time.perf_counter()
                process.send_signal(signal.SIGHUP)
                _wait_alone(status, number)
                load.once()
                time.sleep(20 * PAUSE)
                one.slowest_ms.append(load.slowest_ms(began, time.perf_counter()))
        one.requests += len(load.answers)
        one.failed += load.failed


def _wait_alone(status: Path, number: int) -> None:
    """Wait until a generation is the only one alive, by the status file."""

    def alone() -> bool:
        return [line.split(":")[0] for line in status.read_text().split()] == [str(number)]

    wait_until(alone, f"generation {number}")


def table(measured: Sequence[Contender]) -> str:
    """Return all figures as a Markdown table, with the number of runs behind each."""
    rows = [
        ["", *(one.name for one in measured)],
        ["---", *("---:" for _ in measured)],
        [
            f"private dirty memory, idle (median of {MEMORY_ROUNDS})",
            *(f"{statistics.median(one.dirty_kb):,.0f} kB" for one in measured),
        ],
        [
            f"start to the child's exec (median of {START_ROUNDS})",
            *(f"{statistics.median(one.start_ms):.0f} ms" for one in measured),
        ],
        [
            f"slowest request in a restart (median of {RESTARTS} restarts)",
            *(f"{statistics.median(one.slowest_ms):,.0f} ms" for one in measured),
        ],
        [
            f"slowest request in {RESTARTS} restarts",
            *(f"{max(one.slowest_ms):,.0f} ms" for one in measured),
        ],
        ["failed requests", *(f"{one.failed} of {one.requests:,}" for one in measured)],
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main() -> None:
    """Measure, and print the table."""
    measured = contenders()
    with tempfile.TemporaryDirectory() as top:
        number = 0

        def take_turns(rounds: int, measure: Callable[[Contender, Path], None]) -> None:
            nonlocal number
            for _ in range(rounds):
                for one in measured:
                    number += 1
                    directory = Path(top, str(number))
                    directory.mkdir()
                    measure(one, directory)

        take_turns(1, measure_start)  # not counted: files come into the cache, ours are compiled
        for one in measured:
            one.start_ms.clear()
        take_turns(START_ROUNDS, measure_start)
        take_turns(MEMORY_ROUNDS, measure_memory)
        take_turns(TURNS, lambda one, at: measure_restarts(one, at, RESTARTS // TURNS))
    print(table(measured))
    print(
        f"\ngunicorn, 2 sync workers, an application that loads in {BOOT_SECONDS} s, {CLIENTS} "
        "clients with new connections; both super-daemons with their default options."
    )


if __name__ == "__main__":
    main()
