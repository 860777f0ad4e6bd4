"""Whatever a view raises costs its own request, and no thread, no worker and no neighbour."""

import contextlib
import http.client
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from .grouped import GroupSockets, processes
from .harness import Connection, Server, get, running, vhost_server, wait_until
from .test_start import GOOD_APP, write

FAIL = """
import asyncio, json, ssl, sys

class Custom(BaseException):
    pass

KINDS = {
    "custom": Custom, "KeyboardInterrupt": KeyboardInterrupt, "GeneratorExit": GeneratorExit,
    "CancelledError": asyncio.CancelledError, "StopIteration": StopIteration,
    "SystemExit": sys.exit, "ValueError": ValueError, "SSLError": ssl.SSLError,
    "OSError": lambda text: FileNotFoundError(2, text),
    "BrokenPipeError": lambda text: BrokenPipeError(32, text),
    "ConnectionResetError": lambda text: ConnectionResetError(104, text),
}

def fail(text):
    raise KINDS[text.split()[1]](text)
"""
WSGI_APP = (
    FAIL
    + """
import _thread, contextvars, os, threading

def headers(text):
    yield "X-First", "1"
    fail(text)

class Body:
    def __init__(self, text):
        self.text = text

    def __iter__(self):
        yield b"all of it"

    def close(self):
        fail(self.text)

def later(start_response, text):
    fail(text)
    yield b"never"

def broken(start_response, text):
    yield b"half"
    fail(text)

def endless():
    try:
        while True:
            yield bytes(100_000)
    finally:
        open("has-ended", "w").close()

def application(environ, start_response):
    _, place, kind = environ["PATH_INFO"].split("/")
    text = f"{place} {kind}"
    if place == "start":
        start_response("200 OK", headers(text))
    if place == "view":
        fail(text)
    start_response("200 OK", [])
    if place == "first":
        return later(start_response, text)
    if place == "broken":
        return broken(start_response, text)
    if place == "close":
        return Body(text)
    if place == "map":
        return map(fail, [text])
    if place == "endless":
        return endless()
    if place == "thread":
        thread = threading.Thread(target=fail, args=(text,))
        thread.start()
        thread.join()
    return [str(os.getpid()).encode()]
"""
)
ASGI_APP = (
    FAIL
    + """
import os

async def failing(text):
    fail(text)

async def cancelled(text):
    task = asyncio.ensure_future(asyncio.sleep(60))
    task.cancel()
    await task

async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            await send({"type": (await receive())["type"] + ".complete"})
    _, place, kind = scope["path"].split("/")
    text = f"{place} {kind}"
    start = {"type": "http.response.start", "status": 200}
    part = {"type": "http.response.body", "body": b"half", "more_body": True}
    if place == "view":
        fail(text)
    if place == "task":
        await asyncio.create_task(failing(text))
    if place == "awaited":
        await cancelled(text)
    if place == "silent":
        return
    if place == "body":
        await send(part)
    if place == "hints":
        await send({"type": "http.response.early_hint", "links": []})
    if place == "names":
        await send({**start, "headers": [("X-Text", "no bytes")]})
    if place == "stop":
        asyncio.get_running_loop().stop()
    if place == "stray":
        asyncio.get_running_loop().call_soon(fail, text)
        await asyncio.sleep(0)
    await send(start)
    if place == "started":
        return
    if place == "first":
        fail(text)
    if place in ("broken", "half"):
        await send(part)
        if place == "half":
            return
        fail(text)
    await send({"type": "http.response.body", "body": str(os.getpid()).encode()})
    if place == "after":
        fail(text)
    if place == "twice":
        await send({"type": "http.response.body"})
"""
)
UPLOAD = """
import asyncio, json

seen = []

async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        return
    kinds = []
    if scope["path"] == "/seen":
        answer = seen
    else:
        if scope["path"] == "/asked":  # as is_disconnected() of some frameworks asks
            for _ in range(3):
                try:
                    await asyncio.wait_for(receive(), 0)
                except asyncio.TimeoutError:
                    kinds.append("timeout")
        size = 0
        while True:
            message = await receive()
            size += len(message.get("body", b""))
            kinds.append(message["type"])
            if message["type"] == "http.disconnect":
                seen.append(kinds)
                return
            if not message["more_body"]:
                break
        answer = [size]
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": json.dumps(answer).encode()})
"""
EXITING = ("SystemExit", "KeyboardInterrupt", "GeneratorExit", "CancelledError", "custom")
OTHERS = ("StopIteration", "OSError", "BrokenPipeError", "ConnectionResetError", "SSLError")
ASGI_APPS = ("asgi", "upload")
KINDS = (*EXITING, *OTHERS, "ValueError")


