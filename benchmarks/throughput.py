"""Requests per second: vhost_server beside gunicorn, uWSGI and granian, with nginx as the limit.

    python -m benchmarks.throughput [--seconds=3] [--rounds=3] [--json=FILE]

Asked by wrk over loopback, 8 connections at a time, of servers with two worker processes: a bare
hello and a page of a blog (Flask, SQLAlchemy, Jinja2), over kept connections and over new ones. All
servers run side by side and take turns. And what the dispatcher costs of a hello: the processor
time of a whole worker with it and without, in turns, and of a call of it alone.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

from .environment import ROOT, environment, interpreter, say, versions
from .mix import BLOG, WebApp, prepared
from .processes import PATIENCE, marked, running, wait_until
from .report import Circumstances, markdown, write_json
from .servers import start_server, vhost_server, write_dispatcher

HELLO = WebApp("hello", "hello:application", ("/",))
CONNECTIONS = 8
WORKERS, THREADS = 2, 4
PACKAGES = ("gunicorn", "pyuwsgi", "granian", "Flask", "SQLAlchemy")
DISPATCHER_ROUNDS = 30
DISPATCHER_REQUESTS = 1_000  # of each turn
OK = 200
UNITS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}
NGINX = """\
daemon off; pid {directory}/nginx.pid; error_log {directory}/nginx.log; worker_processes 2;
events {{ worker_connections 256; }}
http {{
    access_log off; client_body_temp_path {directory}; proxy_temp_path {directory};
    fastcgi_temp_path {directory}; uwsgi_temp_path {directory}; scgi_temp_path {directory};
    keepalive_requests 100000000;
    server {{ listen 127.0.0.1:{port}; return 200 "Hello, world!\\n"; }}
}}
"""
WITHOUT_DISPATCHER = """\
from supervisor_py.vhost.dispatcher import Dispatcher
import hello
Dispatcher.__call__ = lambda self, environ, start_response: hello.application(
    environ, start_response)
"""
# What a dispatched request does beyond the app's own call, in a thread as a worker's are.
IN_PROCESS = """\
import json, statistics, sys, threading, time, timeit
from pathlib import Path
from supervisor_py.vhost import context, loader, pool
from supervisor_py.vhost.dispatcher import Dispatcher
apps = loader.load(pool.read(Path(sys.argv[1])), loader.Loading(lambda error: sys.exit(str(error))))
dispatcher = Dispatcher(apps)
bare = next(app.application for app in apps if app.context.name == "hello")
environ = {"HTTP_HOST": "hello.test", "RAW_URI": "/", "PATH_INFO": "/", "SCRIPT_NAME": ""}
def start_response(status, headers): pass
def dispatched():
    dispatcher(environ, start_response)
    context.leave()
def measure():
    number, turns = 20_000, 15
    pairs = [
        (timeit.timeit(dispatched, timer=time.thread_time, number=number),
         timeit.timeit(lambda: bare(environ, start_response), timer=time.thread_time,
                       number=number))
        for _ in range(turns)
    ]
    print(json.dumps(1e6 * statistics.median(one - other for one, other in pairs) / number))
thread = threading.Thread(target=measure)
thread.start()
thread.join()
"""


@dataclass
class Load:
    """What wrk said of one turn."""

    per_second: float
    p99_ms: float
    failed: int


class WrkError(RuntimeError):
    """wrk said something else than expected."""


def parse(said: str) -> Load:
    """Read wrk's report; raises WrkError when there is none."""
    rate = re.search(r"^Requests/sec:\s+([0-9.]+)$", said, re.MULTILINE)
    p99 = re.search(r"^\s+99%\s+([0-9.]+)(us|ms|s|m)$", said, re.MULTILINE)
    if rate is None or p99 is None:
        raise WrkError(f"no report of wrk: {said[:200]!r}")
    bad = re.search(r"^\s+Non-2xx or 3xx responses: ([0-9]+)$", said, re.MULTILINE)
    # read errors are connections that were closed without being announced, as uWSGI does it
    errors = re.search(r"Socket errors: connect (\d+), read \d+, write (\d+), timeout (\d+)", said)
    failed = int(bad[1]) if bad else 0
    failed += sum(map(int, errors.groups())) if errors else 0
    return Load(float(rate[1]), float(p99[1]) * UNITS[p99[2]], failed)


