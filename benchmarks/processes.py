"""Processes that are measured: all of a run have a variable, are found by it, and end with it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from supervisor_py import memory

PATIENCE = 30.0  # seconds for any one step; more means that something is broken
PAUSE = 0.01  # seconds between two looks
MARK = "KECHI_BENCH"
LOG_LINES = 60  # of a log, told when something has failed


def wait_until(fulfilled: Callable[[], object], what: str, patience: float = PATIENCE) -> None:
    """Look until it is so; raises TimeoutError."""
    ends = time.monotonic() + patience
    while not fulfilled():
        if time.monotonic() > ends:
            raise TimeoutError(f"waited {patience:g} s for {what}")
        time.sleep(PAUSE)


@contextlib.contextmanager
def running(
    name: str, commands: Sequence[Sequence[str]], directory: Path
) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Run commands, and leave nothing of them behind; what goes wrong is told with their log."""
    log = directory / "log"
    environ = {**os.environ, MARK: str(directory)}
    processes: list[subprocess.Popen[bytes]] = []
    try:
        with log.open("ab") as messages:
            for command in commands:
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=messages,
                    stderr=messages,
                    cwd=directory,
                    env=environ,
                )
                processes.append(process)
        yield processes
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-LOG_LINES:])
        raise RuntimeError(f"{name}: {error}\n{tail}") from error
    finally:
        while left := _left(directory, processes):  # how well it stops is not measured
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        for process in processes:
            process.wait()


def _left(directory: Path, processes: Sequence[subprocess.Popen[bytes]]) -> set[int]:
    """Return all that a run has left; nginx writes its title over its variables."""
    running = [process.pid for process in processes if process.poll() is None]
    return {*marked(directory), *(pid for one in running for pid in memory.tree(one))}


def marked(directory: Path) -> list[int]:
    """Return the processes of a run, also those that have a session of their own."""
    mark = f"{MARK}={directory}".encode()
    found = []
    for file in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if mark in file.read_bytes().split(b"\0"):  # a zombie has none
                found.append(int(file.parent.name))
    return found
