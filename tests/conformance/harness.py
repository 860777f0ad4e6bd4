"""Runs one script with Perl's start_server and with ours, and notes what can be seen of each."""

import contextlib
import functools
import itertools
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from ast import literal_eval
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from supervisor_py import __version__
from tests.process.ports import free_ports
from tests.process.supervisor.harness import alive, command, halt
from tests.process.waiting import LIMIT

CHILD = Path(__file__).with_name("child.py")
PERL_COMMAND = ["/usr/bin/perl", "/usr/bin/start_server"]
VERSION = "0.35"
# runs; they mostly wait
AT_ONCE = max(6, 28 // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))
SAYS = "hello"  # what a child says, when it says something
PAUSE, MOST_PAUSE = 0.02, 0.1  # seconds between two looks: the first, and after a while
HANGS = 3.0  # seconds of nothing, after which Perl's is taken to hang where it is known to
Plan = Mapping[int, Mapping[str, object]]
Notes = dict[str, object]


def missing() -> str:
    """Return why there is nothing to compare with, "" when there is."""
    try:
        words = [*PERL_COMMAND, "--version"]
        found = subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "Perl's start_server is not installed: apt-get install libserver-starter-perl"
    if found != VERSION:
        return f"Perl's start_server is {found}; what ours stands in for is {VERSION}"
    return ""


@functools.cache
def perl_keeps_equals() -> bool:
    """Whether this Perl hands on a variable with a = in its name: 5.36 does, 5.40 does not."""
    script = '$ENV{"A=B"} = "x"; exec "env"'
    try:
        said = subprocess.run(
            [PERL_COMMAND[0], "-e", script], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return True  # there is nothing to compare with
    return "A=B=x" in said.stdout.splitlines()


@dataclass(frozen=True)
class Contender:
    """One of the two that are compared."""

    name: str
    command: Callable[[str], list[str]]  # of a prelude


def _perl(prelude: str) -> list[str]:
    if not prelude:
        return PERL_COMMAND
    return [PERL_COMMAND[0], "-e", f'{prelude}; do "{PERL_COMMAND[1]}" or die $@', "--"]


PERL = Contender("perl", _perl)
OURS = Contender("ours", lambda prelude: command(prelude=prelude))


class StuckError(Exception):
    """What a script waited for did not come."""


@dataclass(frozen=True)
class Differs:
    """A note that shows a deviation (by its title), and what it must be on our side.

    `ours` is a pattern to be found in a text or in a line, or the very value; None is anything.
    """

    deviation: str
    ours: object = None

    def fits(self, value: object) -> bool:
        if isinstance(self.ours, str):
            lines = value if isinstance(value, list) else [value]
            return any(re.search(self.ours, str(line)) for line in lines)
        return self.ours is None or self.ours == value


@dataclass(frozen=True)
class Case:
    """One script for both: how they are started, what happens to them, what may differ.

    In texts, @DIR@ stands for a directory of the run's own, @P1@ to @P9@ for free ports, @RUN@ for
    a program that runs child.py. `program` None is child.py. With `verbatim` the options are the
    whole command line. `starts` false: the script runs clients alone. `deviates` tells by note (a
    pattern as in file names) what differs; what begins with a "?" may be the same by chance.
    `ours` are options that only ours has; `preludes` are run before a contender, in its language.
    """

    id: str
    options: Sequence[str] = ()
    script: Callable[["Run"], None] | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    plan: Plan = field(default_factory=dict)
    program: Sequence[str] | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    interval: str | None = "0"
    umask: int = 0o022
    verbatim: bool = False
    prelude: Callable[["Run"], None] | None = None
    starts: bool = True
    ours: Sequence[str] = ()
    preludes: Mapping[str, str] = field(default_factory=dict)
    deviates: Mapping[str, "Differs"] = field(default_factory=dict)


def _waits(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ST"
    return False


class Run:
    """One start_server, alive for one script; `notes` is what was seen of it."""

    def __init__(self, contender: Contender, case: Case, directory: Path) -> None:
        self.contender = contender
        self.case = case
        self.directory = directory
        self.notes: Notes = {}
        self.process: subprocess.Popen[bytes] | None = None
        wanted = re.findall(r"@P(\d)@", repr(case))
        self._ports_wanted = max(map(int, wanted), default=0)
        self.ports: list[int] = []
        self.held: list[socket.socket] = []  # what a script keeps open until the end
        self._sessions: list[int] = []
        self._daemon = 0  # its pid, when it has left our session
        self._pids: dict[int, str] = {}
        self._limit = LIMIT
        self.began = 0.0

    def _prepare(self) -> None:
        self.ports = free_ports(self._ports_wanted)
        self.directory.mkdir(parents=True)
        self.plan(self.case.plan)
        self.path("run").write_text(f'#!/bin/sh\nexec {shlex.join(self.child())} "$@"\n')
        self.path("run").chmod(0o755)
        for name, text in self.case.files.items():
            file = self.directory / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(os.fsencode(self.fill_in(text)))
        if self.case.prelude:
            self.case.prelude(self)

    # What a script does

    def fill_in(self, text: str) -> str:
        text = text.replace("@RUN@", "@DIR@/run").replace("@DIR@", str(self.directory))
        return re.sub(r"@P(\d)@", lambda found: str(self.ports[int(found[1]) - 1]), text)

    def path(self, name: str) -> Path:
        return self.directory / name

    def plan(self, plan: Plan) -> None:
        """Say how the next generations behave."""
        temporary = self.path("plan.new")
        temporary.write_text(repr(dict(plan)))
        temporary.rename(self.path("plan"))

    def child(self) -> list[str]:
        return [sys.executable, "-ISE", str(CHILD), str(self.directory)]

    def command(self) -> list[str]:
        prelude = self.case.preludes.get(self.contender.name, "")
        return self.contender.command(self.fill_in(prelude))

    def arguments(self) -> list[str]:
        case = self.case
        if case.verbatim:
            return [self.fill_in(word) for word in case.options]
        program = self.child() if case.program is None else list(map(self.fill_in, case.program))
        given = [f"--interval={case.interval}"] if case.interval is not None else []
        own = case.ours if self.contender is OURS else ()
        return [*given, *map(self.fill_in, (*case.options, *own)), "--", *program]

    def environment(self) -> dict[str, str]:
        base = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
        given = {name: self.fill_in(value) for name, value in self.case.env.items()}
        return {name: value for name, value in (base | given).items() if value != "@UNSET@"}

    def start(self) -> None:
        self.began = time.monotonic()
        with self.path("stdout").open("ab") as out, self.path("stderr").open("ab") as err:
            self.process = subprocess.Popen(
                [*self.command(), *self.arguments()],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=self.environment(),
                cwd=self.directory,
                start_new_session=True,
                umask=self.case.umask,
            )
        self._sessions.append(self.process.pid)

    def running(self) -> subprocess.Popen[bytes]:
        assert self.process is not None
        return self.process

    def over(self) -> bool:
        return self.running().poll() is not None

    def said(self) -> str:
        """Return all messages so far, those in a log file too."""
        files = (self.path("stderr"), self.path("log"))
        texts = [file.read_text(errors="surrogateescape") for file in files if file.is_file()]
        return "".join(texts)

    def wait_until(self, fulfilled: Callable[[], object], what: str) -> None:
        if not self.holds_within(fulfilled, self._limit):
            raise StuckError(f"waited {self._limit:g} s for {what}")

    def perls_hangs(self) -> None:
        """Take Perl's for stuck, from now on, where nothing happens for some seconds."""
        if self.contender is PERL:
            self._limit = HANGS

    def comes(self, fulfilled: Callable[[], object], seconds: float = HANGS) -> bool:
        """Tell whether it comes true: Perl's, where it should not, is given so many seconds."""
        return self.holds_within(fulfilled, seconds if self.contender is PERL else LIMIT)

    def comes_with_perls(self, fulfilled: Callable[[], object], seconds: float = HANGS) -> bool:
        """Tell whether it comes true: ours, where it should not, is given so many seconds."""
        return self.holds_within(fulfilled, seconds if self.contender is OURS else LIMIT)

    def holds_within(self, fulfilled: Callable[[], object], seconds: float) -> bool:
        """Tell whether it comes true within so many seconds."""
        ends = time.monotonic() + seconds
        pause = PAUSE
        while not fulfilled():
            if time.monotonic() > ends:
                return False
            time.sleep(pause)  # between two looks, at what tells nobody that it changes
            pause = min(pause * 1.3, MOST_PAUSE)
        return True

    def leave_alone(self, seconds: float) -> None:
        """Give it the time to do what it should not: no event tells that nothing happens."""
        self.holds_within(self.over, seconds)

    def wait_for(self, text: str, times: int = 1) -> None:
        """Wait until the text was said so many times."""
        self.wait_until(lambda: self.said().count(text) >= times, f"{times} times {text!r}")

    def record_of(self, number: int) -> dict[str, Any] | None:
        """Return what a generation was given; None while it isn't known."""
        try:
            text = self.path(f"generation-{number}.record").read_text(errors="surrogateescape")
        except FileNotFoundError:
            return None
        found: dict[str, Any] = literal_eval(text)
        return found

    def wait_record(self, number: int = 1) -> dict[str, Any]:
        self.wait_until(lambda: self.record_of(number), f"generation {number} to run")
        found = self.record_of(number)
        assert found is not None
        return found

    def started(self, number: int = 1) -> bool:
        """Wait until a generation runs; False when start_server ends instead."""
        self.wait_until(
            lambda: self.over() or self.record_of(number), f"generation {number}, or the end"
        )
        return not self.over()

    def follow(self, daemon: int) -> None:
        """Take a process that has gone into the background for the server from now on."""
        self._daemon = daemon
        self._pids[daemon] = "<daemon>"

    def alive(self) -> bool:
        return alive(self._daemon) if self._daemon else not self.over()

    def signal(self, name: str) -> None:
        """Send a signal when the server waits: Perl's loses one that comes just before it does."""
        pid = self._daemon or self.running().pid
        self.holds_within(lambda: not self.alive() or _waits(pid), 10)
        number = getattr(signal, f"SIG{name}")
        if self._daemon:
            os.kill(pid, number)
        elif name == "STOP":
            halt(pid)
        else:
            self.running().send_signal(number)

    def wait_heard(self) -> None:
        """Wait until it has acted on the signals that it was sent, and waits for more."""
        pid = self.running().pid
        status = Path(f"/proc/{pid}/status")

        def is_heard() -> bool:
            return "ShdPnd:\t0000000000000000" in status.read_text() and _waits(pid)

        self.wait_until(is_heard, "signals to be acted on")

    def age(self) -> float:
        """Return how many seconds ago it was started."""
        return time.monotonic() - self.began

    def worker(self, number: int) -> int:
        pid: int = self.wait_record(number)["pid"]
        return pid

    def signal_worker(self, number: int, name: str) -> None:
        os.kill(self.worker(number), getattr(signal, f"SIG{name}"))

    def hup(self, number: int) -> None:
        """Ask for a restart, and wait until that generation runs and all older ones are gone."""
        before = self.said().count("old worker ")
        self.signal("HUP")
        self.wait_record(number)
        self.wait_for("old worker ", before + 1)

    def end(self, name: str = "TERM") -> None:
        if not self.over():
            self.signal(name)
        self.wait_end()

    def wait_end(self) -> None:
        try:
            self.notes["exit status"] = self.running().wait(self._limit)
        except subprocess.TimeoutExpired:
            raise StuckError(f"did not end within {self._limit:g} s") from None

    def client(self, label: str, *options: str) -> int:
        """Run start_server again, as a client of the one that runs; note its outcome."""
        return self.outcome(label, self.begin_client(*options))

    def begin_client(self, *options: str) -> "subprocess.Popen[str]":
        words = [*self.command(), *map(self.fill_in, options)]
        return subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment(),
            cwd=self.directory,
            start_new_session=True,
        )

    def outcome(self, label: str, process: "subprocess.Popen[str]") -> int:
        """Wait until a client has ended, and note its outcome."""
        self._pids[process.pid] = f"<{label}>"
        try:
            out, err = process.communicate(timeout=self._limit)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise StuckError(f"{label} did not end within {self._limit:g} s") from None
        self.notes[f"{label}: exit status"] = process.returncode
        self.notes[f"{label}: stdout"] = _without_version(out.splitlines())
        self.notes[f"{label}: stderr"] = err.splitlines()
        return process.returncode

    def generations(self) -> list[int]:
        """Return the numbers in the status file."""
        with contextlib.suppress(FileNotFoundError):
            lines = self.path("status").read_text().splitlines()
            return sorted(int(line.partition(":")[0]) for line in lines)
        return []

    def files(self) -> list[str]:
        """Return the names of what lies in the directory, but for our own."""
        ours = re.compile(
            r"stdout|stderr|run|status\.\d+|plan(\.new)?|(generation-.*|.*)\.record|record\..*"
        )
        found = (str(file.relative_to(self.directory)) for file in self.directory.rglob("*"))
        return sorted(name for name in found if not ours.fullmatch(name))

    def look(self, label: str, *generations: int) -> None:
        """Note the files, as soon as the status file has these generations."""
        if generations:
            self.wait_until(lambda: self.generations() == list(generations), f"{generations}")
        self.notes[f"{label}: files"] = self.files()
        for name in ("pid", "status"):
            with contextlib.suppress(FileNotFoundError):
                self.notes[f"{label}: {name} file"] = self.path(name).read_text()

    # What is seen of it

    def run(self) -> Notes:
        """Carry the script out; leave no process behind."""
        try:
            try:
                self._prepare()
                if "?stuck" in self.case.deviates:
                    self.perls_hangs()
                if self.case.starts:
                    self.start()
                (self.case.script or serve)(self)
            except StuckError as stuck:
                self.notes["stuck"] = str(stuck)
            self._collect()
        finally:
            self._clean_up()
        return self.notes

    def _clean_up(self) -> None:
        for one in self.held:
            one.close()
        if self.process is None:
            return
        for session in self._sessions:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(session, signal.SIGKILL)
        if self._daemon and self.alive():
            os.killpg(os.getpgid(self._daemon), signal.SIGKILL)
        self.process.wait()

    def _collect(self) -> None:
        notes = self.notes
        if self.process is not None:
            self._pids[self.process.pid] = "<server>"
            self._collect_server()
        for key, value in notes.items():
            notes[key] = self._normal(value)
        for key in notes.keys() & {"messages", "log"}:
            lines = notes[key]
            assert isinstance(lines, list)
            notes[key] = _in_order(lines)

    def _collect_server(self) -> None:
        notes = self.notes
        records = {
            number: self.record_of(number)
            for file in self.directory.glob("generation-*.record")
            for number in [int(file.name.removeprefix("generation-").removesuffix(".record"))]
        }
        text = self.said()
        for number, found in enumerate(re.findall(r"starting new worker (\d+)", text), 1):
            self._pids[int(found)] = f"<worker {number}>"
        for number, record in sorted(records.items()):
            if record is not None:
                self._note_record(f"generation {number}", record)
        notes["messages"] = self._lines("stderr")
        notes["stdout"] = _without_version(self._lines("stdout"))
        if self.path("log").is_file():
            notes["log"] = self._lines("log")
        notes["files in the end"] = self.files()

    def _lines(self, name: str) -> list[str]:
        return self.path(name).read_text(errors="surrogateescape").splitlines()

    def _note_record(self, label: str, record: Mapping[str, Any]) -> None:
        notes = self.notes
        asked = {int(fd) for fd in re.findall(r"port[= ]\S+=(\d+)\b", " ".join(self.arguments()))}
        notes[f"{label}: sockets"] = [
            {
                **{key: value for key, value in one.items() if key != "fd"},
                "fd": one["fd"] if one["fd"] in asked else "automatic",
                "address": self._normal_address(one["address"]),
            }
            for one in record["sockets"]
        ]
        fds = {f"={one['fd']}": "=<fd>" for one in record["sockets"] if one["fd"] not in asked}
        for item in record["environment"]:
            name, _, value = item.partition("=")
            if name == "SERVER_STARTER_PORT":
                value = re.sub(r"=\d+(?=;|$)", lambda found: fds.get(found[0], found[0]), value)
            key = f"{label}: {name}"
            notes[key] = f"{notes[key]} AND {value}" if key in notes else value
        for key in ("arguments", "directory", "umask", "blocked", "other fds"):
            notes[f"{label}: {key}"] = record[key]
        for name, target in zip(("stdin", "stdout", "stderr"), record["standard fds"], strict=True):
            notes[f"{label}: {name}"] = re.sub(r"(pipe|socket):\[\d+\]", r"<\1>", target)
        pid = self.running().pid
        notes[f"{label}: is the server's child"] = record["parent"] == pid
        notes[f"{label}: is in the server's group"] = record["group"] == pid
        notes[f"{label}: is in the server's session"] = record["session"] == pid

    def _normal(self, value: object) -> object:
        if isinstance(value, str):
            return self._normal_text(value)
        if isinstance(value, list | tuple):
            return [self._normal(one) for one in value]
        if isinstance(value, dict):
            return {name: self._normal(one) for name, one in value.items()}
        return value

    def _normal_address(self, address: object) -> object:
        if not isinstance(address, tuple):
            return address
        host, port, *rest = address
        name = f"<port {self.ports.index(port) + 1}>" if port in self.ports else "<any port>"
        return (host, name, *rest)

    def _normal_text(self, text: str) -> str:
        text = text.replace(str(self.directory), "<directory>")
        # as Getopt::Long has it since 2.58
        text = text.replace("(integer number expected)", "(number expected)")
        return re.sub(r"(?<![\d.])\d{2,}(?!\d)", self._normal_number, text)

    def _normal_number(self, found: re.Match[str]) -> str:
        number = int(found[0])
        before = found.string[: found.start()].rpartition("\n")[2]
        if number in self._pids and (not before or re.search(r"worker|pid|^\d+:$", before)):
            return self._pids[number]
        return f"<port {self.ports.index(number) + 1}>" if number in self.ports else found[0]


_DEATH = re.compile(r"(?:old )?worker \S+ \d+> died, status:")
_LIST = re.compile(r"(?<=workers:)<.*")


def _in_order(lines: Sequence[str]) -> list[str]:
    """Sort what has no order: the pids of a list, deaths after a signal to all, a child's words."""
    lines = [_LIST.sub(lambda found: ",".join(sorted(found[0].split(","))), line) for line in lines]
    said = sorted(line for line in lines if line.startswith(SAYS))
    lines = [line for line in lines if not line.startswith(SAYS)]
    result: list[str] = []
    for is_death, found in itertools.groupby(lines, lambda line: bool(_DEATH.match(line))):
        group = list(found)
        result += sorted(group) if is_death else group
    return result + said


def _without_version(lines: Sequence[str]) -> list[str]:
    return ["<version>" if line in (VERSION, __version__) else line for line in lines]


def serve(run: Run) -> None:
    """Let it serve and stop it; or see it refuse."""
    if run.started():
        run.look("serving")
    run.end()


def perl_may_hang(script: Callable[[Run], None]) -> Callable[[Run], None]:
    """Make a script one that takes Perl's for stuck after some seconds of nothing."""

    def hanging(run: Run) -> None:
        run.perls_hangs()
        script(run)

    return hanging


class Results:
    """The notes of both contenders by case; a question starts those that come after it, too.

    Not all that were chosen: where several processes run tests, each has its part of them.
    """

    def __init__(self, directory: Path, chosen: Iterable[Case]) -> None:
        self._directory = directory
        self._chosen = list(chosen)
        self._pool = ThreadPoolExecutor(AT_ONCE)
        self._running: dict[tuple[str, str], Future[Notes]] = {}
        self._runs = 0

    def _begin(self, case: Case) -> None:
        for contender in (PERL, OURS):
            if (case.id, contender.name) not in self._running:
                self._runs += 1
                directory = self._directory / f"{self._runs:04}"
                run = Run(contender, case, directory)
                self._running[case.id, contender.name] = self._pool.submit(run.run)

    def of(self, case: Case) -> tuple[Notes, Notes]:
        """Return Perl's notes and ours."""
        self._begin(case)
        at = self._chosen.index(case) if case in self._chosen else len(self._chosen)
        for one in self._chosen[at : at + AT_ONCE // 2]:
            self._begin(one)
        perl, ours = (self._running[case.id, one.name].result() for one in (PERL, OURS))
        return perl, ours

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)
