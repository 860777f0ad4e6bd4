"""The self-upgrade: the same process goes on with new code, and nobody outside notices."""

import contextlib
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from supervisor_py import __version__

from ..waiting import LIMIT, wait_until
from .harness import NEVER, PATIENT, ROOT, Activated, Server, alive, command, connect, free_port

TALKER = Path(__file__).with_name("talker.py")
NEW = "9.9.9"

# What comes before the code of the super-daemon, and of the one that only checks.
CURRENT = "sys.path.insert(0, {current!r})"
AT_REPLACE = """
import os
from supervisor_py import upgrade
_real = upgrade.Upgrader.replace
def _replace(*given):
{what}
    return _real(*given)
upgrade.Upgrader.replace = _replace
"""
AT_CHECK = """
import os
if "START_SERVER_CHECK" in os.environ:
    {what}
"""


LEAVES = """
import os, signal, socket, sys
directory, stderr = sys.argv[1:]
if os.fork() == 0:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if stderr == "closed":
        os.close(2)
    with open(f"{directory}/left-{os.environ['SERVER_STARTER_GENERATION']}", "w") as file:
        file.write(str(os.getpid()))
    signal.pause()
address = os.environ["NOTIFY_SOCKET"].replace("@", "\\0", 1)
socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b"READY=1", address)
signal.pause()
"""


WAITS = "import signal, sys; open(f'{__file__}.waits', 'w').close(); signal.pause()"
TALKS = "import sys; sys.stderr.write('more\\n' * 99_999 + 'and so on\\n'); sys.exit(3)"


