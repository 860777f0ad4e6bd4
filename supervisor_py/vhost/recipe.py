"""What keeps the pages of loaded code shared between forked processes, step by step.

A forked process shares a page until one side writes to it. docs/memory.md says what each step is
for, and what it was measured to give; each can be left out in the pool file's [pool.memory].
"""

import ctypes
import gc
import sys
from pathlib import Path
from types import CodeType, FunctionType

from .pool import Memory

PR_SET_MEMORY_MERGE = 67  # linux/prctl.h, since Linux 6.4
MADV_MERGEABLE = 12  # asm-generic/mman-common.h
# References to an object whose count has this low half are counted no more (PEP 683). It is
# CPython's own affair, and another one from version to version.
IMMORTAL_COUNT = 0xFFFFFFFF
WITH_THAT_COUNT = ((3, 12), (3, 13))
KSM_RUN = Path("/sys/kernel/mm/ksm/run")  # "1": the kernel looks for equal pages


def begin(steps: Memory) -> str:
    """Prepare a process in which code is about to be loaded, and that others are forked from.

    Returns a sentence on what the machine lacks for the steps asked for, "" for nothing.
    """
    if not steps.gc_at_load:
        # A collection would leave gaps for the workers to fill, each with pages of its own.
        gc.disable()
    lacks = []
    if steps.same_page_merging:
        _have_merged()
        if lack := _lack_of_merging():
            lacks.append(f"equal pages are not merged: {lack}")
    if steps.immortal and not _can_be_immortal():
        version = ".".join(map(str, sys.version_info[:2]))
        lacks.append(
            f"objects are not made immortal: this is known to work on CPython 3.12 and 3.13, and"
            f" here is {sys.implementation.name} {version}{sys.abiflags}"
        )
    return "; ".join(lacks)


def settle(steps: Memory) -> None:
    """Put what has been loaded where nobody writes to it; workers are forked from here on.

    Also for a process that serves what it has loaded itself: what it was forked with stays shared.
    """
    if steps.freeze or steps.immortal:
        gc.collect()
    if steps.immortal and _can_be_immortal():
        _make_immortal(gc.get_objects())
    if steps.freeze:
        gc.freeze()
    if steps.same_page_merging and not _have_merged():
        _have_merged_so_far()
    gc.enable()


def _can_be_immortal() -> bool:
    version, name = sys.version_info[:2], sys.implementation.name
    is_counted_so = sys.byteorder == "little" and sys.maxsize > 1 << 32 and "t" not in sys.abiflags
    return name == "cpython" and version in WITH_THAT_COUNT and is_counted_so


def _make_immortal(objects: list[object]) -> None:
    """Count no references to objects, nor to the code of functions among them, from now on.

    Strings and numbers keep their counts: the interpreter has lists of those, which count on them.
    """
    count = ctypes.c_uint32.from_address
    codes = [found.__code__ for found in objects if type(found) is FunctionType]
    for found in objects:
        count(id(found)).value = IMMORTAL_COUNT
    seen = set()
    while codes:
        code = codes.pop()
        if id(code) not in seen:
            seen.add(id(code))
            count(id(code)).value = IMMORTAL_COUNT
            codes += [constant for constant in code.co_consts if type(constant) is CodeType]


def _have_merged() -> bool:
    """Ask the kernel to merge equal pages of this process, and of all that it forks, for ever."""
    return bool(_libc().prctl(PR_SET_MEMORY_MERGE, 1, 0, 0, 0) == 0)


def _have_merged_so_far() -> None:
    """Do it for what is there by now, in older kernels: most of what forked processes will hold."""
    libc = _libc()
    for line in Path("/proc/self/maps").read_text("utf-8", "replace").splitlines():
        addresses, access = line.split()[:2]
        if access == "rw-p":
            start, _, end = addresses.partition("-")
            size = int(end, 16) - int(start, 16)
            libc.madvise(ctypes.c_void_p(int(start, 16)), ctypes.c_size_t(size), MADV_MERGEABLE)


def _lack_of_merging() -> str:
    try:
        running = KSM_RUN.read_text("ascii").strip()
    except OSError:
        return "the kernel is built without KSM, or hides it"
    return "" if running == "1" else f"{KSM_RUN} is {running}, and 1 would let the kernel do it"


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