def write_pool(folder: Path) -> Path:
    """Write a pool with one thread: who keeps it keeps all."""
    pool = '[pool]\nname = "failures"\nworkers = 1\nthreads = 1\n'
    apps = {"wsgi": WSGI_APP, "asgi": ASGI_APP, "upload": UPLOAD, "good": GOOD_APP}
    for name, source in apps.items():
        write(folder / name, {"app.py": source})
        key = "asgi" if name in ASGI_APPS else "wsgi"
        pool += f'[[apps]]\nname = "{name}"\nhosts = ["{name}.test"]\ndirectory = "{name}"\n'
        pool += f'{key} = "app:application"\n'
    path = folder / "failures.toml"
    path.write_text(pool)
    return path


@pytest.fixture
def sockets(tmp_path: Path) -> Iterator[GroupSockets]:
    with GroupSockets(tmp_path, ASGI_APPS) as listening:
        yield listening


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("failures")
    pool = write_pool(folder)
    with GroupSockets(folder, ASGI_APPS) as sockets, running(pool, sockets) as started:
        yield started


def assert_all_serve(server: Server) -> None:
    """Assert that the shared worker with its one thread goes on, and so does the event loop."""
    found = processes(server)
    for name, group in (("wsgi", "shared"), ("asgi", "asgi")):
        answer = get(of(server, name), f"{name}.test", "/none/at-all").body
        assert [int(answer)] == found[f"kechi:{group}"]
    assert get(server.sockets.path, "good.test").status == 200
    assert "its process has" not in server.log.read_text()


def of(server: Server, app: str) -> str:
    assert isinstance(server.sockets, GroupSockets)
    return server.sockets.of(app)


def traceback_of(server: Server, app: str, text: str) -> bool:
    lines = server.log.read_text().splitlines()
    return any(line.startswith(f"{app}: ") and text in line for line in lines)


def status_of(server: Server, app: str, path: str) -> int:
    """Return the status of a whole answer; 0 of one that breaks off."""
    try:
        return get(of(server, app), f"{app}.test", path).status
    except (http.client.IncompleteRead, http.client.RemoteDisconnected):
        return 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("place", "status"), [("view", 500), ("start", 500), ("first", 500), ("broken", 0)]
)
def test_whatever_a_wsgi_view_raises_is_a_500_or_a_broken_answer_and_in_the_log(
    server: Server, place: str, status: int, kind: str
) -> None:
    assert status_of(server, "wsgi", f"/{place}/{kind}") == status
    wait_until(lambda: traceback_of(server, "wsgi", f"{place} {kind}"))
    assert_all_serve(server)


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_bodys_close_raises_is_in_the_log_behind_a_whole_answer(
    server: Server, kind: str
) -> None:
    assert get(server.sockets.path, "wsgi.test", f"/close/{kind}").body == b"all of it"
    wait_until(lambda: traceback_of(server, "wsgi", f"close {kind}"))
    assert_all_serve(server)


@pytest.mark.parametrize("kind", ["SystemExit", "custom", "BrokenPipeError"])
def test_what_a_body_without_frames_of_its_own_raises_is_a_500(server: Server, kind: str) -> None:
    assert status_of(server, "wsgi", f"/map/{kind}") == 500
    wait_until(lambda: traceback_of(server, "wsgi", f"map {kind}"))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "SystemExit"])
def test_what_ends_a_thread_of_an_app_is_in_the_log_with_its_name(
    server: Server, kind: str
) -> None:
    assert status_of(server, "wsgi", f"/thread/{kind}") == 200
    wait_until(lambda: traceback_of(server, "wsgi", f"thread {kind}"))
    assert_all_serve(server)


def test_a_thread_of_an_app_may_end_itself(server: Server) -> None:
    assert status_of(server, "wsgi", "/thread/SystemExit") == 200
    assert_all_serve(server)
    assert not traceback_of(server, "wsgi", "thread SystemExit")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("place", "status"), [("view", 500), ("task", 500), ("first", 500), ("broken", 0)]
)
def test_whatever_an_asgi_app_raises_is_a_500_or_a_broken_answer_and_in_the_log(
    server: Server, place: str, status: int, kind: str
) -> None:
    assert status_of(server, "asgi", f"/{place}/{kind}") == status
    wait_until(lambda: traceback_of(server, "asgi", f"{place} {kind}"))
    assert_all_serve(server)


@pytest.mark.parametrize("kind", KINDS)
def test_what_an_asgi_app_raises_after_its_answer_is_in_the_log(server: Server, kind: str) -> None:
    assert status_of(server, "asgi", f"/after/{kind}") == 200
    if kind != "CancelledError":  # that is how work ends that nobody waits for
        wait_until(lambda: traceback_of(server, "asgi", f"after {kind}"))
    assert_all_serve(server)


@pytest.mark.parametrize(
    ("place", "status", "told"),
    [
        ("awaited", 500, "asyncio.exceptions.CancelledError"),
        ("silent", 500, "the app has returned without an answer"),
        ("started", 0, "the app has returned without having completed its answer"),
        ("half", 0, "the app has returned without having completed its answer"),
        ("body", 500, "the app has sent 'http.response.body', not 'http.response.start'"),
        ("hints", 500, "the app has sent 'http.response.early_hint', not 'http.response.start'"),
        ("twice", 200, "the app has sent 'http.response.body', after the whole answer"),
        ("names", 500, "'str' object has no attribute 'decode'"),
    ],
)
def test_an_asgi_app_that_does_not_answer_as_it_should_keeps_no_thread(
    server: Server, place: str, status: int, told: str
) -> None:
    for _ in range(3):
        assert status_of(server, "asgi", f"/{place}/x") == status
    wait_until(lambda: traceback_of(server, "asgi", told))
    assert_all_serve(server)


