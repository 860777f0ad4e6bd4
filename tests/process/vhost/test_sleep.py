"""Isolated apps that sleep: a socket in the parent's poll set, which the first request wakes."""

import contextlib
import os
import random
import re
import signal
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from supervisor_py.vhost.groups import STOP_SECONDS

from ..waiting import LIMIT
from .grouped import (
    GroupSockets,
    ask,
    has_ended,
    processes,
    status,
    wait_ended,
    wait_status,
    write_pool,
)
from .harness import Connection, Server, get, running, vhost_server, wait_until

SLEEPY: dict[str, Any] = {"isolation": "process", "idle_seconds": 1}


def pool_of(folder: Path, **more: Any) -> Path:
    return write_pool(folder, {"one": {}, "sleepy": SLEEPY | more})


def is_asleep(server: Server) -> bool:
    return "kechi:sleepy" not in processes(server)


def test_an_app_with_idle_seconds_is_tried_at_the_start_and_sleeps(tmp_path: Path) -> None:
    pool = pool_of(tmp_path, top="open('tried', 'a').write('.')")
    with GroupSockets(tmp_path, ["sleepy"]) as sockets, running(pool, sockets) as server:
        assert (tmp_path / "sleepy" / "tried").read_text() == "."
        assert is_asleep(server)
        assert "isolated: sleepy sleeps" in status(server)


def test_apps_that_sleep_are_tried_one_after_the_other(tmp_path: Path) -> None:
    # it takes a while, so that another one would begin before its end
    top = "open('../log', 'a').write('<'); time.sleep(0.3); open('../log', 'a').write('>')"
    apps = {name: SLEEPY | {"top": top} for name in ("a", "b", "c")}
    with GroupSockets(tmp_path, [*apps]) as sockets, running(write_pool(tmp_path, apps), sockets):
        assert (tmp_path / "log").read_text() == "<><><>"


@pytest.mark.parametrize("workers", [1, 2])
def test_the_first_request_wakes_an_app_and_idleness_sends_it_to_sleep(
    tmp_path: Path, workers: int
) -> None:
    pool = pool_of(tmp_path, workers=workers)
    with GroupSockets(tmp_path, ["sleepy"]) as sockets, running(pool, sockets) as server:
        pids = []
        for _ in range(2):
            assert is_asleep(server)
            pids.append(ask(sockets, "sleepy")["pid"])
            wait_status(server, "serves sleepy" if workers > 1 else "sleepy serves")
            wait_until(lambda: is_asleep(server))
            wait_status(server, "sleepy sleeps")
        assert pids[0] != pids[1]
        assert ask(sockets, "one")["app"] == "one"


def test_an_app_with_a_connection_open_does_not_sleep(tmp_path: Path) -> None:
    pool = pool_of(tmp_path)
    with GroupSockets(tmp_path, ["sleepy"]) as sockets, running(pool, sockets) as server:
        with contextlib.closing(Connection(sockets.of("sleepy"))) as client:
            client.request("GET", "/slow?4", headers={"Host": "sleepy.test"})
            assert client.getresponse().status == 200
        wait_until(lambda: is_asleep(server))


def test_a_parent_of_sleepers_does_nothing_at_all(tmp_path: Path) -> None:
    """Asleep, an app costs a socket in a poll set: nobody wakes to look after it."""
    pool = write_pool(tmp_path, {"a": SLEEPY, "b": SLEEPY})
    with GroupSockets(tmp_path, ["a", "b"]) as sockets, running(pool, sockets) as server:
        assert ask(sockets, "a")["app"] == "a"
        wait_until(lambda: not server.workers())
        before = switches(server.process.pid)
        time.sleep(3)  # nothing is to happen, of which there is no event
        assert switches(server.process.pid) - before <= 1


def switches(pid: int) -> int:
    text = Path(f"/proc/{pid}/status").read_text()
    return sum(int(count) for count in re.findall(r"ctxt_switches:\s+(\d+)", text))


class Clients:
    """Clients that ask in bursts, which begin at any moment around that of falling asleep."""

    BURST = 20

    def __init__(self, path: str, host: str) -> None:
        self._path, self._host = path, host
        self._random = random.Random(7)
        self._lock = threading.Lock()
        self.failures: list[str] = []
        self.pids: list[str] = []

    def ask(self) -> None:
        try:
            reply = get(self._path, self._host)
        except OSError as error:
            pid, problem = "", repr(error)
        else:
            pid = reply.headers["X-Pid"]
            problem = "" if reply.status == 200 else f"{reply.status} {reply.body!r}"
        with self._lock:
            self.pids.append(pid)
            self.failures += [problem] if problem else []

    def burst(self) -> None:
        # It looks once a second whether it has been idle for one.
        time.sleep(self._random.uniform(0.9, 2.1))
        for _ in range(self.BURST):
            self.ask()


