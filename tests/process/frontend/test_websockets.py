"""WebSockets through nginx, with the role's configuration."""

import contextlib
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.collection.test_server_blocks import configuration

from ..machine import folder_for_others
from ..ports import free_ports
from ..vhost.harness import COMMAND
from ..vhost.websocket_client import TEXT, connected, frame, opened
from ..waiting import wait_until
from .conftest import DOWN_PAGE, MAIN, program, user

ECHO = """
async def application(scope, receive, send):
    if scope["type"] != "websocket":
        body = repr([h for h in scope["headers"] if h[0] in (b"upgrade", b"connection")]).encode()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})
        return
    await receive()
    await send({"type": "websocket.accept"})
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            return
        await send({"type": "websocket.send", "text": message["text"] + scope["scheme"]})
"""
NAMES = ("speaks", "silent")  # both do; of one of them the front end knows


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    if not program():
        pytest.skip("no nginx here: `make test` fetches it, or name one by KECHI_NGINX")
    with folder_for_others() as folder, contextlib.ExitStack() as stack:
        pool = '[pool]\nname = "ws"\n'
        sockets = {name: folder / f"{name}.sock" for name in NAMES}
        for name in NAMES:
            (folder / name).mkdir()
            (folder / name / "app.py").write_text(ECHO)
            pool += f'[[apps]]\nname = "{name}"\nhosts = ["{name}.test"]\n'
            pool += f'directory = "{name}"\nasgi = "app:application"\n'
        (folder / "pool.toml").write_text(pool)
        (port,) = free_ports(1)
        sites = [
            {"name": name, "hosts": [f"{name}.test"], "socket": str(sockets[name])}
            | ({"websockets": True} if name == "speaks" else {})
            for name in NAMES
        ]
        text = configuration(
            sites,
            _frontend_machine={"ipv6": False},
            _frontend_worker_connections=1024,
            _frontend_acme_root=str(folder),
            _frontend_down_page=shutil.copy(DOWN_PAGE, folder),
            frontend_port=port,
        )
        text = text.replace("/var/log/nginx", str(folder))
        text = text.replace("include /etc/nginx/kechi.d", "# include /etc/nginx/kechi.d")
        values = {"user": user(), "folder": folder, "configuration": text}
        (folder / "nginx.conf").write_text(MAIN % values)
        binds = [f"--bind=unix:{path}" for path in sockets.values()]
        server = stack.enter_context(
            subprocess.Popen([*COMMAND, *binds, str(folder / "pool.toml")])
        )
        stack.callback(server.terminate)
        for path in sockets.values():
            wait_until(path.exists, "vhost_server listens")
            path.chmod(0o666)
        where = ["-e", str(folder / "error.log"), "-p", str(folder), "-c", "nginx.conf"]
        front = stack.enter_context(subprocess.Popen([program(), *where, "-g", "daemon off;"]))
        stack.callback(front.terminate)

        def answers() -> bool:
            assert front.poll() is None, (folder / "error.log").read_text()
            try:
                return b"200" in ask(port, "speaks", "Connection: close")
            except ConnectionRefusedError:
                return False

        wait_until(answers, "nginx answers")
        yield port
        errors = Path(folder / "error.log").read_text()
        assert not re.search("uninitialized", errors), errors


def ask(port: int, name: str, *fields: str) -> bytes:
    """Return a whole answer, its connection being closed behind it."""
    lines = "".join(f"{field}\r\n" for field in fields)
    with connected(port) as client:
        client.send(f"GET / HTTP/1.1\r\nHost: {name}.test\r\n{lines}\r\n".encode())
        return client.read_to_end()


def test_a_websocket_passes_the_front_end(port: int) -> None:
    with opened(port, "speaks.test") as client:
        for text in ("one", "x" * 100_000):
            client.send(frame(TEXT, text.encode()))
            client.expect(TEXT, f"{text}ws".encode())
        client.close(1000)
        assert client.read_close()[0] == 1000
        assert client.read_to_end() == b""


def test_a_site_that_speaks_none_gets_no_upgrade(port: int) -> None:
    with connected(port) as client:
        assert client.handshake("silent.test").status == 200


@pytest.mark.parametrize("name", NAMES)
def test_a_request_without_a_websocket_has_no_upgrade(port: int, name: str) -> None:
    for fields in ((), ("Upgrade: h2c",)):
        assert ask(port, name, "Connection: close", *fields).endswith(
            b"[(b'connection', b'close')]"
        )
