"""Whoever stops a process here (SIGSTOP) ends no service: it is noticed, said and mended."""

import contextlib
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..waiting import wait_until
from .harness import Server, halt, state


def _heard(systemd: socket.socket) -> list[bytes]:
    """Return all that it has been told by now."""
    found = []
    systemd.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            found.append(systemd.recv(4096))
    return found


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    """What systemd hears us by."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
        one.bind(str(tmp_path / "notify"))
        yield one


def test_a_main_process_that_stays_stopped_goes_on_after_a_while(server: Server) -> None:
    """Nobody else looks after an arbiter, whose workers die one after the other."""
    server.start(f"--path={server.path}", prelude=server.clock.prelude).wait_serving(1)
    main = server.generations()[1]
    halt(main)
    server.skip(9)
    assert state(main) == "T", "somebody may want to look at it"
    server.skip(2)
    wait_until(lambda: state(main) != "T", "it goes on")
    server.wait_for(f"worker {main} has been stopped for 10 secs, sending CONT")
    assert server.ask() == 1


def test_who_goes_on_by_itself_in_time_is_left_alone(server: Server) -> None:
    server.start(f"--path={server.path}", prelude=server.clock.prelude).wait_serving(1)
    main = server.generations()[1]
    halt(main)
    server.settle()
    os.kill(main, signal.SIGCONT)
    wait_until(lambda: state(main) != "T", "it goes on")
    server.skip(20)
    assert "sending CONT" not in server.said()


@pytest.mark.parametrize("option", ["--restart", "--status", "--upgrade"])
def test_a_super_daemon_that_was_stopped_goes_on_when_it_is_asked(
    server: Server, option: str
) -> None:
    server.start(f"--path={server.path}").wait_serving(1)
    assert server.process is not None
    halt(server.process.pid)
    done = server.client(option, f"--control-socket={server.control}")
    assert done.returncode == 0, done.stderr
    said = f"start_server (pid {server.process.pid}) has been stopped, sending CONT\n"
    assert done.stderr.startswith(said)


def test_the_watchdog_is_fed_by_a_super_daemon_that_is_not_stuck(
    server: Server, systemd: socket.socket
) -> None:
    """At half the limit, as sd_watchdog_enabled(3) has it; before all else at its start."""
    variables = {"NOTIFY_SOCKET": str(systemd.getsockname()), "WATCHDOG_USEC": "120000000"}
    server.start(f"--path={server.path}", env=variables, prelude=server.clock.prelude)
    server.wait_serving(1)

    server.settle()
    assert _heard(systemd).count(b"WATCHDOG=1") == 1
    server.skip(59)
    assert b"WATCHDOG=1" not in _heard(systemd)
    server.skip(2)
    wait_until(lambda: b"WATCHDOG=1" in _heard(systemd), "it is told again")


@pytest.mark.parametrize(
    "variables", [{}, {"WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"}], ids=["none", "another's"]
)
def test_without_a_watchdog_of_ours_nobody_is_told_all_the_time(
    server: Server, systemd: socket.socket, variables: dict[str, str]
) -> None:
    variables |= {"NOTIFY_SOCKET": str(systemd.getsockname())}
    server.start(f"--path={server.path}", env=variables, prelude=server.clock.prelude)
    server.wait_serving(1)
    server.skip(1000)
    heard = _heard(systemd)
    assert heard
    assert b"WATCHDOG=1" not in heard