def load(port: int, app: WebApp, seconds: float, *, keep: bool) -> Load:
    """Ask an app for its first page as often as it answers."""
    command = ["wrk", "--threads=1", f"--connections={CONNECTIONS}", f"--duration={seconds:g}s"]
    command += ["--latency", f"--header=Host: {app.host}"]
    command += [] if keep else ["--header=Connection: close"]
    command.append(f"http://127.0.0.1:{port}{app.pages[0]}")
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return parse(done.stdout)


@dataclass
class Contender:
    """A server with its command for a port, and what it reached, by kind of load."""

    name: str
    command: Callable[[int], list[str]]
    pages: Sequence[WebApp] = (HELLO, BLOG)
    keeps: bool = True  # whether it keeps connections at all
    closes: bool = True  # whether it closes one when asked to
    port: int = 0
    loads: dict[str, list[Load]] = field(default_factory=dict)


def contenders(apps: Sequence[WebApp], directory: Path, bin_directory: Path) -> list[Contender]:
    """Return all that are compared; each serves hello and the blog, by the host asked for."""
    write_dispatcher(apps, directory)
    pool = write_pool(apps, directory)
    python, both = str(bin_directory / "python"), "dispatch:application"

    def kechi(port: int) -> list[str]:
        return [*start_server(), f"--port=127.0.0.1:{port}", "--", *vhost_server(python, pool)]

    def gunicorn(*options: str) -> Callable[[int], list[str]]:
        fixed = [python, "-m", "gunicorn", "--log-level=error", "--no-control-socket"]
        fixed += [f"--chdir={directory}", "--preload", f"--workers={WORKERS}"]
        return lambda port: [*fixed, *options, f"--bind=127.0.0.1:{port}", both]

    def uwsgi(kind: str) -> Callable[[int], list[str]]:
        fixed = [str(bin_directory / "uwsgi"), "--need-app", "--disable-logging", "--die-on-term"]
        fixed += ["--master", f"--processes={WORKERS}", f"--threads={THREADS}"]
        fixed += [f"--chdir={directory}", "--module=dispatch"]
        return lambda port: [*fixed, f"--{kind}=127.0.0.1:{port}"]

    def granian(port: int) -> list[str]:
        options = ["--interface=wsgi", f"--workers={WORKERS}", f"--blocking-threads={THREADS}"]
        options += [f"--working-dir={directory}", "--no-log", f"--port={port}"]
        return [str(bin_directory / "granian"), *options, both]

    threads = f"--threads={THREADS}"
    found = [
        Contender("kechi", kechi),
        Contender("gunicorn gthread", gunicorn("--worker-class=gthread", threads)),
        Contender("gunicorn sync", gunicorn(), keeps=False),
        Contender("uWSGI http-socket", uwsgi("http-socket"), keeps=False),
        Contender("uWSGI http11-socket", uwsgi("http11-socket"), closes=False),
        Contender("granian", granian),
    ]
    if nginx := shutil.which("nginx", path="/usr/sbin:/usr/bin"):
        binary = nginx

        def limit(port: int) -> list[str]:
            config = directory / "nginx.conf"
            config.write_text(NGINX.format(directory=directory, port=port))
            return [binary, "-c", str(config)]

        found.append(Contender("nginx, `return 200`", limit, (HELLO,)))
    else:
        say("nginx is missing and left out: apt install nginx-light")
    return found


