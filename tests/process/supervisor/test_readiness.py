"""docs/readiness.md: each of its files and commands is run as it stands there."""

import http.client
import os
import re
import shlex
import shutil
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ..waiting import LIMIT, wait_until
from .harness import ROOT, Server, free_port

PAGE = (ROOT / "docs" / "readiness.md").read_text()
BLOCKS = dict(re.findall(r"^```\w+ ([\w. ]+)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE))
BOOT = 1.0  # seconds that each program here takes to start; more than they need by themselves

# server: the file that is slow or broken; only its commands say READY=1 or are probed
FILES = {
    "gunicorn": "app.py",
    "uvicorn": "asgi.py",
    "granian": "wsgi.py",
    "node": "server.js",
    "shell": "worker.sh",
    "node by probe": "server.js",
    "gunicorn by probe": "probed.py",
}
SERVERS = [name for name in FILES if name != "shell"]  # that one serves no requests
MAY_HANG_UP = ("uvicorn", "granian")  # on a connection that they have accepted, as the page says
SLOW = {
    ".py": f"import time\ntime.sleep({BOOT})\n",
    ".js": f"Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, {BOOT * 1000});\n",
    ".sh": f"sleep {BOOT}\n",
}
BROKEN = {".py": "raise RuntimeError\n", ".js": "process.exit(7);\n", ".sh": "exit 7\n"}
NEEDED = {"node": "node", "sh": "systemd-notify"}


class Paged(Server):
    """A start_server that runs what the page says, in a directory with the page's files."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.port = free_port()
        self.page = directory / "page"
        self.page.mkdir()
        for name, text in BLOCKS.items():
            if "." in name:
                (self.page / name).write_text(text)

    def change(self, file: str, before: dict[str, str]) -> None:
        """Put something before the page's text in a file."""
        path = self.page / file
        path.write_text(before[path.suffix] + BLOCKS[file])

    def run(self, name: str, *more: str, without: str = "") -> None:
        """Run a command of the page with a port of our own, and without one of its words."""
        text = BLOCKS[name].replace("8080", str(self.port)).replace(f" {without} ", " ")
        words = shlex.split(text.replace("\\\n", ""))
        at = words.index("--")
        assert words[0] == "start_server"
        _need("systemd-notify" if name in ("node", "shell") else "")
        _need("node" if words[at + 1] == "node" else "")
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        env = {"PATH": path, "PYTHONDONTWRITEBYTECODE": "1", "HOME": str(self.directory)}
        options = [*words[1:at], f"--dir={self.page}", *more]
        self.start(*options, program=words[at + 1 :], env=env)


def _need(command: str) -> None:
    if command and not shutil.which(command):
        assert "CI" not in os.environ, f"{command} must be there in CI"
        pytest.skip(f"{command} is not installed here (scripts/host-packages test)")


@pytest.fixture
def paged(tmp_path: Path) -> Iterator[Paged]:
    one = Paged(tmp_path)
    yield one
    one.clean_up()


def _get(port: int) -> bytes:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT)) as client:
        client.request("GET", "/")
        answer = client.getresponse()
        assert answer.status == 200
        return answer.read()


def test_the_page_has_a_command_for_each_server() -> None:
    commands = {name for name, text in BLOCKS.items() if text.startswith("start_server ")}
    assert commands == set(FILES)


@pytest.mark.parametrize("name", FILES)
def test_a_generation_is_taken_to_serve_only_when_it_has_started(paged: Paged, name: str) -> None:
    paged.run(name)
    paged.wait_serving(1)
    paged.change(FILES[name], SLOW)
    paged.signal(1)
    paged.wait_for("starting new worker", times=2)
    age = _age_of_last_start(paged)
    paged.wait_for("new worker is now running")
    assert age() >= BOOT, paged.said()
    paged.wait_serving(2)
    assert paged.stop() == 0


def _age_of_last_start(paged: Paged) -> Callable[[], float]:
    pid = re.findall(r"starting new worker (\d+)", paged.said())[-1]
    began = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])

    def age() -> float:
        uptime = float(Path("/proc/uptime").read_text().split()[0])
        return uptime - began / os.sysconf("SC_CLK_TCK")

    return age


@pytest.mark.parametrize("name", FILES)
def test_one_that_does_not_start_never_replaces_the_one_that_serves(
    paged: Paged, name: str
) -> None:
    paged.run(name, "--readiness-timeout=20")  # granian would wait for ever
    paged.wait_serving(1)
    serving = paged.generations()[1]
    paged.change(FILES[name], BROKEN)
    assert paged.restart().returncode == 1
    assert paged.generations() == {1: serving}, paged.said()
    if name in SERVERS:
        assert _get(paged.port) == b"hi\n"
    assert paged.stop() == 0


@pytest.mark.parametrize("name", SERVERS)
def test_no_new_connection_is_refused_in_its_restarts(paged: Paged, name: str) -> None:
    paged.run(name)
    paged.wait_serving(1)
    over = threading.Event()
    answers: list[bytes] = []
    failures: list[Exception] = []

    def ask() -> None:
        while not over.is_set():
            try:
                answers.append(_get(paged.port))
            except (OSError, http.client.HTTPException) as error:
                failures.append(error)

    client = threading.Thread(target=ask)
    client.start()
    try:
        for number in (2, 3):
            paged.signal(1)
            paged.wait_serving(number)
        wait_until(lambda: len(answers) > 10, "answers")
    finally:
        over.set()
        client.join()
    if name in MAY_HANG_UP:
        failures = [one for one in failures if isinstance(one, ConnectionRefusedError)]
    assert failures == []
    assert paged.stop() == 0


def test_gunicorn_without_preload_says_ready_before_its_app_is_loaded(paged: Paged) -> None:
    paged.change("app.py", BROKEN)
    paged.run("gunicorn", without="--preload")
    paged.wait_for("died unexpectedly")
    # It has been taken to serve: what the page warns of.
    assert "failed to start" not in paged.said()


@pytest.mark.parametrize("name", ["gunicorn", "uvicorn", "granian", "node"])
def test_the_path_of_a_unix_socket_stays_when_an_old_generation_ends(
    paged: Paged, name: str
) -> None:
    paged.run(name, f"--path={paged.path}", without=f"--port={paged.port}")
    paged.wait_serving(1)
    paged.signal(1)
    paged.wait_serving(2)
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(LIMIT)
        client.connect(str(paged.path))
        client.sendall(b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n")
        with client.makefile("rb") as answer:
            assert answer.read().endswith(b"hi\n")


def test_gunicorn_unlinks_a_unix_socket_that_it_was_told_to_bind_by_its_fd(paged: Paged) -> None:
    program = ["gunicorn", "--preload", "--no-control-socket", "--bind=fd://3", "app:application"]
    BLOCKS["bind"] = f"start_server --readiness=notify --path={paged.path} -- {shlex.join(program)}"
    # LISTEN_FDS would be taken over as well: a program between them hides it.
    hide = (
        f'{shlex.quote(sys.executable)} -c \'import os,sys; os.environ.pop("LISTEN_PID"); os.execvp'
    )
    BLOCKS["bind"] = BLOCKS["bind"].replace(
        "-- gunicorn", f"-- {hide}(sys.argv[1], sys.argv[1:])' gunicorn"
    )
    paged.run("bind")
    paged.wait_serving(1)
    paged.signal(1)
    paged.wait_serving(2)
    wait_until(lambda: not paged.path.exists(), "what the page warns of")
