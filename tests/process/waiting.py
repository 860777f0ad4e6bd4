"""How tests wait: for what happens, as long as it takes on a busy machine."""

import contextlib
import time
from collections.abc import Callable

LIMIT = 120.0  # seconds; nothing takes so long unless it is broken, on a busy machine neither
_PAUSE, _LONGEST_PAUSE = 0.002, 0.03  # seconds between two looks: the first, and after a while


def holds(fulfilled: Callable[[], object]) -> bool:
    """Ask whether it is so by now; a file that is not there yet is a no."""
    with contextlib.suppress(FileNotFoundError):
        return bool(fulfilled())
    return False


def holds_within(fulfilled: Callable[[], object], seconds: float) -> bool:
    """Tell whether it comes true within so many seconds; the last look is after them."""
    ends = time.monotonic() + seconds
    pause = _PAUSE
    while True:
        over = time.monotonic() >= ends
        if holds(fulfilled):
            return True
        if over:
            return False
        time.sleep(pause)  # between two looks, at what tells nobody that it changes
        pause = min(pause * 1.3, _LONGEST_PAUSE)


def wait_until(fulfilled: Callable[[], object], what: str, limit: float = LIMIT) -> None:
    """Wait until it is so; the limit is for what is broken."""
    assert holds_within(fulfilled, limit), f"waited {limit:g} s for: {what}"
