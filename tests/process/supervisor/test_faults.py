"""What the operating system refuses, and what clocks, signals and children do wrong."""

import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from ..machine import folder_for_others
from ..waiting import wait_until
from .harness import Server, alive, connect

NOBODY_ELSE = 64321  # a user that has no processes
BURST = 10_000
TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be refused things")


def _pid(server: Server) -> int:
    assert server.process is not None
    return server.process.pid


def _cpu_seconds(pid: int) -> float:
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / TICKS


def _idles(server: Server) -> bool:
    """Tell whether it sleeps but for a moment, while clients knock that it can't take in."""
    time.sleep(0.1)  # it has seen them by now; where it has not, that costs it next to nothing
    before = _cpu_seconds(_pid(server))
    time.sleep(1)  # no event tells that nothing happens
    return _cpu_seconds(_pid(server)) - before < 0.2


def _limit(server: Server, kind: int, most: int) -> None:
    """Change the soft limit of a running server."""
    _, hard = resource.prlimit(_pid(server), kind)
    resource.prlimit(_pid(server), kind, (most, hard))


@pytest.fixture
def held() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


# Processes


@pytest.fixture
def unprivileged() -> Iterator[Server]:
    """A server for a user of its own, in a directory that this one can reach."""
    with folder_for_others() as folder:
        os.chown(folder, NOBODY_ELSE, NOBODY_ELSE)
        one = Server(folder)
        yield one
        one.clean_up()


# That user may be unable to read our files: all is loaded before.
_BECOME = f"""
import os, pkgutil, importlib, resource, supervisor_py
for one in pkgutil.iter_modules(supervisor_py.__path__):
    if not one.ispkg:
        importlib.import_module(f"supervisor_py.{{one.name}}")
os.setgroups([])
os.setresgid({NOBODY_ELSE}, {NOBODY_ELSE}, {NOBODY_ELSE})
os.setresuid({NOBODY_ELSE}, {NOBODY_ELSE}, {NOBODY_ELSE})
resource.setrlimit(resource.RLIMIT_NPROC, (3, 3))
"""


@needs_root
def test_a_user_who_may_have_no_more_processes_costs_an_attempt_and_no_more(
    unprivileged: Server,
) -> None:
    server = unprivileged
    program = ["/bin/sleep", "600"]
    server.start("--interval=0", prelude=_BECOME, program=program).wait_serving(1)
    with subprocess.Popen(program, user=NOBODY_ELSE, group=NOBODY_ELSE) as third:
        try:
            server.signal(signal.SIGHUP)
            server.wait_for("Resource temporarily unavailable", times=2)
            assert server.generations().keys() == {1}
            assert alive(server.generations()[1])
        finally:
            third.kill()
    wait_until(lambda: max(server.generations()) > 1, "a generation of a later attempt")
    assert server.stop() == 0


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


def test_a_log_file_on_a_full_disk_is_survived_and_written_again_when_there_is_room(
    server: Server, disk: Path
) -> None:
    log = disk / "log"
    server.start(f"--path={server.path}", f"--log-file={log}").wait_serving(1)
    filler = _fill(disk)
    with suppress(OSError), log.open("ab", buffering=0) as last_page:
        while last_page.write(b" " * PAGE):
            pass
    before = log.read_text()
    assert server.restart().returncode == 0
    assert server.ask() == 2
    assert log.read_text() == before, "the disk is full"
    filler.unlink()
    assert server.restart().returncode == 0
    wait_until(lambda: log.read_text().endswith("status:15\n"), "the log goes on")
    assert server.stop() == 0


