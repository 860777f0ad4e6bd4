"""A control group with a memory limit, of version 1 or 2: what a small VPS has, on a larger one."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

FILESYSTEM = Path("/sys/fs/cgroup")
GIGABYTE = 1 << 30
EMPTY_SECONDS = 5.0  # for the last process to leave


class NoCgroupError(RuntimeError):
    """This machine lets nobody make one, or not us."""


@dataclass(frozen=True)
class Files:
    """What the files of a version are called."""

    parent: Path
    limits: tuple[str, ...]  # the second one counts swap, and is left out where there is none
    usage: str
    events: str  # has a line "oom_kill N"


V1 = Files(
    FILESYSTEM / "memory",
    ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes"),
    "memory.usage_in_bytes",
    "memory.oom_control",
)
V2 = Files(
    FILESYSTEM,
    ("memory.max", "memory.swap.max"),
    "memory.current",
    "memory.events",
)


@dataclass(frozen=True)
class Cgroup:
    """A group that processes are put into before they are what they are."""

    place: Path
    files: Files

    def wrap(self, command: Sequence[str]) -> list[str]:
        """Return a command that enters the group and then is the given one."""
        enter = 'echo $$ > "$0" && exec "$@"'
        return ["/bin/sh", "-c", enter, str(self.place / "cgroup.procs"), *command]

    def usage_mb(self) -> float:
        """Return what the kernel charges the group with, file cache included."""
        return int((self.place / self.files.usage).read_text()) / (1 << 20)

    def killed(self) -> int:
        """Return how many processes the kernel has ended for memory."""
        for line in (self.place / self.files.events).read_text().splitlines():
            name, _, number = line.partition(" ")
            if name == "oom_kill":
                return int(number)
        return 0


def _available() -> Files:
    for files in (V1, V2):
        controllers = files.parent / "cgroup.controllers"
        known = not controllers.exists() or "memory" in controllers.read_text().split()
        if files.parent.is_dir() and known and (files is V2 or V1.parent.is_mount()):
            return files
    raise NoCgroupError("no memory controller is mounted")


@contextlib.contextmanager
def limited(limit: int = GIGABYTE) -> Iterator[Cgroup]:
    """Make a group of so many bytes without swap, and remove it; raises NoCgroupError."""
    files = _available()
    place = files.parent / f"kechi-bench-{os.getpid()}"
    try:
        place.mkdir()
    except OSError as error:
        raise NoCgroupError(f"{place}: {error.strerror}") from error
    try:
        memory, with_swap = files.limits
        (place / memory).write_text(str(limit))
        if (place / with_swap).exists():
            (place / with_swap).write_text(str(limit if files is V1 else 0))
        yield Cgroup(place, files)
    except PermissionError as error:
        raise NoCgroupError(f"{place}: {error.strerror}") from error
    finally:
        _remove(place)


def _remove(place: Path) -> None:
    ends = time.monotonic() + EMPTY_SECONDS
    while True:
        try:
            place.rmdir()
        except OSError:
            if time.monotonic() > ends:
                raise
            time.sleep(0.05)
        else:
            return
