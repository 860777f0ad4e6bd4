"""What generations get from us: variables, signals, directory; and what systemd hears."""

import errno
import os
import signal
import socket
from pathlib import Path

import pytest

from ..waiting import LIMIT, wait_until
from .harness import Server

# The C library keeps two signals for itself, and nobody can undo what a runner did to those.
OURS = sum(1 << (number - 1) for number in signal.valid_signals())


@pytest.fixture
def envdir(tmp_path: Path) -> Path:
    directory = tmp_path / "env"
    directory.mkdir()
    return directory


def test_the_envdir_overrules_the_command_line_which_overrules_the_environment(
    server: Server, envdir: Path
) -> None:
    (envdir / "KILL_OLD_DELAY").write_text("0.1\nsecond line\n")
    (envdir / "FROM_FILE").write_text("file")
    (envdir / ".hidden").write_text("x")
    (envdir / "EMPTY").write_text("")
    (envdir / "DIRECTORY").mkdir()
    inherited = {"KILL_OLD_DELAY": "30", "FROM_FILE": "inherited", "KEPT": "inherited"}
    server.start(f"--envdir={envdir}", "--kill-old-delay=20", env=inherited).wait_serving(1)
    env = server.record(1)["environment"]
    assert env["ENVDIR"] == str(envdir)
    assert env["KILL_OLD_DELAY"] == "0.1"
    assert env["FROM_FILE"] == "file"
    assert env["KEPT"] == "inherited"
    assert not {".hidden", "EMPTY", "DIRECTORY"} & env.keys()
    (envdir / "FROM_FILE").write_text("changed")
    assert server.restart().returncode == 0
    server.wait_for("sleeping 0.1 secs before killing old workers")
    assert server.record(2)["environment"]["FROM_FILE"] == "changed"
    (envdir / "FROM_FILE").unlink()
    assert server.restart().returncode == 0
    assert server.record(3)["environment"]["FROM_FILE"] == "inherited"


def test_a_wrong_value_in_the_envdir_is_said_and_the_last_policy_stays(
    server: Server, envdir: Path
) -> None:
    server.start(f"--envdir={envdir}").wait_serving(1)
    (envdir / "KILL_OLD_DELAY").write_text("soon")
    assert server.restart().returncode == 0
    server.wait_for('KILL_OLD_DELAY: "soon" is not a number of seconds')
    (envdir / "KILL_OLD_DELAY").write_text("0.1")
    assert server.restart().returncode == 0
    server.wait_for("sleeping 0.1 secs")


def test_a_wrong_value_at_the_start_ends_it_before_a_socket_is_made(
    server: Server, envdir: Path
) -> None:
    (envdir / "KILL_OLD_DELAY").write_text("soon")
    refused = server.client(
        f"--envdir={envdir}", f"--path={server.path}", "--", "touch", str(server.directory / "ran")
    )
    assert refused.returncode == 1
    assert 'KILL_OLD_DELAY: "soon"' in refused.stderr
    assert not server.path.exists()
    assert not (server.directory / "ran").exists()


def test_auto_restart_is_switched_on_and_off_by_the_envdir(server: Server, envdir: Path) -> None:
    server.start(f"--envdir={envdir}", prelude=server.clock.prelude).wait_serving(1)
    (envdir / "AUTO_RESTART_INTERVAL").write_text("600")
    server.skip(1000)
    assert server.status()["restarts"] == {"boot": 1}
    (envdir / "ENABLE_AUTO_RESTART").write_text("1")
    server.settle()
    server.wait_serving(2)  # the first one is older than that
    # the promise: the interval, and a tenth of it at most
    assert 0 < server.status()["next_timed_restart_seconds"] <= 660
    server.skip(1000)
    server.wait_serving(3)
    (envdir / "ENABLE_AUTO_RESTART").write_text("0")
    assert server.restart().returncode == 0
    server.skip(1000)
    assert server.status()["next_timed_restart_seconds"] is None
    assert server.status()["restarts"] == {"boot": 1, "auto-restart": 2, "control": 1}


def test_the_child_runs_in_the_directory_with_default_signals_but_pipe_ignored(
    server: Server,
) -> None:
    work = server.directory / "work"
    work.mkdir()
    # Started by something that ignores and blocks signals, as nohup and some runners do.
    prelude = (
        "import signal\n"
        "signal.signal(signal.SIGUSR1, signal.SIG_IGN)\n"
        "signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGUSR2])"
    )
    server.start(f"--dir={work}", prelude=prelude).wait_serving(1)
    record = server.record(1)
    assert record["directory"] == str(work)
    masks = {name: int(value, 16) for name, value in record["signals"].items() if name != "SigQ"}
    python_itself = {signal.SIGXFSZ, signal.SIGPIPE}  # the child is Python, which ignores these
    assert masks["SigBlk"] & OURS == 0
    assert masks["SigIgn"] & OURS == sum(1 << (number - 1) for number in python_itself)
    os.kill(record["pid"], signal.SIGKILL)
    server.wait_for(f"worker {record['pid']} died unexpectedly with status:9, restarting")
    assert server.stop() == 0


def test_sigpipe_is_ignored_in_the_child_and_sigxfsz_is_not(server: Server) -> None:
    out = server.directory / "out"
    program = ["/bin/sh", "-c", f"grep SigIgn /proc/self/status > {out}; exec sleep 60"]
    server.start(program=program)
    wait_until(lambda: out.exists() and out.read_text(), "the child")
    assert int(out.read_text().split()[1], 16) & OURS == 1 << (signal.SIGPIPE - 1)


def test_what_systemd_says_to_us_is_not_passed_on(server: Server) -> None:
    theirs = {"NOTIFY_SOCKET": "/nonexistent", "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1"}
    theirs |= {"LISTEN_FDS": "1", "LISTEN_PID": "1", "LISTEN_FDNAMES": "x"}
    server.start(env=theirs).wait_serving(1)
    env = server.record(1)["environment"]
    assert env["NOTIFY_SOCKET"].startswith("@")
    assert not {"WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID"} & env.keys()
    server.wait_for("failed to tell systemd")  # and it is said that nobody listens there


def test_systemd_hears_of_readiness_state_and_stop(server: Server) -> None:
    path = server.directory / "notify"
    heard: list[str] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(path))
        systemd.settimeout(LIMIT)

        def hear_until(text: str) -> None:
            while text not in heard:
                heard.extend(systemd.recv(4096).decode().splitlines())

        server.start("--readiness=notify", env={"NOTIFY_SOCKET": str(path)})
        hear_until("READY=1")
        assert server.record(1)
        pid = server.record(1)["pid"]
        assert f"STATUS=generation 1 starting (pid {pid})" in heard
        hear_until(f"STATUS=generation 1 serving (pid {pid})")
        assert f"ERRNO={errno.ECHILD}" not in heard
        server.plan(exit=7)
        assert server.restart().returncode == 1
        failed = server.record(2)["pid"]
        hear_until(
            f"STATUS=generation 1 serving (pid {pid}); "
            f"generation 2 (pid {failed}) ended with exit status 7 before it was ready"
        )
        assert heard[-1] == f"ERRNO={errno.ECHILD}"
        server.signal(signal.SIGTERM)
        hear_until("STOPPING=1")
        assert heard.count("READY=1") == 1


def test_the_generation_number_is_counted_from_1(server: Server) -> None:
    server.start(env={"SERVER_STARTER_GENERATION": "41"}).wait_serving(1)
    assert server.record(1)["environment"]["SERVER_STARTER_GENERATION"] == "1"
    assert os.getpid() != server.record(1)["pid"]
