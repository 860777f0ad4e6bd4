"""The helper process of --probe, against real servers: what counts, and that it always ends."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from supervisor_py import probe, probe_helper
from supervisor_py.probe import Target

from ..waiting import LIMIT, wait_until
from .harness import ROOT, Server, alive, free_port

HTTP_CHILD = Path(__file__).with_name("http_child.py")


class Prober:
    """A process that stands for the super-daemon: it forks the helper, and tells what became."""

    _CODE = """
import json, os, sys, time
sys.path.insert(0, {root!r})
real = time.sleep
def sleep(seconds):  # between two attempts
    with open({tried!r}, "a") as file:
        file.write(".")
    real(seconds)
time.sleep = sleep
from supervisor_py import probe, probe_helper
spec, own, target = json.loads(sys.argv[1])
helper = probe_helper.start(probe.parse(spec, own), probe.Target(*target))
print(helper, flush=True)
_, status = os.waitpid(helper, 0)
print(os.waitstatus_to_exitcode(status), flush=True)
"""

    def __init__(self, held: ExitStack, directory: Path) -> None:
        self._held = held
        self._tried = directory / "tried"

    def start(
        self,
        spec: str,
        *own: str,
        number: int = 1,
        pid: int = 1,
        alone: bool = True,
        limit: float = LIMIT,
    ) -> "Prober":
        self._tried.write_text("")
        given = json.dumps([spec, own, [number, pid, alone, limit]])
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-ISE",
                "-c",
                self._CODE.format(root=str(ROOT), tried=str(self._tried)),
                given,
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._held.callback(self._end)
        assert self.process.stdout is not None
        self.helper = int(self.process.stdout.readline())
        return self

    def wait_in_vain(self) -> None:
        """Wait until one more attempt that began after this has failed."""
        goal = len(self._tried.read_text()) + 2  # one may be under way
        wait_until(lambda: len(self._tried.read_text()) >= goal, "an attempt that fails")
        assert alive(self.helper), "it tries again"

    def _end(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()

    def outcome(self) -> tuple[int, str]:
        """Return the helper's exit status and all that it has said."""
        out, said = self.process.communicate(timeout=LIMIT)
        return int(out), said


@pytest.fixture
def held() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def prober(held: ExitStack, tmp_path: Path) -> Prober:
    return Prober(held, tmp_path)


def _http(server: Server, plan: dict[str, object], *arguments: str) -> list[str]:
    server.plan(**plan)
    return [sys.executable, "-ISE", str(HTTP_CHILD), str(server.plan_file), *arguments]


def _serve(held: ExitStack, answer: bytes, pause: float = 0) -> int:
    """Return the port of a server that sends these bytes one by one to whoever connects."""
    listener = socket.create_server(("127.0.0.1", 0))
    held.callback(listener.close)
    held.callback(listener.shutdown, socket.SHUT_RDWR)

    def serve() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection, suppress(OSError):
                    connection.recv(1000)
                    for at in range(len(answer)):
                        connection.sendall(answer[at : at + 1])
                        time.sleep(pause)  # a server that is slow on purpose

    threading.Thread(target=serve, daemon=True).start()
    return int(listener.getsockname()[1])


def test_a_tcp_probe_succeeds_when_something_listens_there(held: ExitStack, prober: Prober) -> None:
    port = free_port()
    prober.start(f"tcp:127.0.0.1:{port}")
    prober.wait_in_vain()
    with socket.create_server(("127.0.0.1", port)):
        assert prober.outcome() == (0, "")


def test_a_unix_probe_asks_the_path_of_just_this_generation(
    tmp_path: Path, held: ExitStack, prober: Prober
) -> None:
    def listen(number: int) -> None:
        one = held.enter_context(socket.socket(socket.AF_UNIX))
        one.bind(str(tmp_path / f"{number}.sock"))
        one.listen()

    listen(1)
    prober.start(f"unix:{tmp_path}/{{generation}}.sock", number=2)
    prober.wait_in_vain()  # the older generation's socket is not the one
    listen(2)
    assert prober.outcome() == (0, "")


