"""WebSockets of an ASGI app; where uvicorn speaks of it, in the same test as ours."""

import json
import os
import resource
import signal
import struct
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from supervisor_py import memory

from .grouped import GroupSockets, ask, processes, wait_ended, wait_status
from .harness import Server, get, running, serving, vhost_server, wait_until
from .test_start import write
from .websocket_client import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Client,
    connected,
    frame,
    opened,
)

HOST = "own.test"
APP = """
import asyncio, json, os

ended = []

async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            scope["state"]["from"] = "lifespan"
            await send({"type": message["type"] + ".complete"})
    if scope["type"] == "http":
        body = json.dumps({"ended": ended, "pid": os.getpid()}).encode()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})
        return
    assert (await receive())["type"] == "websocket.connect"
    path = scope["path"]
    if path == "/silent":
        return
    if path == "/raises":
        raise RuntimeError("before the accept")
    if path == "/early":
        await send({"type": "websocket.send", "text": "too early"})
    if path == "/denied":
        await send({"type": "websocket.close", "code": 1008})
        return
    if path == "/teapot":
        headers = [(b"x-tea", b"green"), (b"content-length", b"6")]
        await send({"type": "websocket.http.response.start", "status": 418, "headers": headers})
        await send({"type": "websocket.http.response.body", "body": b"no ", "more_body": True})
        await send({"type": "websocket.http.response.body", "body": b"cup"})
        return
    protocols = scope["subprotocols"]
    await send({"type": "websocket.accept", "subprotocol": protocols[-1] if protocols else None,
                "headers": [(b"x-one", b"1"), (b"x-one", b"2")]})
    if path == "/scope":
        seen = {key: repr(value) for key, value in scope.items()}
        await send({"type": "websocket.send", "text": json.dumps(seen)})
    if path == "/returns":
        return
    if path == "/fails":
        raise RuntimeError("after the accept")
    if path == "/closes":
        await send({"type": "websocket.close", "code": 4001, "reason": "b\\u00fccher"})
    if path == "/floods":
        for _ in range(100_000):
            await send({"type": "websocket.send", "bytes": b"x" * 1000})
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            ended.append([path, message["code"], message.get("reason") or ""])
            return
        kind = "text" if message.get("text") is not None else "bytes"
        await send({"type": "websocket.send", kind: message[kind]})
"""


def write_pool(folder: Path, keys: str = "") -> Path:
    write(folder / "own", {"app.py": APP})
    path = folder / "pool.toml"
    path.write_text(
        '[pool]\nname = "pool"\n[[apps]]\nname = "own"\nhosts = ["own.test", "own.test/below"]\n'
        f'directory = "own"\nasgi = "app:application"\n{keys}\n'
    )
    return path


@pytest.fixture
def sockets(tmp_path: Path) -> Iterator[GroupSockets]:
    with GroupSockets(tmp_path, ["own"]) as listening:
        yield listening


class Served:
    """A server of the app, and where it listens."""

    def __init__(self, kind: str, address: str, log: Path) -> None:
        self.kind = kind
        self.address = address
        self.log = log

    def open(self, path: str = "/", **fields: str):  # type: ignore[no-untyped-def]
        return opened(self.address, HOST, path, **fields)

    def ended(self) -> list[list[object]]:
        found: list[list[object]] = json.loads(get(self.address, HOST).body)["ended"]
        return found

    def wait_ended(self, path: str, code: int, reason: str = "") -> None:
        wait_until(lambda: [path, code, reason] in self.ended())


@pytest.fixture(scope="module", params=["ours", "uvicorn"])
def served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp(request.param)
    pool = write_pool(folder)
    with GroupSockets(folder, ["own"]) as sockets:
        if request.param == "ours":
            with running(pool, sockets) as server:
                yield Served("ours", sockets.of("own"), server.log)
            return
        path = str(folder / "uvicorn.sock")
        command = [sys.executable, "-m", "uvicorn", "--ws=wsproto", f"--uds={path}"]
        command += [f"--app-dir={folder / 'own'}", "app:application"]
        with serving(Server(command, sockets, ready="Uvicorn running")) as server:
            yield Served("uvicorn", path, server.log)


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("ours")
    with GroupSockets(folder, ["own"]) as sockets, running(write_pool(folder), sockets) as server:
        yield Served("ours", sockets.of("own"), server.log)


