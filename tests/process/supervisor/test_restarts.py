"""Restarts of the real thing: new generations, failing ones, and who learns of it."""

import os
import re
import signal
import socket
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from ..waiting import LIMIT, wait_until
from .harness import NEVER, Server, alive, connect, halt


def test_a_hup_replaces_the_generation_and_the_old_one_ends(server: Server) -> None:
    server.start(f"--path={server.path}").wait_serving(1)
    old = server.generations()[1]
    assert server.ask() == 1
    server.signal(signal.SIGHUP)
    server.wait_serving(2)
    assert server.ask() == 2
    assert not alive(old)
    server.wait_for(f"old worker {old} died, status:15")


def test_no_connection_is_refused_or_left_unanswered_in_restarts(server: Server) -> None:
    server.start(f"--path={server.path}").wait_serving(1)
    failures: list[OSError] = []
    answers: list[bytes] = []
    over = threading.Event()

    def load() -> None:
        while not over.is_set():
            try:
                with connect(str(server.path)) as connection:
                    answers.append(connection.recv(10))
            except OSError as error:
                failures.append(error)

    client = threading.Thread(target=load)
    client.start()
    try:
        wait_until(lambda: b"1" in answers, "an answer of the first")
        for number in range(2, 12):
            server.signal(signal.SIGHUP)
            server.wait_serving(number)
        wait_until(lambda: b"11" in answers, "an answer of the last")
    finally:
        over.set()
        client.join()
    # A connection that the old one had accepted when TERM came is that server's own to finish:
    # this child doesn't, so only refusals count here.
    assert [one for one in failures if isinstance(one, ConnectionRefusedError)] == []


def test_a_failed_generation_leaves_the_old_one_serving(server: Server) -> None:
    server.start(f"--path={server.path}").wait_serving(1)
    server.plan(exit=7)
    server.signal(signal.SIGHUP)
    server.wait_for("seems to have failed to start, exit status:1792", times=2)
    assert server.generations().keys() == {1}
    assert server.ask() == 1
    server.plan(ready=True)
    server.signal(signal.SIGHUP)  # a HUP during back-off retries at once
    wait_until(lambda: max(server.generations()) > 2, "a generation that is healthy again")


def test_ready_from_a_generation_that_is_dead_already_counts_for_nothing(server: Server) -> None:
    server.start(f"--path={server.path}").wait_serving(1)
    pid = server.generations()[1]
    gate = server.gate()
    server.plan(**{"gate": gate.path, "ready": True, "exit when ready": 7})
    server.signal(signal.SIGHUP)
    dying = int(server.record(2)["pid"])
    assert server.process is not None
    halt(server.process.pid)  # both its READY=1 and its death are there when it looks again
    gate.let_pass()
    wait_until(lambda: not alive(dying), "it says READY=1 and dies")
    server.plan(ready=False)
    server.signal(signal.SIGCONT)
    server.wait_for("seems to have failed to start, exit status:1792")
    assert server.generations() == {1: pid}
    assert alive(pid)
    assert server.ask() == 1


def test_a_failed_exec_or_chdir_costs_nothing(server: Server) -> None:
    program = server.directory / "program"
    work = server.directory / "work"
    work.mkdir()
    program.write_text(f"#!/bin/sh\nexec sleep {LIMIT * 3}\n")
    program.chmod(0o755)
    server.start(f"--path={server.path}", f"--dir={work}", program=[str(program)]).wait_serving(1)
    pid = server.generations()[1]
    moved = work.rename(work.with_name("moved"))
    server.signal(signal.SIGHUP)
    server.wait_for(f"failed to chdir:{work}: No such file or directory")
    server.wait_for("exit status:65280")
    program.unlink()
    moved.rename(work)
    server.signal(signal.SIGHUP)
    server.wait_for(f"failed to exec {program}: No such file or directory")
    server.wait_for("exit status:65280", times=2)
    assert server.generations() == {1: pid}
    assert alive(pid)
    for file in (server.path, server.pid_file, server.status_file, server.control):
        assert file.exists(), "the child must not run the parent's clean-up"


