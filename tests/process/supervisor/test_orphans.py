"""Processes that hold our sockets and should not: found by what they hold and were given."""

import os
import pwd
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from supervisor_py import orphans

from ..machine import needs_ipv6
from ..waiting import LIMIT, wait_until
from .harness import AS_NOBODY, NEVER, Server, alive, command, free_port

_SLEEPS = [sys.executable, "-ISE", "-c", "print(flush=True); import signal; signal.pause()"]


# What sets the title of a process does this to the memory that /proc/PID/environ shows.
_WIPES = """
import ctypes, os, signal
fields = open('/proc/self/stat').read().rpartition(')')[2].split()
start, end = int(fields[47]), int(fields[48])
ctypes.memset(start, 0, end - start)
"""


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as one:
        yield one


def _left(address: str, inodes: frozenset[int], stderr: int = 0) -> list[int]:
    """Return what is left of a generation, if nothing is known by its ancestors."""
    given = orphans.Given(orphans.Main(0, 0), address, stderr)
    return list(orphans.left_behind(given, inodes, since=sys.maxsize))


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


def test_what_got_away_from_a_generation_is_left_behind_if_it_holds_a_socket(
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
            assert _left("@00001", inodes, 0) == [ours.pid]
            assert _left("@00001", frozenset(), 0) == []
            _end(ours)
            wait_until(lambda: _left("@00001", inodes, 0) == [], "it is gone")
        finally:
            _end(ours, *others)


def test_what_a_process_does_to_its_environment_later_hides_nothing(
    listener: socket.socket,
) -> None:
    code = "import os, signal; os.environ.clear(); print(flush=True); signal.pause()"
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
        assert _left("@00002", inodes, 0) == [process.pid]
    finally:
        _end(process)


def test_a_process_without_its_environment_is_known_by_its_stderr(
    listener: socket.socket,
) -> None:
    """What sets the title of a process, as gunicorn does, wipes the environment out."""
    read_end, write_end = os.pipe()
    process = subprocess.Popen(
        _SLEEPS,
        env={},
        pass_fds=[listener.fileno()],
        stdout=subprocess.PIPE,
        stderr=write_end,
    )
    other = subprocess.Popen(_SLEEPS, env={}, stdout=subprocess.PIPE, stderr=write_end)
    try:
        for one in (process, other):
            assert one.stdout is not None
            one.stdout.readline()
        inodes = orphans.socket_inodes([listener.fileno()])
        pipe = os.fstat(read_end).st_ino
        assert _left("@00003", inodes, pipe) == [process.pid]
        assert _left("@00003", inodes, pipe + 1) == []
    finally:
        _end(process, other)
        os.close(read_end)
        os.close(write_end)


def test_we_ourselves_are_never_left_behind(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    environ = next(item for item in orphans.environment(os.getpid()) if item.startswith(b"PATH="))
    monkeypatch.setattr(orphans, "NOTIFY_SOCKET", "PATH")
    inodes = orphans.socket_inodes([listener.fileno()])
    assert _left(environ.decode().removeprefix("PATH="), inodes, 0) == []


@pytest.fixture
def kill(server: Server) -> Iterator[Callable[..., int]]:
    """Starts a server and kills it with SIGKILL; returns the pid of its worker, which serves on."""
    orphans: list[int] = []

    def start_and_kill(*options: str, program: list[str] | None = None) -> int:
        server.start(*options, program=program).wait_serving(1)
        orphans.append(server.generations()[1])
        server.signal(signal.SIGKILL)
        server.wait()
        assert alive(orphans[-1])
        return orphans[-1]

    yield start_and_kill
    for one in orphans:
        if alive(one):
            os.kill(one, signal.SIGKILL)


def _address(server: Server, form: str) -> tuple[str, str | int]:
    if form == "path":
        return f"--path={server.path}", str(server.path)
    port = free_port()
    host = {"port": "", "host": "127.0.0.1:", "udp": "127.0.0.1:u", "ip6": "[::1]:"}[form]
    return f"--port={host}{port}", port


@pytest.mark.parametrize(
    "form", ["path", "port", "host", "udp", pytest.param("ip6", marks=needs_ipv6)]
)
def test_workers_of_a_dead_super_daemon_never_hold_the_address_against_the_next_one(
    server: Server, kill: Callable[..., int], form: str
) -> None:
    option, address = _address(server, form)
    orphan = kill(option)
    server.start(option)
    server.wait_for(f"is held by workers of a start_server that is dead, ending them:{orphan}")
    wait_until(lambda: server.generations().get(1) not in (None, orphan), "it serves")
    assert not alive(orphan)
    if form not in ("udp", "ip6"):
        assert server.ask(address) == 1
    assert server.stop() == 0


def test_orphans_that_ignore_the_signal_are_killed_when_the_grace_is_over(
    server: Server, kill: Callable[..., int]
) -> None:
    server.plan(ready=True, ignore=["SIGTERM", "SIGUSR1"])
    orphan = kill(f"--path={server.path}")
    server.plan(ready=True)
    patient = f"from supervisor_py import takeover\ntakeover._LAST_WAIT = {NEVER}"
    clock = f"{server.clock.prelude}\n{patient}"
    server.start(
        f"--path={server.path}", f"--grace={NEVER}", "--signal-on-term=USR1", prelude=clock
    )
    server.wait_for("ending them")
    server.clock.skip(float(NEVER) / 2)
    assert alive(orphan)
    server.clock.skip(float(NEVER))  # it looks all the time, and has no clients yet
    wait_until(lambda: server.generations().get(1) not in (None, orphan), "it serves")
    assert not alive(orphan)
    assert server.ask() == 1


def test_a_stop_is_obeyed_while_orphans_take_their_time(
    server: Server, kill: Callable[..., int]
) -> None:
    server.plan(ready=True, ignore=["SIGTERM"])
    orphan = kill(f"--path={server.path}")
    server.start(f"--path={server.path}", f"--grace={NEVER}")
    server.wait_for("ending them")
    assert server.stop() == 0
    assert server.said().endswith("received TERM, exiting\n")
    assert server.path.exists(), "it is the orphan's still"
    assert alive(orphan)


def _worker_of_the_dead(listener: socket.socket, name: str) -> "subprocess.Popen[bytes]":
    """Run what holds a listener that a start_server, which is no more, has given it as `name`."""
    worker = subprocess.Popen(
        _SLEEPS,
        env={
            **os.environ,
            "SERVER_STARTER_GENERATION": "1",
            "SERVER_STARTER_PORT": f"{name}={listener.fileno()}",
        },
        pass_fds=[listener.fileno()],
        stdout=subprocess.PIPE,
    )
    assert worker.stdout is not None
    worker.stdout.readline()
    return worker


def test_an_orphan_that_a_live_server_shares_the_address_with_is_left_alone(server: Server) -> None:
    """Nobody is ended unless all who hold the address are orphans."""
    port = free_port()
    with socket.create_server(("127.0.0.1", port)) as shared:
        worker = _worker_of_the_dead(shared, f"127.0.0.1:{port}")
        try:
            refused = server.client(f"--port=127.0.0.1:{port}", "--", "sleep", "60")
            assert refused.returncode == 98
            assert f"Address already in use (pid {os.getpid()}" in refused.stderr
            assert worker.poll() is None
        finally:
            _end(worker)


def test_the_socket_of_a_live_super_daemon_is_refused(server: Server, tmp_path: Path) -> None:
    port = free_port()
    server.start(f"--path={server.path}", f"--port={port}").wait_serving(1)
    worker = server.generations()[1]
    for option in (f"--path={server.path}", f"--port={port}"):
        # even as a worker of another one would start it
        refused = subprocess.run(
            [*command(), option, "--", "sleep", "60"],
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
            env={**os.environ, "SERVER_STARTER_GENERATION": "7"},
        )
        assert refused.returncode == 98
        assert "ending them" not in refused.stderr
    assert alive(worker)
    assert server.ask() == server.ask(port) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a server of another user")
def test_workers_whose_super_daemon_can_not_be_looked_into_are_no_orphans(
    server: Server, published: Path
) -> None:
    nobody = pwd.getpwnam("nobody")
    become = f"import os; os.setgid({nobody.pw_gid}); os.setuid({nobody.pw_uid})"
    sleeps = f"{become}; os.execv('/bin/sleep', ['sleep', '60'])"
    port = free_port()
    server.start(f"--port={port}", "--interval=0", program=[sys.executable, "-c", sleeps])
    server.wait_serving(1)
    worker = server.generations()[1]
    wait_until(lambda: Path(f"/proc/{worker}/comm").read_text() == "sleep\n", "it is nobody's")
    prelude = AS_NOBODY.format(uid=nobody.pw_uid, gid=nobody.pw_gid)
    refused = subprocess.run(
        [
            *command(prelude=prelude, code=published),
            f"--port={port}",
            "--grace=0",
            "--",
            "sleep",
            "60",
        ],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert refused.returncode == 98
    assert f"Address already in use (pid {worker}: sleep 60)" in refused.stderr
    assert alive(worker)


def test_a_process_that_was_given_another_address_is_no_orphan(server: Server) -> None:
    """A worker of some start_server may well have a server of its own."""
    with socket.create_server(("127.0.0.1", 0)) as own:
        port = own.getsockname()[1]
        worker = _worker_of_the_dead(own, str(free_port()))
    try:
        refused = server.client(f"--port=127.0.0.1:{port}", "--", "sleep", "60")
        assert refused.returncode == 98
        assert f"Address already in use (pid {worker.pid}: " in refused.stderr
        assert worker.poll() is None
    finally:
        _end(worker)


def test_what_an_old_generation_forked_ends_with_it_whatever_its_title(server: Server) -> None:
    out = server.directory / "forked"
    code = f"""{_WIPES}
if os.fork() == 0:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    open({str(out)!r}, 'w').write(str(os.getpid()))
signal.pause()
"""
    program = [sys.executable, "-ISE", "-c", code]
    server.start(f"--path={server.path}", "--interval=0", "--grace=0.3", program=program)
    server.wait_serving(1)
    wait_until(lambda: out.exists() and out.read_text(), "it has forked")
    forked = int(out.read_text())
    server.signal(signal.SIGHUP)
    server.wait_serving(2)
    wait_until(lambda: not alive(forked), "what it has forked is ended")


def test_orphans_without_their_environment_are_known_by_the_status_file(
    server: Server, kill: Callable[..., int]
) -> None:
    out = server.directory / "wiped"
    code = f"""{_WIPES}
if os.fork() == 0:
    open({str(out)!r}, 'w').write(str(os.getpid()))
signal.pause()
"""
    program = [sys.executable, "-ISE", "-c", code]
    orphan = kill(f"--path={server.path}", "--interval=0", program=program)
    wait_until(lambda: out.exists() and out.read_text(), "it has forked")
    forked = int(out.read_text())
    assert server.status_file.exists()
    refused = server.client(f"--path={server.path}", "--", "sleep", "60")
    assert refused.returncode == 98, "without the file, nothing is known of them"
    assert alive(orphan)
    server.start(f"--path={server.path}", "--interval=0")
    server.wait_for("ending them")
    wait_until(lambda: server.generations().get(1) not in (None, orphan), "it serves")
    assert not alive(orphan)
    assert not alive(forked)
    assert server.ask() == 1


def test_a_pid_in_an_old_status_file_says_nothing_of_a_process_that_is_younger(
    server: Server,
) -> None:
    server.status_file.write_text("1:1\n")
    listens = (
        "# \x1b[1m\nimport signal, socket\n"
        "one = socket.socket(socket.AF_UNIX)\n"
        f"one.bind({str(server.path)!r})\n"
        "one.listen()\n"
        "print(flush=True)\n"
        "signal.pause()"
    )
    process = subprocess.Popen(
        ["python", "-c", listens],  # a short name: what is said of a command is cut
        executable=sys.executable,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.readline()
    try:
        server.status_file.write_text(f"1:{process.pid}\n")
        options = (f"--path={server.path}", f"--status-file={server.status_file}")
        old = time.time() - 60
        os.utime(server.status_file, (old, old))
        refused = server.client(*options, "--", "sleep", "60")
        assert refused.returncode == 98
        said = re.search(rf"there \(pid {process.pid}: (.*)\)\n", refused.stderr)
        assert said, "in one line, whatever its command"
        assert "-c # ?[1m import signal" in said[1], "and without control characters"
        assert process.poll() is None
    finally:
        _end(process)


# Nothing outlives its generation

# Forks twice, in a session of its own, with nothing left of what it was given: no environment, no
# stderr, no socket, and another title.
_FORKS = """
import os, signal, sys, time
number = os.environ["SERVER_STARTER_GENERATION"]
def daemon():
    if os.fork():
        os.wait()
        return
    os.setsid()
    if os.fork():
        os._exit(0)
    os.chdir("/")
    code = open({code!r}).read()
    os.closerange(0, 100)
    for _ in range(3):
        os.open("/dev/null", os.O_RDWR)
    os.execve(sys.executable, ["innocent", "-ISE", "-c", code, {directory!r}, number], {{}})
"""
_DAEMON = """
import os, resource, signal, sys
{more}
file = f"{{sys.argv[1]}}/daemon-{{sys.argv[2]}}"
open(file + ".new", "w").write(str(os.getpid()))
os.rename(file + ".new", file)
signal.pause()
"""
_CLEARS = "resource.setrlimit(10, (resource.getrlimit(10)[1],) * 2)"  # its mark, too


@pytest.fixture
def forking(server: Server) -> Iterator[Callable[..., list[str]]]:
    """Makes a program that may start a daemon (`daemon()`), which does `more`, too."""

    def program(code: str, more: str = "") -> list[str]:
        file = server.directory / "daemon.py"
        file.write_text(_DAEMON.format(more=more))
        forks = _FORKS.format(code=str(file), directory=str(server.directory))
        return [sys.executable, "-ISE", "-c", f"{forks}\n{code}"]

    yield program
    for file in server.directory.glob("daemon-*"):
        if alive(int(file.read_text())):
            os.kill(int(file.read_text()), signal.SIGKILL)


def _daemon_of(number: int) -> str:
    return f"if number == '{number}':\n    daemon()\nsignal.pause()"


def _pid_in(file: Path) -> int:
    wait_until(file.exists, f"{file.name} runs")
    return int(file.read_text())


@pytest.mark.parametrize("more", ["", _CLEARS], ids=["marked", "unmarked"])
def test_a_daemon_with_nothing_left_of_what_it_was_given_ends_with_its_generation(
    server: Server, forking: Callable[..., list[str]], more: str
) -> None:
    program = forking(_daemon_of(1), more)
    server.start(f"--path={server.path}", "--interval=0", program=program).wait_serving(1)
    daemon = _pid_in(server.directory / "daemon-1")
    main = server.generations()[1]
    assert server.restart().returncode == 0
    assert not alive(daemon)
    assert f"worker {main} left processes behind, sending TERM to them:{daemon}\n" in server.said()
    server.wait_serving(2)


def test_a_daemon_of_the_generation_that_serves_is_left_alone_until_a_stop(
    server: Server, forking: Callable[..., list[str]]
) -> None:
    program = forking(_daemon_of(2))
    server.start(f"--path={server.path}", "--interval=0", program=program).wait_serving(1)
    assert server.restart().returncode == 0
    daemon = _pid_in(server.directory / "daemon-2")
    server.wait_serving(2)
    assert alive(daemon)
    assert server.stop() == 0
    assert not alive(daemon)


def test_what_attempts_that_fail_have_started_never_adds_up(
    server: Server, forking: Callable[..., list[str]]
) -> None:
    """The serving one, which is older, may have forked it, too: a mark says that it has not."""
    code = f"""
daemon()
if number != "1":
    while not os.path.exists({str(server.directory)!r} + "/daemon-" + number):
        time.sleep(0.01)  # until it is there: a file tells nobody
    sys.exit(3)
signal.pause()
"""
    server.start(
        f"--path={server.path}",
        f"--interval={NEVER}",
        program=forking(code),
        prelude=server.clock.prelude,
    )
    own = _pid_in(server.directory / "daemon-1")
    server.skip(float(NEVER))
    server.wait_serving(1)
    assert server.restart().returncode == 1
    stray = _pid_in(server.directory / "daemon-2")
    wait_until(lambda: not alive(stray), "what it left behind is ended")
    assert alive(own)
    assert sorted(server.generations()) == [1]


def test_an_upgrade_still_knows_what_descends_from_whom(
    server: Server, forking: Callable[..., list[str]]
) -> None:
    program = forking(_daemon_of(1), _CLEARS)
    server.start(f"--path={server.path}", "--interval=0", program=program).wait_serving(1)
    daemon = _pid_in(server.directory / "daemon-1")
    upgraded = server.client("--upgrade", f"--control-socket={server.control}")
    assert upgraded.returncode == 0, upgraded.stderr
    assert alive(daemon)
    assert server.restart().returncode == 0
    assert not alive(daemon)


def test_the_dead_that_came_to_us_are_buried(
    server: Server, forking: Callable[..., list[str]]
) -> None:
    program = forking(_daemon_of(1))
    server.start(f"--path={server.path}", "--interval=0", program=program).wait_serving(1)
    daemon = _pid_in(server.directory / "daemon-1")
    assert server.process is not None
    (parent,) = re.findall(r"PPid:\t(\d+)", Path(f"/proc/{daemon}/status").read_text())
    assert int(parent) == server.process.pid, "it came to us"
    os.kill(daemon, signal.SIGKILL)
    wait_until(lambda: not Path(f"/proc/{daemon}").exists(), "it is buried")
    assert sorted(server.generations()) == [1]


def test_what_forks_faster_than_it_is_killed_holds_no_restart_up(server: Server) -> None:
    """Each time that all which was seen of it has ended, there is more of it."""
    prelude = """
import subprocess
from supervisor_py import children, orphans
children._ROUNDS = 3
def left_behind(*_):
    one = subprocess.Popen(["/bin/sleep", "600"])
    one.returncode = 0  # nobody waits for it
    return {one.pid: orphans.look(one.pid)}
orphans.left_behind = left_behind
"""
    server.start(f"--path={server.path}", "--grace=0.1", prelude=prelude).wait_serving(1)
    main = server.generations()[1]
    assert server.restart().returncode == 0
    assert f"can't end what worker {main} left behind: it forks on (" in server.said()
    server.wait_serving(2)
    assert server.stop() == 0


@pytest.mark.parametrize("numbers", [(0, 9, 15), (9, 15)], ids=["before", "since"])
def test_what_another_user_has_by_now_holds_no_restart_up(
    server: Server, forking: Callable[..., list[str]], numbers: tuple[int, ...]
) -> None:
    """Such as a setuid program that it has run: it is said, and passed over."""
    refused = f"""
import _signal
send = _signal.pidfd_send_signal
def refuse(pidfd, number):
    told = dict(line.split(":") for line in open(f"/proc/self/fdinfo/{{pidfd}}"))
    daemon = open({str(server.directory / "daemon-1")!r}).read()
    if number in {numbers} and told["Pid"].strip() == daemon:
        raise PermissionError(1, "not permitted")
    send(pidfd, number)
_signal.pidfd_send_signal = refuse
"""
    program = forking(_daemon_of(1))
    server.start(f"--path={server.path}", "--interval=0", program=program, prelude=refused)
    server.wait_serving(1)
    daemon = _pid_in(server.directory / "daemon-1")
    main = server.generations()[1]
    assert server.restart().returncode == 0
    assert f"worker {main} left process {daemon} of another user behind\n" in server.said()
    assert alive(daemon)


@pytest.mark.parametrize("upgraded", ["", "known", "unknown"])
def test_what_ran_before_us_in_our_process_is_not_ours_to_end(
    server: Server, upgraded: str
) -> None:
    """A shell may have begun something before it became start_server, of an older version even."""
    out = server.directory / "before"
    prelude = (
        "import os, subprocess\n"
        "one = subprocess.Popen(['/bin/sleep', '600'])\n"
        f"open({str(out)!r}, 'w').write(str(one.pid))\n"
        "one.returncode = 0  # nobody waits for it\n"
        "from supervisor_py import handover\n"
        "write = handover.write\n"
    )
    if upgraded == "unknown":
        prelude += "handover.write = lambda handed: write(handed.but(since=0))"
    server.start(f"--path={server.path}", prelude=prelude).wait_serving(1)
    before = int(out.read_text())
    if upgraded:
        done = server.client("--upgrade", f"--control-socket={server.control}")
        assert done.returncode == 0, done.stderr
    # times in the table are in hundredths of a second, and what began within one began together
    assert server.restart().returncode == 0
    assert server.stop() == 0
    try:
        assert alive(before)
    finally:
        os.kill(before, signal.SIGKILL)
