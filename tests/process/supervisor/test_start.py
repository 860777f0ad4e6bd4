"""The start: what is refused, before a socket is opened, and with all that is wrong told."""

import fcntl
import os
import resource
import signal
import socket
import stat
import subprocess
from pathlib import Path

import pytest

from supervisor_py import asking
from supervisor_py.errors import FatalError

from ..waiting import LIMIT, wait_until
from .harness import Server, command, free_port

_PROGRAM = ("--", "sleep", "60")


def _files(directory: Path) -> list[str]:
    return sorted(str(file.relative_to(directory)) for file in directory.rglob("*"))


def _refused(server: Server, *options: str, program: tuple[str, ...] = _PROGRAM) -> tuple[int, str]:
    """Start with wrong options; see that nothing was made or begun; return the code and words."""
    before = _files(server.directory)
    done = server.client(f"--path={server.path}", *options, *program)
    assert "starting now" not in done.stderr
    assert _files(server.directory) == before
    assert done.stdout == ""
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    "option", ["pid-file", "status-file", "log-file", "metrics-file", "control-socket", "path"]
)
def test_a_file_in_a_directory_that_does_not_exist_is_refused(server: Server, option: str) -> None:
    missing = server.directory / "missing"
    code, said = _refused(server, f"--{option}={missing}/file")
    assert code == 2
    assert f"{missing}/file: No such file or directory (--{option}: no directory {missing})" in said
    (server.directory / "plain").write_text("")
    code, said = _refused(server, f"--{option}={server.directory}/plain/file")
    assert code == 20
    assert f"Not a directory (--{option}" in said


def test_a_directory_that_does_not_exist_is_refused(server: Server) -> None:
    missing = server.directory / "missing"
    code, said = _refused(server, f"--dir={missing}")
    assert (code, said) == (
        2,
        f"failed to chdir:{missing}: No such file or directory (--dir: no directory {missing})\n",
    )


@pytest.mark.parametrize("option", ["pid-file", "status-file", "log-file", "metrics-file"])
def test_a_file_that_is_a_directory_is_refused(server: Server, option: str) -> None:
    code, said = _refused(server, f"--{option}={server.directory}")
    assert code == 21
    assert f"{server.directory}: Is a directory (--{option})" in said


@pytest.mark.parametrize("option", ["pid-file", "status-file", "metrics-file"])
def test_a_device_is_not_taken_for_a_file(server: Server, option: str) -> None:
    """It would be replaced by a file, and gone at the end."""
    pipe = server.directory / "pipe"
    os.mkfifo(pipe)
    code, said = _refused(server, f"--{option}={pipe}")
    assert code == 22
    assert f"{pipe}: not a file (--{option})" in said
    server.start(f"--path={server.path}", "--log-file=/dev/null").wait_serving(1)


def test_a_log_command_that_is_none_is_refused(server: Server) -> None:
    for name in ("|", " | "):
        code, said = _refused(server, f"--log-file={name}")
        assert (code, said) == (1, f'--log-file: "{name}" has no command after the |\n')


def test_two_options_do_not_share_a_file(server: Server) -> None:
    file = server.directory / "file"
    code, said = _refused(
        server, f"--pid-file={file}", f"--status-file={file.parent}/../{file.parent.name}/file"
    )
    assert code == 1
    assert "/file: --pid-file has the same" in said
    code, said = _refused(server, f"--path={server.path}")
    assert f"--path={server.path}: --path has the same" in said


def test_a_path_that_no_socket_can_have_is_refused(server: Server) -> None:
    code, said = _refused(server, f"--path={server.directory}/{'x' * 108}")
    assert code == 1
    assert "(--path: allowed are 1 to 107 bytes)" in said
    assert _refused(server, "--path", "")[0] == 1


def test_a_program_that_can_not_be_executed_is_refused(server: Server, tmp_path: Path) -> None:
    def tried(name: str | Path, *options: str) -> tuple[int, str]:
        return _refused(server, *options, program=("--", str(name)))

    code, said = tried("no-such-program")
    assert code == 2
    assert "failed to exec no-such-program: No such file or directory (PATH=" in said
    plain = tmp_path / "plain"
    plain.write_text("#!/bin/sh\n")
    assert tried(plain) == (13, f"failed to exec {plain}: Permission denied\n")
    assert tried(tmp_path)[0] == 13
    assert tried("./plain", f"--dir={tmp_path}")[0] == 13
    broken = tmp_path / "broken"
    broken.write_text("#!/nonexistent/python -u\n")
    broken.chmod(0o755)
    code, said = tried(broken)
    assert code == 2
    assert f"{broken} needs /nonexistent/python, which can't be executed" in said


