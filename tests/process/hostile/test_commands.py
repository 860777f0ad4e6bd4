"""What root's commands make of a pool's directory, in which its app may put what it likes."""

from __future__ import annotations

import json
import os
import pwd
import resource
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.kechi.vps.plugins.plugin_utils.status_tables import status_tables

from .attacker import UID, as_the_app
from .conftest import SECRET

REPOSITORY = Path(__file__).parents[3]
SECONDS = 60  # a command that is still there then waits for something that never comes
ACTS = set("\x1b\x07\r\x9b\u202e")
ESCAPES = "\x1b]0;owned\x07\x1b[2J\r\x9b31m\u202e"


def run(module, *arguments):
    code = f"import sys; from {module} import main; sys.argv[0] = 'it'; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
        # what a command takes is bounded
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (600 << 20, 600 << 20)),
    )


def start_server(*arguments):
    return run("supervisor_py.cli", *arguments)


def memory(machine, *arguments):
    return run("supervisor_py.shared_memory_size.cli", f"--run={machine.app}", *arguments)


@pytest.fixture
def pool(machine):
    """The runtime directory of a pool called evil."""
    path = machine.app / "kechi-evil"
    path.mkdir()
    os.chown(path, UID, UID)
    return path


def put(make):
    """Do it as the attacker, by a name for what can't be said in a lambda."""
    as_the_app(make)


def _sparse(path):
    path.touch()
    os.truncate(path, 1 << 40)


