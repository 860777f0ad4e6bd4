"""How much memory is left for a second generation: the machine's, and that of our cgroups.

Swap counts: on a small machine a restart that swaps for a moment is what the swap is for, and what
must not happen is that the kernel has to kill something.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    Read = Callable[[str], str | None]

_UNLIMITED_KB = 1 << 50  # cgroup v1 says "no limit" by a number near 2**63 bytes
_TOP = "/sys/fs/cgroup"
_BYTES_PER_KB = 1024
V1, V2 = 1, 2  # of the cgroups' interface
MACHINE = "the machine's memory"


def read_file(path: str) -> str | None:
    """Return a file's text, None when there is none to be had."""
    try:
        with open(path, "rb") as file:
            return file.read().decode("ascii", "replace")
    except OSError:
        return None


def left(read: Read = read_file) -> tuple[float, str]:
    """Return the memory that is left, in kB, and the name of the limit that is nearest."""
    figures = table(read("/proc/meminfo") or "")
    swap = figures.get("SwapFree", 0)
    machine = figures.get("MemAvailable", _UNLIMITED_KB) + swap
    found = [(float(machine), MACHINE)]
    for version, groups in cgroups(read, "memory"):
        found += (_of_v2 if version == V2 else _of_v1)(read, groups, swap)
    return min(found)


def tasks_in_use(read: Read = read_file) -> str:
    """Say which limit of tasks (TasksMax=) is reached; an empty string when none is."""
    for _version, groups in cgroups(read, "pids"):
        for group in groups:
            most = (read(f"{group}/pids.max") or "").strip()
            used = (read(f"{group}/pids.current") or "").strip()
            if most.isdecimal() and used.isdecimal() and int(used) >= int(most):
                return f"{used} of {most} tasks are in use (limit of the cgroup {group})"
    return ""


def cgroups(read: Read, controller: str) -> Iterator[tuple[int, Iterator[str]]]:
    """Yield where a controller's limits for us are: V1 or V2, and folders from the top to ours."""
    for line in (read("/proc/self/cgroup") or "").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            yield V2, _downwards(_TOP, path)
        elif controller in controllers.split(","):
            yield V1, _downwards(f"{_TOP}/{controller}", path)


def table(text: str) -> dict[str, int]:
    """Read lines of `Name: 12 kB` or `name 12`."""
    found = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) > 1 and words[1].isdecimal():
            found[words[0].removesuffix(":")] = int(words[1])
    return found


def _downwards(top: str, path: str) -> Iterator[str]:
    """Go from the top cgroup to ours: each may have a limit, which holds for all below it."""
    yield top
    for name in filter(None, path.split("/")):
        top = f"{top}/{name}"
        yield top


def kb(text: str | None) -> int | None:
    """Return a limit or a usage in kB; None where there is no such file, or no limit."""
    text = (text or "").strip()
    if not text.isdecimal():
        return None
    number = int(text) // _BYTES_PER_KB
    return number if number < _UNLIMITED_KB else None


def _of_v2(read: Read, groups: Iterable[str], swap: int) -> Iterator[tuple[float, str]]:
    for group in groups:
        most_swap = kb(read(f"{group}/memory.swap.max"))
        if most_swap is not None:
            used_swap = kb(read(f"{group}/memory.swap.current")) or 0
            swap = min(swap, max(0, most_swap - used_swap))
        most, used = kb(read(f"{group}/memory.max")), kb(read(f"{group}/memory.current"))
        if most is not None and used is not None:
            yield _left(group, most - used, _cache(read, group, "inactive_file"), swap)


def _of_v1(read: Read, groups: Iterable[str], swap: int) -> Iterator[tuple[float, str]]:
    for group in groups:
        most = kb(read(f"{group}/memory.limit_in_bytes"))
        used = kb(read(f"{group}/memory.usage_in_bytes"))
        if most is None or used is None:
            continue
        # memsw limits memory and swap together.
        most_both = kb(read(f"{group}/memory.memsw.limit_in_bytes"))
        used_both = kb(read(f"{group}/memory.memsw.usage_in_bytes"))
        if most_both is not None and used_both is not None:
            swap = min(swap, max(0, most_both - used_both - (most - used)))
        yield _left(group, most - used, _cache(read, group, "total_inactive_file"), swap)


def _cache(read: Read, group: str, name: str) -> int:
    """Return the file cache that nobody has used for a while: it goes first."""
    return table(read(f"{group}/memory.stat") or "").get(name, 0) // _BYTES_PER_KB


def _left(group: str, free: int, cache: int, swap: int) -> tuple[float, str]:
    return float(max(0, free + cache) + swap), f"limit of the cgroup {group}"
