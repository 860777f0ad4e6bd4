"""Where output goes: to stderr, a log file or a command, whole, in order, and in nobody's way."""

import fcntl
import itertools
import os
import re
import signal
import sys
import termios
from pathlib import Path

import pytest

from ..waiting import LIMIT, wait_until
from .harness import NEVER, PATIENT, Server, alive, halt, state

TALKER = Path(__file__).with_name("talker.py")


def _talk(server: Server, *options: str, **start: object) -> Server:
    program = [sys.executable, "-ISE", str(TALKER), str(server.plan_file)]
    return server.start("--readiness=notify", *options, program=program, **start)  # type: ignore[arg-type]


def _assert_whole(text: str, *numbers: int) -> None:
    """See that of each generation every line is there, in order."""
    for number in numbers:
        found = re.findall(rf"^{number}: (.*)$", text, re.MULTILINE)
        counted = [int(line) for line in found[:-1]]
        assert counted == list(range(1, len(counted) + 1))
        assert found[-1] == f"ended after {len(counted)}"


FLOOD_LINE = len(f"flood {0:08d} {'x' * 100}\n")


def _flood(text: str) -> int:
    """Return the size of what a flood wrote: of what came through, and of what is said to be lost.

    A loss is said where it is.
    """
    size, due = 0, 0
    for line in text.splitlines():
        if lost := re.fullmatch(r"(\d+) bytes of output were lost: it was not read", line):
            size += int(lost[1])
            due = size // FLOOD_LINE
        elif line.startswith("flood "):
            size += FLOOD_LINE
            number = int(line.split()[1])
            assert number == due or number + 1 == due, "some of our own may be lost too"
            due = number + 1
    return size


def _take_stderr(write_end: int) -> str:
    """Return a prelude that makes a pipe our stderr, as a slow reader has it."""
    return f"import os\nos.dup2({write_end}, 2)\nos.close({write_end})"


def test_a_log_file_takes_in_all_output_once_the_server_is_up(server: Server) -> None:
    log = server.directory / "out"
    log.write_text("before\n")
    server.plan(stdout=["# says\n"], stderr=["# warns\n"])
    _talk(server, f"--log-file={log}").wait_serving(1)
    assert server.restart().returncode == 0
    assert server.stop() == 0
    lines = log.read_text().splitlines()
    assert lines[0] == "before", "it is appended to"
    assert [one for one in lines if one.endswith("says")] == ["1 says", "2 says"]
    assert [one for one in lines if one.endswith("warns")] == ["1 warns", "2 warns"]
    assert sum(one.startswith("starting new worker") for one in lines) == 2
    assert lines[-1] == "exiting"
    assert re.fullmatch(r"start_server \(pid:\d+\) starting now...\n", server.said())


def test_without_a_log_file_stdout_is_left_alone(server: Server) -> None:
    out = server.directory / "stdout"
    server.plan(stdout=["# says\n"], stderr=["# warns\n"])
    prelude = f"import os\nos.dup2(os.open({str(out)!r}, os.O_WRONLY | os.O_CREAT), 1)"
    _talk(server, prelude=prelude).wait_serving(1)
    assert out.read_text() == "1 says\n"
    pid = server.generations()[1]
    assert Path(f"/proc/{pid}/fd/1").readlink() == out
    assert server.stop() == 0
    assert "1 warns\n" in server.said()


def test_usr1_begins_a_new_file_for_running_generations_too_and_no_line_is_lost(
    server: Server,
) -> None:
    log = server.directory / "out"
    server.plan(count=True, pause=0.001)
    _talk(server, f"--log-file={log}").wait_serving(1)
    for number in range(5):
        log.rename(server.directory / f"out.{number}")
        server.signal(signal.SIGUSR1)
        wait_until(log.exists, "a new file")
        if number == 2:
            assert server.restart().returncode == 0
        wait_until(lambda: log.read_text().count("\n") > 30, "it is written to")
    assert server.stop() == 0
    parts = [(server.directory / f"out.{number}").read_text() for number in range(5)]
    parts.append(log.read_text())
    assert all(part.endswith("\n") for part in parts)
    assert all("received USR1, reopening the log\n" in part for part in parts[1:])
    _assert_whole("".join(parts), 1, 2)


