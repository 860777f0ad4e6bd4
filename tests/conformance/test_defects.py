"""What users of Server::Starter 0.35 suffer from: seen on Perl's, and not on ours.

Each script notes under "kept" whether the promise was kept; for Perl's it must be False.
"""

import contextlib
import os
import pwd
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.process.supervisor.harness import alive
from tests.process.waiting import LIMIT

from .harness import Case, Results, Run

TERM = int(signal.SIGTERM)
PATH, PID, STATUS = "--path=@DIR@/listen", "--pid-file=@DIR@/pid", "--status-file=@DIR@/status"
CONTROL = "--control-socket=@DIR@/control"
IGNORES = {"ignore": [TERM]}
Script = Callable[[Run], bool]


def defect(id_: str, script: Script, *options: str, **more: object) -> Case:
    def noted(run: Run) -> None:
        run.notes["kept"] = script(run)

    return Case(id_, options, noted, **more)  # type: ignore[arg-type]


def serving(run: Run) -> None:
    run.wait_record()
    run.wait_until(run.path("status").exists, "the first generation")


def comes_to_say(run: Run, text: str) -> bool:
    return run.comes(lambda: text in run.said())


# A program or directory that has vanished


def _files_survive_a_failed_exec(run: Run) -> bool:
    serving(run)
    run.path("program").unlink()
    run.signal("HUP")
    run.wait_for("failed to start")
    return all(run.path(name).exists() for name in ("listen", "pid", "status"))


def _files_survive_a_failed_chdir(run: Run) -> bool:
    serving(run)
    run.path("work").rename(run.path("moved"))
    run.signal("HUP")
    run.wait_for("failed to start")
    return all(run.path(name).exists() for name in ("listen", "pid", "status"))


def _link_program(run: Run) -> None:
    run.path("program").symlink_to("run")


# Signals


def _two_hups_leave_the_interval_whole(run: Run) -> bool:
    serving(run)
    before = run.age()
    run.signal("HUP")
    run.wait_record(2)
    run.signal("HUP")
    run.wait_for("killing old workers")
    return run.age() - before >= 5


def _a_wrong_signal_name_is_found_at_the_start(run: Run) -> bool:
    if not run.started():
        return True
    serving(run)
    run.signal("HUP")
    return not run.comes_with_perls(run.over)


def _term_in_the_delay_is_acted_on_at_once(run: Run) -> bool:
    serving(run)
    run.signal("HUP")
    run.wait_for("sleeping 600 secs")
    run.signal("TERM")
    return run.comes(run.over)


def _a_worker_that_ignores_term_is_killed(run: Run) -> bool:
    serving(run)
    run.signal("TERM")
    run.signal("TERM")
    return run.comes(run.over)


def _old_generations_do_not_pile_up(run: Run) -> bool:
    serving(run)
    for number in (2, 3, 4):
        run.signal("HUP")
        run.wait_until(
            lambda: run.record_of(number) or "one more will follow" in run.said(),  # noqa: B023
            "one more, now or later",
        )
    numbers = [number for number in range(1, 5) if run.record_of(number)]
    return sum(alive(run.worker(number)) for number in numbers) <= 2


def _usr1_costs_nothing(run: Run) -> bool:
    serving(run)
    run.signal("USR1")
    run.wait_until(lambda: run.over() or "received USR1" in run.said(), "what it does")
    return not run.over()


# Failing


def _a_failing_start_backs_off(run: Run) -> bool:
    run.wait_for("starting new worker", 10)
    return run.age() >= 5  # ours takes 7.5, Perl's a tenth of a second


def _death_is_noticed_in_failing_starts(run: Run) -> bool:
    serving(run)
    run.signal("HUP")
    run.wait_for("failed to start")
    worker = run.worker(1)
    run.signal_worker(1, "KILL")
    run.wait_until(lambda: not alive(worker), "the death of the serving worker")
    return comes_to_say(run, f"worker {worker} died")


def _a_status_file_that_cannot_be_written_is_survived(run: Run) -> bool:
    run.wait_record()
    run.wait_until(run.path("state/status").exists, "the first generation")
    run.path("state").rename(run.path("moved"))
    run.signal("HUP")
    run.wait_until(lambda: run.over() or "old worker " in run.said(), "a restart, or the end")
    return not run.over()


def _a_fork_that_fails_is_survived(run: Run) -> bool:
    serving(run)
    run.path("no-fork").touch()
    run.signal("HUP")
    run.wait_until(lambda: run.over() or "trying again" in run.said(), "a failure, or the end")
    return not run.over() and alive(run.worker(1))


_FORK_FAILS = {
    "perl": (
        "BEGIN { *CORE::GLOBAL::fork = sub { return CORE::fork() unless -e '@DIR@/no-fork';"
        " $! = 11; undef } }"
    ),
    "ours": (
        "import os, errno\n"
        "real = os.fork\n"
        "def fork():\n"
        "    if os.path.exists('@DIR@/no-fork'):\n"
        "        raise OSError(errno.EAGAIN, 'no processes')\n"
        "    return real()\n"
        "os.fork = fork"
    ),
}


