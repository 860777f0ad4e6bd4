"""Stops: in any state, of all processes, and with nothing left behind."""

import os
import signal

import pytest

from ..waiting import wait_until
from .harness import NEVER, Server, alive


def _left(server: Server) -> list[str]:
    return [
        file.name
        for file in (server.path, server.pid_file, server.status_file, server.control)
        if file.exists()
    ]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_leaves_no_process_and_no_file(server: Server, number: int) -> None:
    server.start(f"--path={server.path}").wait_serving(1)
    worker = server.generations()[1]
    assert sorted(_left(server)) == ["control", "listen.sock", "pid", "status"]
    server.signal(number)
    assert server.wait() == 0
    assert not alive(worker)
    assert _left(server) == []
    assert server.said().endswith(f"worker {worker} died, status:15\nexiting\n")


def test_a_term_during_the_kill_old_delay_is_acted_on_at_once(server: Server) -> None:
    server.start(f"--kill-old-delay={NEVER}").wait_serving(1)
    server.signal(signal.SIGHUP)
    server.wait_serving(1, 2)
    workers = list(server.generations().values())
    assert server.stop() == 0
    assert not any(alive(one) for one in workers)


def test_a_term_during_a_start_that_fails_for_ever_is_acted_on_at_once(server: Server) -> None:
    server.plan(exit=7)
    server.start(f"--interval={NEVER}")
    server.wait_for("trying again in")
    server.signal(signal.SIGHUP)
    server.wait_for("trying again in", times=2)
    assert server.stop() == 0


def test_a_worker_that_ignores_the_signal_is_killed_when_the_grace_is_over(
    server: Server,
) -> None:
    server.plan(ready=True, ignore=["SIGTERM"])
    server.start("--grace=0.4").wait_serving(1)
    stubborn = server.generations()[1]
    server.signal(signal.SIGHUP)
    server.wait_serving(2)
    assert not alive(stubborn)
    server.wait_for(f"old worker {stubborn} died, status:9")
    server.signal(signal.SIGTERM)
    server.signal(signal.SIGTERM)
    server.wait_for("received TERM")
    server.signal(signal.SIGINT)
    assert server.wait() == 0
    assert server.said().count("received TERM, sending TERM to all workers") == 1


def test_stop_waits_until_the_server_has_ended(server: Server) -> None:
    server.start(f"--path={server.path}").wait_serving(1)
    assert server.process is not None
    pid = server.process.pid
    stopped = server.client("--stop", f"--pid-file={server.pid_file}")
    assert stopped.returncode == 0
    assert f"stopping now (pid:{pid})..." in stopped.stderr
    assert _left(server) == []
    assert server.wait() == 0


def test_stop_never_signals_the_pid_of_a_server_that_is_dead(server: Server) -> None:
    server.start().wait_serving(1)
    assert server.process is not None
    server.signal(signal.SIGKILL)
    server.wait()
    # The file of the dead server stays; this test's own pid stands for whoever has its pid now.
    server.pid_file.write_text(f"{os.getpid()}\n")
    refused = server.client("--stop", f"--pid-file={server.pid_file}")
    assert refused.returncode == 3
    assert "no server holds it" in refused.stderr
    status = f"--status-file={server.status_file}"
    # A HUP would end this test.
    assert server.client("--restart", f"--pid-file={server.pid_file}", status).returncode == 3
    missing = server.directory / "missing" / "pid"
    assert server.client("--stop", f"--pid-file={missing}").returncode == 2
    assert server.client("--stop").returncode == 255


def test_signal_on_hup_and_on_term_are_what_workers_get(server: Server) -> None:
    server.start("--signal-on-hup=SIGusr1", "--signal-on-term=12").wait_serving(1)
    first = server.generations()[1]
    server.signal(signal.SIGHUP)
    server.wait_serving(2)
    server.wait_for(f"old worker {first} died, status:10")
    second = server.generations()[2]
    assert server.stop() == 0
    server.wait_for(f"worker {second} died, status:12")


def test_two_servers_do_not_share_a_pid_file(server: Server, tmp_path: object) -> None:
    server.start().wait_serving(1)
    held = server.pid_file.read_text()
    second = server.client(f"--pid-file={server.pid_file}", "--", "sleep", "60")
    assert second.returncode == 11
    assert f"held by another server (pid:{held.strip()})" in second.stderr
    assert server.pid_file.read_text() == held
    assert server.stop() == 0
    wait_until(lambda: not server.pid_file.exists(), "its owner removes it")