def test_restart_exits_0_when_the_new_generation_serves_and_the_old_one_is_gone(
    server: Server,
) -> None:
    server.start().wait_serving(1)
    old = server.generations()[1]
    done = server.restart()
    assert done.returncode == 0, done.stderr
    assert server.generations().keys() == {2}
    assert not alive(old)
    assert "generation 2 starts" in done.stderr
    assert "restarted: generation 2 serves" in done.stderr
    assert done.stdout == ""


def test_restart_fails_at_the_first_failed_attempt_with_the_reason(server: Server) -> None:
    server.start().wait_serving(1)
    server.plan(exit=7)
    failed = server.restart()
    assert failed.returncode == 1
    assert re.search(r"restart failed: generation 2 .*exit status 7", failed.stderr)
    assert server.generations().keys() == {1}


def test_restart_fails_when_the_new_generation_is_not_ready_in_time(server: Server) -> None:
    server.start(f"--readiness-timeout={NEVER}", prelude=server.clock.prelude).wait_serving(1)
    server.plan(ready=False)
    client = server.begin_client("--restart")
    assert server.wait_starting() == 2
    server.skip(float(NEVER) - 100)
    assert client.poll() is None
    server.skip(100)
    _, said = client.communicate(timeout=LIMIT)
    assert f"not ready within {NEVER} seconds" in said
    assert client.returncode == 1
    assert server.generations().keys() == {1}


def test_restart_gives_up_at_its_own_timeout(server: Server) -> None:
    server.start(f"--readiness-timeout={NEVER}").wait_serving(1)
    server.plan(ready=False)
    failed = server.restart("--restart-timeout=0.3")
    assert failed.returncode == 110
    assert "not over within 0.3 seconds" in failed.stderr
    assert alive(int(server.record(2)["pid"])), "the server goes on with it"


def test_restart_says_that_there_is_no_server(server: Server) -> None:
    assert server.restart().returncode == 2
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(server.control))
    stale.close()
    refused = server.restart()
    assert refused.returncode == 111
    assert str(server.control) in refused.stderr


def test_restart_by_pid_and_status_file_waits_and_is_bounded(server: Server) -> None:
    files = (f"--pid-file={server.pid_file}", f"--status-file={server.status_file}")
    server.start("--readiness=notify").wait_serving(1)
    assert server.client("--restart", *files).returncode == 0
    assert server.generations().keys() == {2}
    server.plan(exit=7)
    failed = server.client("--restart", "--restart-timeout=0.3", *files)
    assert failed.returncode == 110
    assert server.client("--restart").returncode == 255


def test_many_clients_and_hups_fold_into_one_more_restart(server: Server) -> None:
    server.start().wait_serving(1)
    gate = server.gate()
    server.plan(ready=True, gate=gate.path)
    with ExitStack() as held:
        clients = [held.enter_context(connect(str(server.control))) for _ in range(3)]
        answers = [held.enter_context(client.makefile()) for client in clients]
        for client, answer in zip(clients, answers, strict=True):
            client.sendall(b"restart\n")
            assert answer.readline().startswith("progress ")
        for _ in range(300):
            server.signal(signal.SIGHUP)
        server.settle()
        gate.let_pass(times=3)
        said = [answer.read().splitlines()[-1] for answer in answers]
    assert [line.split(" (")[0] for line in said] == [
        "done generation 2 serves",
        "done generation 3 serves",
        "done generation 3 serves",
    ]
    assert server.status()["restart"] is None
    assert server.generations().keys() == {3}, "one restart, and one more"
    assert server.said().count("starting new worker") == 3


def test_a_restart_that_is_asked_for_in_a_timed_one_comes_after_it(server: Server) -> None:
    """As a deploy's does, whose code the timed one may have loaded by half."""
    timed = {"ENABLE_AUTO_RESTART": "1", "AUTO_RESTART_INTERVAL": "1000"}
    server.start(env=timed, prelude=server.clock.prelude).wait_serving(1)
    gate = server.gate()
    server.plan(ready=True, gate=gate.path)
    server.skip(1100)
    server.wait_for("starting new worker", times=2)
    with connect(str(server.control)) as client, client.makefile() as answer:
        client.sendall(b"restart\n")
        assert answer.readline().startswith("progress ")
        gate.let_pass(times=2)
        assert answer.read().splitlines()[-1].startswith("done generation 3 serves")
    assert server.said().count("autorestart triggered") == 1