def write_pool(apps: Sequence[WebApp], directory: Path) -> Path:
    """Write a pool file with some apps, none of them isolated."""
    lines = ["[pool]", 'name = "bench"', f"workers = {WORKERS}", f"threads = {THREADS}"]
    for app in apps:
        lines += ["[[apps]]", f'name = "{app.name}"', f'hosts = ["{app.host}"]']
        lines += [f'directory = "{app.directory}"', f'wsgi = "{app.target}"']
    path = directory / "pool.toml"
    path.write_text("\n".join(lines) + "\n")
    return path


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def answers(port: int, app: WebApp) -> bool:
    """Tell whether an app's first page is there."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
        connection.request("GET", app.pages[0], headers={"Host": app.host})
        return connection.getresponse().status == OK
    return False


@contextlib.contextmanager
def all_running(measured: Sequence[Contender], top: Path) -> Iterator[None]:
    """Run all servers side by side, each on a port of its own."""
    with contextlib.ExitStack() as stack:
        for number, one in enumerate(measured):
            one.port = free_port()
            directory = top / f"run-{number}"
            directory.mkdir()
            stack.enter_context(running(one.name, [one.command(one.port)], directory))
            for app in one.pages:
                wait_until(partial(answers, one.port, app), f"{one.name}'s {app.name}")
        yield


KINDS = (
    ("hello, kept connections", HELLO, True),
    ("hello, new connections", HELLO, False),
    ("a page, kept connections", BLOG, True),
    ("a page, new connections", BLOG, False),
)


def measure(
    measured: Sequence[Contender], rounds: int, seconds: float, look: Callable[[], None]
) -> None:
    """Load all in turns."""
    for turn in range(rounds):
        say(f"round {turn + 1} of {rounds} …")
        for kind, app, keep in KINDS:
            for one in measured:
                if app in one.pages and (one.keeps if keep else one.closes):
                    one.loads.setdefault(kind, []).append(load(one.port, app, seconds, keep=keep))
        look()


def table(measured: Sequence[Contender]) -> str:
    """Return requests per second and p99 of each, the median of the rounds."""
    rows = [["requests/s, p99", *(kind for kind, _, _ in KINDS), "failed"]]
    for one in measured:
        cells = []
        for kind, _, _ in KINDS:
            turns = one.loads.get(kind)
            rate = statistics.median(turn.per_second for turn in turns) if turns else 0
            p99 = statistics.median(turn.p99_ms for turn in turns) if turns else 0
            cells.append(f"{rate:,.0f}, {p99:,.1f} ms" if turns else "")
        failed = sum(turn.failed for turns in one.loads.values() for turn in turns)
        rows.append([one.name, *cells, str(failed)])
    return markdown(rows)


def cpu_seconds(pids: Sequence[int]) -> float:
    """Return the processor time that all threads of processes have used so far."""
    files = (file for pid in pids for file in Path(f"/proc/{pid}/task").glob("*/schedstat"))
    return sum(int(file.read_text().split()[0]) for file in files) / 1e9


def ask_often(port: int, requests: int) -> None:
    """Make requests over one kept connection, each as soon as the last is answered."""
    request = b"GET / HTTP/1.1\r\nHost: hello.test\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
        for _ in range(requests):
            connection.sendall(request)
            answer = connection.recv(4096)
            while not answer.endswith(b"Hello, world!\n"):
                more = connection.recv(4096)
                if not more:
                    raise WrkError("the connection was closed")
                answer += more


@dataclass
class Dispatching:
    """Processor time of a hello, in microseconds per request."""

    with_it: list[float] = field(default_factory=list)
    without: list[float] = field(default_factory=list)
    call: float = 0.0  # of the dispatcher alone, in process

    def percent(self) -> float:
        """Return the median of what it adds, turn by turn, in percent of a hello without."""
        pairs = zip(self.with_it, self.without, strict=True)
        return statistics.median(100 * (one / other - 1) for one, other in pairs)

    def quietest_percent(self) -> float:
        """Return the same of the turns that the machine's other work has disturbed least."""
        return 100 * (min(self.with_it) / min(self.without) - 1)

    def call_percent(self) -> float:
        """Return the share of the call alone in a hello without."""
        return 100 * self.call / statistics.median(self.without)


