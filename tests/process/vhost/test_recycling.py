"""Workers are replaced one at a time, for what they have cost, and no request notices."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from supervisor_py.vhost import ledger
from supervisor_py.vhost.arbiter import private_kb

from ..waiting import LIMIT
from .harness import (
    ROOT,
    START_SERVER,
    Connection,
    Load,
    Server,
    Sockets,
    free_port,
    get,
    running,
    start_server,
    wait_until,
)

HOST = "leaky.test"
# Each request is remembered for ever, as in a cache without a bound.
LEAKY = """
import os, time
from pathlib import Path

REMEMBERED = []
FAILS = Path("fails")


def fail_to_start():
    if FAILS.exists():
        time.sleep(1.5)  # longer than the arbiter's patience between two looks
        os._exit(1)


os.register_at_fork(after_in_child=fail_to_start)


def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/leak":
        REMEMBERED.append(bytearray(os.urandom(64)) * 4096)
    start_response("200 OK", [
        ("X-Pid", str(os.getpid())),
        ("X-Generation", os.environ.get("SERVER_STARTER_GENERATION", "none")),
    ])
    return lines() if path == "/slow" else [b"ok\\n"]


def lines():
    for _ in range(20):
        yield b"x" * 20_000
        time.sleep(0.05)  # slow, as its clients want it
    yield b"done\\n"
