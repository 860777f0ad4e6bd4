"""What the harnesses of both servers ask while they wait."""

import contextlib
from collections.abc import Callable


def holds(fulfilled: Callable[[], object]) -> bool:
    """Ask whether it is so by now; a file that is not there yet is a no."""
    with contextlib.suppress(FileNotFoundError):
        return bool(fulfilled())
    return False
