"""How little the super-daemon is: what it loads, what it weighs, and that it sleeps when idle."""

import json
import subprocess
import time
from pathlib import Path

import pytest

from supervisor_py import memory

from .harness import LIMIT, Server, command

# Each costs more than the whole of start_server is allowed to, or loads one that does.
FORBIDDEN = {
    "argparse", "asyncio", "collections", "contextlib", "dataclasses", "enum", "functools",
    "importlib", "inspect", "json", "logging", "pathlib", "random", "re", "selectors", "signal",
    "socket", "struct", "subprocess", "tempfile", "threading", "traceback", "typing", "warnings",
}  # fmt: skip
PRIVATE_DIRTY_KB = 4500


def _loaded(server: Server) -> set[str]:
    """Return what a running server has in sys.modules, written by it at its next fork."""
    out = server.directory / "modules"
    prelude = (
        "import os\nreal = os.fork\n"
        "def fork():\n"
        f"    fd = os.open({str(out)!r}, os.O_WRONLY | os.O_CREAT)\n"
        "    os.write(fd, chr(10).join(sys.modules).encode())\n"
        "    os.close(fd)\n"
        "    return real()\n"
        "os.fork = fork"
    )
    port = "--port=localhost:0"
    envdir = f"--envdir={server.directory / 'missing'}"
    server.start(f"--path={server.path}", port, envdir, prelude=prelude).wait_serving(1)
    assert server.restart().returncode == 0
    return set(out.read_text().splitlines())


def test_the_super_daemon_loads_nothing_heavy(server: Server) -> None:
    loaded = _loaded(server)
    assert "supervisor_py.machine" in loaded, "the list is the running server's"
    assert loaded & FORBIDDEN == set()


def test_an_idle_super_daemon_has_less_than_4_5_mb_of_its_own(server: Server) -> None:
    server.start(f"--path={server.path}").wait_serving(1)  # the first run may have compiled
    assert server.stop() == 0
    server.start(f"--path={server.path}").wait_serving(1)
    assert server.process is not None
    rollup = Path(f"/proc/{server.process.pid}/smaps_rollup").read_text()
    (dirty,) = [line.split()[1] for line in rollup.splitlines() if "Private_Dirty" in line]
    assert int(dirty) < PRIVATE_DIRTY_KB


def test_an_idle_super_daemon_never_wakes_up(server: Server) -> None:
    server.start(f"--path={server.path}").wait_serving(1)
    assert server.process is not None
    status = Path(f"/proc/{server.process.pid}/status")

    def switches() -> int:
        lines = status.read_text().splitlines()
        return sum(int(line.split()[1]) for line in lines if "ctxt_switches" in line)

    time.sleep(0.2)
    before = switches()
    time.sleep(1.2)
    assert switches() == before


def test_shared_memory_size_prints_a_table_and_the_tree(server: Server) -> None:
    server.start().wait_serving(1)
    assert server.process is not None
    pids = [server.process.pid, server.generations()[1]]
    table = _measure(*map(str, pids))
    assert table.returncode == 0
    assert [line.split()[0] for line in table.stdout.splitlines()] == ["PID", *map(str, pids)]
    tree = _measure("--tree", "--json", str(pids[0]))
    assert [one["pid"] for one in json.loads(tree.stdout)] == pids
    assert memory.read(pids[1]).rss == pytest.approx(json.loads(tree.stdout)[1]["rss_kb"], rel=0.2)


def test_shared_memory_size_says_which_process_is_unknown_and_measures_the_others(
    server: Server,
) -> None:
    server.start().wait_serving(1)
    assert server.process is not None
    measured = _measure("4194305", str(server.process.pid))
    assert measured.returncode == 1
    assert measured.stderr == "4194305: no such process\n"
    assert measured.stdout.splitlines()[1].split()[0] == str(server.process.pid)
    refused = _measure("me", str(server.process.pid))
    assert refused.returncode == 1
    assert '"me" is not a process id' in refused.stderr
    assert refused.stdout == ""
    assert _measure().returncode == 1


def _measure(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*command("memory"), *arguments],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
