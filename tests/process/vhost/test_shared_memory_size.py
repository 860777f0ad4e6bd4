"""The command shared_memory_size, on pools that run."""

import contextlib
import json
import os
import pty
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from supervisor_py.shared_memory_size.sample import Sample, of_pool

from ..waiting import LIMIT
from .harness import COMMAND, EXAMPLES, ROOT, free_port, get, start_server, wait_until

MEASURE = [
    sys.executable,
    "-ISE",  # as it is on a VPS
    "-c",
    f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
    "from supervisor_py.shared_memory_size.cli import main\n"
    "main()",
]
HOST = "motd.test"


def measure(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*MEASURE, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )


class Pool:
    """A pool that runs as the role has it: its pid is in RUN/kechi-NAME/pid."""

    def __init__(self, name: str, run: Path, port: int) -> None:
        self.name, self.run, self.port = name, run, port

    def sample(self) -> Sample:
        return of_pool(self.name, self.run)

    def ask(self, times: int) -> None:
        for _ in range(times):
            assert get(self.port, HOST).status == 200

    def measure(self, *arguments: str | Path) -> "subprocess.CompletedProcess[str]":
        return measure(f"--run={self.run}", *arguments)


@contextlib.contextmanager
def running_pool(
    folder: Path, name: str, *, workers: int = 2, isolated: str = ""
) -> Iterator[Pool]:
    runtime = folder / "run" / f"kechi-{name}"
    runtime.mkdir(parents=True)
    file = folder / f"{name}.toml"
    file.write_text(
        f'[pool]\nname = "{name}"\nworkers = {workers}\n[[apps]]\nname = "motd"\n'
        f'hosts = ["{HOST}"]\ndirectory = "{EXAMPLES}/motd"\nwsgi = "motd:application"\n'
    )
    pool = Pool(name, folder / "run", free_port())
    options = [f"--pid-file={runtime}/pid", "--readiness=notify"]
    if isolated:
        with file.open("a") as text:
            text.write(
                f'[[apps]]\nname = "{isolated}"\nhosts = ["{isolated}.test"]\n'
                f'directory = "{EXAMPLES}/motd"\nwsgi = "motd:application"\n'
                'isolation = "process"\n'
            )
        options.append(f"--path={folder}/{isolated}.sock")
    with start_server(pool.port, folder, *COMMAND, str(file), options=options):
        wait_until((runtime / "pid").exists)
        wait_until(lambda: get_or_none(pool.port) == 200)
        yield pool


def get_or_none(port: int) -> int | None:
    with contextlib.suppress(OSError):
        return get(port, HOST).status
    return None


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    with running_pool(tmp_path_factory.mktemp("pool"), "main") as running:
        yield running


def test_a_pool_is_measured_by_its_name_with_all_its_processes(pool: Pool) -> None:
    measured = pool.measure("main")
    assert (measured.returncode, measured.stderr) == (0, "")
    head, *rows, summary = measured.stdout.splitlines()
    assert head.split()[:3] == ["PID", "NAME", "GROUP"]
    groups = [row.split()[2] for row in rows]
    assert groups == ["-", "(shared)", "(shared)", "(shared)"]
    assert rows[0].split()[0] == (pool.run / "kechi-main" / "pid").read_text().strip()
    assert summary.startswith("pool main: 4 processes, ")
    assert " (PSS), workers share " in summary


def test_requests_are_those_that_have_been_made(pool: Pool) -> None:
    before = pool.sample().requests
    assert before is not None
    pool.ask(50)
    wait_until(lambda: pool.sample().requests == before + 50)


def test_the_sums_are_those_of_the_processes_and_workers_are_what_serves(pool: Pool) -> None:
    (found,) = json.loads(pool.measure("--json", "main").stdout)
    assert found["pool"] == "main"
    assert found["pss_kb"] == sum(one["pss_kb"] for one in found["processes"])
    grouped = [one["pss_kb"] for one in found["processes"] if one["group"]]
    assert found["groups_pss_kb"] == {"(shared)": sum(grouped)}
    workers = [one for one in found["processes"] if one["worker"]]
    assert [one["pid"] for one in workers] == [one["pid"] for one in found["processes"][2:]]
    shared = 100 * sum(one["shared_kb"] for one in workers) / sum(o["rss_kb"] for o in workers)
    assert found["workers_shared_percent"] == round(shared, 1)