def test_metrics_on_a_full_disk_are_said_to_be_old_and_caught_up_with_later(
    server: Server, disk: Path
) -> None:
    metrics = disk / "metrics"
    server.start(f"--path={server.path}", f"--metrics-file={metrics}").wait_serving(1)
    serves = 'start_server_generation{server="metrics"} %d\n'
    wait_until(lambda: metrics.exists() and serves % 1 in metrics.read_text(), "the first metrics")

    def restart_on_a_full_disk() -> bool:
        # The page of metrics that were just replaced may get free after it was filled: again, then.
        _fill(disk)
        assert server.restart().returncode == 0
        return "failed to write the metrics file: No space left on device" in server.said()

    wait_until(restart_on_a_full_disk, "a change of which the metrics can't tell")
    there = metrics.read_text()
    assert there.startswith("# HELP "), "the last whole ones stay, and not half of new ones"
    assert there.endswith("\n")
    (disk / "filler").unlink()
    assert server.restart().returncode == 0
    newest = max(server.generations())
    wait_until(lambda: serves % newest in metrics.read_text(), "the metrics go on")
    assert server.stop() == 0


def test_a_pid_file_on_a_full_disk_is_said_before_anything_is_served(
    server: Server, disk: Path
) -> None:
    server.pid_file = disk / "pid"
    _fill(disk)
    server.start(f"--path={server.path}")
    assert server.wait() == 28
    assert f"failed to write file:{server.pid_file}: No space left on device" in server.said()
    assert "Traceback" not in server.said()
    assert "starting new worker" not in server.said()
    assert not server.path.exists()
    assert not server.pid_file.exists()


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
    assert time.monotonic() - before >= 1, "the interval"
    before = time.monotonic()
    server.signal(signal.SIGHUP)
    server.wait_for("\nkilling old workers")
    assert time.monotonic() - before >= 2, "the interval and the kill-old delay"
    server.wait_serving(2)
    assert time.monotonic() - before >= 3, "and the grace"


# Signals


def test_ten_thousand_hups_are_one_restart_and_one_more(server: Server) -> None:
    server.start().wait_serving(1)
    pid, gate = _pid(server), server.gate()
    server.plan(ready=True, gate=gate.path)
    server.signal(signal.SIGHUP)
    server.wait_for("starting new worker", times=2)
    for _ in range(BURST):
        os.kill(pid, signal.SIGHUP)
    server.settle()
    gate.let_pass(times=3)
    server.wait_serving(3)
    assert server.status()["restart"] is None, "and no third one is to follow"
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


def _fds(server: Server) -> set[int]:
    """Return what a running server has open now."""
    return {int(one.name) for one in Path(f"/proc/{_pid(server)}/fd").iterdir()}


def _leave_free(server: Server, number: int, held: ExitStack) -> None:
    """Let a running server open just so many files more; clients take the numbers in between."""
    server.settle()
    taken = _fds(server)
    for _ in range(max(taken) + 1 - len(taken)):
        held.enter_context(connect(str(server.control)))
    wait_until(lambda: _fds(server) == set(range(max(taken) + 1)), "clients that are taken in")
    _limit(server, resource.RLIMIT_NOFILE, max(taken) + 1 + number)


def test_without_free_fds_a_start_fails_and_is_tried_again(server: Server, held: ExitStack) -> None:
    server.start(f"--path={server.path}").wait_serving(1)
    _leave_free(server, 0, held)
    server.signal(signal.SIGHUP)
    server.wait_for("Too many open files")
    assert server.generations().keys() == {1}
    assert server.ask() == 1
    _limit(server, resource.RLIMIT_NOFILE, 1024)
    wait_until(lambda: max(server.generations()) > 1, "a generation of a later attempt")
    assert server.stop() == 0


@pytest.mark.parametrize("free", [1, 2, 3, 4, 5])
def test_whichever_fd_a_start_lacks_it_is_one_attempt_lost_at_most(
    server: Server, held: ExitStack, free: int
) -> None:
    server.start(f"--path={server.path}").wait_serving(1)
    _leave_free(server, free, held)
    server.signal(signal.SIGHUP)
    wait_until(
        lambda: "Too many open files" in server.said() or 2 in server.generations(), "an outcome"
    )
    _limit(server, resource.RLIMIT_NOFILE, 1024)
    wait_until(lambda: max(server.generations()) > 1, "a generation of this attempt or a later one")
    assert server.restart().returncode == 0
    assert server.stop() == 0