"""
RECYCLED = re.compile(r"recycling worker (\d+): (.+); worker (\d+) serves in its place")
GONE = re.compile(r"Worker exiting \(pid: (\d+)\)")


def leaky_pool(folder: Path, **settings: int) -> Path:
    (folder / "leaky").mkdir()
    (folder / "leaky" / "leaky.py").write_text(LEAKY)
    path = folder / "leaky.toml"
    lines = "\n".join(f"{key} = {value}" for key, value in settings.items())
    path.write_text(
        f'[pool]\nname = "leaky"\n{lines}\n'
        f'[[apps]]\nname = "leaky"\nhosts = ["{HOST}"]\ndirectory = "leaky"\n'
        'wsgi = "leaky:application"\n'
    )
    return path


def recyclings(server: Server) -> list[tuple[int, str, int]]:
    found = RECYCLED.findall(server.log.read_text())
    return [(int(old), reason, int(new)) for old, reason, new in found]


def until(over: Callable[[], bool], seconds: float = LIMIT) -> Iterator[None]:
    deadline = time.monotonic() + seconds
    while not over():
        assert time.monotonic() < deadline
        yield


def pid_of_answer(sockets: Sockets, path: str = "/") -> int:
    return int(get(sockets.path, HOST, path).headers["X-Pid"])


@contextlib.contextmanager
def most_workers(server: Server) -> Iterator[list[int]]:
    """Count the workers again and again; the list holds the highest count."""
    most, stop = [0], threading.Event()

    def watch() -> None:
        while not stop.wait(0.005):
            most[0] = max(most[0], len(server.workers()))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield most
    finally:
        stop.set()
        thread.join(LIMIT)


@pytest.mark.parametrize(("workers", "times"), [(1, 12), (3, 12)])
def test_a_leaking_app_is_recycled_under_load_and_no_request_is_lost(
    tmp_path: Path, sockets: Sockets, workers: int, times: int
) -> None:
    pool = leaky_pool(tmp_path, workers=workers, threads=8, max_private_mb=40)
    load = Load()
    for address in (sockets.path, sockets.port):
        load.new_connections(address, HOST, "/leak")
        load.new_connections(address, HOST)
        for think in (0.001, 0.05, 0.3):
            load.keep_alive(address, HOST, think, "/leak" if think < 0.3 else "/")
        load.slow(address, HOST, 1)
    with running(pool, sockets) as server:
        with load, most_workers(server) as most:
            wait_until(lambda: len(recyclings(server)) >= times, 5 * LIMIT)
        assert server.stop() == 0
    assert load.failures == []
    assert min(load.done.values()) > times / 2, load.done
    assert load.done["new"] + load.done["keep-alive"] > 2000
    assert most[0] == workers + 1, "never two at once"
    assert all("private memory" in reason for _, reason, _ in recyclings(server))


def test_one_has_gone_before_the_next_is_told_to_leave(tmp_path: Path, sockets: Sockets) -> None:
    with running(leaky_pool(tmp_path, workers=3, max_age_seconds=1), sockets) as server:
        wait_until(lambda: len(recyclings(server)) >= 9)
        log = server.log.read_text()
    leaving = 0
    for line in log.splitlines():
        if match := RECYCLED.search(line):
            assert not leaving, f"{leaving} is still there: {line}"
            leaving = int(match[1])
        elif (match := GONE.search(line)) and int(match[1]) == leaving:
            leaving = 0


def test_the_memory_of_a_worker_stays_near_its_budget(tmp_path: Path, sockets: Sockets) -> None:
    pool = leaky_pool(tmp_path, workers=1, max_private_mb=30)
    highest = 0
    with running(pool, sockets) as server, contextlib.closing(Connection(sockets.path)) as client:
        for _ in until(lambda: len(recyclings(server)) >= 3):
            client.ask(HOST, "/leak")
            time.sleep(0.02)  # a visitor every so often: the memory is looked at by the clock
            highest = max(highest, *map(private_kb, server.workers()))
        reasons = [reason for _, reason, _ in recyclings(server)]
    assert 30 * 1024 < highest < 120 * 1024, "what comes in until it is seen, and while it drains"
    assert all(re.fullmatch(r"private memory [\d.]+ MB, over its 30 MB", one) for one in reasons)


def test_a_worker_is_recycled_after_its_requests_and_no_more_than_jitter_later(
    tmp_path: Path, sockets: Sockets
) -> None:
    with running(leaky_pool(tmp_path, workers=1, max_requests=50), sockets) as server:
        served: dict[int, int] = {}
        for _ in until(lambda: len(served) == 4):
            pid = pid_of_answer(sockets)
            served[pid] = served.get(pid, 0) + 1
        reasons = [reason for _, reason, _ in recyclings(server)]
    *whole, _ = served.values()
    # Until the new one serves, the old one does.
    assert all(count >= 50 for count in whole), served
    limits = [int(re.fullmatch(r"\d+ requests, of (\d+) at most", one)[1]) for one in reasons]  # type: ignore[index]
    assert len(limits) >= len(whole)
    assert all(50 <= limit < 60 for limit in limits)


def test_an_old_worker_is_recycled_though_nobody_asks(tmp_path: Path, sockets: Sockets) -> None:
    with running(leaky_pool(tmp_path, workers=1, max_age_seconds=1), sockets) as server:
        wait_until(lambda: len(recyclings(server)) >= 2)
        assert re.fullmatch(r"[\d.]+ s old, of 1\.\d s at most", recyclings(server)[0][1])
        assert get(sockets.path, HOST).status == 200


def test_a_replacement_that_fails_to_start_leaves_the_old_worker_serving(
    tmp_path: Path, sockets: Sockets
) -> None:
    with running(leaky_pool(tmp_path, workers=1, max_requests=20), sockets) as server:
        fails = tmp_path / "leaky" / "fails"
        fails.touch()
        load = Load()
        for address in (sockets.path, sockets.port):
            load.new_connections(address, HOST)
            load.keep_alive(address, HOST, 0.01)
        with load:
            wait_until(lambda: "next try in 4 s" in server.log.read_text())
            done = load.done["new"]
            wait_until(lambda: load.done["new"] > done + 10)
            assert len(load.seen) == 1
            fails.unlink()
            wait_until(lambda: len(load.seen) > 1)
        log = server.log.read_text()
        assert server.stop() == 0
    assert load.failures == []
    assert len(re.findall("has ended before it served, next try in [124] s", log)) == 3


def test_a_worker_that_is_killed_while_it_is_replaced_is_replaced_once(
    tmp_path: Path, sockets: Sockets
) -> None:
    pool = leaky_pool(tmp_path, workers=2, max_requests=20)
    with running(pool, sockets) as server:
        for _ in range(60):
            pid = pid_of_answer(sockets)
            os.kill(pid, signal.SIGKILL)
            get(sockets.path, HOST)
        wait_until(lambda: len(server.workers()) == 2)
        assert server.stop() == 0


def test_requests_can_be_counted_from_outside_across_recyclings(
    tmp_path: Path, sockets: Sockets
) -> None:
    def counted(server: Server) -> int:
        pids = [server.process.pid, *server.workers()]
        entries = [entry for pid in pids if (entry := ledger.read(pid)) is not None]
        assert {entry.group for entry in entries} == {ledger.SHARED}
        return sum(entry.requests for entry in entries)

    with running(leaky_pool(tmp_path, workers=2, max_requests=50), sockets) as server:
        assert counted(server) == 0
        asked = 0
        for _ in until(lambda: len(recyclings(server)) >= 3):
            get(sockets.path, HOST)
            asked += 1
        wait_until(lambda: counted(server) == asked)
    assert ledger.read(os.getpid()) is None


@pytest.mark.parametrize("number", [signal.SIGTTOU, signal.SIGTTIN])
def test_a_signal_for_the_number_of_workers_ends_no_worker_that_gets_it(
    tmp_path: Path, sockets: Sockets, number: signal.Signals
) -> None:
    with running(leaky_pool(tmp_path, workers=1), sockets) as server:
        (worker,) = server.workers()
        os.kill(worker, number)
        for _ in range(20):
            assert pid_of_answer(sockets) == worker


ENDING = """
import atexit, os, sys, threading, time
from pathlib import Path


