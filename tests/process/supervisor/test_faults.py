"""What the operating system refuses, and what clocks, signals and children do wrong."""

import os
import resource
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from .harness import Server, connect, wait_until

BURST = 10_000
PAGE = os.sysconf("SC_PAGE_SIZE")


def _pid(server: Server) -> int:
    assert server.process is not None
    return server.process.pid


def _limit(server: Server, kind: int, most: int) -> None:
    """Change the soft limit of a running server."""
    _, hard = resource.prlimit(_pid(server), kind)
    resource.prlimit(_pid(server), kind, (most, hard))


# Disks


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of four pages."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to mount a disk that gets full")
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={4 * PAGE}", "none", str(place)]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def _fill(disk: Path) -> Path:
    filler = disk / "filler"
    with suppress(OSError), filler.open("wb", buffering=0) as file:
        while file.write(bytes(PAGE)):
            pass
    return filler


def test_a_status_file_on_a_full_disk_is_said_and_caught_up_with_later(
    server: Server, disk: Path
) -> None:
    server.status_file = disk / "status"
    server.start(f"--path={server.path}").wait_serving(1)
    filler = _fill(disk)
    assert server.restart().returncode == 0
    assert server.ask() == 2
    assert server.said().count("failed to write the status file: ") == 1
    assert "No space left on device" in server.said()
    assert server.generations().keys() == {1}, "the last whole one stays, and not half a new one"
    assert {one.name for one in disk.iterdir()} == {"status", "filler"}, "no temporary file stays"
    filler.unlink()
    assert server.restart().returncode == 0
    server.wait_serving(3)


# The environment directory


def test_an_envdir_that_can_not_be_read_leaves_what_was_read_last(server: Server) -> None:
    envdir = server.directory / "env"
    envdir.mkdir()
    (envdir / "KILL_OLD_DELAY").write_text("0.1")
    (envdir / "COLOUR").write_text("blue")
    server.start(f"--envdir={envdir}").wait_serving(1)
    envdir.rename(envdir.with_name("moved"))
    envdir.symlink_to(envdir)  # a loop: not even root can read that
    assert server.restart().returncode == 0
    assert server.record(2)["environment"]["COLOUR"] == "blue"
    server.wait_for("sleeping 0.1 secs before killing old workers")
    complaint = f"failed to read envdir {envdir}: Too many levels of symbolic links"
    assert server.said().count(complaint) == 1
    envdir.unlink()
    envdir.with_name("moved").rename(envdir)
    (envdir / "COLOUR").write_text("red")
    assert server.restart().returncode == 0
    assert server.record(3)["environment"]["COLOUR"] == "red"


def test_an_envdir_that_can_not_be_read_at_the_start_ends_it_before_a_socket_is_made(
    server: Server,
) -> None:
    envdir = server.directory / "env"
    envdir.symlink_to(envdir)
    refused = server.client(f"--envdir={envdir}", f"--path={server.path}", "--", "sleep", "60")
    assert refused.returncode == 40
    assert f"failed to read envdir {envdir}" in refused.stderr
    assert not server.path.exists()


# Clocks

_JUMPING = """
import time
real, jumps = time.time, [0]
def jump():
    jumps.append(-jumps[-1] or 86400.0)  # a day on, a day back
    return real() + jumps[-1]
time.time = jump
time.time_ns = lambda: int(jump() * 1e9)
clock = time.clock_gettime
time.clock_gettime = lambda which: jump() if which == time.CLOCK_REALTIME else clock(which)
"""


def test_no_timer_goes_by_the_wall_clock(server: Server) -> None:
    server.plan(ignore=["SIGTERM"])
    before = time.monotonic()
    server.start("--interval=1", "--kill-old-delay=1", "--grace=1", prelude=_JUMPING).wait_serving(
        1
    )
    assert 1 <= time.monotonic() - before < 1.9, "the interval"
    before = time.monotonic()
    server.signal(signal.SIGHUP)
    server.wait_for("\nkilling old workers")
    assert 2 <= time.monotonic() - before < 2.9, "the interval and the kill-old delay"
    server.wait_serving(2)
    assert 3 <= time.monotonic() - before < 3.9, "and the grace"


# Signals


def test_ten_thousand_hups_are_one_restart_and_one_more(server: Server) -> None:
    server.plan(ready=True, boot=1)
    server.start("--readiness=notify").wait_serving(1)
    pid = _pid(server)
    server.signal(signal.SIGHUP)
    server.wait_for("starting new worker", times=2)
    for _ in range(BURST):
        os.kill(pid, signal.SIGHUP)
    assert server.generations().keys() == {1}, "the burst was over before the first restart"
    server.wait_serving(3)
    time.sleep(0.3)
    assert server.said().count("starting new worker") == 3
    assert server.stop() == 0


def test_a_term_among_ten_thousand_hups_is_never_lost(server: Server) -> None:
    server.start().wait_serving(1)
    assert server.process is not None
    for at in range(BURST):
        if at == BURST // 2:
            server.signal(signal.SIGTERM)
        if server.process.poll() is None:
            os.kill(server.process.pid, signal.SIGHUP)
    assert server.wait() == 0
    assert "received TERM" in server.said()


# File descriptors


def _fds(server: Server) -> int:
    return len(list(Path(f"/proc/{_pid(server)}/fd").iterdir()))


def test_without_free_fds_a_start_fails_and_is_tried_again(server: Server) -> None:
    server.start(f"--path={server.path}", "--interval=0").wait_serving(1)
    held = [connect(str(server.control)) for _ in range(3)]
    wait_until(lambda: _answers_nothing(held), "they are taken in")
    most = _fds(server)
    _limit(server, resource.RLIMIT_NOFILE, most)
    server.signal(signal.SIGHUP)
    server.wait_for("Too many open files")
    assert server.generations().keys() == {1}
    assert server.ask() == 1
    _limit(server, resource.RLIMIT_NOFILE, 1024)
    wait_until(lambda: max(server.generations()) > 1, "a generation of a later attempt")
    for one in held:
        one.close()
    assert server.stop() == 0


def _answers_nothing(clients: list[socket.socket]) -> bool:
    for one in clients:
        one.setblocking(False)
        with suppress(BlockingIOError):
            one.recv(1)
            return False
    time.sleep(0.05)
    return True