def test_without_free_fds_what_is_under_way_goes_on(server: Server, held: ExitStack) -> None:
    server.start(f"--path={server.path}").wait_serving(1)
    first, gate = server.generations()[1], server.gate()
    server.plan(ready=True, gate=gate.path)
    server.signal(signal.SIGHUP)
    server.wait_for("starting new worker", times=2)
    _leave_free(server, 0, held)
    gate.let_pass()
    server.plan(ready=True)
    server.wait_serving(2)  # though its memory can't be measured, nor /proc be searched
    assert not alive(first)
    os.kill(server.generations()[2], signal.SIGKILL)
    server.wait_for("died unexpectedly")
    _limit(server, resource.RLIMIT_NOFILE, 1024)
    wait_until(lambda: max(server.generations(), default=0) > 2, "a generation of a later attempt")
    assert server.stop() == 0


def test_a_limit_below_what_is_open_costs_no_cpu_time_and_is_got_over(
    server: Server, held: ExitStack
) -> None:
    server.start(f"--path={server.path}").wait_serving(1)
    _limit(server, resource.RLIMIT_NOFILE, 3)
    held.enter_context(connect(str(server.control)))
    assert _idles(server)
    assert server.ask() == 1
    _limit(server, resource.RLIMIT_NOFILE, 1024)
    assert server.restart().returncode == 0
    assert server.stop() == 0


def test_clients_beyond_the_fds_cost_no_cpu_time_and_are_no_end_of_answers(
    server: Server, held: ExitStack
) -> None:
    server.start(f"--path={server.path}").wait_serving(1)
    _leave_free(server, 2, held)
    clients = [held.enter_context(connect(str(server.control))) for _ in range(12)]
    assert _idles(server)
    assert server.ask() == 1
    assert [_hung_up(one) for one in clients] == 2 * [False] + 10 * [True]
    _limit(server, resource.RLIMIT_NOFILE, 1024)
    assert server.restart().returncode == 0
    assert server.stop() == 0


def test_clients_cost_no_cpu_time_where_not_one_fd_is_to_be_had(
    server: Server, held: ExitStack
) -> None:
    server.start(f"--path={server.path}").wait_serving(1)
    _limit(server, resource.RLIMIT_NOFILE, 3)  # below what is open
    held.enter_context(connect(str(server.control)))
    assert _idles(server)
    _limit(server, resource.RLIMIT_NOFILE, 1024)
    assert server.restart().returncode == 0
    assert server.stop() == 0


def _hung_up(client: socket.socket) -> bool:
    client.setblocking(False)
    try:
        return client.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


# Children that leave the process that we watch

_FORKER = """
import os, signal, socket, sys
directory, *how = sys.argv[1:]
if os.fork() == 0:
    os.setsid()
    if os.fork():
        os._exit(0)
    if "closes" in how:
        os.closerange(3, 100)
    if "ignores" in how:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    name = directory + "/left-" + os.environ["SERVER_STARTER_GENERATION"]
    with open(name + ".tmp", "w") as file:
        file.write(str(os.getpid()))
    os.rename(name + ".tmp", name)
    signal.pause()
os.wait()
if "goes" in how:
    sys.exit(0)
notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
notify.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"].replace("@", "\\0", 1))
signal.pause()
"""


@pytest.fixture
def forker(server: Server) -> Iterator[Server]:
    """A server whose generations fork twice; what they fork is gone after the test."""
    yield server
    for file in server.directory.glob("left-*[0-9]"):
        with suppress(ProcessLookupError):
            os.kill(int(file.read_text()), signal.SIGKILL)