class Canary:
    def __del__(self, create=os.open, path=os.path.abspath("apart"), flags=os.O_CREAT):
        create(path, flags)


sys.canary = Canary()
atexit.register(lambda: Path(f"exit-{os.getpid()}").touch())


def finish():
    time.sleep(1)  # longer than its request, and than the worker has to live
    Path(f"finished-{os.getpid()}").touch()


def application(environ, start_response):
    if environ["PATH_INFO"] == "/later":
        threading.Thread(target=finish).start()
    start_response("200 OK", [("X-Pid", str(os.getpid()))])
    return [b"ok\\n"]
"""


def test_an_ending_process_finishes_its_threads_and_takes_no_shared_object_apart(
    tmp_path: Path, sockets: Sockets
) -> None:
    pool = leaky_pool(tmp_path, workers=1, max_requests=5)
    folder = tmp_path / "leaky"
    (folder / "leaky.py").write_text(ENDING)
    with running(pool, sockets) as server:
        first = pid_of_answer(sockets, "/later")
        wait_until(lambda: pid_of_answer(sockets) != first)
        assert server.stop() == 0
        pids = {str(first), *(str(new) for _, _, new in recyclings(server))}
    arbiter = str(server.process.pid)
    assert {file.name for file in folder.glob("finished-*")} == {f"finished-{first}"}
    exits = {file.name.removeprefix("exit-") for file in folder.glob("exit-*")}
    assert exits == {arbiter, *pids}
    assert not (folder / "apart").exists()


def test_status_shows_how_many_were_recycled_and_why(tmp_path: Path) -> None:
    port, control = free_port(), tmp_path / "control"
    pool = leaky_pool(tmp_path, workers=1, max_private_mb=20)
    command = [sys.executable, "-c"]
    command += ["import sys; from supervisor_py.vhost.cli import main; sys.exit(main())", str(pool)]

    def status() -> str:
        return subprocess.run(
            [*START_SERVER, "--status", f"--control-socket={control}"],
            capture_output=True,
            text=True,
            timeout=LIMIT,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
            check=True,
        ).stdout

    with start_server(port, tmp_path, *command, options=[f"--control-socket={control}"]):
        wait_until(control.exists)
        wait_until(lambda: "generation 1 says: serves leaky" in status())
        assert "recycled" not in status()
        for _ in until(lambda: "recycled" in status()):
            for _ in range(20):
                get(port, HOST, "/leak")
        said = re.search("generation 1 says: (.*)", status())
    assert said is not None
    assert re.fullmatch(
        r"serves leaky: 1 workers of \d+ threads;"
        r" \d+ recycled, the latest: private memory [\d.]+ MB, over its 20 MB",
        said[1],
    )