def test_a_program_is_looked_up_as_it_will_be_executed(server: Server, tmp_path: Path) -> None:
    """On the PATH that the envdir gives it, and from --dir."""
    work, env = tmp_path / "work", tmp_path / "env"
    (work / "bin").mkdir(parents=True)
    env.mkdir()
    program = work / "bin" / "program"
    program.write_text("exec sleep 60\n")  # without #!, as execvp allows
    program.chmod(0o755)
    code, _ = _refused(server, f"--dir={work}", program=("--", "program"))
    assert code == 2
    (env / "PATH").write_text(f"/nonexistent:bin:{os.environ['PATH']}\n")
    options = (f"--dir={work}", f"--envdir={env}", "--interval=0")
    server.start(*options, program=["program"]).wait_serving(1)
    assert server.stop() == 0
    server.start(f"--dir={work}", "--interval=0", program=["bin/program"]).wait_serving(1)
    assert server.stop() == 0


def test_all_that_the_host_refuses_is_told_at_once(server: Server) -> None:
    missing = server.directory / "missing"
    code, said = _refused(
        server,
        f"--pid-file={missing}/pid",
        f"--status-file={missing}/status",
        f"--dir={missing}",
        "--port=nonexistent.invalid:80",
        "--probe=tcp:what",
        program=("--", "no-such-program"),
    )
    heads = [line.partition(":")[0] for line in said.splitlines()]
    assert heads == [
        "failed to resolve host",
        "failed to open file",
        "--probe",
        f"failed to write {missing}/status",
        "failed to chdir",
    ]
    assert code == 255


def test_a_probe_that_would_always_succeed_is_refused(server: Server) -> None:
    port = free_port()
    code, said = _refused(server, f"--port={port}", f"--probe=tcp:localhost:{port}")
    assert code == 1
    assert "is a listener of start_server itself" in said


def test_an_fd_that_was_open_when_we_started_is_not_taken(server: Server) -> None:
    file = (server.directory / "precious").open("wb")
    fd = fcntl.fcntl(file, fcntl.F_DUPFD, 50)
    done = subprocess.run(
        [*command(), f"--port={free_port()}={fd}", *_PROGRAM],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
        pass_fds=[fd],
    )
    os.close(fd)
    file.close()
    assert done.returncode == 1
    assert done.stderr == f"--port: fd {fd} is taken: start_server was started with it open\n"


def test_an_fd_that_no_process_can_have_is_refused(server: Server) -> None:
    for fd in (resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 1, 2**31, 2**70):
        code, said = _refused(server, f"--port={free_port()}={fd}")
        assert code == 1
        assert f"--port: fd {fd} is too high (allowed: " in said


def test_the_longest_times_are_no_obstacle(server: Server) -> None:
    longest = str(10**9)
    server.start(
        f"--path={server.path}",
        "--enable-auto-restart",
        f"--auto-restart-interval={longest}",
        f"--grace={longest}",
        f"--readiness-timeout={longest}",
    ).wait_serving(1)
    assert server.client("--status", f"--control-socket={server.control}").returncode == 0
    assert server.stop() == 0


def test_a_udp_port_of_another_server_is_not_shared(server: Server) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        done = server.client(f"--path={server.path}", f"--port=127.0.0.1:u{port}", *_PROGRAM)
        assert done.returncode == 98
        assert f"failed to bind to 127.0.0.1:{port}: Address already in use (pid" in done.stderr
        assert not server.path.exists()


def test_who_has_an_address_already_is_said(server: Server) -> None:
    port = free_port()
    server.start(f"--path={server.path}", f"--port={port}").wait_serving(1)
    assert server.process is not None
    code, said = _refused(server)
    assert code == 98
    assert f"another server listens there (pid {server.process.pid}: " in said
    done = server.client(f"--port={port}", *_PROGRAM)
    assert f"Address already in use (pid {server.process.pid}: " in done.stderr


def test_the_checks_come_in_perls_order(server: Server) -> None:
    assert server.client("--daemonize").returncode == 255
    refused = server.client("--daemonize", *_PROGRAM)
    # with its slip of the pen
    words = "Usage: --log-file option must be specified together with --deamonize\n"
    assert (refused.returncode, refused.stderr) == (255, words)
    assert server.client("--port=x").stderr == "server program not specified\n"
    assert server.client("--version", "--daemonize").returncode == 0
    assert server.client("--stop", "--daemonize").returncode == 255
    refused = server.client("--json", *_PROGRAM)
    assert (refused.returncode, refused.stderr) == (1, "--json: needs --status\n")


