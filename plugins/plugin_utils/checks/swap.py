"""The role `swap`: sizes, a path, the kernel's ranges; and how much swap comes of them."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ansible.module_utils.common.validation import check_type_bool

from ...modules.swap import auto_file_mb, auto_zram_mb
from ..settings import problem
from .common import Machine, Values, within

SMALLEST_SWAP_MB = 16
_KB_PER_MB = 1024


def swap(values: Values, machine: Machine) -> Iterator[str]:
    """Sizes, a path that fstab can have, and the kernel's ranges."""
    for name, hint in (
        ("swap_size_mb", "swap_file: false is no swapfile"),
        ("swap_zram_size_mb", "swap_zram: false is no zram"),
    ):
        size = str(values[name])
        if size != "auto" and not (size.isdecimal() and int(size) >= SMALLEST_SWAP_MB):
            fault = f"is no size; allowed: auto, or {SMALLEST_SWAP_MB} or more MB; {hint}"
            yield problem(name, values[name], fault)
    zram, memory = str(values["swap_zram_size_mb"]), machine.memory_mb
    if memory is not None and zram.isdecimal() and int(zram) > 2 * memory:
        fault = f"is more than twice the machine's {memory} MB of memory, and could not be filled"
        yield problem("swap_zram_size_mb", values["swap_zram_size_mb"], fault)
    path = str(values["swap_path"])
    if not re.fullmatch(r"(/[\w.@+-]+)+", path, re.ASCII) or {".", ".."} & set(path.split("/")):
        fault = "is not an absolute path of letters, digits and . _ @ + -"
        yield problem("swap_path", values["swap_path"], fault)
    yield from within(values, "swap_swappiness", 0, 200)
    yield from within(values, "swap_vfs_cache_pressure", 1, 1000)


def planned_swap_mb(values: Values, memory_mb: int) -> int:
    """The swap in MB that the role `swap` will have made, less the memory that zram takes."""
    if values["swap_state"] != "present":
        return 0
    file_mb, zram_mb = (
        auto(memory_mb * _KB_PER_MB) if str(size) == "auto" else int(size)
        for size, auto in (
            (values["swap_size_mb"], auto_file_mb),
            (values["swap_zram_size_mb"], auto_zram_mb),
        )
    )
    has_file, has_zram = (check_type_bool(values[name]) for name in ("swap_file", "swap_zram"))
    return (file_mb if has_file else 0) + (zram_mb * 2 // 3 if has_zram else 0)
