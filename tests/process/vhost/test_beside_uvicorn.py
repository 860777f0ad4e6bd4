"""HTTP of an ASGI app: what uvicorn answers, the event loop of this server does, in one test."""

import contextlib
import json
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .grouped import GroupSockets
from .harness import Connection, Server, get, running, serving, wait_until
from .test_start import write
from .websocket_client import Client, connected

HOST = "own.test"
APP = """
import asyncio, json

seen = []

async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        scope["state"]["n"] = 0
        while True:
            await send({"type": (await receive())["type"] + ".complete"})

    async def start(status=200, *headers):
        await send({"type": "http.response.start", "status": status, "headers": headers})

    async def body(data=b"", more=False):
        await send({"type": "http.response.body", "body": data, "more_body": more})

    path = scope["path"]
    if path == "/scope":
        keys = ("type", "http_version", "method", "scheme", "path", "raw_path", "query_string",
                "root_path", "headers", "state")
        scope["state"]["n"] += 1  # of this request's own copy
        await start(200, (b"x-one", b"1"), (b"x-one", b"2"))
        await body(json.dumps({key: repr(scope[key]) for key in keys}).encode())
    elif path == "/echo":
        await start()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            await body(message["body"], True)
            if not message["more_body"]:
                break
        await body()
    elif path == "/collect":
        whole, more = b"", True
        while more:
            message = await receive()
            whole, more = whole + message["body"], message["more_body"]
        await start()
        for at in range(0, len(whole), 100_000):
            await body(whole[at : at + 100_000], True)
        await body()
    elif path == "/length":
        await start(200, (b"content-length", b"5"))
        await body(b"whole")
    elif path == "/too-long":
        await start(200, (b"content-length", b"3"))
        await body(b"whole")
    elif path == "/too-short":
        await start(200, (b"content-length", b"10"))
        await body(b"whole")
    elif path.startswith("/status/"):
        await start(int(path.rpartition("/")[2]))
        await body()
    elif path == "/closes":
        await start(200, (b"connection", b"close"))
        await body(b"last")
    elif path == "/early":
        await start(200, (b"x-early", b"1"))
        while (await receive())["type"] != "http.disconnect":
            pass
    elif path == "/waits":
        await receive()
        message = await receive()
        seen.append(message["type"])
    elif path == "/after":
        await start()
        await body(b"answered")
        message = await receive()
        seen.append("after: " + message["type"])
    elif path == "/continue":
        if scope["query_string"] == b"ask":
            await receive()
        await start(413)
        await body()
    elif path == "/split":
        await start(200, (b"x-evil", b"a\\r\\nx-other: b"))
        await body()
    elif path == "/background":
        await start()
        await body(b"at once")
        await asyncio.sleep(0.2)
        seen.append("done")
    else:
        await start()
        await body(json.dumps(seen).encode())
"""


def write_app(folder: Path) -> Path:
    write(folder / "own", {"app.py": APP})
    path = folder / "pool.toml"
    path.write_text(
        '[pool]\nname = "pool"\n[[apps]]\nname = "own"\nhosts = ["*"]\n'
        'directory = "own"\nasgi = "app:application"\n'
    )
    return path


