"""How many workers and threads a group gets where the pool file doesn't say."""

from dataclasses import replace

from .pool import Workers

WORKERS = 2
THREADS = 4


def sized(asked: Workers) -> Workers:
    """Return what was asked for, with every 0 replaced by what suits the machine."""
    return replace(asked, count=asked.count or WORKERS, threads=asked.threads or THREADS)