# Clients


def _restart_fails_when_the_start_fails(run: Run) -> bool:
    serving(run)
    run.perls_hangs()
    own = (CONTROL,) if run.contender.name == "ours" else ()
    try:
        return run.client("restart", "--restart", PID, STATUS, *own) == 1
    finally:
        assert alive(run.worker(1))


def _restart_by_files_gives_up(run: Run) -> bool:
    serving(run)
    run.perls_hangs()
    own = ("--restart-timeout=1",) if run.contender.name == "ours" else ()
    return run.client("restart", "--restart", PID, STATUS, *own) == 110


def _a_second_server_leaves_the_pid_file(run: Run) -> bool:
    run.wait_record()
    run.wait_until(run.path("pid").exists, "the pid file")
    held = run.path("pid").read_text()
    with run.begin_client(run.fill_in(PID), "--interval=0", "--", "sleep", "9") as second:

        def is_changed() -> bool:
            return run.path("pid").read_text() != held

        run.wait_until(lambda: second.poll() is not None or is_changed(), "its end, or a change")
        second.kill()
    return held != "" and not is_changed()


# Sockets


def _two_listeners_do_not_share_an_fd(run: Run) -> bool:
    if not run.started():
        return True
    names = [item.partition("=")[0] for item in _told(run, 1).split(";")]
    bound = {f"{one['address'][0]}:{one['address'][1]}" for one in run.wait_record()["sockets"]}
    return set(names) == bound


def _told(run: Run, number: int) -> str:
    told = _environment(run, number)["SERVER_STARTER_PORT"]
    assert told
    return told


def _environment(run: Run, number: int) -> dict[str, str]:
    return dict(item.split("=", 1) for item in run.wait_record(number)["environment"])


def _a_file_at_the_path_is_left(run: Run) -> bool:
    run.started()
    file = run.path("listen")
    return file.is_file() and file.read_text() == "precious"


def _a_live_socket_at_the_path_is_left(run: Run) -> bool:
    file = run.path("listen")
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(file))
        other.listen()
        before = file.stat().st_ino
        run.start()
        run.started()
        return file.exists() and file.stat().st_ino == before


def _what_systemd_says_is_not_handed_on(run: Run) -> bool:
    given = _environment(run, 1)
    return (
        given.get("NOTIFY_SOCKET") != "/nonexistent"
        and given.get("LISTEN_PID", str(run.worker(1))) == str(run.worker(1))
        and given.get("LISTEN_FDS") != "7"
    )


def _a_dead_servers_workers_do_not_keep_the_port(run: Run) -> bool:
    serving(run)
    orphan = run.worker(1)
    run.signal("KILL")
    run.wait_end()
    for file in run.directory.glob("generation-*"):
        file.unlink()
    try:
        run.start()  # in a session of its own
        return run.started() and not alive(orphan)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(orphan, signal.SIGKILL)


# What it has not got


def _ready_spares_the_wait(run: Run) -> bool:
    run.wait_record()
    return run.comes(run.path("status").exists)


def _the_log_is_reopened(run: Run) -> bool:
    serving(run)
    run.path("log").rename(run.path("rotated"))
    run.signal("USR1")
    if not run.comes(run.path("log").exists):
        return False
    run.end()
    return "exiting" in run.path("log").read_text()


def _the_log_command_is_started_again(run: Run) -> bool:
    serving(run)
    children = Path(f"/proc/{run.running().pid}/task/{run.running().pid}/children")
    others = {int(pid) for pid in children.read_text().split()} - {run.worker(1)}
    for pid in others:
        os.kill(pid, signal.SIGKILL)
    run.wait_until(lambda: not any(map(alive, others)), "the end of the log's command")
    run.perls_hangs()
    run.hup(2)
    return comes_to_say(run, "killing old workers")


def _workers_run_as_the_user(run: Run) -> bool:
    if not run.comes_with_perls(lambda: "starting new worker " in run.said(), LIMIT):
        return False
    worker = int(run.said().rpartition("starting new worker ")[2].split()[0])
    nobody = pwd.getpwnam("nobody").pw_uid
    return run.comes(lambda: Path(f"/proc/{worker}").stat().st_uid == nobody)


def _metrics_are_written(run: Run) -> bool:
    return run.started() and run.comes(run.path("metrics.prom").exists)


def _a_fifo_in_the_envdir_is_passed_over(run: Run) -> bool:
    return run.comes(lambda: run.record_of(1))


def _fifo(run: Run) -> None:
    run.path("env").mkdir()
    os.mkfifo(run.path("env/FIFO"))


