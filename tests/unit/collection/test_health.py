"""The health gate's request, against real servers: by its way, its status, its time."""

import http.server
import json
import socketserver
import ssl
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.kechi.vps.plugins.module_utils import health, hooks


class Handler(http.server.BaseHTTPRequestHandler):
    server: Any

    def do_GET(self):
        self.server.seen.append((self.headers["Host"], self.path))
        self.send_response(self.server.status)
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, *_arguments):
        pass

    def address_string(self):
        return "unix"


class Unix(socketserver.UnixStreamServer):
    pass


@pytest.fixture
def serve():
    started = []

    def run(kind, address, status=200, body=b"fine"):
        server = kind(address, Handler)
        server.status, server.body, server.seen = status, body, []
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        started.append((server, thread))
        return server

    yield run
    for server, thread in started:
        server.shutdown()
        thread.join()
        server.server_close()


def wanted(tmp_path, **more):
    return {"app": "blog", "site": "blog.example", "host": "blog.example", "path": "/up",
            "statuses": [], "socket": str(tmp_path / "pool.sock"), **more}  # fmt: skip


def front(server):
    return {"scheme": "http", "port": server.server_address[1]}


def tcp(serve, **more):
    return serve(http.server.HTTPServer, ("127.0.0.1", 0), **more)


def test_an_app_is_asked_through_the_front_end_by_its_host(tmp_path, serve):
    server = tcp(serve)
    health.check(wanted(tmp_path), 5, front(server))
    assert server.seen == [("blog.example", "/up")]


@pytest.fixture
def certificate(tmp_path):
    """A server's TLS, with a certificate for another name."""
    files = ["-keyout", str(tmp_path / "key"), "-out", str(tmp_path / "certificate")]
    subprocess.run(
        ["openssl", "req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt",
         "ec_paramgen_curve:prime256v1", "-subj", "/CN=other.example", *files],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "certificate", tmp_path / "key")
    return context


def test_a_front_end_with_a_certificate_of_its_own_making_is_asked_by_the_apps_name(
    tmp_path, serve, certificate
):
    names = []
    certificate.sni_callback = lambda _socket, name, _context: names.append(name)
    server = tcp(serve)
    server.socket = certificate.wrap_socket(server.socket, server_side=True)
    health.check(wanted(tmp_path), 5, {**front(server), "scheme": "https"})
    assert server.seen == [("blog.example", "/up")]
    assert names == ["blog.example"]


def test_an_app_that_the_front_end_does_not_have_yet_is_asked_at_its_socket(tmp_path, serve):
    pool = serve(Unix, str(tmp_path / "pool.sock"))
    health.check(wanted(tmp_path), 5, front(tcp(serve, status=421)))
    health.check(wanted(tmp_path), 5, None)
    gone = {"scheme": "http", "port": 1}
    health.check(wanted(tmp_path), 5, gone)
    assert pool.seen == [("blog.example", "/up")] * 3


@pytest.mark.parametrize(
    ("status", "statuses", "expected"),
    [(500, [], "gives 500, expected is below 500"), (404, [200, 204], "expected is 200 or 204")],
)
def test_a_wrong_status_is_told_with_the_begin_of_the_answer(
    tmp_path, serve, status, statuses, expected
):
    server = tcp(serve, status=status, body=b"Traceback: " + b"x" * 5000)
    with pytest.raises(
        health.Unhealthy, match=f"{expected}; it begins with: 'Traceback: x"
    ) as told:
        health.check(wanted(tmp_path, statuses=statuses), 5, front(server))
    assert len(str(told.value)) < 600
    assert "GET /up for blog.example through the front end (http)" in str(told.value)


@pytest.mark.parametrize(("status", "statuses"), [(404, []), (302, []), (503, [503])])
def test_a_right_status_passes(tmp_path, serve, status, statuses):
    server = tcp(serve, status=status)
    health.check(wanted(tmp_path, statuses=statuses), 5, front(server))
    assert server.seen == [("blog.example", "/up")]


