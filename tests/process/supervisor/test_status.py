"""What a running server shows: --status, systemd's line, and the metrics file."""

import contextlib
import json
import os
import signal
import socket
import stat
import sys
import time
from pathlib import Path
from typing import Any

from supervisor_py import __version__, memory
from tests.unit.test_report import parse

from ..waiting import wait_until
from .harness import Server, connect, free_port

FORKER = Path(__file__).with_name("forker.py")


def _json(server: Server) -> dict[str, Any]:
    asked = server.client("--status", "--json", f"--control-socket={server.control}")
    assert asked.returncode == 0, asked.stderr
    assert asked.stderr == ""
    found: dict[str, Any] = json.loads(asked.stdout)
    return found


def _table(server: Server) -> list[str]:
    asked = server.client("--status", f"--control-socket={server.control}")
    assert asked.returncode == 0, asked.stderr
    return asked.stdout.splitlines()


def test_a_status_tells_of_the_generation_with_its_workers_and_their_memory(
    server: Server,
) -> None:
    port = free_port()
    server.plan(workers=2, shared_mb=20)
    program = [sys.executable, "-ISE", str(FORKER), str(server.plan_file)]
    began = time.monotonic()
    server.start(
        f"--path={server.path}", f"--port=127.0.0.1:{port}", "--readiness=notify", program=program
    ).wait_serving(1)
    known = _json(server)
    took = time.monotonic() - began
    assert server.process is not None
    pid = server.generations()[1]
    assert known["version"] == __version__
    assert known["pid"] == server.process.pid
    assert 0 < known["uptime_seconds"] < took
    assert known["sockets"] == [f"127.0.0.1:{port}", str(server.path)]
    (one,) = known["generations"]
    assert (one["number"], one["pid"], one["phase"]) == (1, pid, "serving")
    assert 0 < one["ready_after_seconds"] <= one["age_seconds"] < took
    assert one["phase_seconds"] <= one["age_seconds"]
    assert one["said_ready"]
    assert one["status"] == "20 MB loaded"
    assert one["processes"] == 3
    readings = [memory.read(process) for process in memory.tree(pid)]
    assert 0.8 < one["pss_kb"] / sum(reading.pss for reading in readings) < 1.2
    assert one["pss_kb"] > 20_000
    assert one["shared_percent"] > 60
    assert (known["restart"], known["trouble"], known["stopping"]) == (None, None, False)

    lines = _table(server)
    assert lines[0].startswith(f"start_server {__version__}, pid {server.process.pid}, up ")
    assert lines[1] == f"listens on 127.0.0.1:{port}, {server.path}"
    titles = lines[3].split()
    assert titles[:4] == ["GENERATION", "PHASE", "PID", "AGE"]
    assert lines[4].split()[:3] == ["1", "serving", str(pid)]
    assert lines[4].split()[-1] == "%"
    assert "generation 1 says: 20 MB loaded" in lines

    os.kill(pid, signal.SIGTTIN)
    wait_until(lambda: len(memory.tree(pid)) == 4, "one worker more")
    assert _json(server)["generations"][0]["processes"] == 4, "as it is now"
    assert server.stop() == 0


def test_a_status_counts_restarts_by_their_reasons(server: Server) -> None:
    server.start().wait_serving(1)
    assert _json(server)["restarts"] == {"boot": 1}
    assert server.restart().returncode == 0
    server.signal(signal.SIGHUP)
    server.wait_serving(3)
    os.kill(server.generations()[3], signal.SIGKILL)
    server.wait_serving(4)
    known = _json(server)
    assert known["restarts"] == {"boot": 1, "control": 1, "HUP": 1, "death": 1}
    assert known["last_reason"] == "death"
    assert "generations that became ready: 1 for boot, 1 for control, 1 for HUP, 1 for death" in (
        _table(server)
    )
    assert server.stop() == 0