def measure_dispatcher(hello: WebApp, top: Path, python: str) -> Dispatching:
    """Compare a worker with the dispatcher and one where it is taken out, in turns."""
    directory = top / "dispatcher"
    directory.mkdir()
    pool = write_pool([hello], directory)
    text = pool.read_text().replace(f"workers = {WORKERS}", "workers = 1")
    pool.write_text(text.replace(f"threads = {THREADS}", "threads = 1"))
    taken_out = vhost_server(python, pool, WITHOUT_DISPATCHER, path=str(hello.directory))
    found = Dispatching()
    ports, places = [free_port(), free_port()], [directory / "with", directory / "without"]
    with contextlib.ExitStack() as stack:
        for port, place, command in zip(
            ports, places, (vhost_server(python, pool), taken_out), strict=True
        ):
            place.mkdir()
            command.append(f"--bind=127.0.0.1:{port}")
            stack.enter_context(running("vhost_server", [command], place))
            wait_until(partial(answers, port, hello), "hello")
        pids = [marked(place) for place in places]
        for turn in range(DISPATCHER_ROUNDS + 1):
            for port, group, times in zip(ports, pids, (found.with_it, found.without), strict=True):
                before = cpu_seconds(group)
                ask_often(port, DISPATCHER_REQUESTS)
                if turn:  # the first warms up
                    used = cpu_seconds(group) - before
                    times.append(1e6 * used / DISPATCHER_REQUESTS)
    alone = subprocess.run(
        [python, "-c", IN_PROCESS, str(pool)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    found.call = float(alone.stdout)
    return found


def sentence(found: Dispatching) -> str:
    """Say what the dispatcher costs."""
    one, other = statistics.median(found.with_it), statistics.median(found.without)
    return (
        f"The dispatcher: {one:.1f} µs of processor time for a hello with it, {other:.1f} µs"
        f" without; of {DISPATCHER_ROUNDS} turns of {DISPATCHER_REQUESTS:,} requests each, in the"
        f" median {found.percent():+.1f} %, in the quietest {found.quietest_percent():+.1f} %."
        f" Its call alone takes {found.call:.2f} µs, {found.call_percent():.1f} % of a hello."
    )


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.throughput", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--python", default="", metavar="3.13", help="instead of the system's")
    parser.add_argument("--seconds", type=float, default=3, help="of each turn; default 3")
    parser.add_argument("--rounds", type=int, default=3, help="default 3; 0: the dispatcher alone")
    parser.add_argument("--json", default="", metavar="FILE", help="write the figures there, too")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print the table."""
    options = _options(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what runs is ended on the way out
    if options.rounds and not shutil.which("wrk"):
        sys.exit("wrk is missing: apt install wrk")
    bin_directory = environment(interpreter(options.python))
    if bin_directory is None:
        sys.exit("nothing can be compared without the packages of requirements-bench.txt")
    python = str(bin_directory / "python")
    circumstances = Circumstances(versions(bin_directory / "python", *PACKAGES))
    circumstances.look()
    with tempfile.TemporaryDirectory() as name:
        top = Path(name)
        hello, blog = prepared([HELLO, BLOG], python, top / "apps")
        servers = contenders([hello, blog], top, bin_directory)
        if options.rounds:
            with all_running(servers, top):
                measure(servers, options.rounds, options.seconds, circumstances.look)
            print(f"{table(servers)}\n")
        dispatching = measure_dispatcher(hello, top, python)
        print(sentence(dispatching))
    measured = {
        "servers": {
            one.name: {kind: [asdict(turn) for turn in turns] for kind, turns in one.loads.items()}
            for one in servers
        },
        "dispatcher": asdict(dispatching),
    }
    if options.rounds:
        print(
            f"\nMedian of {options.rounds} rounds of {options.seconds:g} s, wrk with {CONNECTIONS}"
            f" connections, {WORKERS} workers (of {THREADS} threads where there are any)."
        )
    print(f"\n{circumstances.sentence()}")
    write_json(options.json, circumstances, measured)


if __name__ == "__main__":
    main()