@pytest.mark.parametrize("workers", [1, 2])
def test_each_isolated_app_is_told_by_its_whole_name(tmp_path: Path, workers: int) -> None:
    name = "a-name-of-more-letters"  # than a process's name may have
    with running_pool(tmp_path, "main", workers=workers, isolated=name) as pool:
        assert get(f"{tmp_path}/{name}.sock", f"{name}.test").status == 200
        wait_until(lambda: (pool.sample().requests or 0) >= 2)
        sample = pool.sample()
        summary = pool.measure("main").stdout.splitlines()[-1]
    assert set(sample.groups_pss_kb) == {"(parent)", "(shared)", name}
    assert all(kb > 0 for kb in sample.groups_pss_kb.values())
    served = {one.group: one.requests for one in sample.processes if one.worker}
    assert served[name] == 1
    groups = [one.group for one in sample.processes if one.worker]
    assert sorted(map(str, groups)) == ["(shared)"] * workers + [name]
    assert summary.startswith("by app: ")
    assert f"{name} " in summary


def test_all_pools_of_the_machine_are_measured(tmp_path: Path) -> None:
    with running_pool(tmp_path, "one", workers=1) as one, running_pool(tmp_path, "two", workers=1):
        found = json.loads(one.measure("--json", "--all").stdout)
        named = json.loads(one.measure("--json", "two", "one").stdout)
    assert [tree["pool"] for tree in found] == ["one", "two"]
    assert [tree["pool"] for tree in named] == ["two", "one"]
    pids = [{process["pid"] for process in tree["processes"]} for tree in found]
    assert not pids[0] & pids[1]


def test_a_name_that_is_no_pool_is_told_with_those_that_are(pool: Pool, tmp_path: Path) -> None:
    measured = pool.measure("mian", "main")
    assert measured.returncode == 1
    assert measured.stderr == '"mian" is neither a process id nor a pool (there are: main)\n'
    assert "pool main: " in measured.stdout
    nothing = measure(f"--run={tmp_path}", "main")
    assert f"(none runs here ({tmp_path}/kechi-*/pid))" in nothing.stderr
    assert (
        f"no pool runs here ({tmp_path}/kechi-*/pid)"
        in measure(f"--run={tmp_path}", "--all").stderr
    )
    (tmp_path / "kechi-dead").mkdir()
    (tmp_path / "kechi-dead" / "pid").write_text("4194305\n")
    dead = measure(f"--run={tmp_path}", "dead")
    assert dead.stderr.startswith("the pool dead does not run: process 4194305 of ")
    (tmp_path / "kechi-dead" / "pid").write_text("nonsense\n")
    assert '"nonsense" is not a process id' in measure(f"--run={tmp_path}", "dead").stderr
    assert "neither a process id nor a pool" in measure(f"--run={tmp_path}", "../dead").stderr


def test_single_processes_and_their_trees_are_measured(pool: Pool) -> None:
    pids = [one.memory.pid for one in pool.sample().processes]
    table = measure(*map(str, pids[:2]))
    assert table.returncode == 0
    head, first, second, summary = table.stdout.splitlines()
    assert head.split()[0] == "PID"
    assert [first.split()[0], second.split()[0]] == [str(pid) for pid in pids[:2]]
    assert summary.startswith("2 processes, ")
    tree = measure("--tree", "--json", str(pids[0]))
    assert [one["pid"] for one in json.loads(tree.stdout)] == pids


def test_a_process_that_is_not_there_is_told_and_the_others_are_measured() -> None:
    measured = measure("4194305", str(os.getpid()))
    assert measured.returncode == 1
    assert measured.stderr == "4194305: no such process\n"
    assert measured.stdout.splitlines()[1].split()[0] == str(os.getpid())


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "no process id or pool given; try --help"),
        (["--watch=0", "main"], "--watch=0 is not allowed: 0.1 or more"),
        (["--watch=x", "main"], 'Value "x" invalid for option watch (seconds expected)'),
        (["--all", "main"], "--all does not go with arguments (main)"),
        (["--plot=a.svg"], "no history given to plot; try --help"),
        (["--plot=a.svg", "--watch", "h"], "--plot does not go with --watch"),
        (["--frobnicate"], "Unknown option: frobnicate"),
        (["--plot=a.svg", "/nowhere/h"], "/nowhere/h: the history can't be read: No such file"),
    ],
)
def test_a_wrong_command_line_is_refused(arguments: list[str], reason: str) -> None:
    refused = measure(*arguments)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert reason in refused.stderr


@contextlib.contextmanager
def watching(*arguments: str, **options: Any) -> Iterator["subprocess.Popen[bytes]"]:
    process = subprocess.Popen([*MEASURE, *arguments], **options)
    try:
        yield process
    finally:
        process.kill()
        process.wait(LIMIT)