def test_a_status_tells_of_a_restart_under_way(server: Server) -> None:
    server.start("--readiness=notify").wait_serving(1)
    server.plan(ready=False)
    server.signal(signal.SIGHUP)
    server.record(2)
    known = _json(server)
    assert [one["phase"] for one in known["generations"]] == ["serving", "starting"]
    assert known["generations"][1]["ready_after_seconds"] is None
    assert known["restart"] == {
        "reason": "HUP",
        "generation": 2,
        "waits_for_memory": False,
        "next_attempt_seconds": None,
    }
    assert "a restart is under way (HUP): generation 2" in _table(server)
    assert server.stop() == 0


def test_a_status_tells_what_is_wrong_and_when_it_is_tried_again(server: Server) -> None:
    server.start("--interval=600", "--readiness=notify").wait_serving(1)
    server.plan(exit=7)
    server.signal(signal.SIGHUP)
    server.wait_for("trying again in")
    known = _json(server)
    assert known["failed_attempts"] == 1
    assert "ended with exit status 7 before it was ready" in known["trouble"]
    # the promise: no back-off takes more
    assert 0 < known["restart"]["next_attempt_seconds"] <= 30
    assert [one["number"] for one in known["generations"]] == [1]
    lines = _table(server)
    assert f"trouble: {known['trouble']}" in lines
    assert any(line.startswith("a restart is under way (HUP): next attempt in ") for line in lines)
    server.plan(ready=True)
    assert server.restart().returncode == 0
    known = _json(server)
    assert (known["trouble"], known["restart"]) == (None, None)
    assert known["failed_attempts"] == 1
    assert server.stop() == 0


def test_a_status_tells_when_the_next_timed_restart_is(server: Server) -> None:
    clock = server.clock.prelude
    server.start("--enable-auto-restart", "--auto-restart-interval=10000", prelude=clock)
    server.wait_serving(1)
    first = _json(server)["next_timed_restart_seconds"]
    assert 0 < first <= 11000, "the interval, and a tenth of it at most"
    server.skip(5000)
    assert _json(server)["next_timed_restart_seconds"] <= first - 5000
    assert _table(server)[-1].startswith("next timed restart in ")
    assert server.stop() == 0


def test_a_status_during_a_stop_says_so(server: Server) -> None:
    server.plan(ready=True, ignore=["SIGTERM"])
    server.start("--grace=600", prelude=server.clock.prelude).wait_serving(1)
    server.signal(signal.SIGTERM)
    server.wait_for("received TERM")
    known = _json(server)
    assert known["stopping"]
    assert known["generations"][0]["phase"] == "draining"
    assert "is stopping" in _table(server)
    server.clock.skip(600)
    server.signal(signal.SIGTERM)  # which wakes it, and changes nothing else
    assert server.wait() == 0


def test_a_status_of_nobody_is_an_error(server: Server) -> None:
    asked = server.client("--status", f"--control-socket={server.control}")
    assert asked.returncode == 2
    assert asked.stderr == f"control socket {server.control}: No such file or directory\n"
    assert server.client("--status").returncode == 255
    alone = server.client("--json")
    assert (alone.returncode, alone.stderr) == (1, "--json: needs --status\n")


def test_only_our_user_may_ask(server: Server) -> None:
    server.start(umask=0).wait_serving(1)
    found = server.control.stat()
    assert stat.S_ISSOCK(found.st_mode)
    assert stat.S_IMODE(found.st_mode) == 0o600
    with connect(str(server.control)) as connection:
        connection.sendall(b"status\n")
        assert connection.makefile().read().startswith("done {")


