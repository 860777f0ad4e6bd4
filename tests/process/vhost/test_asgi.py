"""ASGI apps beside WSGI ones in one pool."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .grouped import GroupSockets
from .harness import (
    Connection,
    Server,
    get,
    restart_under_load,
    running,
    vhost_server,
    wait_until,
)
from .test_restarts import load_on
from .test_start import GOOD_APP, refusal, write

API = """
import asyncio, contextlib, os, sys, threading
from pathlib import Path

import anyio
from fastapi import BackgroundTasks, FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse

import config

def see():
    return {"cwd": os.path.basename(os.getcwd()), "colour": os.environ["COLOUR"],
            "name": config.NAME, "file": Path("name.txt").read_text(),
            "thread": threading.current_thread().name, "pid": os.getpid()}

@contextlib.asynccontextmanager
async def lifespan(app):
    print("starts", see()["name"], flush=True)
    started = see()
    if os.environ.get("FAILS"):
        raise RuntimeError("no database")
    yield {"started": started}
    print("ends", see()["name"], flush=True)

app = FastAPI(lifespan=lifespan)
cancelled = []

@app.get("/")
async def index(request: Request):
    return {**see(), "root": request.scope["root_path"], "path": request.scope["path"]}

@app.get("/started")
async def started(request: Request):
    return request.state.started

@app.get("/sync")
def sync():
    import late
    return {**see(), "name": late.NAME}

@app.get("/thread")
async def thread():
    return await asyncio.to_thread(see)

@app.get("/anyio")
async def anyio_thread():
    return await anyio.to_thread.run_sync(see)

@app.get("/task")
async def task():
    return await asyncio.create_task(asyncio.sleep(0.01, None)) or see()

@app.get("/stream")
async def stream():
    async def lines():
        for _ in range(10):
            yield json_line(see())
            await asyncio.sleep(0.02)
    return StreamingResponse(lines())

def json_line(value):
    import json
    return json.dumps(value) + "\\n"

@app.get("/endless")
async def endless():
    async def lines():
        while True:
            yield "x" * 1000
            await asyncio.sleep(0.01)  # to let others do something

    class Response(StreamingResponse):
        async def __call__(self, *given):
            try:
                await super().__call__(*given)
            finally:  # that of the generator may have to wait for the garbage collector
                cancelled.append(True)

    return Response(lines())

@app.get("/cancelled")
async def was_cancelled():
    return cancelled

@app.post("/body")
async def body(request: Request):
    return {"size": len(await request.body())}

@app.get("/fail")
async def fail():
    raise RuntimeError("it has failed\\nin two lines")

@app.get("/query")
async def query(request: Request):
    return {"query": request.url.query}

@app.get("/slow")
async def slow(seconds: float):
    async def lines():
        end = asyncio.get_running_loop().time() + seconds
        while asyncio.get_running_loop().time() < end:
            yield "waiting\\n"
            await asyncio.sleep(0.1)
        yield "done\\n"
    headers = {"X-Generation": os.environ["SERVER_STARTER_GENERATION"], "X-Pid": str(os.getpid())}
    return StreamingResponse(lines(), headers=headers)

@app.middleware("http")
async def name_the_server(request, call_next):
    response = await call_next(request)
    response.headers["X-Generation"] = os.environ["SERVER_STARTER_GENERATION"]
    response.headers["X-Pid"] = str(os.getpid())
    return response
"""
BARE = """
import os

async def app(scope, receive, send):
    assert scope["type"] == "http", scope["type"]
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": os.getcwd().encode(), "more_body": True})
    await send({"type": "http.response.body"})
