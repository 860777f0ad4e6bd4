"""The modules that all groups of a pool are forked with: imported once, before any app."""

import importlib
import os
import sys
import traceback

from .pool import Pool


class PreloadError(RuntimeError):
    """A module can't be preloaded; the message says where it is asked for, and why."""


def load(pool: Pool) -> None:
    """Import the pool's `preload`; raises PreloadError."""
    if not pool.preload:
        return
    where = f"{pool.source.where('pool.preload')}: " if pool.source is not None else ""
    # A relative entry is another directory for each app.
    sys.path[:] = [entry for entry in sys.path if os.path.isabs(entry)]
    for name in pool.preload:
        try:
            importlib.import_module(name)
        except (Exception, SystemExit) as error:
            raise PreloadError(
                f"{where}pool.preload: import of {name} failed: {type(error).__name__}: {error}\n"
                + traceback.format_exc().rstrip()
            ) from error