def test_messages_go_both_ways(served: Served) -> None:
    with served.open() as client:
        for size in (0, 1, 125, 126, 65535, 65536, 1_000_000):
            client.send(frame(TEXT, b"x" * size))
            client.expect(TEXT, b"x" * size)
            client.send(frame(BINARY, b"\xff" * size))
            client.expect(BINARY, b"\xff" * size)


def test_a_message_in_fragments_is_one_and_a_ping_between_them_is_answered(
    served: Served,
) -> None:
    with served.open() as client:
        whole = "bücher".encode()
        client.send(frame(TEXT, whole[:2], fin=False))
        client.send(frame(PING, b"are you there?"))
        client.expect(PONG, b"are you there?")
        client.send(frame(CONTINUATION, whole[2:4], fin=False) + frame(CONTINUATION, whole[4:]))
        client.expect(TEXT, whole)


def test_frames_may_come_by_the_byte(served: Served) -> None:
    with served.open() as client:
        for byte in frame(TEXT, b"slowly") + frame(BINARY, b"x" * 200):
            client.send(bytes([byte]))
        client.expect(TEXT, b"slowly")
        client.expect(BINARY, b"x" * 200)


def test_a_pong_that_nobody_has_asked_for_is_left_alone(served: Served) -> None:
    with served.open() as client:
        client.send(frame(PONG, b"?") + frame(TEXT, b"next"))
        client.expect(TEXT, b"next")


def test_a_handshake_picks_a_subprotocol_and_may_have_headers(served: Served) -> None:
    with connected(served.address) as client:
        answer = client.handshake(HOST, Sec_WebSocket_Protocol="chat.v1, chat.v2")
        assert answer.status == 101
        found = dict(answer.headers)
        assert (found["upgrade"].lower(), found["sec-websocket-protocol"]) == (
            "websocket",
            "chat.v2",
        )
        assert [value for name, value in answer.headers if name == "x-one"] == ["1", "2"]


def test_the_accept_key_answers_the_clients(served: Served) -> None:
    with connected(served.address) as client:
        answer = client.handshake(HOST, Sec_WebSocket_Key="dGhlIHNhbXBsZSBub25jZQ==")
        assert ("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=") in answer.headers


def test_the_scope_is_that_of_a_websocket(served: Served) -> None:
    fields = {"X_One": "1", "Connection": "keep-alive, Upgrade", "Upgrade": "WebSocket"}
    with served.open("/scope?a=%20", **fields) as client:
        _, text = client.read_frame()
        seen = json.loads(text)
    assert {key: seen[key] for key in ("type", "http_version", "scheme", "path", "root_path")} == {
        "type": "'websocket'",
        "http_version": "'1.1'",
        "scheme": "'ws'",
        "path": "'/scope'",
        "root_path": "''",
    }
    assert (seen["raw_path"], seen["query_string"]) == ("b'/scope'", "b'a=%20'")
    assert seen["state"] == "{'from': 'lifespan'}"
    assert seen["extensions"] == "{'websocket.http.response': {}}"
    assert seen["subprotocols"] == "[]"
    assert "(b'x-one', b'1')" in seen["headers"]
    assert "method" not in seen


def test_a_close_before_the_accept_is_403(served: Served) -> None:
    with connected(served.address) as client:
        assert client.handshake(HOST, "/denied").status == 403
        client.read_to_end()


def test_an_app_may_deny_with_an_answer_of_its_own(served: Served) -> None:
    with connected(served.address) as client:
        answer = client.handshake(HOST, "/teapot")
        assert (answer.status, ("x-tea", "green") in answer.headers) == (418, True)
        assert client.read(6) == b"no cup"
        assert client.read_to_end() == b""


@pytest.mark.parametrize("path", ["/silent", "/raises", "/early"])
def test_an_app_that_does_not_accept_gets_500(served: Served, path: str) -> None:
    with connected(served.address) as client:
        assert client.handshake(HOST, path).status == 500
        client.read_to_end()


def test_a_close_of_the_app_has_its_code_and_reason(served: Served) -> None:
    with served.open("/closes") as client:
        assert client.read_close() == (4001, "bücher")
        client.close(4001)
        assert client.read_to_end() == b""