def test_an_app_that_does_not_answer_in_time_is_unwell(tmp_path):
    with (
        socketserver.UnixStreamServer(str(tmp_path / "pool.sock"), Handler),
        pytest.raises(health.Unhealthy, match=r"at .*pool\.sock fails: no whole answer within"),
    ):
        health.check(wanted(tmp_path), 0.05, None)


class Dribbler(socketserver.BaseRequestHandler):
    """Sends what never ends, a byte at a time, for as long as it is listened to."""

    server: Any

    def handle(self):
        self.request.recv(4096)
        self.request.sendall(self.server.begin)
        pace = threading.Event()  # never set: bytes have to be apart for a timeout to begin anew
        try:
            while not pace.wait(0.01):
                self.request.sendall(b"x")
        except OSError:
            self.server.ended.set()


@pytest.mark.parametrize("begin", [b"HTTP/1.1 200 OK\r\nX-", b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/"])
@pytest.mark.parametrize("way", ["socket", "http", "https"])
def test_an_answer_that_comes_a_byte_at_a_time_is_ended_when_its_time_is_over(
    tmp_path, certificate, begin, way
):
    made: Any = (
        Unix(str(tmp_path / "pool.sock"), Dribbler)
        if way == "socket"
        else socketserver.TCPServer(("127.0.0.1", 0), Dribbler)
    )
    made.begin, made.ended = begin, threading.Event()
    if way == "https":
        made.socket = certificate.wrap_socket(made.socket, server_side=True)
    with made:
        thread = threading.Thread(target=made.handle_request)
        thread.start()
        through = None if way == "socket" else {**front(made), "scheme": way}
        with pytest.raises(health.Unhealthy, match=r"fails: no whole answer within 3 s"):
            health.check(wanted(tmp_path), 3, through)
        thread.join()
        assert made.ended.is_set()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (json.dumps({"scheme": "https", "port": 443}), {"scheme": "https", "port": 443}),
        ("{", None),
        ("{}", None),
        (None, None),
    ],
)
def test_the_front_end_is_where_its_file_says_or_not_there_yet(tmp_path, text, found):
    if text is not None:
        (tmp_path / "frontend.json").write_text(text)
    assert health.front_end(tmp_path / "frontend.json") == found


def test_a_hooks_secrets_are_on_no_command_line():
    confined = hooks.Confined(
        "main", "/srv/www/blog/releases/1", "/srv/www/blog/shared", 300, 60, 64
    )
    told = json.loads(confined.told(["python", "manage.py"], {"SECRET": "s3cret", "N": 1}, "/venv"))
    assert "s3cret" not in " ".join(confined.start)
    assert told["command"] == ["timeout", "--kill-after=5", "60", "python", "manage.py"]
    assert told["environment"]["SECRET"] == "s3cret"
    assert told["environment"]["N"] == "1"
    assert told["environment"]["PATH"].startswith("/venv/bin:")


def test_a_hook_that_fails_is_told_with_its_last_lines():
    confined = hooks.Confined("main", "/", "/srv", 300, 60, 64)
    output = "".join(f"line {number}\n" for number in range(100))
    fault = confined.run(lambda *_words, **_more: (1, output, "the reason"), ["migrate"], {}, "")
    assert fault.startswith("`migrate`: exit code 1\nline 6")
    assert fault.endswith("the reason")
    timed_out = confined.run(lambda *_words, **_more: (124, "", ""), ["migrate"], {}, "")
    assert "not over within 60 seconds" in timed_out


def test_a_command_is_tried_with_the_code_of_its_new_release():
    words = ["/srv/www/clock/current/bin/clock", "/srv/www/clock/currently", "--port=1"]
    new = "/srv/www/clock/releases/2"
    found = hooks.in_release(words, Path("/srv/www/clock"), new)
    assert found == [f"{new}/bin/clock", "/srv/www/clock/currently", "--port=1"]


def test_the_environment_of_a_trial_is_roots_alone_and_reaches_it_as_it_is():
    with hooks.environment_file({"SECRET": 's3"c\\$ret`', "N": 1}) as name:
        assert Path(name).stat().st_mode & 0o077 == 0
        assert Path(name).read_text() == 'SECRET="s3\\"c\\\\\\$ret\\`"\nN="1"\n'
    assert not Path(name).exists()
