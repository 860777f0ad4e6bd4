"""Commands run whatever fails, each one's end is told, and Ctrl-C leaves nothing behind."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from scripts import running, scenarios
from scripts.running import Done, NotRun, Part, Runner

# what a scenario's run is replaced by: it says what molecule says
MOLECULE = "print('INFO     one \\u279c converge: Executing')\nprint('all about it')"


def part(folder: Path, name: str, program: str, needs: str = "") -> Part:
    return Part(name, (sys.executable, "-c", program), folder / f"{name}.log", needs=needs)


@pytest.fixture
def up(tmp_path: Path) -> Path:
    """A pipe by which a program says that it runs: who reads it waits for that."""
    pipe = tmp_path / "up"
    os.mkfifo(pipe)
    return pipe


def test_all_are_run_whatever_fails_and_each_end_is_told(tmp_path: Path) -> None:
    told: list[str] = []
    chains = [
        [part(tmp_path, "broken", "raise SystemExit(3)"), part(tmp_path, "next", "print(1)")],
        [part(tmp_path, "other", "print('about it')")],
    ]
    ended = running.run_all(chains, 2, Runner(), lambda one: told.append(one.name))
    assert [(one.name, one.passed) for one in ended] == [
        *(("broken", False), ("next", True), ("other", True)),
    ]
    assert sorted(told) == ["broken", "next", "other"]
    assert "about it" in (tmp_path / "other.log").read_text(encoding="utf-8")


def test_one_that_is_killed_has_failed_and_says_by_which_signal(tmp_path: Path) -> None:
    program = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    one = Runner().run(part(tmp_path, "killed", program))
    assert (one.passed, one.verdict) == (False, "killed (SIGKILL)")


def test_one_whose_program_is_not_there_has_failed(tmp_path: Path) -> None:
    one = Runner().run(Part("absent", ("/nowhere/at/all",), tmp_path / "absent.log"))
    assert (one.passed, one.code) == (False, running.NOT_STARTED)
    assert "/nowhere/at/all" in running.reasons(one)


def test_one_without_what_it_needs_is_not_run_and_has_not_passed(tmp_path: Path) -> None:
    chain = [
        part(tmp_path, "images", "raise SystemExit(1)"),
        part(tmp_path, "scenario", "print(1)", needs="images"),
    ]
    _, scenario = running.run_all([chain], 1, Runner())
    assert scenario == NotRun("scenario", "not run: images")
    assert not scenario.passed
    assert not (tmp_path / "scenario.log").exists()


def test_one_has_ended_although_what_it_left_behind_holds_its_output(tmp_path: Path) -> None:
    program = (
        "import subprocess\n"
        "child = subprocess.Popen(['sleep', '60'], start_new_session=True)\n"
        "print(child.pid)"
    )
    one = Runner(grace_seconds=0.2).run(part(tmp_path, "left", program))
    assert one.passed
    os.kill(int(one.log.read_text(encoding="utf-8").split()[1]), signal.SIGKILL)


def test_what_an_action_takes_is_noted(tmp_path: Path) -> None:
    command = (sys.executable, "-c", MOLECULE)
    one = Runner().run(Part("one", command, tmp_path / "one.log", action=scenarios.action))
    assert set(one.actions) == {"", "converge"}
    assert sum(one.actions.values()) == pytest.approx(one.seconds, abs=1.0)


def runs(pid: int) -> bool:
    """Whether there is a process of that number that is more than its exit code."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii")
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


# a program that starts another one, of a session of its own; both ignore Ctrl-C
STUBBORN = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    with open({up!r}, "w") as pipe:
        print(os.getpid(), file=pipe)
signal.pause()
"""


def test_stopping_ends_all_that_was_started_also_what_ignores_it(tmp_path: Path, up: Path) -> None:
    runner = Runner(grace_seconds=0.2)
    ended: list[Done] = []
    stubborn = part(tmp_path, "stubborn", STUBBORN.format(up=str(up)))
    thread = threading.Thread(target=lambda: ended.append(runner.run(stubborn)))
    thread.start()
    child = int(up.read_text())
    runner.stop()
    thread.join()
    assert [one.verdict for one in ended] == ["interrupted"]
    assert not ended[0].passed
    assert not runs(child)
    with pytest.raises(running.Stopped):
        runner.run(stubborn)


# a program that starts another one, which ignores Ctrl-C, only when Ctrl-C ends it
LATE = """
import os, signal, sys
def end(*_):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if os.fork() == 0:
        with open({up!r}, "w") as pipe:
            print(os.getpid(), file=pipe)
        signal.pause()
    os._exit(1)
signal.signal(signal.SIGINT, end)
open({up!r}, "w").close()
signal.pause()
"""


def test_stopping_ends_what_was_started_meanwhile_and_has_lost_its_parent(
    tmp_path: Path, up: Path
) -> None:
    runner = Runner(grace_seconds=5.0)
    late = part(tmp_path, "late", LATE.format(up=str(up)))
    running_late = threading.Thread(target=lambda: runner.run(late))
    running_late.start()
    up.read_text()
    stopping = threading.Thread(target=runner.stop)
    stopping.start()
    child = int(up.read_text())
    stopping.join()
    running_late.join()
    assert not runs(child)


CTRL_C = """
import sys
from pathlib import Path
from scripts import running
folder = Path(sys.argv[1])
def part(name, program):
    return running.Part(name, (sys.executable, "-c", program), folder / f"{name}.log")
running.end_on_signals()
up = f"import signal; open({str(folder / 'up')!r}, 'w').close(); signal.pause()"
chain = [part("one", up), part("two", "")]
print(running.table(running.run_all([chain], 1, running.Runner())))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_ctrl_c_ends_what_runs_and_the_table_says_so(tmp_path: Path, up: Path, number: int) -> None:
    """Also where a shell has started it in the background, and so lets it ignore Ctrl-C."""
    command = ["sh", "-c", 'trap "" INT; exec "$@"', "sh", sys.executable, "-c", CTRL_C]
    with subprocess.Popen(
        [*command, str(tmp_path)], cwd=running.REPOSITORY, stdout=subprocess.PIPE, text=True
    ) as started:
        up.read_text()
        started.send_signal(number)
        printed, _ = started.communicate()
    rows = [line.split()[:2] for line in printed.splitlines()[-2:]]
    assert rows == [["one", "interrupted"], ["two", "not"]]