@pytest.mark.parametrize("code", [1000, 1001, 3000, 4999])
def test_a_close_of_the_client_is_answered_and_told(served: Served, code: int) -> None:
    path = f"/closed-{code}"
    with served.open(path) as client:
        client.close(code, b"enough")
        assert client.read_close()[0] == code
        assert client.read_to_end() == b""
    served.wait_ended(path, code, "enough")


def test_a_close_without_a_code_is_1005(served: Served) -> None:
    with served.open("/no-code") as client:
        client.send(frame(CLOSE))
        assert client.read_frame()[0] == 0x80 | CLOSE
    served.wait_ended("/no-code", 1005)


@pytest.mark.parametrize("half", [True, False], ids=["half-closed", "closed"])
def test_a_client_that_goes_without_a_close_is_1006(served: Served, half: bool) -> None:
    path = f"/gone-{half}"
    with served.open(path) as client:
        if half:
            client.socket.shutdown(1)
            client.read_to_end()
    # uvicorn has 1005 with one of its two libraries
    wait_until(lambda: any(one[0] == path for one in served.ended()))
    (found,) = [one for one in served.ended() if one[0] == path]
    assert found[1] in ((1006,) if served.kind == "ours" else (1005, 1006))


BROKEN = [
    ("not masked", frame(TEXT, b"x", masked=False), 1002),
    ("a reserved opcode", frame(0x3), 1002),
    ("a reserved bit", bytes([0xC1]) + frame(TEXT)[1:], 1002),
    ("a continuation of nothing", frame(CONTINUATION, b"x"), 1002),
    ("a message within one", frame(TEXT, b"x", fin=False) + frame(TEXT, b"y"), 1002),
    ("a ping in fragments", frame(PING, fin=False), 1002),
    ("a large ping", frame(PING, b"x" * 126), 1002),
    ("a close of one byte", frame(CLOSE, b"x"), 1002),
    ("a close code of nobody", frame(CLOSE, struct.pack("!H", 1006)), 1002),
    ("no UTF-8", frame(TEXT, b"\xff"), 1007),
    ("no UTF-8 in a reason", frame(CLOSE, struct.pack("!H", 1000) + b"\xff"), 1007),
    ("too big", b"\x82\xff" + struct.pack("!Q", 17 << 20) + b"mask", 1009),
]


@pytest.mark.parametrize(("data", "code"), [one[1:] for one in BROKEN], ids=[o[0] for o in BROKEN])
def test_a_client_that_breaks_the_protocol_is_closed_with_the_code_of_the_rfc(
    ours: Served, data: bytes, code: int
) -> None:
    with ours.open("/broken") as client:
        client.send(frame(TEXT, b"good"))
        client.expect(TEXT, b"good")
        client.send(data)
        assert client.read_close()[0] == code
        assert client.read_to_end() == b""
    wait_until(lambda: any(one[:2] == ["/broken", code] for one in ours.ended()))


@pytest.mark.parametrize(("path", "code"), [("/returns", 1000), ("/fails", 1011)])
def test_an_app_that_ends_closes_its_websocket(ours: Served, path: str, code: int) -> None:
    with ours.open(path) as client:
        assert client.read_close() == (code, "")
    if path == "/fails":
        wait_until(lambda: "own: RuntimeError: after the accept" in ours.log.read_text())


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"Sec_WebSocket_Version": "8"}, 426),
        ({"Sec_WebSocket_Version": ""}, 426),
        ({"Sec_WebSocket_Key": ""}, 400),
        ({"Sec_WebSocket_Key": "c2hvcnQ="}, 400),
        ({"Content_Length": "3"}, 400),
        ({"Host": "stranger.test"}, 421),
    ],
)
def test_a_handshake_that_is_no_good_reaches_no_app(
    ours: Served, fields: dict[str, str], status: int
) -> None:
    with connected(ours.address) as client:
        assert client.handshake(HOST, **fields).status == status


def test_an_app_below_a_path_has_it_as_root_path(ours: Served) -> None:
    with ours.open("/below/scope") as client:
        client.send(frame(TEXT, b"here"))
        client.expect(TEXT, b"here")