def test_systemd_is_told_the_state_in_a_line(server: Server, tmp_path: Path) -> None:
    address = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(str(address))
        notify.setblocking(False)
        lines: list[str] = []

        def told(text: str) -> bool:
            with contextlib.suppress(BlockingIOError):
                while True:
                    lines.extend(notify.recv(4096).decode().splitlines())
            return lines[::-1] != [] and text in lines

        env = {"NOTIFY_SOCKET": str(address)}
        server.start(env=env).wait_serving(1)
        first = server.generations()[1]
        wait_until(lambda: told(f"STATUS=generation 1 serving (pid {first})"), "it serves")
        assert lines[-1] == "ERRNO=0"
        server.plan(exit=7)
        server.signal(signal.SIGHUP)
        server.wait_for("trying again in")
        failed = server.record(2)["pid"]
        line = (
            f"STATUS=generation 1 serving (pid {first}); "
            f"generation 2 (pid {failed}) ended with exit status 7 before it was ready"
        )
        wait_until(lambda: told(line), "what is wrong")
        assert "ERRNO=10" in lines
        server.plan(ready=True)
        assert server.restart().returncode == 0
        number, pid = max(server.generations().items())
        line = f"STATUS=generation {number} serving (pid {pid}); last restart: control"
        wait_until(lambda: told(line), "all is well again")
        assert lines.index("READY=1") < lines.index(line)
        assert server.stop() == 0
        assert told("STOPPING=1")


def _metrics(file: Path) -> dict[tuple[str, str], float]:
    """Return values by name and by the label besides `server`."""
    found = {}
    for (name, labels), value in parse(file.read_text()).items():
        assert ("server", "main") in labels
        found[name, "".join(text for label, text in labels if label != "server")] = value
    return found


def test_metrics_are_right_at_any_time_and_gone_at_the_end(server: Server) -> None:
    file = server.directory / "main.prom"
    before = time.time()
    server.start(f"--metrics-file={file}").wait_serving(1)
    server.wait_for("starting new worker")
    wait_until(lambda: ("processes", "") in _metrics(file), "the first, measured")
    found = _metrics(file)
    assert found["info", __version__] == 1
    assert before - 1 <= found["start_time_seconds", ""] <= time.time() + 1
    assert before - 1 <= found["generation_ready_time_seconds", ""] <= time.time() + 1
    assert found["generations", "serving"] == 1
    assert found["generations_served_total", "boot"] == 1
    assert (found["failing", ""], found["failed_attempts_total", ""]) == (0, 0)
    assert found["processes", ""] == 1
    assert found["memory_pss_bytes", ""] > 1 << 20

    assert server.restart().returncode == 0
    found = _metrics(file)
    assert found["generation", ""] == 2
    assert found["generations_served_total", "control"] == 1
    assert found["generations", "serving"] == 1
    assert found["generations", "draining"] == 0

    server.plan(exit=7)
    assert server.restart().returncode == 1
    found = _metrics(file)
    assert (found["failing", ""], found["failed_attempts_total", ""]) == (1, 1)
    assert found["generation", ""] == 2

    server.plan(ready=True)
    assert server.restart().returncode == 0
    found = _metrics(file)
    assert (found["failing", ""], found["failed_attempts_total", ""]) == (0, 1)
    server.settle()
    assert list(server.directory.glob("main.prom*")) == [file], "and nothing beside it"
    assert server.stop() == 0
    assert not file.exists()


def test_metrics_are_never_read_by_halves(server: Server) -> None:
    file = server.directory / "main.prom"
    server.start(f"--metrics-file={file}").wait_serving(1)
    for number in range(2, 6):
        server.signal(signal.SIGHUP)
        wait_until(
            lambda: _metrics(file)["info", __version__] and server.generations().keys() == {number},  # noqa: B023
            "metrics that are whole, and then a restart",
        )
    assert server.stop() == 0


def test_unwritable_metrics_are_said_once_and_survived(server: Server) -> None:
    directory = server.directory / "metrics"
    directory.mkdir()
    file = directory / "main.prom"
    server.start(f"--metrics-file={file}").wait_serving(1)
    away = directory.rename(server.directory / "away")
    for number in (2, 3):
        assert server.restart().returncode == 0
        assert server.generations().keys() == {number}
    assert server.said().count("failed to write the metrics file: No such file or directory") == 1
    away.rename(directory)
    assert server.restart().returncode == 0
    assert _metrics(file)["generation", ""] == 4
    assert server.stop() == 0
    assert not file.exists()