class Versions:
    """Copies of the package, of which `current` is the one that runs, as on a VPS."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._current = directory / "current"
        self.prelude = CURRENT.format(current=str(self._current))
        self.add("old", __version__)
        self.switch("old")

    def add(self, name: str, version: str) -> Path:
        package = self._directory / name / "supervisor_py"
        shutil.copytree(ROOT / "supervisor_py", package, ignore=shutil.ignore_patterns("vhost"))
        init = package / "__init__.py"
        init.write_text(init.read_text().replace(f'"{__version__}"', f'"{version}"'))
        return package

    def switch(self, name: str) -> None:
        link = self._directory / "link"
        link.symlink_to(name)
        link.rename(self._current)


@pytest.fixture
def versions(tmp_path: Path) -> Versions:
    (tmp_path / "versions").mkdir()
    return Versions(tmp_path / "versions")


def _upgrade(server: Server) -> "subprocess.CompletedProcess[str]":
    return server.client("--upgrade", f"--control-socket={server.control}")


def _status(server: Server) -> dict[str, Any]:
    asked = server.client("--status", "--json", f"--control-socket={server.control}")
    assert asked.returncode == 0, asked.stderr
    found: dict[str, Any] = json.loads(asked.stdout)
    return found


def _fds(server: Server) -> list[str]:
    """Return what an idle server has open, but for what each process makes anew."""
    assert server.process is not None
    server.settle()
    links = [str(link.readlink()) for link in Path(f"/proc/{server.process.pid}/fd").iterdir()]
    found = sorted(one for one in links if not one.startswith("anon_inode"))
    # The wake-up pipe and the pipe to the generation look alike: their number counts.
    return [one.split(":")[0] if one.startswith("pipe") else one for one in found]


def _messages(notify: socket.socket) -> list[str]:
    """Return all that systemd was told."""
    found = []
    with contextlib.suppress(BlockingIOError):
        while True:
            found.append(notify.recv(4096).decode())
    return found


def test_an_upgrade_runs_the_new_code_and_keeps_all_the_rest(
    server: Server, versions: Versions
) -> None:
    tcp, udp = free_port(), free_port()
    server.start(
        f"--path={server.path}",
        f"--port=127.0.0.1:{tcp}",
        f"--port=127.0.0.1:u{udp}",
        prelude=versions.prelude,
    ).wait_serving(1)
    assert server.restart().returncode == 0
    before, held, inode = _status(server), _fds(server), server.control.stat().st_ino
    assert server.process is not None
    assert before["version"] == __version__

    versions.add("new", NEW)
    versions.switch("new")
    done = _upgrade(server)
    assert done.returncode == 0, done.stderr
    assert f"upgraded start_server from {__version__} to {NEW}" in done.stderr

    after = _status(server)
    assert after["version"] == NEW
    assert after["pid"] == server.process.pid
    for same in ("sockets", "restarts", "last_reason", "failed_attempts", "stopping"):
        assert after[same] == before[same]
    assert after["uptime_seconds"] > before["uptime_seconds"]
    (one,), (same_one,) = before["generations"], after["generations"]
    for same in ("number", "pid", "phase", "ready_after_seconds", "said_ready", "status"):
        assert same_one[same] == one[same]
    assert same_one["age_seconds"] > one["age_seconds"]
    assert server.generations() == {2: one["pid"]}
    assert server.control.stat().st_ino == inode
    assert _fds(server) == held, "none is lost, none is left open"
    for address in (str(server.path), tcp):
        assert server.ask(address) == 2
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(LIMIT)
        client.sendto(b"?", ("127.0.0.1", udp))
        assert client.recv(10) == b"2"

    assert server.restart().returncode == 0, "it goes on as before"
    assert server.ask() == 3
    assert server.record(3)["fds"] == server.record(2)["fds"]
    assert _status(server)["restarts"] == {"boot": 1, "control": 2}
    assert server.stop() == 0
    for file in (server.path, server.pid_file, server.status_file, server.control):
        assert not file.exists()


def test_no_request_fails_in_twenty_upgrades(server: Server) -> None:
    server.start(f"--path={server.path}").wait_serving(1)
    pid = server.generations()[1]
    over = threading.Event()
    answers: list[int] = []
    failures: list[BaseException] = []

    def load() -> None:
        while not over.is_set():
            try:
                answers.append(server.ask())
            except (OSError, ValueError) as error:
                failures.append(error)

    client = threading.Thread(target=load)
    client.start()
    try:
        for number in range(20):
            before = len(answers)
            server.signal(signal.SIGUSR2)
            server.wait_for("upgraded start_server", times=number + 1)
            wait_until(lambda: len(answers) > before, "an answer")  # noqa: B023
    finally:
        over.set()
        client.join()
    assert failures == []
    assert set(answers) == {1}
    assert server.generations() == {1: pid}
    assert server.stop() == 0


def test_the_lock_of_the_pid_file_is_held_throughout(server: Server) -> None:
    server.start().wait_serving(1)
    waiter = os.fork()
    if waiter == 0:
        with server.pid_file.open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
        os._exit(0)
    try:
        for _ in range(3):
            assert _upgrade(server).returncode == 0
        assert os.waitpid(waiter, os.WNOHANG) == (0, 0), "it waits, as --stop does"
        stopped = server.client("--stop", f"--pid-file={server.pid_file}")
        assert stopped.returncode == 0
        assert server.wait() == 0
    finally:
        wait_until(lambda: os.waitpid(waiter, os.WNOHANG)[0], "the lock is free")


@pytest.mark.parametrize("before_it_is_blocked", [True, False])
def test_a_hup_in_the_middle_of_an_upgrade_is_not_lost(
    server: Server, before_it_is_blocked: bool
) -> None:
    what = "    os.kill(os.getpid(), 1)"
    prelude = AT_REPLACE.format(what=what)
    if not before_it_is_blocked:
        prelude = (
            "import os\n_real = os.execve\n"
            "def _execve(*given):\n"
            "    if 'START_SERVER_HANDOVER' in given[2] and os.getpid() == OURS:\n"
            f"    {what}\n"
            "    _real(*given)\n"
            "OURS = os.getpid()\n"
            "os.execve = _execve"
        )
    server.start(prelude=prelude).wait_serving(1)
    assert _upgrade(server).returncode == 0
    server.wait_serving(2)
    server.settle()
    assert _status(server)["restart"] is None
    assert server.generations().keys() == {2}, "it is one restart"
    assert server.stop() == 0


def test_a_term_in_the_middle_of_an_upgrade_is_not_lost(server: Server) -> None:
    server.start(prelude=AT_REPLACE.format(what="    os.kill(os.getpid(), 15)")).wait_serving(1)
    server.signal(signal.SIGUSR2)
    assert server.wait() == 0
    assert "received TERM" in server.said()
    assert not server.pid_file.exists()


def test_hups_at_any_time_around_upgrades_are_not_lost(server: Server) -> None:
    server.start().wait_serving(1)
    for number in range(2, 10):
        server.signal(signal.SIGUSR2)
        time.sleep(0.04 * (number - 2))  # at another moment of the upgrade each time
        server.signal(signal.SIGHUP)
        wait_until(lambda: max(server.generations(), default=0) >= number, "a restart")  # noqa: B023
    assert server.stop() == 0


def test_requests_that_came_in_along_with_the_upgrade_are_answered_after_it(
    server: Server,
) -> None:
    gate = server.gate()
    server.start(prelude=AT_REPLACE.format(what=f"    {gate.code()}")).wait_serving(1)
    with connect(str(server.control)) as half, connect(str(server.control)) as whole:
        half.sendall(b"sta")
        with connect(str(server.control)) as asking:
            asking.sendall(b"upgrade\n")
            gate.wait_reached()
            whole.sendall(b"status\n")
            gate.let_pass()
            assert asking.makefile().read().startswith("done upgraded start_server")
        half.sendall(b"tus\n")
        for connection in (half, whole):
            word, _, text = connection.makefile().read().partition(" ")
            assert word == "done"
            assert json.loads(text)["generations"][0]["number"] == 1
    assert server.stop() == 0


def test_a_generation_that_dies_at_the_exec_is_noticed(server: Server) -> None:
    kill = (
        f"    pid = int(open({str(server.status_file)!r}).read().split(':')[1])\n"
        "    os.kill(pid, 9)\n"
        "    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)"
    )
    server.start(f"--path={server.path}", prelude=AT_REPLACE.format(what=kill)).wait_serving(1)
    pid = server.generations()[1]
    assert _upgrade(server).returncode == 0
    server.wait_serving(2)
    server.wait_for(f"worker {pid} died unexpectedly with status:9")
    assert server.ask() == 2
    assert server.stop() == 0


def test_a_generation_that_dies_while_the_new_version_is_checked_spoils_nothing(
    server: Server,
) -> None:
    gate = server.gate()
    server.start(f"--path={server.path}", prelude=AT_CHECK.format(what=gate.code()))
    server.wait_serving(1)
    server.signal(signal.SIGUSR2)
    gate.wait_reached()
    os.kill(server.generations()[1], signal.SIGKILL)
    server.wait_for("died unexpectedly")
    gate.let_pass()
    server.wait_for("upgraded start_server")
    server.wait_serving(2)
    assert server.ask() == 2
    assert server.stop() == 0


def test_a_draining_generation_still_has_its_grace_and_no_more(server: Server) -> None:
    server.plan(ready=True, ignore=["SIGTERM"])
    options = (f"--grace={NEVER}", "--max-generations=3")
    server.start(*options, prelude=server.clock.prelude).wait_serving(1)
    old = server.generations()[1]
    server.signal(signal.SIGHUP)
    server.wait_for("killing old workers")
    assert _upgrade(server).returncode == 0
    assert server.generations().keys() == {1, 2}
    server.skip(float(NEVER) / 2)
    assert alive(old)
    server.skip(float(NEVER) / 2)
    server.wait_for(f"worker {old} did not end within {NEVER} secs, sending KILL")
    server.wait_for(f"old worker {old} died, status:9")
    server.wait_serving(2)


def test_a_kill_old_delay_goes_on(server: Server) -> None:
    options = (f"--kill-old-delay={NEVER}", "--max-generations=3")
    server.start(*options, prelude=server.clock.prelude).wait_serving(1)
    old = server.generations()[1]
    server.signal(signal.SIGHUP)
    server.wait_for(f"sleeping {NEVER} secs before killing old workers")
    assert _upgrade(server).returncode == 0
    assert [one["phase"] for one in _status(server)["generations"]] == ["retiring", "serving"]
    server.skip(float(NEVER) / 2)
    assert alive(old)
    server.skip(float(NEVER) / 2)
    server.wait_for(f"old worker {old} died, status:15")
    server.wait_serving(2)
    assert server.stop() == 0


@pytest.mark.parametrize("stderr", ["kept", "closed"])
def test_what_a_generation_has_left_behind_is_still_ended(server: Server, stderr: str) -> None:
    program = [sys.executable, "-c", LEAVES, str(server.directory), stderr]
    server.start(
        f"--path={server.path}",
        "--readiness=notify",
        f"--grace={NEVER}",
        "--max-generations=3",
        program=program,
        prelude=server.clock.prelude,
    ).wait_serving(1)
    main, file = server.generations()[1], server.directory / "left-1"
    wait_until(lambda: file.exists() and file.read_text(), "what it forks")
    left = int(file.read_text())
    try:
        server.signal(signal.SIGHUP)
        server.wait_for(f"worker {main} left processes behind")
        done = _upgrade(server)
        assert done.returncode == 0, done.stderr
        assert [one["main_process_gone"] for one in _status(server)["generations"]] == [True, False]
        server.skip(float(NEVER) / 2)
        assert alive(left)
        server.skip(float(NEVER) / 2)
        server.wait_for(f"worker {main} did not end within {NEVER} secs, sending KILL")
        server.wait_for(f"what worker {main} left behind is gone")
        assert not alive(left)
        server.wait_serving(2)
    finally:
        for one in server.directory.glob("left-*"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(one.read_text()), signal.SIGKILL)


def test_a_back_off_goes_on(server: Server) -> None:
    server.start().wait_serving(1)
    server.plan(exit=7)
    server.signal(signal.SIGHUP)
    server.wait_for("trying again in")
    assert _upgrade(server).returncode == 0
    known = _status(server)
    assert known["failed_attempts"] >= 1
    assert "exit status 7" in known["trouble"]
    assert known["restart"]["reason"] == "HUP"
    server.plan(ready=True)
    wait_until(lambda: max(server.generations()) > 2, "the next attempt, by itself")
    assert server.stop() == 0


def test_an_upgrade_that_is_asked_for_in_a_restart_comes_after_it(server: Server) -> None:
    server.start().wait_serving(1)
    gate = server.gate()
    server.plan(ready=True, gate=gate.path)
    with connect(str(server.control)) as restarting, connect(str(server.control)) as upgrading:
        restarting.sendall(b"restart\n")
        server.wait_for("starting new worker", times=2)
        upgrading.sendall(b"upgrade\n")
        server.wait_for("upgrade of start_server asked")
        gate.let_pass()
        assert upgrading.makefile().read().startswith("done upgraded start_server")
        assert server.generations().keys() == {2}
        assert "done generation 2 serves" in restarting.makefile().read()
    said = server.said()
    assert said.index("new worker is now running") < said.index("upgraded start_server")
    assert server.stop() == 0


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (("loop.py", "import errno", "import ("), "SyntaxError"),
        (("serve.py", "import os", "import no_such_thing"), "No module named 'no_such_thing'"),
        (("handover.py", "_FORMAT = 1", "_FORMAT = 2"), "has format 1, and 2 is known"),
        (("handover.py", "    started: float", "    more: int\n    started: float"), "field more"),
        (("cli.py", "import sys", TALKS), "would not run: and so on"),
        (("cli.py", "import sys", WAITS), "not up within 30 seconds"),
    ],
)
def test_a_new_version_that_would_not_run_changes_nothing_and_the_next_one_is_tried_anew(
    server: Server, versions: Versions, broken: tuple[str, str, str], words: str
) -> None:
    file, before, after = broken
    prelude = f"{versions.prelude}\n{server.clock.prelude}"
    server.start(f"--path={server.path}", prelude=prelude).wait_serving(1)
    generations, held = server.generations(), _fds(server)
    package = versions.add("broken", NEW) / file
    text = package.read_text()
    assert before in text
    package.write_text(text.replace(before, after, 1))
    versions.switch("broken")
    client = server.begin_client("--upgrade")
    if after == WAITS:
        wait_until(package.with_name("cli.py.waits").exists, "the check waits")
        server.skip(20)
        assert client.poll() is None
        server.skip(20)
    _, said = client.communicate(timeout=LIMIT)
    assert client.returncode == 1
    assert words in said
    assert "start_server stays as it is" in said
    server.wait_for("start_server stays as it is")
    known = _status(server)
    assert known["version"] == __version__
    assert server.generations() == generations
    assert server.ask() == 1
    assert _fds(server) == held
    assert server.process is not None
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text()
    assert children.split() == [str(generations[1])], "who has checked is gone"

    versions.add("good", "9.9.10")
    versions.switch("good")
    slow = server.client("--upgrade", f"--control-socket={server.control}")
    assert slow.returncode == 0, slow.stderr
    assert _status(server)["version"] == "9.9.10"
    assert server.stop() == 0


def test_a_stop_during_the_check_ends_it_too(server: Server) -> None:
    gate = server.gate()
    server.start(f"--path={server.path}", prelude=AT_CHECK.format(what=gate.code()))
    server.wait_serving(1)
    server.signal(signal.SIGUSR2)
    gate.wait_reached()
    assert server.process is not None
    pid = server.process.pid
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    assert len(children) == 2
    assert server.stop() == 0
    assert [one for one in children if alive(int(one))] == []


def test_a_check_that_goes_on_in_silence_costs_no_cpu_time(server: Server) -> None:
    gate = server.gate()
    silent = AT_CHECK.format(what=f"os.closerange(1, 3); {gate.code()}")
    server.start(prelude=silent).wait_serving(1)
    server.signal(signal.SIGUSR2)
    gate.wait_reached()
    assert server.process is not None
    stat = Path(f"/proc/{server.process.pid}/stat")

    def ticks() -> int:
        return sum(map(int, stat.read_text().rpartition(")")[2].split()[11:13]))

    before = ticks()
    time.sleep(0.5)  # no event tells that nothing happens
    assert ticks() - before < 10, "hundredths of a second"
    gate.let_pass()
    server.wait_for("upgraded start_server")
    assert server.stop() == 0


def test_an_upgrade_that_can_not_be_checked_for_want_of_processes_is_said(server: Server) -> None:
    flag = server.directory / "fail"
    prelude = (
        "import errno, os\n_real = os.fork\n"
        "def _fork():\n"
        f"    if os.path.exists({str(flag)!r}):\n"
        "        raise OSError(errno.EAGAIN, 'no more processes')\n"
        "    return _real()\n"
        "os.fork = _fork"
    )
    server.start(prelude=prelude).wait_serving(1)
    held = _fds(server)
    flag.touch()
    failed = _upgrade(server)
    assert failed.returncode == 1
    assert "it can't be checked: no more processes" in failed.stderr
    assert _fds(server) == held
    flag.unlink()
    assert _upgrade(server).returncode == 0
    assert server.stop() == 0


def test_systemd_sees_the_same_main_process_and_no_stop(server: Server, tmp_path: Path) -> None:
    address = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(str(address))
        notify.setblocking(False)
        server.start(f"--path={server.path}", env={"NOTIFY_SOCKET": str(address)}).wait_serving(1)
        assert _upgrade(server).returncode == 0
        assert server.restart().returncode == 0
        messages = _messages(notify)
    assert messages.count("READY=1") == 1
    said = "\n".join(messages)
    assert "STOPPING" not in said
    assert "MAINPID" not in said
    assert "FDSTORE=1" in messages[0]
    assert server.process is not None
    assert server.pid_file.read_text() == f"{server.process.pid}\n"


def test_a_restart_that_waits_for_memory_waits_on_and_is_answered(
    server: Server, tmp_path: Path
) -> None:
    short = tmp_path / "short"
    prelude = (
        "import os\nfrom supervisor_py import room\n"
        f"room.left.__defaults__ = (lambda path: 'MemAvailable: %d kB' %"
        f" (10 if os.path.exists({str(short)!r}) else 1 << 30) if 'meminfo' in path else None,)"
    )
    server.start(prelude=prelude).wait_serving(1)
    short.touch()
    with connect(str(server.control)) as restarting:
        restarting.sendall(b"restart\n")
        server.wait_for("restart waits: a second generation needs")
        assert _upgrade(server).returncode == 0
        assert _status(server)["restart"]["waits_for_memory"]
        short.unlink()
        assert "done generation 2 serves" in restarting.makefile().read()
    assert server.stop() == 0


def test_the_log_and_its_command_stay(server: Server, tmp_path: Path) -> None:
    out = tmp_path / "out"
    script = tmp_path / "take"
    script.write_text(f"#!/bin/sh\necho $$ >> {tmp_path}/pids\nexec cat >> {out}\n")
    script.chmod(0o755)
    server.start(f"--log-file=| exec {script}", prelude=PATIENT).wait_serving(1)
    wait_until(lambda: out.exists() and "starting new worker" in out.read_text(), "the log")
    for _ in range(3):
        assert _upgrade(server).returncode == 0
    pids = (tmp_path / "pids").read_text().split()
    assert len(pids) == 1
    assert alive(int(pids[0]))
    os.kill(int(pids[0]), signal.SIGKILL)
    wait_until(lambda: len((tmp_path / "pids").read_text().split()) == 2, "it is started again")
    assert server.stop() == 0
    text = out.read_text()
    assert text.count("upgraded start_server") == 3
    assert text.rstrip().endswith("exiting")


def test_a_log_file_goes_on_and_can_still_be_reopened(server: Server) -> None:
    log, metrics = server.directory / "out", server.directory / "main.prom"
    server.plan(count=True)
    program = [sys.executable, "-ISE", str(TALKER), str(server.plan_file)]
    options = (f"--log-file={log}", f"--metrics-file={metrics}", "--readiness=notify")
    server.start(*options, program=program).wait_serving(1)
    wait_until(lambda: "memory_pss" in metrics.read_text(), "it is measured")
    before = metrics.read_text()
    assert _upgrade(server).returncode == 0
    assert metrics.read_text() == before
    log.rename(server.directory / "old")
    server.signal(signal.SIGUSR1)
    wait_until(lambda: log.exists() and log.read_text().count("\n") > 20, "a new file")
    assert server.stop() == 0
    text = (server.directory / "old").read_text() + log.read_text()
    lines = text.splitlines()
    counted = [int(line[3:]) for line in lines if line.startswith("1: ") and line[3:].isdecimal()]
    assert counted == list(range(1, len(counted) + 1))
    assert sum(line.startswith("upgraded start_server") for line in lines) == 1
    assert lines[-1] == "exiting"
    assert "upgraded" not in server.said()
    assert not metrics.exists()


def test_sockets_of_systemd_go_on_and_stay_systemds(activated: Activated) -> None:
    address = activated.directory / "notify"
    with (
        socket.socket(socket.AF_UNIX) as listener,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify,
    ):
        listener.bind(str(activated.path))
        listener.listen()
        notify.bind(str(address))
        notify.setblocking(False)
        activated.activate([listener], "web", NOTIFY_SOCKET=str(address))
        activated.wait_serving(1)
        for number in (2, 3):
            assert _upgrade(activated).returncode == 0
            assert activated.ask() == number - 1
            assert activated.restart().returncode == 0
            assert activated.ask() == number
            environment = activated.record(number)["environment"]
            assert environment["SERVER_STARTER_PORT"] == f"{activated.path}=3"
            assert environment["LISTEN_FDS"] == "1"
            assert environment["LISTEN_FDNAMES"] == "web"
            assert environment["LISTEN_PID"] == str(activated.generations()[number])
        assert activated.stop() == 0
        assert activated.path.exists(), "it is not ours to remove"
        assert [one for one in _messages(notify) if "FDSTORE" in one] == [], "nor to store"


def test_lines_that_nobody_has_read_yet_go_on_too(server: Server) -> None:
    read_end, write_end = os.pipe()
    fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, 4096)
    prelude = (
        f"import os\nif not os.path.exists({str(server.pid_file)!r}):\n"
        f"    os.dup2({write_end}, 2)\n    os.close({write_end})"
    )
    server.plan(flood=100)
    program = [sys.executable, "-ISE", str(TALKER), str(server.plan_file)]
    try:
        server.start(
            "--readiness=notify", program=program, prelude=prelude, pass_fds=[write_end]
        ).wait_serving(1)
        os.close(write_end)
        assert _upgrade(server).returncode == 0
        server.signal(signal.SIGTERM)
        read = b""
        while data := os.read(read_end, 65536):
            read += data
        assert server.wait() == 0
    finally:
        os.close(read_end)
    lines = read.decode().splitlines()
    flood = [int(line.split()[1]) for line in lines if line.startswith("flood ")]
    assert flood == list(range(100))
    assert sum(line.startswith("upgraded start_server") for line in lines) == 1
    assert lines[-1] == "exiting"


def test_upgrade_says_what_it_needs() -> None:
    run = subprocess.run(
        [*command(), "--upgrade"], capture_output=True, text=True, timeout=LIMIT, check=False
    )
    assert run.returncode == 255
    assert "--upgrade option requires --control-socket" in run.stderr
