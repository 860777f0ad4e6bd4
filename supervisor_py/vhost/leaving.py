"""The end of a process that shares its memory with others."""

import atexit
import contextlib
import os
import sys
import threading
from typing import NoReturn

_abandoned = False


def abandon_threads() -> None:
    """Wait for no thread at the end: there are some that do not end."""
    global _abandoned  # noqa: PLW0603
    _abandoned = True


def leave(status: object) -> NoReturn:
    """Exit as Python does with a SystemExit of this status, but leave all objects where they are.

    Python would take every object apart, and so get a copy of each page that is shared, to free it.
    """
    try:
        # As at any exit: other threads end, then come the functions for it.
        if not _abandoned:
            threading._shutdown()  # type: ignore[attr-defined]  # multiprocessing's children do that, too
        atexit._run_exitfuncs()
        if status is not None and not isinstance(status, int):
            sys.stderr.write(f"{status}\n")
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):  # full, or closed
                stream.flush()
        os._exit(_number(status))


def _number(status: object) -> int:
    if status is None:
        return 0
    return status & 0xFF if isinstance(status, int) else 1
