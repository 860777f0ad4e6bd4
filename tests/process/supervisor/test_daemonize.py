"""--daemonize: the typed command ends when the server is up, or says why it is not."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..waiting import LIMIT, wait_until
from .harness import CHILD, Server, alive, command, connect, free_port


class Daemon(Server):
    """A server in the background; `typed` is the command that started it."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.log_file = directory / "server.log"

    def type(self, *options: str, prelude: str = "", **popen: object) -> tuple[int, str]:
        """Type the command; return its exit status and what it said."""
        said = (self.directory / "typed").open("w+")  # no pipe: the daemon would keep it open
        typed = subprocess.run(  # type: ignore[call-overload]
            [
                *command(prelude=prelude),
                "--daemonize",
                f"--log-file={self.log_file}",
                f"--pid-file={self.pid_file}",
                f"--status-file={self.status_file}",
                f"--control-socket={self.control}",
                "--readiness=notify",
                *options,
                "--",
                sys.executable,
                "-ISE",
                str(CHILD),
                str(self.plan_file),
            ],
            stdin=self.plan_file.open(),
            stdout=said,
            stderr=said,
            timeout=LIMIT,
            check=False,
            **popen,
        )
        said.seek(0)
        with said:
            return typed.returncode, said.read()

    def pid(self) -> int:
        return int(self.pid_file.read_text())

    def clean_up(self) -> None:
        for gate in self._gates:
            gate.close()
        with contextlib.suppress(OSError, ValueError):
            children = Path(f"/proc/{self.pid()}/task/{self.pid()}/children").read_text()
            for one in (self.pid(), *map(int, children.split())):
                os.kill(one, signal.SIGKILL)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    one = Daemon(tmp_path)
    yield one
    one.clean_up()


def _stat(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def test_when_the_typed_command_returns_the_sockets_are_open_and_the_pid_file_is_written(
    daemon: Daemon,
) -> None:
    gate = daemon.gate()
    daemon.plan(gate=gate.path, ready=True)
    port = free_port()
    code, said = daemon.type(f"--port={port}", f"--path={daemon.path}")
    assert code == 0
    assert f"start_server (pid:{daemon.pid()}) starting now..." in said, "the pid that goes on"
    for address in (port, str(daemon.path), str(daemon.control)):
        connect(address).close()
    assert daemon.generations() == {}, "it is not ready yet, and was not waited for"
    gate.let_pass()
    daemon.wait_serving(1)
    assert daemon.ask() == daemon.ask(port) == 1
    assert daemon.client("--stop", f"--pid-file={daemon.pid_file}").returncode == 0
    assert not daemon.path.exists()
    assert "exiting" in daemon.log_file.read_text()


def test_the_server_leads_no_session_has_no_terminal_and_reads_from_nowhere(
    daemon: Daemon,
) -> None:
    work = daemon.directory / "work"
    work.mkdir()
    prelude = "import os; os.umask(0o027)"
    code, _ = daemon.type(f"--path={daemon.path}", prelude=prelude, cwd=work)
    assert code == 0
    daemon.wait_serving(1)
    parent, group, session, terminal = (int(field) for field in _stat(daemon.pid())[1:5])
    assert parent != os.getpid()
    assert session == group != daemon.pid()
    assert session != os.getsid(0)
    assert terminal == 0
    assert not alive(session), "what led the session has ended"
    proc = Path(f"/proc/{daemon.pid()}")
    assert (proc / "fd" / "0").readlink() == Path(os.devnull)
    assert (proc / "fd" / "1").readlink() == (proc / "fd" / "2").readlink() == daemon.log_file
    assert (proc / "cwd").readlink() == work
    assert "Umask:\t0027" in (proc / "status").read_text().splitlines()
    record = daemon.record(1)
    assert record["directory"] == str(work)
    assert (Path(f"/proc/{record['pid']}") / "fd" / "0").readlink() == Path(os.devnull)


def test_a_socket_that_was_asked_for_as_stdin_stays_there(daemon: Daemon) -> None:
    port = free_port()
    code, _ = daemon.type(f"--port={port}=0", f"--path={daemon.path}")
    assert code == 0
    daemon.wait_serving(1)
    assert daemon.record(1)["environment"]["SERVER_STARTER_PORT"] == f"{port}=0;{daemon.path}=3"
    assert daemon.ask(port) == daemon.ask() == 1


def test_nothing_of_the_typed_command_is_kept_open(daemon: Daemon) -> None:
    """Neither by the server nor by its generations: ssh and pipelines wait for that."""
    read_end, write_end = os.pipe()
    with os.fdopen(write_end, "wb") as end:
        done = subprocess.run(
            [
                *command(),
                "--daemonize",
                f"--log-file={daemon.log_file}",
                f"--pid-file={daemon.pid_file}",
                "--",
                "sleep",
                "60",
            ],
            stdin=subprocess.DEVNULL,
            stdout=end,
            stderr=end,
            timeout=LIMIT,
            check=False,
        )
    assert done.returncode == 0
    with os.fdopen(read_end, "rb") as said:
        assert said.read().endswith(b"starting now...\n"), "it comes to its end"
    assert alive(daemon.pid())


@pytest.mark.parametrize(
    ("option", "code", "words"),
    [
        ("--port=127.0.0.1:{taken}", 98, "failed to bind to 127.0.0.1:{taken}: Address already"),
        ("--pid-file={directory}/none/pid", 2, "failed to open file:{directory}/none/pid"),
        ("--signal-on-hup=NOPE", 1, '"NOPE" is not a signal'),
    ],
)
def test_the_typed_command_ends_with_the_error_and_its_exit_status(
    daemon: Daemon, option: str, code: int, words: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        known = {"taken": taken.getsockname()[1], "directory": daemon.directory}
        found, said = daemon.type(option.format(**known))
    assert found == code
    assert words.format(**known) in said
    assert not daemon.pid_file.exists()
    assert not daemon.control.exists()


def test_the_typed_command_of_a_server_that_is_killed_meanwhile_fails(daemon: Daemon) -> None:
    prelude = (
        "import os, signal, supervisor_py.serve\n"
        "class PidFile:\n"
        "    def __init__(self, path): os.kill(os.getpid(), signal.SIGKILL)\n"
        "supervisor_py.serve.PidFile = PidFile"
    )
    code, said = daemon.type(prelude=prelude)
    assert code == 255
    assert said.endswith("the server ended before it was up\n")


def test_a_second_server_with_the_same_pid_file_says_so_when_it_is_typed(daemon: Daemon) -> None:
    assert daemon.type()[0] == 0
    pid = daemon.pid()
    second = Daemon(daemon.directory)
    second.control = daemon.directory / "other"
    code, said = second.type()
    assert code == 11
    assert f"held by another server (pid:{pid})" in said
    wait_until(lambda: daemon.pid() == pid and alive(pid), "the first one lives")


def test_daemonized_signals_during_the_start_are_obeyed(daemon: Daemon) -> None:
    """A TERM that comes before the loop runs stops the server, and leaves nothing."""
    prelude = (
        "import os, signal, supervisor_py.serve\n"
        "class PidFile(supervisor_py.serve.PidFile):\n"
        "    def __init__(self, path):\n"
        "        super().__init__(path)\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "supervisor_py.serve.PidFile = PidFile"
    )
    code, _ = daemon.type(f"--path={daemon.path}", prelude=prelude)
    assert code == 0
    wait_until(lambda: "exiting" in daemon.log_file.read_text(), "it stops")
    wait_until(lambda: not daemon.pid_file.exists(), "its pid file is gone")
    assert not daemon.path.exists(), "the pid file is the last to go"