@pytest.fixture(scope="module", params=["ours", "uvicorn"])
def address(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    folder = tmp_path_factory.mktemp(request.param)
    pool = write_app(folder)
    with GroupSockets(folder, ["own"]) as sockets:
        if request.param == "ours":
            with running(pool, sockets):
                yield sockets.of("own")
            return
        path = str(folder / "uvicorn.sock")
        command = [sys.executable, "-m", "uvicorn", f"--uds={path}", f"--app-dir={folder / 'own'}"]
        with serving(Server([*command, "app:application"], sockets, ready="Uvicorn running")):
            yield path


def seen(address: str) -> list[str]:
    found: list[str] = json.loads(get(address, HOST).body)
    return found


def ask(client: Client, head: str, body: bytes = b"") -> tuple[int, dict[str, str]]:
    """Send a request as it is written, and return the head of its answer."""
    client.send(head.replace("\n", "\r\n").encode("latin-1") + b"\r\n\r\n" + body)
    answer = client.read_head()
    return answer.status, dict(answer.headers)


def test_the_scope_says_what_the_client_has_sent(address: str) -> None:
    with connected(address) as client:
        status, headers = ask(
            client,
            "GET /%73cope?a=%20&b HTTP/1.1\nHost: Own.test:80\nCookie: a=1\nX-Twice: 1\n"
            "Cookie: b=2\nX-Twice: 2\nConnection: close",
        )
        found = json.loads(client.read(int(headers["content-length"])) if "content-length" in
                           headers else unchunked(client))  # fmt: skip
    assert status == 200
    assert found == {
        "type": "'http'",
        "http_version": "'1.1'",
        "method": "'GET'",
        "scheme": "'http'",
        "path": "'/scope'",
        "raw_path": "b'/%73cope'",
        "query_string": "b'a=%20&b'",
        "root_path": "''",
        "headers": "[(b'host', b'Own.test:80'), (b'cookie', b'a=1'), (b'x-twice', b'1'),"
        " (b'cookie', b'b=2'), (b'x-twice', b'2'), (b'connection', b'close')]",
        "state": "{'n': 1}",
    }


def unchunked(client: Client) -> bytes:
    """Return a body in chunks."""
    whole = b""
    while True:
        line = b""
        while not line.endswith(b"\r\n"):
            line += client.read(1)
        size = int(line, 16)
        whole += client.read(size)
        client.read(2)
        if not size:
            return whole


def test_repeated_headers_of_an_answer_stay_two(address: str) -> None:
    reply = get(address, HOST, "/scope")
    assert reply.headers.get_all("x-one") == ["1", "2"]
    assert reply.headers.get_all("date") is not None


@pytest.mark.parametrize("size", [0, 1, 65_536, 3_000_000])
def test_a_body_streams_both_ways(address: str, size: int) -> None:
    data = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    with contextlib.closing(Connection(address)) as connection:
        for body in (data, iter([data[: size // 2], data[size // 2 :]] if size > 1 else [data])):
            chunked = not isinstance(body, bytes)
            connection.request("POST", "/collect", body, {"Host": HOST}, encode_chunked=chunked)
            assert connection.getresponse().read() == data


def test_pieces_of_a_body_arrive_as_they_are_sent(address: str) -> None:
    with connected(address) as client:
        assert ask(client, "POST /echo HTTP/1.1\nHost: x\nTransfer-Encoding: chunked")[0] == 200
        for piece in (b"one", b"two"):
            client.send(b"3\r\n%s\r\n" % piece)
            assert client.read(8) == b"3\r\n%s\r\n" % piece
        client.send(b"0\r\nX-Trailer: 1\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.read(5) == b"0\r\n\r\n"
        assert client.read_head().status == 200


def test_an_answer_of_a_length_has_it_and_a_head_has_no_body(address: str) -> None:
    with connected(address) as client:
        for method, body in (("GET", b"whole"), ("HEAD", b""), ("GET", b"whole")):
            status, headers = ask(client, f"{method} /length HTTP/1.1\nHost: x")
            assert (status, headers["content-length"]) == (200, "5")
            assert client.read(len(body)) == body


@pytest.mark.parametrize("path", ["/too-long", "/too-short"])
def test_an_answer_of_a_wrong_length_is_never_taken_for_whole(address: str, path: str) -> None:
    with connected(address) as client:
        status, headers = ask(client, f"GET {path} HTTP/1.1\nHost: x\nConnection: close")
        rest = client.read_to_end()
    assert status == 500 or len(rest) < int(headers["content-length"])


@pytest.mark.parametrize("status", [204, 304])
def test_an_answer_without_a_body_keeps_its_connection(address: str, status: int) -> None:
    with connected(address) as client:
        found, headers = ask(client, f"GET /status/{status} HTTP/1.1\nHost: x")
        assert (found, "transfer-encoding" in headers) == (status, False)
        assert ask(client, "GET /length HTTP/1.1\nHost: x")[0] == 200


def test_pipelined_requests_are_answered_in_their_order(address: str) -> None:
    with connected(address) as client:
        one = b"GET /length HTTP/1.1\r\nHost: x\r\n\r\n"
        post = b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
        client.send(one + post + one)
        assert client.read_head().status == 200
        assert client.read(5) == b"whole"
        client.read_head()
        assert unchunked(client) == b"abc"
        assert client.read_head().status == 200
        assert client.read(5) == b"whole"


@pytest.mark.parametrize(
    "head",
    [
        "GET /length HTTP/1.0\nHost: x",
        "GET /length HTTP/1.1\nHost: x\nConnection: close",
        "GET /closes HTTP/1.1\nHost: x",
    ],
)
def test_a_connection_is_closed_when_either_side_says_so(address: str, head: str) -> None:
    with connected(address) as client:
        assert ask(client, head)[0] == 200
        assert client.read_to_end().endswith((b"whole", b"last", b"last\r\n0\r\n\r\n"))


def test_the_head_of_an_answer_does_not_wait_for_its_body(address: str) -> None:
    with connected(address) as client:
        status, headers = ask(client, "GET /early HTTP/1.1\nHost: x")
        assert (status, headers["x-early"]) == (200, "1")


@pytest.mark.parametrize("half", [True, False], ids=["half-closed", "closed"])
def test_an_app_that_only_waits_is_told_that_its_client_has_gone(address: str, half: bool) -> None:
    before = seen(address).count("http.disconnect")
    with connected(address) as client:
        client.send(b"GET /waits HTTP/1.1\r\nHost: x\r\n\r\n")
        if half:
            client.socket.shutdown(socket.SHUT_WR)
            wait_until(lambda: seen(address).count("http.disconnect") == before + 1)
    wait_until(lambda: seen(address).count("http.disconnect") == before + 1)


def test_behind_its_answer_an_app_receives_a_disconnect(address: str) -> None:
    before = seen(address).count("after: http.disconnect")
    assert get(address, HOST, "/after").body == b"answered"
    wait_until(lambda: seen(address).count("after: http.disconnect") == before + 1)


def test_a_client_that_waits_for_100_gets_it_when_the_app_asks(address: str) -> None:
    head = "POST /continue{} HTTP/1.1\nHost: x\nExpect: 100-continue\nContent-Length: 3"
    with connected(address) as client:
        assert ask(client, head.format("?ask"))[0] == 100
        client.send(b"abc")
        assert client.read_head().status == 413
    with connected(address) as client:
        assert ask(client, head.format(""))[0] == 413


def test_a_header_of_two_lines_never_reaches_a_client(address: str) -> None:
    with connected(address) as client:
        client.send(b"GET /split HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert b"x-other" not in client.read_to_end()


def test_work_behind_an_answer_holds_up_nobody_and_is_done(address: str) -> None:
    with contextlib.closing(Connection(address)) as kept:
        for _ in range(3):
            assert kept.ask(HOST, "/background").body == b"at once"
    wait_until(lambda: seen(address).count("done") == 3)


@pytest.mark.parametrize(
    "head",
    [
        "GET / HTTP/1.1\nHost: x\nContent-Length: -1",
        "GET /",
        "nonsense",
    ],
)
def test_what_is_no_request_is_refused(address: str, head: str) -> None:
    with connected(address) as client:
        assert ask(client, head)[0] == 400
        client.read_to_end()


def test_a_body_that_is_no_such_ends_the_connection(address: str) -> None:
    with connected(address) as client:
        client.send(
            b"POST /waits HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nnone\r\n"
        )
        assert client.read_head().status == 400
        client.read_to_end()
    assert get(address, HOST).status == 200
