"""Starts the real start_server, watches what it says, and leaves nothing of it behind.

No test here waits for time to pass. What must not go on yet waits at a Gate; a delay that is to be
over is skipped by a Clock; and settle() is over when a server has taken in all that has happened.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from supervisor_py import reaper

from ..ports import free_ports
from ..waiting import LIMIT, wait_until

ROOT = Path(__file__).parents[3]
CHILD = Path(__file__).with_name("child.py")
NEVER = "600"  # seconds: longer than any test waits, so it isn't the time that ends it

_RUN = """
import sys
sys.path.insert(0, {root!r})
{prelude}
from supervisor_py.{name} import main
main()
"""


def command(name: str = "cli", prelude: str = "", code: Path = ROOT) -> list[str]:
    """Return the command line of one of our commands, run as it is on a VPS.

    The prelude is Python that runs before it, to make the operating system fail.
    """
    return [sys.executable, "-ISE", "-c", _RUN.format(root=str(code), name=name, prelude=prelude)]


def _once(prelude: str) -> str:
    """Return a prelude that a server does not run twice: it begins by starting itself anew."""
    return f"""
import os
if os.environ.get({reaper.VARIABLE!r}) == str(os.getpid()):
    exec({prelude!r})
"""


# For a command that runs as nobody: what Python itself loads may be where only root can read.
AS_NOBODY = """
import os, supervisor_py.checks, supervisor_py.serve, supervisor_py.takeover, supervisor_py.users
os.setgroups([])
os.setgid({gid})
os.setuid({uid})
"""


def alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return state(pid) != "Z"
    return False


def state(pid: int) -> str:
    """Return a process's state, as proc(5) names it."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def halt(*pids: int) -> None:
    """Stop processes; when this is over, they do nothing more until they get CONT."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
        wait_until(lambda: state(pid) == "T", "it is stopped")  # noqa: B023


class Gate:
    """Where processes wait until the test lets them pass: a FIFO that nobody has written to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._reached = path.with_name(f"{path.name}.reached")
        os.mkfifo(path)
        self._fd = os.open(path, os.O_RDWR)

    def code(self) -> str:
        """Return Python that waits here, in a line."""
        return (
            f"import os; open({str(self._reached)!r}, 'w').close(); "
            f"os.read(os.open({str(self.path)!r}, os.O_RDONLY | os.O_CLOEXEC), 1)"
        )

    def wait_reached(self) -> None:
        """Wait until somebody waits here."""
        wait_until(self._reached.exists, f"somebody at {self.path.name}")

    def let_pass(self, times: int = 1) -> None:
        """Let so many pass, who are here or come later."""
        os.write(self._fd, b"." * times)

    def close(self) -> None:
        """Hold nobody back any more."""
        os.close(self._fd)


_CLOCK = """
import time
_monotonic = time.monotonic
def _skipping():
    try:
        with open({file!r}) as file:
            return _monotonic() + float(file.read())
    except FileNotFoundError:  # not put forward yet
        return _monotonic()
time.monotonic = _skipping
"""


# For a log command, which gets five seconds to read to the end when its server ends.
PATIENT = f"from supervisor_py import logger\nlogger._PATIENCE = {NEVER}"