def test_without_a_terminal_a_watch_writes_plain_lines_as_they_come(pool: Pool) -> None:
    arguments = (f"--run={pool.run}", "--watch=0.2", "main")
    with watching(*arguments, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline().decode() for _ in range(3)]
        process.send_signal(signal.SIGINT)
        assert process.wait(LIMIT) == 0
        assert b"\x1b" not in process.stdout.read()
    assert all(line[8:].startswith(" main: 4 processes, ") for line in lines), lines


def test_on_a_terminal_a_watch_redraws_its_table(pool: Pool) -> None:
    ours, theirs = pty.openpty()
    with watching(f"--run={pool.run}", "--watch", "main", stdout=theirs):
        os.close(theirs)
        drawn = b""
        while drawn.count(b"pool main: ") < 2:
            assert select.select([ours], [], [], LIMIT)[0], drawn
            drawn += os.read(ours, 65536)
    os.close(ours)
    first, second = drawn.split(b"\x1b[H\x1b[2J")[1:3]
    assert b"PID" in first
    assert b"PID" in second


def test_a_watch_of_a_pool_says_once_that_it_is_gone_and_waits_for_it(tmp_path: Path) -> None:
    name, errors = "again", tmp_path / "errors"
    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(running_pool(tmp_path, name, workers=1))
        file = pool.run / f"kechi-{name}" / "pid"
        arguments = (f"--run={pool.run}", "--watch=0.1", name, str(os.getpid()))
        streams: Any = {"stdout": subprocess.PIPE, "stderr": stack.enter_context(errors.open("wb"))}
        process = stack.enter_context(watching(*arguments, **streams))
        lines = process.stdout
        assert lines is not None
        assert b" again: 3 processes" in lines.readline()
        file.rename(tmp_path / "pid")
        wait_until(lambda: '"again" is neither' in errors.read_text())
        alone = [line for line, _ in zip(lines, range(12), strict=False) if b" again:" not in line]
        assert len(alone) > 6, "this process is still watched"
        (tmp_path / "pid").rename(file)
        assert any(
            b" again: 3 processes" in line for line, _ in zip(lines, range(99), strict=False)
        )
        assert process.poll() is None
    assert errors.read_text().count("\n") == 1


def test_a_watch_of_processes_ends_with_them() -> None:
    with contextlib.ExitStack() as stack:
        sleeper = stack.enter_context(subprocess.Popen(["sleep", "60"]))
        stack.callback(sleeper.kill)
        process = stack.enter_context(
            watching("--watch=0.1", str(sleeper.pid), stdout=subprocess.PIPE)
        )
        assert process.stdout is not None
        process.stdout.readline()
        sleeper.kill()
        sleeper.wait(LIMIT)
        assert process.wait(LIMIT) == 1


def test_a_reader_that_has_read_enough_is_no_error(pool: Pool) -> None:
    arguments = (f"--run={pool.run}", "--watch=0.1", "main")
    pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with watching(*arguments, **pipes) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(LIMIT) == 0
        assert process.stderr.read() == b""


def test_a_history_grows_by_a_line_for_each_sample_and_can_be_drawn(
    pool: Pool, tmp_path: Path
) -> None:
    file, picture = tmp_path / "main.jsonl", tmp_path / "main.svg"
    before = pool.sample().requests
    for _ in range(3):
        assert pool.measure(f"--history={file}", "main").returncode == 0
        pool.ask(20)
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [line["requests"] for line in lines[:1]] == [before]
    assert lines[0]["requests"] < lines[1]["requests"] < lines[2]["requests"]
    assert lines[0]["time"] < lines[1]["time"] < lines[2]["time"]
    assert set(lines[0]["processes"][2]) >= {
        "pid", "group", "shared_percent", "pss_kb", "private_kb", "requests",
    }  # fmt: skip
    # With the interpreter that has matplotlib: -I leaves the virtualenv's packages where they are.
    command = [MEASURE[0], "-c", MEASURE[-1], f"--plot={picture}", str(file)]
    drawn = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)
    assert (drawn.returncode, drawn.stderr) == (0, "")
    assert "<svg" in picture.read_text()


def test_a_history_that_can_not_be_written_is_told_and_the_sample_is_shown(pool: Pool) -> None:
    measured = pool.measure("--history=/dev/full", "main")
    assert measured.returncode == 1
    assert measured.stderr == "/dev/full: the history can't be written: No space left on device\n"
    assert "pool main: " in measured.stdout
