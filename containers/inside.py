"""Run commands in a container without asking its engine each time, which takes longer than they do.

``podman exec`` costs 0.3 s of a processor. Root can enter the namespaces of the container's first
process by nsenter(1) instead, in a hundredth of that; the engine is asked for that process once.
The connection plugin does so, and what the tests ask a machine.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

PROC = Path("/proc")
MARK = "container"  # the variable that the first process of a container has, and no other machine's
STARTED = 19  # of the fields of /proc/PID/stat after the name: when the process was started


def usable(engine: str) -> bool:
    """Whether containers of this engine can be entered: they are this kernel's, and we are root."""
    return engine == "podman" and os.geteuid() == 0 and shutil.which("nsenter") is not None


def started(pid: int, proc: Path = PROC) -> int:
    """When a process was started, in ticks since boot; 0 where it is gone.

    With its number, that is no other process.
    """
    try:
        fields = (proc / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return 0 if fields[0] == "Z" else int(fields[STARTED])


def first_process(engine: str, name: str, cache: Path) -> int:
    """The first process of a container, as the kernel numbers it here; 0 where it does not run.

    Args:
        engine: the engine's program.
        name: the container.
        cache: a directory to note it in.
    """
    file = cache / f"{name}.json"
    try:
        known = json.loads(file.read_text())
        if known["started"] and started(known["pid"]) == known["started"]:
            return int(known["pid"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    command = [engine, "container", "inspect", "--format={{.State.Pid}}", name]
    asked = subprocess.run(command, capture_output=True, text=True, check=False)
    pid = int(asked.stdout) if asked.returncode == 0 else 0
    if pid:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=cache, delete=False) as new:
            json.dump({"pid": pid, "started": started(pid)}, new)
        Path(new.name).replace(file)
    return pid


def environment(pid: int, proc: Path = PROC) -> dict[str, str]:
    """What the engine gave the container's first process, and gives those that it starts in it."""
    try:
        pairs = (proc / str(pid) / "environ").read_bytes().decode().split("\0")
    except OSError:  # it has ended meanwhile: the engine says so
        return {}
    return dict(pair.split("=", 1) for pair in pairs if "=" in pair)


def enter(pid: int, argv: list[str], variables: Mapping[str, str]) -> list[str]:
    """Spell the command that runs another one there, as the engine's `exec` would."""
    pairs = [f"{name}={value}" for name, value in variables.items()]
    return ["nsenter", f"--target={pid}", "--all", "env", "--ignore-environment", *pairs, *argv]


def command(engine: str, name: str, argv: list[str], cache: Path) -> list[str]:
    """Spell the command that runs another one in a container; none where that takes the engine.

    Args:
        engine: the engine's program.
        name: the container.
        argv: what is to run there.
        cache: a directory to note its first process in.
    """
    if not usable(engine):
        return []
    pid = first_process(engine, name, cache)
    variables = environment(pid) if pid else {}
    return enter(pid, argv, variables) if MARK in variables else []