def test_a_log_that_can_not_be_reopened_goes_on_where_it_was(server: Server) -> None:
    directory = server.directory / "logs"
    directory.mkdir()
    log = directory / "out"
    server.plan(count=True)
    _talk(server, f"--log-file={log}").wait_serving(1)
    away = directory.rename(server.directory / "away") / "out"
    server.signal(signal.SIGUSR1)
    said = f"the log stays as it was: failed to open {log}: No such file or directory\n"
    wait_until(lambda: said in away.read_text(), "the complaint")
    size = away.stat().st_size
    wait_until(lambda: away.stat().st_size > size, "lines go on")
    away.parent.rename(directory)
    server.signal(signal.SIGUSR1)
    wait_until(lambda: "received USR1" in log.read_text(), "it can be reopened again")
    assert server.stop() == 0
    _assert_whole(log.read_text(), 1)


def test_a_log_that_is_a_fifo_holds_nobody_up_and_can_be_replaced(server: Server) -> None:
    log = server.directory / "out"
    os.mkfifo(log)
    server.plan(flood=1500)
    _talk(server, f"--path={server.path}", f"--log-file={log}")
    assert server.wait() == 6, "ENXIO: nobody reads it"
    assert f"failed to open log file:{log}: No such device or address" in server.said()
    assert not server.path.exists()

    reader = os.open(log, os.O_RDONLY | os.O_NONBLOCK)
    try:
        _talk(server, f"--log-file={log}").wait_serving(1)
        log.rename(server.directory / "fifo")
        server.signal(signal.SIGUSR1)
        wait_until(lambda: log.exists() and "received USR1" in log.read_text(), "a new file")
        text = os.read(reader, 1 << 20).decode() + log.read_text()
        assert _flood(text) == 1500 * FLOOD_LINE
        assert server.stop() == 0
    finally:
        os.close(reader)


def test_a_log_command_gets_every_line_to_the_last_and_nothing_of_its_own(server: Server) -> None:
    out = server.directory / "out"
    server.plan(count=True, pause=0.001, stdout=["# says\n"])
    options = (f"--path={server.path}", f"--log-file=| tee -a {out}")
    _talk(server, *options, prelude=PATIENT).wait_serving(1)
    assert server.restart().returncode == 0
    assert server.stop() == 0, "and soon: the command hears of the end of its input"
    text = out.read_text()
    assert text.endswith("exiting\n")
    assert re.findall(r"^\d says$", text, re.MULTILINE) == ["1 says", "2 says"]
    _assert_whole(text, 1, 2)
    assert server.said().endswith(text), "what it writes itself goes where our output went before"


def _commands(server: Server) -> Path:
    """Return a file of the pids of log commands, and write the command."""
    script = server.directory / "take"
    script.write_text(
        f"#!/bin/sh\necho $$ >> {server.directory}/pids\nexec cat >> {server.directory}/out\n"
    )
    script.chmod(0o755)
    return server.directory / "pids"


def _kill_waiting(server: Server, command: int) -> None:
    """Kill a log command while it waits: what it has read and not written dies with it."""
    assert server.process is not None
    writers = [server.process.pid, *server.generations().values()]
    halt(*writers)
    with Path(f"/proc/{command}/fd/0").open("rb") as pipe:
        wait_until(lambda: _unread(pipe.fileno()) == 0, "it has read all")
    wait_until(lambda: state(command) == "S", "it has written all, and waits")
    os.kill(command, signal.SIGKILL)
    wait_until(lambda: not alive(command), "it is dead: a read that is woken takes what comes")
    for one in writers:
        os.kill(one, signal.SIGCONT)


def _unread(pipe: int) -> int:
    """Return how many bytes a pipe holds."""
    return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)


def test_a_log_command_that_is_killed_is_started_again_and_no_line_is_lost(
    server: Server,
) -> None:
    pids, out = _commands(server), server.directory / "out"
    server.plan(count=True, pause=0.003)
    command = f"--log-file=|exec {server.directory}/take"
    _talk(server, command, prelude=PATIENT).wait_serving(1)
    for times in (1, 2):
        wait_until(lambda: pids.read_text().count("\n") == times, "it runs")  # noqa: B023
        size = out.stat().st_size if out.exists() else 0
        wait_until(lambda: out.exists() and out.stat().st_size > size, "it writes")  # noqa: B023
        _kill_waiting(server, int(pids.read_text().split()[-1]))
    wait_until(lambda: pids.read_text().count("\n") == 3, "it runs")
    assert server.stop() == 0
    text = out.read_text()
    assert len(re.findall(r"^the log command \d+ died, status:9, restarting$", text, re.M)) == 2
    _assert_whole(text, 1)


