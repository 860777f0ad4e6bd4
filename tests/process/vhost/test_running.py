"""A request that does not end is found: in the log, with its stack, and it never takes a pool."""

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from .grouped import GroupSockets, processes
from .harness import Connection, Server, get, running, wait_until
from .test_start import GOOD_APP, write

HANGS = """
import atexit, http.client, os, socket, threading

atexit.register(lambda: open("ended", "w").close())

def wait_for_somebody():
    threading.Event().wait()

def ask_over_tcp(where):
    connection = http.client.HTTPConnection("127.0.0.1", int(where))
    connection.request("GET", "/", headers={"Host": "good.test"})
    connection.getresponse()

def ask_over_unix(where):
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(where)
        client.sendall(b"GET / HTTP/1.1\\r\\nHost: good.test\\r\\n\\r\\n")
        client.recv(1)

def ask_by_name(where):
    connection = http.client.HTTPConnection("Good.test")
    connection.sock = socket.create_connection(("127.0.0.1", int(where)))
    connection.request("GET", "/")
    connection.getresponse()

def ask_a_stranger(where):
    connection = http.client.HTTPConnection("elsewhere.test")
    connection.sock = socket.create_connection(("127.0.0.1", int(where)))
    connection.request("GET", "/")
    connection.getresponse()

def application(environ, start_response):
    if environ["PATH_INFO"] == "/hang":
        wait_for_somebody()
    if environ["PATH_INFO"].startswith("/ask"):
        globals()[environ["PATH_INFO"][1:]](environ["QUERY_STRING"])
    start_response("200 OK", [])
    return [str(os.getpid()).encode()]
"""
ASGI_HANGS = """
import asyncio

async def wait_for_nobody():
    await asyncio.Event().wait()

async def application(scope, receive, send):
    if scope["type"] == "http":
        await wait_for_nobody()
"""


@pytest.fixture
def sockets(tmp_path: Path) -> Iterator[GroupSockets]:
    with GroupSockets(tmp_path, ["async"]) as listening:
        yield listening


def write_pool(folder: Path, threads: int, *, isolated: bool = False) -> Path:
    pool = f'[pool]\nname = "running"\nworkers = 1\nthreads = {threads}\n'
    pool += "request_timeout_seconds = 1\n"
    for name, source in {"hangs": HANGS, "async": ASGI_HANGS, "good": GOOD_APP}.items():
        write(folder / name, {"app.py": source})
        key = "asgi" if name == "async" else "wsgi"
        pool += f'[[apps]]\nname = "{name}"\nhosts = ["{name}.test"]\ndirectory = "{name}"\n'
        pool += f'{key} = "app:application"\n'
        if name == "hangs" and isolated:
            pool += 'isolation = "process"\n'
    write(folder / "calm", {"app.py": HANGS})
    pool += '[[apps]]\nname = "calm"\nhosts = ["calm.test"]\ndirectory = "calm"\n'
    pool += 'wsgi = "app:application"\nrequest_timeout_seconds = 0\n'
    path = folder / "running.toml"
    path.write_text(pool)
    return path


@contextlib.contextmanager
def asking(address: str | int, host: str, path: str) -> Iterator[Connection]:
    """Send a request, and leave it there for the while."""
    with contextlib.closing(Connection(address)) as connection:
        connection.request("GET", path, headers={"Host": host})
        yield connection


def wait_for_line(server: Server, *parts: str) -> str:
    """Return the log as soon as one line of it has all these parts."""

    def has_it() -> bool:
        lines = server.log.read_text().splitlines()
        return any(all(part in line for part in parts) for line in lines)

    wait_until(has_it)
    return server.log.read_text()


def test_a_request_that_does_not_end_is_told_once_with_its_app_its_line_and_its_stack(
    tmp_path: Path, sockets: GroupSockets
) -> None:
    with running(write_pool(tmp_path, threads=4), sockets) as server:
        path = "/hang?" + "x" * 1000
        with asking(sockets.path, "calm.test", "/hang"), asking(sockets.path, "hangs.test", path):
            log = wait_for_line(server, f'"GET {path[:190]}', "for hangs.test of the app hangs")
            assert path[:201] not in log
            assert f'  File "{tmp_path}/hangs/app.py", line 7, in wait_for_somebody' in log
            assert "    threading.Event().wait()" in log
            assert "gthread.py" not in log
            with asking(sockets.of("async"), "async.test", "/"):
                log = wait_for_line(server, "of the app async")
            assert f'  File "{tmp_path}/async/app.py", line 5, in wait_for_nobody' in log
            assert get(sockets.path, "good.test").status == 200
            log = server.log.read_text()
        assert log.count("of the app hangs") == log.count("of the app async") == 1
        assert "of the app calm" not in log
        assert "it is replaced" not in log


@pytest.mark.parametrize("isolated", [False, True], ids=["shared", "isolated"])
def test_a_worker_whose_threads_are_all_stuck_is_replaced_and_ends(
    tmp_path: Path, isolated: bool
) -> None:
    pool = write_pool(tmp_path, threads=2, isolated=isolated)
    with (
        GroupSockets(tmp_path, ["async", "hangs"] if isolated else ["async"]) as sockets,
        running(pool, sockets) as server,
        contextlib.ExitStack() as stack,
    ):
        address = sockets.of("hangs")
        old = int(get(address, "hangs.test").body)
        for _ in range(2):
            stack.enter_context(asking(address, "hangs.test", "/hang"))
        wait_for_line(server, "all 2 thread(s) of this worker have been busy")
        assert int(get(address, "hangs.test").body) != old
        log = wait_for_line(server, "all its threads busy for")
        assert log.count("in wait_for_somebody") >= 2
        wait_until(lambda: not Path(f"/proc/{old}").exists())
        assert server.log.read_text().count('gave up on "GET /hang" for hangs.test') == 2
        assert (tmp_path / "hangs" / "ended").exists(), "it has ended, and was not killed"


@pytest.mark.parametrize("way", ["tcp", "unix", "name"])
def test_an_app_that_waits_for_its_own_pool_is_named_as_such(
    tmp_path: Path, sockets: GroupSockets, way: str
) -> None:
    pool = write_pool(tmp_path, threads=1)
    pool.write_text(pool.read_text().replace("seconds = 1\n", "seconds = 60\n"))
    with socket.create_server(("127.0.0.1", 0)) as front, running(pool, sockets) as server:
        where = {"tcp": sockets.port, "unix": sockets.path, "name": front.getsockname()[1]}[way]
        path = {"name": "/ask_by_name"}.get(way, f"/ask_over_{way}")
        with asking(sockets.path, "hangs.test", f"{path}?{where}"):
            log = wait_for_line(server, f"GET {path}?", "waits for an answer of its own pool")
        assert "all 1 thread(s) of this worker are busy" in log
        os.kill(processes(server)["kechi:shared"][0], 9)  # nothing else ends what waits for itself


def test_an_app_that_waits_for_a_stranger_is_no_deadlock(
    tmp_path: Path, sockets: GroupSockets
) -> None:
    pool = write_pool(tmp_path, threads=1)
    pool.write_text(pool.read_text().replace("seconds = 1\n", "seconds = 7\n", 1))
    with socket.create_server(("127.0.0.1", 0)) as front, running(pool, sockets) as server:
        path = f"/ask_a_stranger?{front.getsockname()[1]}"
        with asking(sockets.path, "hangs.test", path):
            stranger, _ = front.accept()
            log = wait_for_line(server, "has been running for", "/ask_a_stranger")
            stranger.close()
        assert "its own pool" not in log
