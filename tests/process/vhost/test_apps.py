"""What an app sees of the process it shares: two small apps that tell, through one server."""

import contextlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .harness import Connection, Reply, Server, Sockets, get, running

NAMES = ("left", "right")
APP = """
import json, os, subprocess, sys, threading, time
from pathlib import Path

def read():
    return Path("name.txt").read_text()

LOADED = {{"cwd": os.getcwd(), "colour": os.environ["COLOUR"], "file": read()}}
os.environ["SET_AT_LOAD"] = "{name}"
print("{name} prints at load")
ONLY = "ONLY_{upper}"
UMASK = {umask}
os.umask(UMASK)

def umask():
    found = os.umask(0o777)
    os.umask(0o111)  # and leave another one behind
    return found == UMASK

def see():
    return {{
        "cwd": os.getcwd(),
        "colour": os.getenv("COLOUR"),
        "umask": umask(),
        "file": read(),
        "set_at_load": os.environ.get("SET_AT_LOAD"),
        "neighbours": [key for key in os.environ if key.startswith("ONLY_") and key != ONLY],
        "notify": "NOTIFY_SOCKET" in os.environ,
        "generation": os.environ["SERVER_STARTER_GENERATION"],
        "pid": os.getpid(),
    }}

def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/fail":
        raise RuntimeError("{name} has failed")
    if path == "/errors":
        environ["wsgi.errors"].write("to wsgi.errors\\nin two lines\\n")
        print("to stderr", file=sys.stderr)
        print("{name} prints in a request")
    start_response("200 OK", [("Content-Type", "application/json")])
    if path == "/loaded":
        return [json.dumps(LOADED).encode()]
    if path == "/subprocess":
        given = dict(os.environ, COLOUR="given")
        shown = "import os; print(os.getcwd(), os.environ['COLOUR'])"
        outputs = [subprocess.check_output([sys.executable, "-c", shown], text=True, env=env)
                   for env in (None, given)]
        return [json.dumps([output.split() for output in outputs]).encode()]
    if path == "/late":
        import {name}_late
        return [json.dumps({{"late": {name}_late.VALUE}}).encode()]
    if path == "/release":
        import {name}_release
        return [json.dumps({{"release": {name}_release.VALUE}}).encode()]
    if path == "/stream":
        return stream()
    if path == "/thread":
        seen = []
        def look():
            for _ in range(20):
                seen.append(see())
                time.sleep(0.02)  # while the other app answers, too
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
        return [json.dumps(seen).encode()]
    return [json.dumps(see()).encode()]

def stream():
    for _ in range(30):
        yield json.dumps(see()).encode() + b"\\n"
        time.sleep(0.01)  # while the other app answers, too
"""


def write_app(folder: Path, name: str) -> None:
    folder.mkdir(parents=True)
    (folder / f"{name}.py").write_text(
        APP.format(name=name, upper=name.upper(), umask=0o27 + NAMES.index(name))
    )
    (folder / f"{name}_late.py").write_text(f"VALUE = 'late {name}'")
    (folder / f"{name}_release.py").write_text("VALUE = 'first'")
    (folder / "name.txt").write_text(name)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("apps")
    pool = '[pool]\nname = "two"\nworkers = 1\nthreads = 8\n'
    for name in NAMES:
        write_app(folder / name / "first", name)
        (folder / name / "current").symlink_to("first")
        pool += (
            f'[[apps]]\nname = "{name}"\nhosts = ["{name}.test"]\nwsgi = "{name}:application"\n'
            f'directory = "{name}/current"\n'
            f'environment = {{ COLOUR = "{name}ish", ONLY_{name.upper()} = "1" }}\n'
        )
    (folder / "two.toml").write_text(pool)
    with Sockets(folder) as sockets, running(folder / "two.toml", sockets) as started:
        yield started


def ask(server: Server, name: str, path: str = "/") -> Any:
    return json.loads(get(server.sockets.path, f"{name}.test", path).body)


def is_at_home(seen: dict[str, Any], server: Server, name: str) -> bool:
    return {key: seen[key] for key in ("cwd", "colour", "file", "set_at_load", "neighbours")} == {
        "cwd": str(server.sockets.folder / name / "first"),
        "colour": f"{name}ish",
        "file": name,
        "set_at_load": name,
        "neighbours": [],
    }


@pytest.mark.parametrize("name", NAMES)
def test_an_app_is_loaded_in_its_directory_with_its_environment(server: Server, name: str) -> None:
    assert ask(server, name, "/loaded") == {
        "cwd": str(server.sockets.folder / name / "first"),
        "colour": f"{name}ish",
        "file": name,
    }