@pytest.mark.parametrize("path", ["/stop/loop", "/stray/SystemExit", "/stray/KeyboardInterrupt"])
def test_nothing_that_an_app_does_ends_its_event_loop(server: Server, path: str) -> None:
    assert status_of(server, "asgi", path) == 200
    place, kind = path.strip("/").split("/")
    told = "the app has stopped its event loop" if place == "stop" else f"{place} {kind}"
    wait_until(lambda: traceback_of(server, "asgi", told))
    assert_all_serve(server)


def test_a_client_that_hangs_up_is_no_failure_of_the_app(server: Server) -> None:
    ended = server.sockets.folder / "wsgi" / "has-ended"
    with contextlib.closing(Connection(server.sockets.path)) as connection:
        connection.request("GET", "/endless/stream", headers={"Host": "wsgi.test"})
        connection.getresponse().read(1000)
    wait_until(ended.exists)
    assert_all_serve(server)
    assert "/endless/stream" not in server.log.read_text()


@contextlib.contextmanager
def sending(server: Server, path: str, request: bytes) -> Iterator[socket.socket]:
    """Send an app's request, or a part of it."""
    with contextlib.closing(Connection(of(server, "upload"))) as connection:
        connection.connect()
        connection.sock.sendall(b"POST %s HTTP/1.1\r\nHost: upload.test\r\n" % path.encode())
        connection.sock.sendall(request)
        yield connection.sock


@pytest.mark.parametrize("half", [True, False], ids=["half-closed", "closed"])
@pytest.mark.parametrize(
    "request_",
    [b"Content-Length: 10\r\n\r\nabc", b"Transfer-Encoding: chunked\r\n\r\nA\r\nabc"],
    ids=["length", "chunked"],
)
def test_a_client_that_hangs_up_during_an_upload_is_told_and_keeps_no_thread(
    server: Server, half: bool, request_: bytes
) -> None:
    def seen() -> list[list[str]]:
        found: list[list[str]] = json.loads(get(of(server, "upload"), "upload.test", "/seen").body)
        return found

    before = len(seen())
    for _ in range(3):
        with sending(server, "/upload", request_) as client:
            if half:
                client.shutdown(socket.SHUT_WR)
                assert client.recv(1000) == b""
    wait_until(lambda: [kinds[-1] for kinds in seen()[before:]] == ["http.disconnect"] * 3)
    assert_all_serve(server)


def test_who_stops_waiting_for_a_body_loses_nothing_of_it(server: Server) -> None:
    body = b"x" * 200_000
    with contextlib.closing(Connection(of(server, "upload"))) as connection:
        connection.request("POST", "/asked", body, {"Host": "upload.test"})
        assert json.loads(connection.getresponse().read()) == [len(body)]


EXITS = """
import sys
async def application(scope, receive, send):
    sys.exit("no key")
"""


@pytest.mark.parametrize("at_boot", [False, True])
def test_an_asgi_app_that_exits_in_its_startup_is_taken_for_broken(
    tmp_path: Path, sockets: GroupSockets, at_boot: bool
) -> None:
    pool = write_pool(tmp_path)
    (tmp_path / "asgi" / "app.py").write_text(EXITS)
    if not at_boot:
        server = vhost_server(pool, sockets)
        assert server.wait_refused() != 0
    else:
        with running(pool, sockets, SERVER_STARTER_BOOT="1") as server:
            statuses = [get(sockets.of(n), f"{n}.test").status for n in ("asgi", "good")]
            assert statuses == [503, 200]
    assert traceback_of(server, "asgi", "SystemExit: no key")


@pytest.mark.parametrize("kind", EXITING)
@pytest.mark.parametrize("warm_up", [False, True], ids=["import", "warm-up"])
def test_whatever_an_app_raises_as_it_is_loaded_refuses_that_app_alone(
    tmp_path: Path, sockets: GroupSockets, kind: str, warm_up: bool
) -> None:
    pool = write_pool(tmp_path)
    if warm_up:
        text = f'name = "wsgi"\nwarm_up = ["/view/{kind}"]'
        pool.write_text(pool.read_text().replace('name = "wsgi"', text))
    else:
        (tmp_path / "wsgi" / "app.py").write_text(f"{FAIL}\nfail('import {kind}')\n")
    with running(pool, sockets, SERVER_STARTER_BOOT="1") as server:
        statuses = [get(sockets.path, f"{name}.test").status for name in ("wsgi", "good")]
    assert statuses == [503, 200]
    assert f"{'view' if warm_up else 'import'} {kind}" in server.log.read_text()