def test_the_pid_file_of_another_server_stays_and_no_socket_is_left(server: Server) -> None:
    server.start().wait_serving(1)
    held = server.pid_file.read_text()
    done = server.client(f"--path={server.path}", f"--pid-file={server.pid_file}", *_PROGRAM)
    assert done.returncode == 11
    assert not server.path.exists()
    assert server.pid_file.read_text() == held
    assert stat.S_ISSOCK(server.control.stat().st_mode)


def test_what_was_made_is_removed_when_a_later_step_fails(server: Server) -> None:
    prelude = (
        "import supervisor_py.serve\n"
        "class Work:\n"
        "    def __init__(self, *values): raise OSError(24, 'Too many open files')\n"
        "supervisor_py.serve.Work = Work"
    )
    server.start(f"--path={server.path}", prelude=prelude)
    assert server.wait() == 1
    for file in (server.path, server.control, server.pid_file):
        assert not file.exists()


def test_a_locale_that_python_has_made_up_is_not_handed_on(server: Server) -> None:
    bare = {
        name: value for name, value in os.environ.items() if name[:3] != "LC_" and name != "LANG"
    }
    out = server.directory / "out"
    for given in ({}, {"LC_CTYPE": "C.UTF-8"}):
        process = subprocess.Popen(
            [*command(), "--", "/bin/sh", "-c", f"env >{out}; exec sleep 60"],
            stderr=subprocess.DEVNULL,
            env={**bare, "LANG": "C", **given},
        )
        wait_until(lambda: out.exists() and "LANG=C" in out.read_text(), "it runs")
        found = [line for line in out.read_text().splitlines() if line.startswith("LC_CTYPE")]
        process.terminate()
        assert process.wait(LIMIT) == 0
        assert found == [f"{name}={value}" for name, value in given.items()]
        out.unlink()


def test_what_is_asked_in_another_process_leaves_nothing_in_this_one() -> None:
    def refuse() -> None:
        os.chdir("/")
        raise FatalError("a\nand b", 7)

    before = Path.cwd()
    with pytest.raises(FatalError, match="a\nand b") as refusal:
        asking.ask(refuse)
    assert refusal.value.code == 7
    assert Path.cwd() == before
    asking.ask(lambda: None)
    with pytest.raises(FatalError, match="could not be checked: ZeroDivisionError"):
        asking.ask(lambda: print(1 // 0))
    with pytest.raises(FatalError, match="could not be checked: status:9"):
        asking.ask(lambda: os.kill(os.getpid(), signal.SIGKILL))


def test_a_start_without_processes_to_be_had_is_refused(server: Server) -> None:
    prelude = (
        "import os\n"
        "def fork(): raise BlockingIOError(11, 'Resource temporarily unavailable')\n"
        "os.fork = fork"
    )
    server.start(f"--path={server.path}", prelude=prelude)
    assert server.wait() == 11
    assert server.said() == "fork failed: Resource temporarily unavailable\n"
    assert not server.path.exists()


def test_a_runner_that_ignores_the_end_of_its_children_is_no_obstacle(server: Server) -> None:
    prelude = "import signal; signal.signal(signal.SIGCHLD, signal.SIG_IGN)"
    server.start(f"--path={server.path}", prelude=prelude).wait_serving(1)
    assert server.ask() == 1


def test_an_interrupted_command_says_no_more(server: Server) -> None:
    """At any moment before a server begins, and as a client."""
    prelude = (
        "import os, signal, supervisor_py.options\n"
        "def parse(*_): os.kill(os.getpid(), signal.SIGINT)\n"
        "supervisor_py.options.parse = parse"
    )
    done = subprocess.run(command(prelude=prelude), capture_output=True, timeout=LIMIT, check=False)
    assert (done.returncode, done.stderr) == (130, b"")


_AFTER_PID_FILE = """
import os, signal, supervisor_py.serve
class PidFile(supervisor_py.serve.PidFile):
    def __init__(self, path):
        super().__init__(path)
        os.kill(os.getpid(), signal.SIG{name})
supervisor_py.serve.PidFile = PidFile
"""


def test_a_stop_that_comes_before_anything_runs_is_obeyed(server: Server) -> None:
    prelude = _AFTER_PID_FILE.format(name="TERM")
    server.start(f"--path={server.path}", prelude=prelude)
    assert server.wait() == 0
    assert "received TERM" in server.said()
    for file in (server.path, server.pid_file, server.control, server.status_file):
        assert not file.exists()


def test_a_restart_that_is_asked_before_anything_runs_is_done(server: Server) -> None:
    server.start(f"--path={server.path}", prelude=_AFTER_PID_FILE.format(name="HUP"))
    server.wait_serving(2)
    assert server.ask() == 2