"""
NAMES = ("left", "right")
APPS = (*NAMES, "bare")


def write_pool(folder: Path) -> Path:
    pool = '[pool]\nname = "asgi"\nworkers = 1\nthreads = 4\n'
    for name in NAMES:
        files = {"api.py": API, "name.txt": name}
        files |= {f"{module}.py": f'NAME = "{name}"\n' for module in ("config", "late")}
        write(folder / name, files)
        pool += f'[[apps]]\nname = "{name}"\nhosts = ["{name}.test", "both.test/{name}"]\n'
        pool += f'directory = "{name}"\nasgi = "api:app"\nenvironment.COLOUR = "{name}ish"\n'
    write(folder, {"bare/api.py": BARE, "plain/api.py": GOOD_APP})
    pool += '[[apps]]\nname="bare"\nhosts=["bare.test"]\ndirectory="bare"\nasgi="api:app"\n'
    pool += '[[apps]]\nname="plain"\nhosts=["plain.test"]\ndirectory="plain"\n'
    pool += 'wsgi="api:application"\n'
    path = folder / "asgi.toml"
    path.write_text(pool)
    return path


@pytest.fixture
def sockets(tmp_path: Path) -> Iterator[GroupSockets]:
    with GroupSockets(tmp_path, APPS) as listening:
        yield listening


def address(server: Server, host: str) -> str:
    """Return where a host's app is asked; hosts without one of their own are the right one's."""
    assert isinstance(server.sockets, GroupSockets)
    name = host.partition(".")[0]
    return server.sockets.of("right" if name == "both" else name)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("asgi")
    with GroupSockets(folder, APPS) as sockets, running(write_pool(folder), sockets) as started:
        yield started
    log = started.log.read_text().splitlines()
    for name in NAMES:
        assert [log.count(f"{what} {name}") for what in ("starts", "ends")] == [1, 1]


def ask(server: Server, host: str, path: str = "/") -> Any:
    reply = get(address(server, host), host, path)
    assert reply.status == 200, server.log.read_text()[-3000:]
    return json.loads(reply.body)


@pytest.mark.parametrize("path", ["/", "/started", "/sync", "/thread", "/anyio", "/task"])
def test_an_asgi_app_is_at_home_on_its_loop_and_in_threads(server: Server, path: str) -> None:
    for name in (*NAMES, *reversed(NAMES)):
        seen = ask(server, f"{name}.test", path)
        found = {key: seen[key] for key in ("cwd", "colour", "name", "file")}
        assert found == {"cwd": name, "colour": f"{name}ish", "name": name, "file": name}


def test_streams_of_two_asgi_apps_at_once_stay_at_home(server: Server) -> None:
    with contextlib.ExitStack() as stack:
        answers = []
        for name in NAMES * 2:
            where = address(server, f"{name}.test")
            connection = stack.enter_context(contextlib.closing(Connection(where)))
            connection.request("GET", "/stream", headers={"Host": f"{name}.test"})
            answers.append((name, connection))
        for name, connection in answers:
            lines = connection.getresponse().read().splitlines()
            assert [json.loads(line)["cwd"] for line in lines] == [name] * 10


def test_a_stream_comes_as_it_is_made(server: Server) -> None:
    with contextlib.closing(Connection(address(server, "left.test"))) as connection:
        connection.request("GET", "/slow?seconds=2", headers={"Host": "left.test"})
        response = connection.getresponse()
        first = response.read1(1000)
        assert first.startswith(b"waiting\n")
        assert b"done" not in first
        assert response.read().endswith(b"done\n")


def test_a_prefix_is_the_root_path(server: Server) -> None:
    seen = ask(server, "both.test", "/right/")
    assert (seen["name"], seen["root"], seen["path"]) == ("right", "/right", "/right/")


def test_an_app_without_a_lifespan_is_served_too(server: Server) -> None:
    assert get(address(server, "bare.test"), "bare.test").body.endswith(b"/bare")
    assert get(address(server, "plain.test"), "plain.test").status == 200


@pytest.mark.parametrize("size", [0, 10, 3_000_000])
def test_a_body_arrives_with_a_length_and_in_chunks(server: Server, size: int) -> None:
    with contextlib.closing(Connection(address(server, "left.test"))) as connection:
        for body in (b"x" * size, iter([b"x" * size] if size else [])):
            connection.request("POST", "/body", body, {"Host": "left.test"},
                               encode_chunked=not isinstance(body, bytes))  # fmt: skip
            assert json.loads(connection.getresponse().read()) == {"size": size}


def test_an_error_is_500_and_its_traceback_in_the_log_has_the_apps_name(server: Server) -> None:
    assert get(address(server, "right.test"), "right.test", "/fail").status == 500
    expected = {"right: RuntimeError: it has failed", "right: in two lines"}
    wait_until(lambda: expected <= set(server.log.read_text().splitlines()))


@pytest.mark.parametrize("target", [b"/%FF", b"/query?a=%FF"])
def test_bytes_that_are_no_text_do_not_break_the_server(server: Server, target: bytes) -> None:
    with contextlib.closing(Connection(address(server, "left.test"))) as connection:
        connection.connect()
        connection.sock.sendall(
            b"GET %s HTTP/1.1\r\nHost: left.test:\r\nConnection: close\r\n\r\n" % target
        )
        answer = b"".join(iter(lambda: connection.sock.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 404" if target == b"/%FF" else b"HTTP/1.1 200")


def test_a_stream_ends_when_its_client_has_gone(server: Server) -> None:
    with contextlib.closing(Connection(address(server, "left.test"))) as connection:
        connection.request("GET", "/endless", headers={"Host": "left.test"})
        connection.getresponse().read1(10)
    wait_until(lambda: ask(server, "left.test", "/cancelled") == [True])


def failing_pool(folder: Path) -> Path:
    pool = write_pool(folder)
    text = pool.read_text().replace('COLOUR = "leftish"', 'COLOUR = "x"\nenvironment.FAILS = "1"')
    pool.write_text(text)
    return pool


def test_the_only_app_of_a_pool_needs_no_socket_of_its_name(tmp_path: Path) -> None:
    write(tmp_path, {"bare/api.py": BARE})
    pool = tmp_path / "one.toml"
    pool.write_text(
        '[pool]\nname = "one"\n[[apps]]\nname = "bare"\nhosts = ["bare.test"]\n'
        'directory = "bare"\nasgi = "api:app"\n'
    )
    with GroupSockets(tmp_path, []) as sockets, running(pool, sockets):
        for where in (sockets.path, sockets.port):
            assert get(where, "bare.test").status == 200


def test_a_lifespan_that_fails_refuses_a_deploy(tmp_path: Path, sockets: GroupSockets) -> None:
    server = vhost_server(failing_pool(tmp_path), sockets)
    assert server.wait_refused() != 0
    log = server.log.read_text()
    assert "left: the app left can't be started: Traceback (most recent call last):" in log
    assert "left: RuntimeError: no database" in log.splitlines()


def test_a_lifespan_that_fails_at_boot_takes_only_its_app_down(
    tmp_path: Path, sockets: GroupSockets
) -> None:
    with running(failing_pool(tmp_path), sockets, SERVER_STARTER_BOOT="1"):
        assert [get(sockets.of(n), f"{n}.test").status for n in NAMES] == [503, 200]


def test_an_asgi_object_under_wsgi_is_refused_with_what_to_write(
    tmp_path: Path, sockets: GroupSockets
) -> None:
    pool = write_pool(tmp_path)
    pool.write_text(pool.read_text().replace('asgi = "api:app"', 'wsgi = "api:app"'))
    said = refusal(pool, sockets)
    assert 'api:app is not a WSGI application: it is asynchronous (asgi = "api:app")' in said


@pytest.mark.parametrize("workers", [1, 2])
def test_restarts_under_load_lose_no_request_of_an_asgi_app(
    tmp_path: Path, sockets: GroupSockets, workers: int
) -> None:
    pool = write_pool(tmp_path)
    pool.write_text(
        pool.read_text().replace('name = "left"', f'name = "left"\nworkers = {workers}')
    )
    load = load_on([sockets.of("left")], "left.test")
    restart_under_load(lambda n: vhost_server(pool, sockets, n), 4, load)
    assert load.failures == []
    assert len({name.split("/")[0] for name in load.seen}) == 4


CONFIGURES = """
import logging.config

async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        logging.config.dictConfig({"version": 1})
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
"""
LOGS = """
import logging

logger = logging.getLogger("shop.orders")

def application(environ, start_response):
    logger.error("an order")
    start_response("200 OK", [])
    return []
"""


def test_a_startup_that_configures_logging_silences_no_neighbour(tmp_path: Path) -> None:
    write(tmp_path, {"logs/app.py": LOGS, "configures/app.py": CONFIGURES})
    pool = '[pool]\nname = "logging"\nworkers = 1\n'
    for name, key in (("logs", "wsgi"), ("configures", "asgi")):
        pool += f'[[apps]]\nname = "{name}"\nhosts = ["{name}.test"]\ndirectory = "{name}"\n'
        pool += f'{key} = "app:application"\n'
    (tmp_path / "logging.toml").write_text(pool)
    with (
        GroupSockets(tmp_path, ["configures"]) as sockets,
        running(tmp_path / "logging.toml", sockets) as server,
    ):
        assert get(sockets.path, "logs.test").status == 200
        wait_until(lambda: "logs: an order" in server.log.read_text().splitlines())