def test_a_log_command_that_is_dead_at_the_end_still_gets_the_last_lines(server: Server) -> None:
    pids, out = _commands(server), server.directory / "out"
    server.plan(count=True)
    command = f"--log-file=|exec {server.directory}/take"
    _talk(server, command, prelude=PATIENT).wait_serving(1)
    wait_until(lambda: pids.exists() and out.exists(), "it runs")
    _kill_waiting(server, int(pids.read_text()))  # and less than its pause of a second is left
    assert server.stop() == 0
    assert out.read_text().endswith("exiting\n")
    _assert_whole(out.read_text(), 1)


def test_a_log_command_that_fails_is_not_started_all_the_time(server: Server) -> None:
    starts = server.directory / "starts"
    server.plan(count=True)
    clock = server.clock.prelude
    patient = f"{clock}\nfrom supervisor_py import logger\nlogger._PAUSE = {NEVER}"
    _talk(server, f"--log-file=|echo x >> {starts}; exit 3", prelude=patient).wait_serving(1)
    for number in (1, 2):
        wait_until(lambda: starts.read_text() == "x\n" * number, "it has failed")  # noqa: B023
        for _ in range(2):
            assert server.restart().returncode == 0
        server.skip(float(NEVER) / 2)
        assert starts.read_text() == "x\n" * number
        server.skip(float(NEVER) / 2)
    wait_until(lambda: starts.read_text() == "x\n" * 3, "it is started again")
    assert server.stop() == 0


def test_a_log_command_holds_none_of_our_sockets(server: Server) -> None:
    pids = _commands(server)
    _talk(
        server, f"--path={server.path}", f"--log-file=|exec {server.directory}/take"
    ).wait_serving(1)
    wait_until(lambda: pids.exists() and pids.read_text().endswith("\n"), "it runs")
    command = Path(f"/proc/{pids.read_text().strip()}")
    wait_until(lambda: (command / "comm").read_text() == "cat\n", "the shell has become another")
    fds = command / "fd"
    links = {int(link.name): str(link.readlink()) for link in fds.iterdir()}
    assert sorted(links) == [0, 1, 2]
    assert server.stop() == 0


def test_a_slow_log_command_gets_the_last_lines_too(server: Server) -> None:
    out = server.directory / "out"
    server.plan(flood=3000)  # more than its pipe holds
    gate = server.gate()
    command = f"head -c 1 {gate.path} > {server.directory}/passed; exec cat >> {out}"
    _talk(server, f"--log-file=|{command}", prelude=PATIENT).wait_serving(1)
    pid = server.generations()[1]
    server.signal(signal.SIGTERM)
    wait_until(lambda: not alive(pid), "all but the log has ended")
    gate.let_pass()
    assert server.wait() == 0
    text = out.read_text()
    assert text.endswith("exiting\n")
    assert 0 <= _flood(text) - 3000 * FLOOD_LINE < FLOOD_LINE, "and its last words may be lost too"


def test_whoever_does_not_read_our_stderr_holds_nobody_up(server: Server) -> None:
    read_end, write_end = os.pipe()
    server.plan(flood=10000)
    try:
        _talk(server, prelude=_take_stderr(write_end), pass_fds=[write_end])
        os.close(write_end)
        wait_until((server.directory / "flooded-1").exists, "all is written")
        server.wait_serving(1)
        server.plan()
        assert server.restart().returncode == 0
        fcntl.fcntl(read_end, fcntl.F_SETFL, os.O_NONBLOCK)
        read = b""

        def is_through() -> bool:
            nonlocal read
            try:
                read += os.read(read_end, 1 << 20)
            except BlockingIOError:
                return b"bytes of output were lost" in read
            return False

        wait_until(is_through, "what was lost is said")
        text = read.decode()
        assert 0 <= _flood(text) - 10000 * FLOOD_LINE < 2000, "and a few messages of ours"
        assert len(text) > 200_000, "a part is kept"

        server.plan(flood=10000)
        server.signal(signal.SIGHUP)
        wait_until((server.directory / "flooded-3").exists, "all is written, again")
        pids = list(server.generations().values())
        server.signal(signal.SIGTERM)
        wait_until(lambda: not any(map(alive, pids)), "all have ended")
        assert server.wait() == 0
    finally:
        os.close(read_end)