def test_readiness_is_not_taken_from_strangers(server: Server) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to be somebody else")
    server.plan(ready=False)
    server.start("--readiness=notify")
    address = server.record(1)["environment"]["NOTIFY_SOCKET"].replace("@", "\0", 1)
    pid = os.fork()
    if pid == 0:
        os.setuid(65534)
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b"READY=1", address)
        os._exit(0)
    os.waitpid(pid, 0)
    server.settle()
    assert [one["phase"] for one in server.status()["generations"]] == ["starting"]
    assert server.generations() == {}
    socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b"READY=1", address)
    server.wait_serving(1)


def test_without_ready_a_child_serves_after_the_interval(server: Server) -> None:
    server.plan()
    before = time.monotonic()
    server.start("--interval=1").wait_serving(1)
    assert time.monotonic() - before >= 1


def test_the_death_of_the_serving_worker_is_noticed_at_once(server: Server) -> None:
    server.start(f"--path={server.path}").wait_serving(1)
    pid = server.generations()[1]
    os.kill(pid, signal.SIGKILL)
    server.wait_serving(2)
    server.wait_for(f"worker {pid} died unexpectedly with status:9, restarting")
    assert server.ask() == 2


_FAIL = """
import errno, os
real = os.{call}
def fail(*given):
    if os.path.exists({flag!r}):
        raise OSError(errno.{error}, os.strerror(errno.{error}))
    return real(*given)
os.{call} = fail
"""


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        ("fork", "EAGAIN", "Resource temporarily unavailable"),
        ("fork", "ENOMEM", "Cannot allocate memory"),
        ("pidfd_open", "EMFILE", "Too many open files"),
    ],
)
def test_a_fork_that_fails_is_a_failed_attempt_and_no_more(
    server: Server, call: str, error: str, words: str
) -> None:
    flag = server.directory / "fail"
    prelude = _FAIL.format(call=call, error=error, flag=str(flag))
    server.start(f"--path={server.path}", prelude=prelude).wait_serving(1)
    flag.touch()
    failed = server.restart()
    assert failed.returncode == 1
    assert words in failed.stderr
    assert server.generations().keys() == {1}
    assert server.ask() == 1
    flag.unlink()
    wait_until(lambda: min(server.generations()) > 1, "a generation of a later attempt")
    assert server.process is not None
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text()
    assert children.split() == [str(pid) for pid in server.generations().values()], (
        "and none that nobody watches"
    )


def test_an_unwritable_status_file_is_said_and_survived(server: Server) -> None:
    server.status_file = server.directory / "state" / "status"
    server.status_file.parent.mkdir()
    server.start(f"--path={server.path}").wait_serving(1)
    server.status_file.parent.rename(server.directory / "away")
    server.signal(signal.SIGHUP)
    server.wait_for("failed to write the status file")
    wait_until(lambda: server.ask() == 2, "generation 2 serves")
    server.signal(signal.SIGHUP)
    wait_until(lambda: server.ask() == 3, "generation 3 serves")
    assert server.said().count("failed to write the status file") == 1, "said once"
    (server.directory / "away").rename(server.status_file.parent)
    server.signal(signal.SIGHUP)
    server.wait_serving(4)
    assert server.stop() == 0


def test_a_log_on_a_full_disk_is_survived(server: Server) -> None:
    full = "import os\nos.dup2(os.open('/dev/full', os.O_WRONLY), 2)"
    server.start(f"--path={server.path}", prelude=full).wait_serving(1)
    assert server.restart().returncode == 0
    assert server.ask() == 2
    assert server.stop() == 0


def test_timed_restarts_happen(server: Server) -> None:
    server.start(env={"ENABLE_AUTO_RESTART": "1", "AUTO_RESTART_INTERVAL": "0.3"})
    wait_until(lambda: max(server.generations(), default=0) >= 3, "three generations")
    server.wait_for("autorestart triggered (interval=0.3)")