KINDS = {
    "fifo": os.mkfifo,
    "endless": lambda path: path.symlink_to("/dev/zero"),
    "sparse": _sparse,
    "directory": lambda path: path.mkdir(),
    "no number": lambda path: path.write_text(f"{ESCAPES}\n"),
    "everybody's": lambda path: path.write_text("1\n"),
    "too large": lambda path: path.write_text("9" * 5000),
    "nowhere": lambda path: path.symlink_to("gone"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_pid_file_that_is_none_is_an_error_and_is_not_waited_for(machine, pool, kind):
    put(lambda: KINDS[kind](pool / "pid"))
    for done in (
        memory(machine, "evil"),
        memory(machine, "--all"),
        start_server("--stop", f"--pid-file={pool}/pid"),
    ):
        assert done.returncode != 0
        assert "Traceback" not in done.stderr
        assert done.stdout == ""
        assert f"{pool}/pid" in done.stderr or "no pool runs here" in done.stderr
        assert not ACTS & set(done.stderr)


@pytest.mark.parametrize("kind", ["fifo", "endless", "sparse", "nowhere"])
def test_a_status_file_that_is_none_is_an_error_too(machine, pool, kind):
    def make():
        (pool / "pid").write_text(f"{os.getpid()}\n")
        KINDS[kind](pool / "status")

    holder = subprocess.Popen(
        ["flock", str(pool / "pid"), "sleep", str(SECONDS)], user=UID, group=UID, extra_groups=[]
    )
    try:
        put(make)
        (pool / "pid").write_text(f"{holder.pid}\n")
        files = [f"--pid-file={pool}/pid", f"--status-file={pool}/status"]
        done = start_server("--restart", *files)
        assert done.returncode != 0
        assert "Traceback" not in done.stderr
        assert holder.poll() is None, "nobody was sent a signal"
    finally:
        holder.kill()
        holder.wait()


def test_no_signal_is_sent_to_a_process_that_the_files_writer_could_not_have_started(pool):
    bystander = subprocess.Popen(["sleep", str(SECONDS)])
    try:
        put(lambda: (pool / "pid").write_text(f"{bystander.pid}\n"))
        with subprocess.Popen(
            ["sh", "-c", f"exec 9<>{pool}/pid; flock 9; echo; sleep {SECONDS}"],
            stdout=subprocess.PIPE, user=UID, group=UID, extra_groups=[],
        ) as holder:  # fmt: skip
            assert holder.stdout is not None
            holder.stdout.readline()
            done = start_server("--stop", f"--pid-file={pool}/pid")
            holder.kill()
        assert f"process {bystander.pid} is user 0's, and the file is user {UID}'s" in done.stderr
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


@contextmanager
def answering(path: Path, answer: bytes) -> Iterator[list[bytes]]:
    """Answer as a control socket does, with what an app has thought of; the list is of requests."""
    asked: list[bytes] = []
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()

    def serve() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with client:
                asked.append(client.recv(100))
                try:
                    client.sendall(answer)
                except OSError:
                    continue

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield asked
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(SECONDS)


def test_a_control_socket_that_is_a_link_to_a_neighbours_is_not_asked(machine, pool):
    with answering(machine.victim / "control", b"done\n") as asked:
        put(lambda: (pool / "control").symlink_to(machine.victim / "control"))
        for option in ("--restart", "--upgrade", "--status"):
            done = start_server(option, f"--control-socket={pool}/control")
            assert done.returncode != 0
            assert "control is a link that somebody else may have made" in done.stderr
        assert asked == []
    (machine.victim / "control").unlink()


STATUS: dict[str, Any] = {
    "version": ESCAPES, "pid": os.getpid(), "uptime_seconds": 1.0, "sockets": [ESCAPES],
    "stopping": False,
    "generations": [
        {"number": 1, "pid": 2, "phase": ESCAPES, "age_seconds": 1.0, "ready_after_seconds": None,
         "status": f"up{ESCAPES}", "processes": 1, "pss_kb": 5, "shared_percent": None,
         "main_process_gone": False}
    ],
    "restart": None, "restarts": {ESCAPES: 1}, "failed_attempts": 0, "trouble": ESCAPES,
    "next_timed_restart_seconds": None,
}  # fmt: skip


@pytest.mark.parametrize("words", [["--status"], ["--status", "--json"]])
def test_what_an_app_says_of_itself_does_nothing_on_a_terminal(pool, words, child):
    answer = json.dumps(_with({"pid": child}), ensure_ascii=False).encode()
    with answering(pool / "control", b"progress " + ESCAPES.encode() + b"\ndone " + answer + b"\n"):
        done = start_server(*words, f"--control-socket={pool}/control")
    assert done.returncode == 0, done.stderr
    assert (done.stdout + done.stderr).isascii()
    assert not ACTS & set(done.stdout + done.stderr)
    assert "up" in done.stdout


@pytest.fixture
def child() -> Iterator[int]:
    """A process of who answers."""
    with subprocess.Popen(["sleep", str(SECONDS)]) as process:
        yield process.pid
        process.kill()


def _with(generation: dict[str, object], **more: object) -> dict[str, Any]:
    return {**STATUS, **more, "generations": [{**STATUS["generations"][0], **generation}]}


@pytest.mark.parametrize("gone", [True, False])
def test_a_process_that_is_not_of_who_answers_is_named_by_no_status(pool, child, gone):
    """Somebody may be about to kill it."""
    own = _with({"pid": child, "main_process_gone": False})
    neighbours = _with({"pid": 1, "main_process_gone": gone}, pid=os.getpid())
    another = _with({"pid": child}, pid=1)
    for status, fault in ((own, ""), (neighbours, "" if gone else "1"), (another, "1")):
        with answering(pool / "control", f"done {json.dumps(status)}\n".encode()):
            done = start_server("--status", "--json", f"--control-socket={pool}/control")
        (pool / "control").unlink()
        assert done.returncode == (1 if fault else 0), done.stderr
        said = f"status failed: {fault}: no process of who answers (pid {os.getpid()})\n"
        assert done.stderr == (said if fault else "")


@pytest.mark.parametrize(
    "answer",
    [b"done no json\n", b"done []\n", b"done {}\n", b"done " + b"[" * 90_000 + b"\n",
     b'done {"generations": 3}\n', b"failed \x1b[2J\n", b"progress x" * (2 << 20), b""],
)  # fmt: skip
def test_an_answer_that_is_none_is_an_error_in_a_line(pool, answer):
    with answering(pool / "control", answer):
        done = start_server("--status", f"--control-socket={pool}/control")
    assert done.returncode == 1
    assert done.stderr.startswith("status failed: ")
    assert "Traceback" not in done.stderr
    assert "\x1b" not in done.stderr


def test_a_name_that_a_process_gives_itself_does_nothing_on_a_terminal():
    rename = "import ctypes, sys; ctypes.CDLL(None).prctl(15, b'\\x1b[2Jx\\xc2\\x9b\\n'); print()"
    code = f"{rename}; sys.stdout.flush(); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        done = run("supervisor_py.shared_memory_size.cli", str(process.pid))
        assert process.stdin is not None
        process.stdin.close()
    assert done.returncode == 0
    assert r"\x1b[2Jx\x9b\x0a" in done.stdout


def _found(**status):
    pool = {"name": "evil", "unit": "active (running)", "memory_max_mb": 1, "apps": [], "fault": ""}
    return {"pools": [{**pool, "status": {**STATUS, **status}}], "certificates": []}


@pytest.mark.parametrize(
    "status",
    [{}, {"generations": "x"}, {"generations": [1]}, {"generations": [{"number": 1}]},
     {"generations": [{**STATUS["generations"][0], "age_seconds": "x"}]}],
)  # fmt: skip
def test_one_pools_answer_does_not_keep_the_status_of_all_from_being_shown(status):
    lines = status_tables(_found(**status), [{"name": "evil"}])
    assert "evil" in lines[1]
    assert all(line.isascii() and line.isprintable() for line in lines)
    if status:
        assert lines[-1] == "pool evil: its super-daemon gives no answer that can be read"


@pytest.fixture
def account():
    """A user whom the machine knows, as --user has to be."""
    return pwd.getpwnam("nobody")


@pytest.mark.parametrize("option", ["pid-file", "log-file", "control-socket", "path"])
@pytest.mark.parametrize("place", ["last", "on the way"])
def test_with_user_no_link_of_that_users_leads_root_anywhere(machine, account, option, place):
    own = machine.app / "own"
    own.mkdir()
    os.chown(own, account.pw_uid, account.pw_gid)
    name = "secret" if place == "on the way" and "file" in option else "it"
    # as that user would: the link is its own
    target = machine.victim if place == "on the way" else machine.victim / "secret"
    link = own / ("way" if place == "on the way" else name)
    link.symlink_to(target)
    os.chown(link, account.pw_uid, account.pw_gid, follow_symlinks=False)
    path = link / name if place == "on the way" else link
    sockets = [] if option == "path" else [f"--path={machine.app}/x.sock"]
    done = start_server(
        "--user=nobody", f"--{option}={path}", *sockets, "--", "/bin/sh", "-c", "exec sleep 60"
    )
    assert done.returncode != 0
    assert "Permission denied" in done.stderr or "is not a socket" in done.stderr
    assert (machine.victim / "secret").read_text() == SECRET
    assert sorted(path.name for path in machine.victim.iterdir()) == ["secret"]
