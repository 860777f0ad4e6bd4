"""How long a request's line and header fields may be, and how many there may be of those."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from .grouped import GroupSockets
from .harness import Connection, running
from .test_start import write

APP = """
def application(environ, start_response):
    start_response("200 OK", [])
    return [b"%d" % len(environ["QUERY_STRING"])]
"""
POOL = """
[pool]
name = "limits"
workers = 1
%s
[[apps]]
name = "shared"
hosts = ["shared.test"]
directory = "shared"
wsgi = "app:application"
[[apps]]
name = "own"
hosts = ["own.test"]
directory = "own"
wsgi = "app:application"
isolation = "process"
limit_request_line = 20000
limit_request_fields = 500
limit_request_field_size = 30000
"""


@contextlib.contextmanager
def serving(folder: Path, settings: str) -> Iterator[GroupSockets]:
    for name in ("shared", "own"):
        write(folder / name, {"app.py": APP})
    (folder / "limits.toml").write_text(POOL % settings)
    with GroupSockets(folder, ["own"]) as sockets, running(folder / "limits.toml", sockets):
        yield sockets


def status(sockets: GroupSockets, app: str, line: int = 0, fields: int = 0, size: int = 0) -> int:
    """Ask with a line of so many bytes, so many header fields, one of such a size in all."""
    head = f"GET /?{'x' * max(0, line - 15)} HTTP/1.1\r\nHost: {app}.test\r\nConnection: close\r\n"
    head += "".join(f"X-{number}: 1\r\n" for number in range(fields - 2))
    head += f"X-Long: {'x' * (size - 10)}\r\n" if size else ""
    with contextlib.closing(Connection(sockets.of(app))) as connection:
        connection.connect()
        connection.sock.sendall(head.encode() + b"\r\n")
        answer = b"".join(iter(lambda: connection.sock.recv(4096), b""))
    return int(answer.split(b" ", 2)[1])


def test_by_default_what_nginx_lets_through_is_answered(tmp_path: Path) -> None:
    with serving(tmp_path, "") as sockets:
        assert [status(sockets, "shared", line=length) for length in (8190, 8191)] == [200, 414]
        assert [status(sockets, "shared", fields=count) for count in (100, 101)] == [200, 431]
        assert [status(sockets, "shared", size=length) for length in (8190, 8191)] == [200, 431]


@pytest.mark.parametrize("app", ["shared", "own"])
def test_a_pool_and_an_isolated_app_have_limits_of_their_own(tmp_path: Path, app: str) -> None:
    settings = "limit_request_line = 10000\nlimit_request_fields = 30\n"
    settings += "limit_request_field_size = 300\n"
    line, fields, size = (20000, 500, 30000) if app == "own" else (10000, 30, 300)
    with serving(tmp_path, settings) as sockets:
        assert [status(sockets, app, line=length) for length in (line, line + 1)] == [200, 414]
        assert [status(sockets, app, fields=count) for count in (fields, fields + 1)] == [200, 431]
        assert [status(sockets, app, size=length) for length in (size, size + 1)] == [200, 431]