@pytest.mark.parametrize("status", [200, 204, 302])
def test_an_http_answer_below_400_counts(held: ExitStack, prober: Prober, status: int) -> None:
    port = _serve(held, b"HTTP/1.1 %d Whatever\r\n\r\n" % status)
    assert prober.start(f"http://127.0.0.1:{port}/").outcome() == (0, "")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 503 Not yet\r\n\r\n", "answered 503"),
        (b"HTTP/1.1 404 Nowhere\r\n\r\n", "answered 404"),
        (b"", "the connection was closed without an answer"),
        (b"SSH-2.0-OpenSSH\r\n", "the answer is not HTTP"),
        (
            b"HTTP/1.1 200 OK\r\nServer-Starter-Generation: 6\r\n\r\n",
            "answered, but not by generation 7: Server-Starter-Generation is 6",
        ),
    ],
)
def test_other_answers_do_not_count_and_the_last_reason_is_said(
    held: ExitStack, prober: Prober, answer: bytes, reason: str
) -> None:
    spec = f"http://127.0.0.1:{_serve(held, answer)}/up"
    code, said = prober.start(spec, number=7, limit=0.3).outcome()
    assert code == 1
    assert said.startswith(f"probe {spec} of generation 7 gave up after 0.3 secs: {reason}")
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ("tcp:127.0.0.1:{port}", "connection refused"),
        ("http://127.0.0.1:{port}/", "connection refused"),
        ("unix:{tmp}/none", "no such file or directory"),
        ("http+unix:{tmp}/none:/", "no such file or directory"),
    ],
)
def test_the_reason_of_a_connection_that_fails_is_said(
    tmp_path: Path, prober: Prober, spec: str, reason: str
) -> None:
    filled = spec.format(port=free_port(), tmp=tmp_path)
    code, said = prober.start(filled, limit=0.2).outcome()
    assert (code, said) == (
        1,
        f"probe {filled} of generation 1 gave up after 0.2 secs: {reason}\n",
    )


def test_a_server_that_drips_its_answer_is_no_reason_to_wait_for_it(
    held: ExitStack, prober: Prober
) -> None:
    port = _serve(held, b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000, pause=0.1)
    code, said = prober.start(f"http://127.0.0.1:{port}/", limit=1).outcome()
    assert code == 1
    assert said.endswith("no answer within 2 seconds\n")


def test_the_answer_of_another_generation_on_a_shared_listener_never_counts(
    server: Server, prober: Prober
) -> None:
    port = free_port()
    spec, own = f"http://127.0.0.1:{port}/", f"127.0.0.1:{port}"
    program = _http(server, {"status": 200, "header": True})
    server.start(f"--port={own}", "--interval=0", program=program).wait_serving(1)
    assert prober.start(spec, own, number=1, alone=False).outcome() == (0, "")
    prober.start(spec, own, number=2, alone=False)
    prober.wait_in_vain()  # generation 1 answers, and is not the one
    server.signal(signal.SIGHUP)
    server.wait_serving(2)
    assert prober.outcome() == (0, "")


def test_without_the_header_only_a_generation_that_is_alone_is_known_by_its_answer(
    server: Server, prober: Prober
) -> None:
    own = (str(server.path),)
    spec = f"http+unix:{server.path}:/up"
    program = _http(server, {"status": 200})
    server.start(f"--path={server.path}", "--interval=0", program=program).wait_serving(1)
    code, said = prober.start(spec, *own, number=2, alone=False, limit=0.3).outcome()
    assert code == 1
    reason = "answered, but not by generation 2: no Server-Starter-Generation header\n"
    assert said.endswith(reason)
    assert prober.start(spec, *own, number=1, alone=True).outcome() == (0, "")
    assert prober.start(spec, number=2, alone=False).outcome() == (0, ""), "not our listener"


def test_the_helper_ends_when_the_super_daemon_has_gone(prober: Prober) -> None:
    prober.start(f"tcp:127.0.0.1:{free_port()}", limit=600)
    prober.process.kill()
    wait_until(lambda: not alive(prober.helper), "its end")


def test_the_helper_ends_by_a_signal_whatever_the_super_daemon_had_caught(prober: Prober) -> None:
    prober.start(f"tcp:127.0.0.1:{free_port()}", limit=600)
    os.kill(prober.helper, signal.SIGTERM)
    assert prober.outcome() == (-signal.SIGTERM, "")


def test_the_helper_holds_no_socket_and_leaves_its_parent_small() -> None:
    code = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from supervisor_py import probe, probe_helper
before = set(sys.modules)
import os
listener = os.dup(0)
asked = probe.parse("tcp:127.0.0.1:{free_port()}", ())
helper = probe_helper.start(asked, probe.Target(1, 1, True, 60))
import time
while set(os.listdir(f"/proc/{{helper}}/fd")) != {{"0", "1", "2"}}:
    time.sleep(0.01)
os.kill(helper, 9)
os.waitpid(helper, 0)
print("\\n".join(set(sys.modules) - {{"time"}}))
"""
    done = subprocess.run(
        [sys.executable, "-ISE", "-c", code],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    loaded = set(done.stdout.split())
    assert "supervisor_py.probe" in loaded, done.stderr
    assert not loaded & {"http.client", "socket", "signal", "re", "supervisor_py.probe_attempts"}


def test_the_reason_can_be_written_where_the_caller_wants_it() -> None:
    read, write = os.pipe()
    one = probe.parse(f"tcp:127.0.0.1:{free_port()}", ())
    helper = probe_helper.start(one, Target(3, 1, True, 0.1), write)
    os.close(write)
    with os.fdopen(read) as said:
        assert said.read().endswith("of generation 3 gave up after 0.1 secs: connection refused\n")
    assert os.waitstatus_to_exitcode(os.waitpid(helper, 0)[1]) == 1
