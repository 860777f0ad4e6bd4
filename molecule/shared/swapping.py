"""A machine's swap, and programs that need it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from testinfra.host import Host

from shared import reach
from shared.inventory import Inventory

HOG_SECONDS = 600
MCL_CURRENT = 1
# Holds so many MB that don't compress, says so, and says for each USR1 whether they are whole.
HOG = f"""
import ctypes, os, signal, sys, zlib
held = [os.urandom(1 << 20) for _ in range(int(sys.argv[1]))]
sums = [zlib.crc32(block) for block in held]
def look(*_):
    print("looked: whole" if list(map(zlib.crc32, held)) == sums else "looked: torn", flush=True)
signal.signal(signal.SIGUSR1, look)
if sys.argv[2:] == ["locked"]:
    assert ctypes.CDLL(None).mlockall({MCL_CURRENT}) == 0
print("holds", flush=True)
while True:
    signal.pause()
"""


class Area(NamedTuple):
    """Swap that is on."""

    size_mb: int
    used_mb: int
    priority: int


class Swapping:
    """Asks a machine for its swap, and fills it."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.role = Inventory(reach.name(host), playbook="molecule/shared/swap.yml")

    @property
    def areas(self) -> dict[str, Area]:
        """All swap that is on, by its path."""
        lines = self.host.check_output("cat /proc/swaps").splitlines()[1:]
        found = {}
        for line in lines:
            path, _, size, used, priority = line.split()
            found[path] = Area(round(int(size) / 1024), int(used) // 1024, int(priority))
        return found

    @property
    def sizes(self) -> dict[str, tuple[int, int]]:
        """The size in MB and the priority of all swap that is on."""
        return {path: (area.size_mb, area.priority) for path, area in self.areas.items()}

    @property
    def table(self) -> list[str]:
        """The lines of /etc/fstab that are about swap."""
        lines = self.host.check_output("cat /etc/fstab").splitlines()
        return [line for line in lines if line.split()[2:3] == ["swap"]]

    @property
    def files(self) -> list[str]:
        """What there is of swapfiles at the usual place."""
        return str(self.host.check_output("find / -maxdepth 1 -name 'swapfile*'")).split()

    @property
    def available_mb(self) -> int:
        """How much memory programs could still have."""
        return int(self.host.check_output("awk '/^MemAvailable/ {print $2}' /proc/meminfo")) // 1024

    def kernel(self, name: str) -> int:
        """One of the kernel's settings of memory."""
        return int(self.host.check_output(f"cat /proc/sys/vm/{name}"))

    @contextmanager
    def hog(self, size_mb: int, *properties: str, locked: bool = False) -> Iterator[Hog]:
        """Have a program hold memory while the block runs; `locked` is never swapped out."""
        unit = "locked" if locked else "hog"
        hog = Hog(self.host, unit)
        all_properties = (f"StandardOutput=file:{hog.said}", *properties)
        words = " ".join(f"--property={one}" for one in all_properties)
        start = f"systemd-run --quiet --collect --unit={unit} {words} python3 -c %s {size_mb}"
        self.host.check_output(f"rm -f {hog.said}")
        self.host.check_output(f"{start} {unit}", HOG)
        try:
            hog.begin()
            yield hog
        finally:
            self.host.run(f"systemctl kill --signal=KILL {unit}")


class Hog:
    """A program that holds memory."""

    def __init__(self, host: Host, unit: str) -> None:
        self.said = f"/run/{unit}"
        self._host = host
        self._unit = unit
        self._pid = 0
        self._looks = 0

    def begin(self) -> None:
        """Wait until it holds all."""
        self._wait_for("holds", 1)
        self._pid = self._main_pid()

    def is_whole(self) -> bool:
        """Whether it is the same process still, and holds what it held."""
        if self._main_pid() != self._pid:
            return False
        self._looks += 1
        self._host.check_output(f"kill -USR1 {self._pid}")
        self._wait_for("looked", self._looks)
        return "torn" not in self._host.check_output(f"cat {self.said}")

    def _wait_for(self, word: str, times: int) -> None:
        until = f"until [ $(grep -c {word} {self.said}) -ge {times} ]; do sleep 0.2; done"
        self._host.check_output(f"timeout {HOG_SECONDS} sh -c '{until}'")

    def _main_pid(self) -> int:
        show = "systemctl show --property=MainPID --value"
        return int(self._host.check_output(f"{show} {self._unit}"))