def defects() -> Iterator[Case]:
    files = (PATH, PID, STATUS)
    yield defect(
        "a-failed-exec-removes-no-files",
        _files_survive_a_failed_exec,
        *files,
        program=["@DIR@/program"],
        prelude=_link_program,
        interval="1",
    )
    yield defect(
        "a-failed-chdir-removes-no-files",
        _files_survive_a_failed_chdir,
        *files,
        "--dir=@DIR@/work",
        files={"work/x": ""},
        interval="1",
    )
    yield defect(
        "two-hups-leave-the-interval-whole",
        _two_hups_leave_the_interval_whole,
        STATUS,
        interval="5",
    )
    yield defect(
        "a-fork-that-fails-is-survived",
        _a_fork_that_fails_is_survived,
        STATUS,
        preludes=_FORK_FAILS,
    )
    yield defect(
        "a-status-file-that-cannot-be-written-is-survived",
        _a_status_file_that_cannot_be_written_is_survived,
        "--status-file=@DIR@/state/status",
        files={"state/x": ""},
    )
    yield defect(
        "a-wrong-signal-name-is-found-at-the-start",
        _a_wrong_signal_name_is_found_at_the_start,
        STATUS,
        "--signal-on-hup=NOPE",
    )
    yield defect(
        "a-second-server-leaves-the-pid-file-alone",
        _a_second_server_leaves_the_pid_file,
        PID,
    )
    yield defect("a-failing-start-backs-off", _a_failing_start_backs_off, program=["false"])
    yield defect(
        "ready-spares-the-wait",
        _ready_spares_the_wait,
        STATUS,
        plan={0: {"ready": True}},
        interval="600",
    )
    yield defect(
        "a-worker-that-ignores-term-is-killed",
        _a_worker_that_ignores_term_is_killed,
        STATUS,
        plan={0: IGNORES},
        ours=["--grace=0.5"],
    )
    yield defect("the-log-is-reopened", _the_log_is_reopened, STATUS, "--log-file=@DIR@/log")
    yield defect(
        "the-logs-command-is-started-again",
        _the_log_command_is_started_again,
        STATUS,
        "--log-file=| exec cat >> @DIR@/log",
    )
    yield defect(
        "workers-run-as-another-user",
        _workers_run_as_the_user,
        program=["sleep", "60"],
        ours=["--user=nobody"],
    )
    yield defect("metrics-are-written", _metrics_are_written, ours=["--metrics-file=metrics.prom"])
    yield defect(
        "two-listeners-do-not-share-an-fd",
        _two_listeners_do_not_share_an_fd,
        "--port=127.0.0.1:@P1@=9",
        "--port=127.0.0.1:@P2@=9",
    )
    yield defect(
        "a-file-at-the-path-is-left",
        _a_file_at_the_path_is_left,
        PATH,
        files={"listen": "precious"},
    )
    yield defect(
        "a-live-socket-at-the-path-is-left",
        _a_live_socket_at_the_path_is_left,
        PATH,
        starts=False,
    )
    yield defect(
        "what-systemd-says-is-not-handed-on",
        _what_systemd_says_is_not_handed_on,
        env={"NOTIFY_SOCKET": "/nonexistent", "LISTEN_FDS": "7", "LISTEN_PID": "1"},
    )
    yield defect(
        "usr1-costs-nothing",
        _usr1_costs_nothing,
        STATUS,
    )
    yield defect(
        "a-dead-servers-workers-do-not-keep-the-port",
        _a_dead_servers_workers_do_not_keep_the_port,
        "--port=127.0.0.1:@P1@",
        STATUS,
    )
    yield defect(
        "term-in-the-kill-old-delay-is-acted-on-at-once",
        _term_in_the_delay_is_acted_on_at_once,
        STATUS,
        "--kill-old-delay=600",
    )
    yield defect(
        "death-is-noticed-in-failing-starts",
        _death_is_noticed_in_failing_starts,
        STATUS,
        plan={1: {}, 0: {"exit": 7}},
        interval="1",
    )
    yield defect(
        "old-generations-do-not-pile-up",
        _old_generations_do_not_pile_up,
        STATUS,
        plan={0: IGNORES},
    )
    yield defect(
        "restart-fails-when-the-start-fails",
        _restart_fails_when_the_start_fails,
        PID,
        STATUS,
        plan={1: {}, 0: {"exit": 7}},
        interval="1",
        ours=[CONTROL],
    )
    yield defect(
        "restart-by-files-gives-up",
        _restart_by_files_gives_up,
        PID,
        STATUS,
        plan={1: {}, 0: {"exit": 7}},
        interval="1",
    )
    yield defect(
        "a-fifo-in-the-envdir-is-passed-over",
        _a_fifo_in_the_envdir_is_passed_over,
        "--envdir=@DIR@/env",
        prelude=_fifo,
    )


@pytest.mark.parametrize("case", list(defects()), ids=lambda case: case.id)
def test_perls_fails_it_and_ours_keeps_it(case: Case, results: Results) -> None:
    if case.id == "workers-run-as-another-user" and os.geteuid() != 0:
        pytest.skip("needs root, to become somebody else")
    perl, ours = results.of(case)
    # A client that hangs, as --restart does, is a promise that is not kept.
    assert perl.get("kept", False) is False, "Perl's has not got this defect"
    assert ours.get("kept") is True, ours