def test_each_app_runs_in_its_own_directory_also_in_threads_and_while_streaming(
    server: Server,
) -> None:
    wrong: list[Any] = []

    def client(name: str, path: str) -> None:
        for _ in range(3):
            body = get(server.sockets.path, f"{name}.test", path).body
            lines = json.loads(body) if path == "/thread" else map(json.loads, body.splitlines())
            wrong.extend(seen for seen in lines if not is_at_home(seen, server, name))

    threads = [
        threading.Thread(target=client, args=(name, path))
        for name in NAMES
        for path in ("/stream", "/stream", "/thread", "/")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize("name", NAMES)
def test_a_subprocess_gets_the_apps_directory_and_environment(server: Server, name: str) -> None:
    home = str(server.sockets.folder / name / "first")
    assert ask(server, name, "/subprocess") == [[home, f"{name}ish"], [home, "given"]]


def test_an_apps_umask_is_its_own_in_each_request(server: Server) -> None:
    assert all(ask(server, name)["umask"] for name in NAMES * 8)


def test_the_generation_is_visible_and_the_notify_socket_is_not(server: Server) -> None:
    seen = ask(server, "left")
    assert (seen["generation"], seen["notify"]) == ("1", False)


@pytest.mark.parametrize("name", NAMES)
def test_an_import_inside_a_request_comes_from_the_apps_directory(
    server: Server, name: str
) -> None:
    assert ask(server, name, "/late") == {"late": f"late {name}"}


def test_a_switched_symlink_does_not_mix_releases(server: Server) -> None:
    folder = server.sockets.folder / "left"
    (folder / "second").mkdir()
    (folder / "second" / "name.txt").write_text("second")
    (folder / "second" / "left_release.py").write_text("VALUE = 'second'")
    (folder / "new").symlink_to("second")
    (folder / "new").rename(folder / "current")
    try:
        assert is_at_home(ask(server, "left"), server, "left")
        assert ask(server, "left", "/release") == {"release": "first"}
    finally:
        (folder / "new").symlink_to("first")
        (folder / "new").rename(folder / "current")


def raw(server: Server, request: bytes) -> bytes:
    with contextlib.closing(Connection(server.sockets.path)) as connection:
        connection.connect()
        connection.sock.sendall(request)
        return b"".join(iter(lambda: connection.sock.recv(4096), b""))


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (b"Host: LEFT.test.:8080", b"200 OK"),
        (b"Host: other.test", b"421 Misdirected Request"),
        (b"Host: test", b"421 Misdirected Request"),
        (b"Host: left.test\r\nHost: right.test", b"400 Bad Request"),
        (b"Host: left.test\r\nHost: left.test", b"400 Bad Request"),
        (b"Host: left.test, right.test", b"400 Bad Request"),
        (b"Host: left.test/", b"400 Bad Request"),
        (b"Host:", b"400 Bad Request"),
        (b"X-No-Host: 1", b"400 Bad Request"),
    ],
)
def test_the_host_header_decides_and_nonsense_reaches_no_app(
    server: Server, headers: bytes, status: bytes
) -> None:
    answer = raw(server, b"GET / HTTP/1.1\r\nConnection: close\r\n" + headers + b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 " + status + b"\r\n")
    assert (b'"set_at_load": "left"' in answer) == (status == b"200 OK")


def test_a_target_in_absolute_form_must_name_the_same_host(server: Server) -> None:
    request = b"GET http://%s.test/ HTTP/1.1\r\nConnection: close\r\nHost: left.test\r\n\r\n"
    assert raw(server, request % b"right").startswith(b"HTTP/1.1 400 ")
    assert b'"set_at_load": "left"' in raw(server, request % b"left")


def test_what_apps_print_is_seen_at_once_and_once(server: Server) -> None:
    get(server.sockets.path, "left.test", "/errors")
    log = server.log.read_text().splitlines()
    assert [log.count(f"left prints {what}") for what in ("at load", "in a request")] == [1, 1]


def test_a_failing_app_answers_500_and_its_error_lines_carry_its_name(server: Server) -> None:
    reply: Reply = get(server.sockets.path, "right.test", "/fail")
    assert reply.status == 500
    get(server.sockets.path, "right.test", "/errors")
    log = server.log.read_text().splitlines()
    assert "right: RuntimeError: right has failed" in log
    assert {"right: to wsgi.errors", "right: in two lines", "right: to stderr"} <= set(log)
    assert is_at_home(ask(server, "left"), server, "left")