def _fork(server: Server, *how: str) -> None:
    program = [sys.executable, "-c", _FORKER, str(server.directory), *how]
    server.start(f"--path={server.path}", "--readiness=notify", "--grace=1", program=program)


def _left_by(server: Server, number: int) -> int:
    file = server.directory / f"left-{number}"
    wait_until(file.exists, f"what generation {number} forks")
    return int(file.read_text())


def test_what_an_old_generation_forked_ends_with_it(forker: Server) -> None:
    _fork(forker)
    forker.wait_serving(1)
    left = _left_by(forker, 1)
    assert forker.restart().returncode == 0
    assert forker.generations().keys() == {2}
    assert not alive(left), "it would take connections that nobody answers"
    assert alive(_left_by(forker, 2)), "and that of the serving one is left alone"
    assert forker.stop() == 0
    assert not alive(_left_by(forker, 2))


def test_what_was_forked_and_ignores_the_signal_is_killed_when_the_grace_is_over(
    forker: Server,
) -> None:
    _fork(forker, "ignores")
    forker.wait_serving(1)
    left = _left_by(forker, 1)
    before = time.monotonic()
    assert forker.restart().returncode == 0
    assert time.monotonic() - before >= 1, "the grace"
    assert not alive(left)


def test_a_program_that_goes_into_the_background_has_failed_and_is_not_left_there(
    forker: Server,
) -> None:
    _fork(forker, "goes")
    left = _left_by(forker, 1)
    forker.wait_for("seems to have failed to start, exit status:0")
    wait_until(lambda: not alive(left), "its end")
    assert forker.generations() == {}
    assert forker.stop() == 0
    assert not any(alive(int(one.read_text())) for one in forker.directory.glob("left-*[0-9]"))


def test_what_the_killed_serving_process_leaves_is_ended_and_a_new_one_serves(
    forker: Server,
) -> None:
    _fork(forker)
    forker.wait_serving(1)
    left = _left_by(forker, 1)
    os.kill(forker.generations()[1], signal.SIGKILL)
    wait_until(lambda: not alive(left), "its end")
    forker.wait_serving(2)


@pytest.fixture
def tasks() -> Iterator[Path]:
    """A cgroup that can limit how many tasks are in it."""
    tops = (Path("/sys/fs/cgroup/pids"), Path("/sys/fs/cgroup"))
    group = next(top for top in tops if top.is_dir()) / f"kechi-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no cgroup can be made here: {error}")
    if not (group / "pids.max").exists():
        group.rmdir()
        pytest.skip("no cgroup here limits tasks")
    yield group
    wait_until(lambda: not (group / "cgroup.procs").read_text(), "all in it have ended")
    group.rmdir()


def test_a_limit_of_tasks_that_is_reached_is_said_and_a_restart_comes_when_it_is_not(
    server: Server, tasks: Path
) -> None:
    """Its client says which limit; what is asked again, or tried after the back-off, does it."""
    prelude = f"{server.clock.prelude}\nopen({str(tasks / 'cgroup.procs')!r}, 'w').write('0')"
    server.start(f"--path={server.path}", prelude=prelude).wait_serving(1)
    try:
        used = (tasks / "pids.current").read_text().strip()
        (tasks / "pids.max").write_text(used)
        failed = server.restart()
        assert failed.returncode == 1
        said = f"fork failed: {used} of {used} tasks are in use (limit of the cgroup {tasks})"
        assert said in failed.stderr
        assert server.ask() == 1
        (tasks / "pids.max").write_text("max")
        server.skip(60)
        server.wait_serving(3)
        assert server.stop() == 0
    finally:
        server.clean_up()


def test_what_was_forked_and_has_let_go_of_the_sockets_ends_with_its_generation(
    forker: Server,
) -> None:
    _fork(forker, "closes")
    forker.wait_serving(1)
    left = _left_by(forker, 1)
    assert forker.restart().returncode == 0
    assert not alive(left)