def test_a_client_that_does_not_read_holds_no_memory_of_the_server(ours: Served) -> None:
    """100 MB are sent to it."""
    pid = json.loads(get(ours.address, HOST).body)["pid"]
    with ours.open("/floods") as client:
        before = memory.read(pid).private
        for _ in range(50):
            assert get(ours.address, HOST).status == 200
        assert memory.read(pid).private - before < 10_000
        client.send(frame(PING))


def test_an_app_that_does_not_read_holds_no_memory_of_the_server(ours: Served) -> None:
    with ours.open("/floods") as client:
        client.socket.settimeout(0.5)  # nothing tells that a server does not read
        with pytest.raises(TimeoutError):
            client.send(frame(BINARY, b"x" * 60_000) * 300)


# The worker's life


def test_a_restart_closes_websockets_with_1001_and_finishes_requests(
    tmp_path: Path, sockets: GroupSockets
) -> None:
    with ExitStack() as stack:
        server = stack.enter_context(running(write_pool(tmp_path), sockets))
        (old,) = processes(server)["kechi:own"]
        clients = [stack.enter_context(opened(sockets.of("own"), HOST)) for _ in range(3)]
        new = stack.enter_context(serving(vhost_server(write_pool(tmp_path), sockets, 2)))
        server.terminate()
        for client in clients:
            assert client.read_close() == (1001, "")
            client.close(1001)
            assert client.read_to_end() == b""
        assert server.wait() == 0
        wait_ended(old)
        with opened(sockets.of("own"), HOST) as client:
            client.send(frame(TEXT, b"again"))
            client.expect(TEXT, b"again")
            assert processes(new)["kechi:own"] != [old]


def test_a_client_that_answers_no_close_does_not_hold_up_a_stop(
    tmp_path: Path, sockets: GroupSockets
) -> None:
    with running(write_pool(tmp_path), sockets) as server, opened(sockets.of("own"), HOST) as one:
        server.terminate()
        assert one.read_close() == (1001, "")
        assert one.read_to_end() == b""
        assert server.wait() == 0
        assert "gave up" not in server.log.read_text()


def test_an_open_websocket_keeps_an_app_awake(tmp_path: Path, sockets: GroupSockets) -> None:
    pool = write_pool(tmp_path, "idle_seconds = 1")
    with running(pool, sockets) as server:
        with opened(sockets.of("own"), HOST) as client:
            (pid,) = processes(server)["kechi:own"]
            with connected(sockets.of("own")) as other:
                other.read_to_end()  # 5 s: closed as one that says nothing
            client.send(frame(TEXT, b"still"))
            client.expect(TEXT, b"still")
            assert processes(server)["kechi:own"] == [pid]
            os.kill(server.process.pid, signal.SIGTTOU)
            client.send(frame(TEXT, b"here"))
            client.expect(TEXT, b"here")
        wait_status(server, "own sleeps")


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """As many as this process can have: a login often gives it 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_descriptors")
def test_a_thousand_idle_websockets_take_less_than_15_mb(
    tmp_path: Path, sockets: GroupSockets
) -> None:
    with running(write_pool(tmp_path), sockets) as server, ExitStack() as stack:
        (pid,) = processes(server)["kechi:own"]
        clients: list[Client] = []
        for _ in range(10):  # what the first ones alone cost
            clients.append(stack.enter_context(opened(sockets.of("own"), HOST)))
        before = memory.read(pid).private
        for _ in range(1000):
            clients.append(stack.enter_context(opened(sockets.of("own"), HOST)))
        grown = memory.read(pid).private - before
        clients[500].send(frame(TEXT, b"all there"))
        clients[500].expect(TEXT, b"all there")
    assert grown < 15 * 1024, f"{grown} kB"


def test_the_status_counts_websockets_as_requests(tmp_path: Path, sockets: GroupSockets) -> None:
    pool = write_pool(tmp_path, "max_requests = 3")
    with running(pool, sockets) as server:
        (old,) = processes(server)["kechi:own"]
        for _ in range(4):
            with opened(sockets.of("own"), HOST) as client:
                client.close()
                client.read_to_end()
        wait_ended(old)
        assert ask(sockets, "own")["pid"] != old
