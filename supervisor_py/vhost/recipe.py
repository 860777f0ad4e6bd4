"""What keeps the pages of loaded code shared between forked processes, step by step.

A forked process shares a page until one side writes to it. docs/memory.md says what each step is
for, and what it was measured to give; each can be left out in the pool file's [pool.memory].
"""

import ctypes
import gc
import os
from pathlib import Path

from .pool import Memory

PR_SET_MEMORY_MERGE = 67  # linux/prctl.h, since Linux 6.4
KSM_RUN = Path("/sys/kernel/mm/ksm/run")  # "1": the kernel looks for equal pages


def begin(steps: Memory) -> str:
    """Prepare a process in which code is about to be loaded, and that others are forked from.

    Returns a sentence on what the machine lacks for the steps asked for, "" for nothing.
    """
    if not steps.gc_at_load:
        # A collection would leave gaps for the workers to fill, each with pages of its own.
        gc.disable()
    missing = _merge_same_pages() if steps.same_page_merging else ""
    return missing and f"equal pages are not merged: {missing}"


def settle(steps: Memory) -> None:
    """Put what has been loaded where nobody writes to it; workers are forked from here on.

    Also for a process that serves what it has loaded itself: what it was forked with stays shared.
    """
    if steps.freeze:
        gc.collect()
        gc.freeze()
    gc.enable()


def _merge_same_pages() -> str:
    """Ask the kernel to merge equal pages of this process and all that it forks.

    Returns what is missing for that, "" for nothing.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_MEMORY_MERGE, 1, 0, 0, 0) != 0:
        reason = os.strerror(ctypes.get_errno())
        return (
            f"this kernel has no PR_SET_MEMORY_MERGE ({reason}; Linux 6.4 has, with KSM built in)"
        )
    try:
        running = KSM_RUN.read_text(encoding="ascii").strip()
    except OSError as error:
        return f"{KSM_RUN}: {error.strerror}"
    return "" if running == "1" else f"{KSM_RUN} is {running}, and 1 would let the kernel do it"