def test_no_request_is_lost_around_falling_asleep(tmp_path: Path) -> None:
    """Thousands, before, while and after the app falls asleep."""
    pool = pool_of(tmp_path)
    with GroupSockets(tmp_path, ["sleepy"]) as sockets, running(pool, sockets) as server:
        clients = Clients(sockets.of("sleepy"), "sleepy.test")
        for _ in range(20):
            threads = [threading.Thread(target=clients.burst) for _ in range(6)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(LIMIT)
                assert not thread.is_alive()
        assert clients.failures == []
        assert len(clients.pids) == 20 * 6 * Clients.BURST
        assert len(set(clients.pids)) >= 5, "it has slept as often"
        assert "Traceback" not in server.log.read_text()


def test_a_connection_that_comes_as_the_app_leaves_is_answered_by_the_next_one(
    tmp_path: Path,
) -> None:
    """The moment between the last look at the socket and the end is held open."""
    top = (
        "import atexit\n"
        "def hold():\n"
        "    open('leaves', 'w').close()\n"
        "    open('asked').close()\n"
        "if os.path.exists('hold'): atexit.register(hold)\n"
    )
    pool = pool_of(tmp_path, top=top)
    folder = tmp_path / "sleepy"
    with GroupSockets(tmp_path, ["sleepy"]) as sockets, running(pool, sockets):
        (folder / "hold").touch()
        os.mkfifo(folder / "asked")
        first = ask(sockets, "sleepy")["pid"]
        (folder / "hold").unlink()
        wait_until((folder / "leaves").exists)
        assert not has_ended(first)
        assert ask(sockets, "sleepy")["pid"] != first
        (folder / "asked").open("w").close()
        wait_ended(first)


def test_shrinking_puts_what_is_idle_to_sleep(tmp_path: Path) -> None:
    pool = pool_of(tmp_path, idle_seconds=600)
    with GroupSockets(tmp_path, ["sleepy"]) as sockets, running(pool, sockets) as server:
        folder = tmp_path / "sleepy"
        os.mkfifo(folder / "let-go")
        with contextlib.closing(Connection(sockets.of("sleepy"))) as client:
            client.request("GET", "/held", headers={"Host": "sleepy.test"})
            wait_status(server, "sleepy serves")
            wait_until((folder / "is-held").exists)
            assert not shrinks(server), "it is not idle"
            (folder / "let-go").open("w").close()
            assert client.getresponse().status == 200
        wait_until(lambda: shrinks(server))
        assert ask(sockets, "sleepy")["app"] == "sleepy"


def shrinks(server: Server) -> bool:
    os.kill(server.process.pid, signal.SIGTTOU)
    time.sleep(0.2)  # what takes the signal does not tell
    return is_asleep(server)


def test_an_app_that_breaks_while_it_sleeps_gets_503_and_is_tried_again(tmp_path: Path) -> None:
    pool = pool_of(tmp_path)
    module = tmp_path / "sleepy" / "wsgi_sleepy.py"
    good = module.read_text()
    with GroupSockets(tmp_path, ["sleepy"]) as sockets, running(pool, sockets) as server:
        module.write_text("raise KeyError('no setting')")
        assert get(sockets.of("sleepy"), "sleepy.test").status == 503
        wait_status(server, "; can't load sleepy")
        assert "KeyError: 'no setting'" in server.log.read_text()
        module.write_text(good)
        wait_until(lambda: is_asleep(server))
        assert ask(sockets, "sleepy")["app"] == "sleepy"
        wait_until(lambda: "can't load" not in status(server))


def test_a_connection_that_is_gone_by_the_time_wakes_nobody_for_long(tmp_path: Path) -> None:
    pool = pool_of(tmp_path)
    with GroupSockets(tmp_path, ["sleepy"]) as sockets, running(pool, sockets) as server:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(sockets.of("sleepy"))
        wait_status(server, "sleepy serves")
        wait_until(lambda: is_asleep(server))
        assert ask(sockets, "sleepy")["app"] == "sleepy"


def test_a_generation_of_sleepers_ends_at_once(tmp_path: Path) -> None:
    with GroupSockets(tmp_path, ["a"]) as sockets:
        server = vhost_server(write_pool(tmp_path, {"a": SLEEPY}), sockets)
        server.wait_ready()
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began < STOP_SECONDS, "nobody is waited for"
