"""Processes that hold our sockets and should not: found by what they hold and were given."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from supervisor_py import orphans

from .harness import LIMIT, wait_until

_SLEEPS = [sys.executable, "-ISE", "-c", "print(flush=True); import time; time.sleep(60)"]


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as one:
        yield one


def _process(address: str, *holds: socket.socket) -> "subprocess.Popen[bytes]":
    process = subprocess.Popen(
        _SLEEPS,
        env={**os.environ, "NOTIFY_SOCKET": address},
        pass_fds=[one.fileno() for one in holds],
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.readline()  # it has its own environment by now
    return process


def _end(*processes: "subprocess.Popen[bytes]") -> None:
    for one in processes:
        one.kill()
        one.wait(LIMIT)
        if one.stdout:
            one.stdout.close()


def test_only_processes_of_that_generation_that_hold_a_socket_are_left_behind(
    listener: socket.socket,
) -> None:
    inodes = orphans.socket_inodes([listener.fileno()])
    with socket.create_server(("127.0.0.1", 0)) as another:
        ours = _process("@00001", listener)
        others = [
            _process("@00001"),  # has let go of it
            _process("@00001", another),
            _process("@000011", listener),  # of another generation
            _process("@0000", listener),
        ]
        try:
            assert orphans.left_behind("@00001", inodes) == [ours.pid]
            assert orphans.left_behind("@00001", frozenset()) == []
            _end(ours)
            wait_until(lambda: orphans.left_behind("@00001", inodes) == [], "it is gone")
        finally:
            _end(ours, *others)


def test_what_a_process_does_to_its_environment_later_hides_nothing(
    listener: socket.socket,
) -> None:
    code = "import os; os.environ.clear(); print(flush=True); import time; time.sleep(60)"
    process = subprocess.Popen(
        [sys.executable, "-ISE", "-c", code],
        env={**os.environ, "NOTIFY_SOCKET": "@00002"},
        pass_fds=[listener.fileno()],
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.readline()
    try:
        inodes = orphans.socket_inodes([listener.fileno()])
        assert orphans.left_behind("@00002", inodes) == [process.pid]
    finally:
        _end(process)


def test_we_ourselves_are_never_left_behind(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    environ = next(item for item in orphans.environment(os.getpid()) if item.startswith(b"PATH="))
    monkeypatch.setattr(orphans, "NOTIFY_SOCKET", "PATH")
    inodes = orphans.socket_inodes([listener.fileno()])
    assert orphans.left_behind(environ.decode().removeprefix("PATH="), inodes) == []