def test_whoever_closes_our_stderr_ends_nothing(server: Server) -> None:
    read_end, write_end = os.pipe()
    server.plan(count=True, pause=0.001)
    _talk(server, prelude=_take_stderr(write_end), pass_fds=[write_end]).wait_serving(1)
    os.close(write_end)
    os.close(read_end)
    lines = server.said().count("\n")
    wait_until(lambda: server.said().count("\n") > lines + 20, "it goes on, by its stdout")
    server.settle()
    assert server.restart().returncode == 0
    assert server.stop() == 0


def test_any_bytes_come_through_as_they_are(server: Server) -> None:
    every = "".join(map(chr, range(256))).replace("#", "").replace("\n", "")
    long = "".join(chr(33 + at % 90) for at in range(100_000)).replace("#", "")
    texts = [f"{every}\n", f"{long}\n", "\n\n", "\r\n", "no end"]
    server.plan(stderr=texts, last="")
    log = server.directory / "out"
    _talk(server, f"--log-file={log}").wait_serving(1)
    assert server.stop() == 0
    ours = rb"starting new worker|received TERM|worker \d+ died|exiting"
    data = b"".join(one for one in log.read_bytes().splitlines(True) if not re.match(ours, one))
    whole = "".join(texts).encode("latin-1") + b"\n"
    assert data.startswith(f"{every}\n".encode("latin-1"))
    assert data.replace(b"\n", b"") == whole.replace(b"\n", b""), "a long line may come in parts"
    assert data[-20:] == whole[-20:]
    assert data.count(b"\n") <= whole.count(b"\n") + 100_000 // 4096


def test_lines_of_two_generations_never_mix(server: Server) -> None:
    server.plan(halves=True, pause=0.0)
    _talk(server, f"--kill-old-delay={NEVER}").wait_serving(1)
    server.signal(signal.SIGHUP)

    def lines() -> list[str]:
        return [line for line in server.said().splitlines() if re.fullmatch("[12]+", line)]

    def turns() -> int:
        return sum(one != other for one, other in itertools.pairwise(lines()))

    wait_until(lambda: turns() > 10, "both have written at the same time")
    assert server.stop() == 0
    assert set(lines()) == {"1" * 100, "2" * 100}


def test_a_restart_that_fails_shows_the_traceback(server: Server) -> None:
    _talk(server, f"--readiness-timeout={NEVER}").wait_serving(1)
    server.plan(**{"stderr": ["loading #\n"], "raise": "no such table: shop"})
    failed = server.restart()
    assert failed.returncode == 1
    lines = failed.stderr.splitlines()
    assert "  | loading 2" in lines
    assert "  | Traceback (most recent call last):" in lines
    assert "  | RuntimeError: no such table: shop" in lines
    assert lines[-1].startswith("restart failed: generation 2")
    assert "ended with exit status 1 before it was ready" in lines[-1]
    assert server.generations().keys() == {1}


@pytest.mark.parametrize("count", [3, 500])
def test_a_restart_that_is_not_ready_in_time_shows_the_last_lines(
    server: Server, count: int
) -> None:
    _talk(server, f"--readiness-timeout={NEVER}", prelude=server.clock.prelude).wait_serving(1)
    server.plan(stderr=[f"step {at} of generation #\n" for at in range(count)], ready=False)
    client = server.begin_client("--restart")
    server.wait_for(f"step {count - 1} of generation 2\n")
    server.skip(float(NEVER))
    _, said = client.communicate(timeout=LIMIT)
    assert client.returncode == 1
    shown = [line for line in said.splitlines() if line.startswith("  | ")]
    last = range(count)[-20:]
    assert shown == [f"  | step {at} of generation 2" for at in last]
    assert f"was not ready within {NEVER} seconds" in said
