"""How little the super-daemon is: what it loads, what it weighs, and that it sleeps when idle."""

import time
from pathlib import Path

from ..waiting import wait_until
from .harness import Server

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

    def asleep() -> bool:
        return "State:\tS" in status.read_text()

    server.settle()
    wait_until(asleep, "it sleeps")
    before = switches()
    time.sleep(1.2)  # no event tells that nothing happens
    assert asleep()
    assert switches() == before