class Clock:
    """The monotonic clock of a server that was started with its prelude: it can be put forward."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._skipped = 0.0
        self.prelude = _CLOCK.format(file=str(file))

    def skip(self, seconds: float) -> None:
        """Put it forward; a server that waits for something learns of it when it is woken."""
        self._skipped += seconds
        new = self._file.with_suffix(".new")
        new.write_text(str(self._skipped))
        new.replace(self._file)


class Server:
    """One start_server and its files in a directory of its own."""

    def __init__(self, directory: Path, code: Path = ROOT) -> None:
        self.directory = directory
        self.code = code
        self.plan_file = directory / "plan"
        self.log = directory / "log"
        self.pid_file = directory / "pid"
        self.status_file = directory / "status"
        self.control = directory / "control"
        self.path = directory / "listen.sock"
        self.process: subprocess.Popen[bytes] | None = None
        self._gates: list[Gate] = []
        self._clients: list[subprocess.Popen[str]] = []
        self.clock = Clock(directory / "clock")
        self.plan(ready=True)

    def plan(self, **behaviour: object) -> None:
        """Say how the next generations behave; at once, as one may be starting."""
        new = self.plan_file.with_suffix(".new")
        new.write_text(json.dumps(behaviour, default=str))
        new.replace(self.plan_file)

    def gate(self) -> Gate:
        """Make a gate; in a plan it is `gate=gate.path`."""
        one = Gate(self.directory / f"gate-{len(self._gates)}")
        self._gates.append(one)
        return one

    def skip(self, seconds: float) -> None:
        """Let so many seconds be over, for a server that runs by its own clock."""
        self.clock.skip(seconds)
        self.settle()

    def start(
        self,
        *options: str,
        program: list[str] | None = None,
        env: Mapping[str, str] | None = None,
        prelude: str = "",
        **popen: Any,
    ) -> "Server":
        """Start it; options come before our own, so that a test can't overrule the files.

        Our child is waited for: it says READY=1, however long a busy machine takes to start it.
        """
        child = [sys.executable, "-ISE", str(CHILD), str(self.plan_file)]
        chosen = program or any(one.startswith(("--interval", "--readiness=")) for one in options)
        own = () if chosen else ("--readiness=notify",)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *command(prelude=_once(prelude), code=self.code),
                    *options,
                    *own,
                    f"--pid-file={self.pid_file}",
                    f"--status-file={self.status_file}",
                    f"--control-socket={self.control}",
                    "--",
                    *(program or child),
                ],
                stdout=log,
                stderr=log,
                env={**os.environ, **(env or {})},
                start_new_session=True,
                **popen,
            )
        return self

    def said(self) -> str:
        return self.log.read_text()

    def wait_for(self, text: str, times: int = 1) -> None:
        try:
            wait_until(lambda: self.said().count(text) >= times, f"{times} times {text!r}")
        except AssertionError as error:
            raise AssertionError(f"{error}; said:\n{self.said()}") from None

    def generations(self) -> dict[int, int]:
        """Return pids by generation, as the status file has them."""
        if not self.status_file.exists():
            return {}
        pairs = (line.split(":") for line in self.status_file.read_text().splitlines())
        return {int(number): int(pid) for number, pid in pairs}

    def wait_serving(self, *numbers: int) -> None:
        """Wait until just these generations serve or are about to end."""
        try:
            wait_until(lambda: sorted(self.generations()) == sorted(numbers), f"{numbers}")
        except AssertionError as error:
            raise AssertionError(f"{error}: {self.generations()}; {self.said()}") from None

    def record(self, number: int) -> dict[str, Any]:
        """Return what a generation was given."""
        file = self.directory / f"generation-{number}.json"
        wait_until(file.exists, f"generation {number} runs")
        found: dict[str, Any] = json.loads(file.read_text())
        return found

    def wait_starting(self) -> int:
        """Wait for a generation that does not say that it is ready; return its number."""
        found: list[int] = []

        def is_starting() -> bool:
            found[:] = [
                one["number"] for one in self.status()["generations"] if one["phase"] == "starting"
            ]
            return bool(found) and not self.record(found[0])["plan"].get("ready")

        wait_until(is_starting, "a generation that is not ready")
        return found[0]

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def wait(self, limit: float = LIMIT) -> int:
        assert self.process is not None
        return self.process.wait(limit)

    def stop(self) -> int:
        self.signal(signal.SIGTERM)
        return self.wait()

    def client(self, *options: str) -> "subprocess.CompletedProcess[str]":
        """Run start_server as a client, such as --restart."""
        return subprocess.run(
            [*command(code=self.code), *options],
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )

    def begin_client(self, option: str) -> "subprocess.Popen[str]":
        """Run start_server as a client of this server, without waiting for its end."""
        words = [*command(code=self.code), option, f"--control-socket={self.control}"]
        one = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
        self._clients.append(one)
        return one

    def status(self) -> dict[str, Any]:
        """Return what it tells of itself, asked without a client of its own."""
        with connect(str(self.control)) as connection, connection.makefile() as answer:
            connection.sendall(b"status\n")
            word, _, text = answer.read().partition(" ")
        assert word == "done", text
        found: dict[str, Any] = json.loads(text)
        return found

    def settle(self) -> None:
        """Wait until it has taken in, and acted on, all that has happened before."""
        for _ in range(2):  # the first answer may come before what was there already is acted on
            self.status()

    def restart(self, *options: str) -> "subprocess.CompletedProcess[str]":
        return self.client("--restart", f"--control-socket={self.control}", *options)

    def ask(self, address: str | int | None = None) -> int:
        """Return the number of the generation that answers a connection."""
        with contextlib.closing(connect(address or str(self.path))) as connection:
            answer = b""
            while data := connection.recv(100):  # to its end, so that the server closes first
                answer += data
            return int(answer)

    def clean_up(self) -> None:
        """End all that the test has left of its session."""
        for gate in self._gates:
            gate.close()
        for client in self._clients:
            client.kill()
            client.communicate()
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


class Activated(Server):
    """A server that is started as systemd starts one, with listening sockets from fd 3 on."""

    def activate(
        self, sockets: Sequence[socket.socket], names: str, *options: str, **env: str
    ) -> None:
        held = [os.dup(one.fileno()) for one in sockets]
        high = [os.dup2(fd, 100 + at) for at, fd in enumerate(held)]
        moves = "; ".join(f"os.dup2({fd}, {3 + at}); os.close({fd})" for at, fd in enumerate(high))
        prelude = (
            f"import os\nif 'LISTEN_PID' not in os.environ:\n    {moves}\n"
            f"    os.environ['LISTEN_PID'] = os.environ.pop('WRONG_PID', str(os.getpid()))\n"
        )
        variables = {"LISTEN_FDS": str(len(sockets)), "LISTEN_FDNAMES": names, **env}
        self.start(*options, prelude=prelude, env=variables, pass_fds=high)
        for fd in [*held, *high]:
            os.close(fd)


def connect(address: str | int, timeout: float = LIMIT) -> socket.socket:
    if isinstance(address, int):
        return socket.create_connection(("127.0.0.1", address), timeout)
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(timeout)
    try:
        connection.connect(address)
    except OSError:
        connection.close()  # clients that are refused for minutes would run out of descriptors
        raise
    return connection


def free_port() -> int:
    """Return a port that nobody has, of TCP and of UDP."""
    (port,) = free_ports(1)
    return port
