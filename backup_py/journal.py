"""What is told, on a terminal or in the journal."""

import os
import sys

_ERROR = "<3>"  # the priority of a line, as systemd reads it


def say(text: str) -> None:
    """Tell of what was done."""
    print(text, flush=True)


def complain(text: str) -> None:
    """Tell of what was not."""
    mark = _ERROR if "JOURNAL_STREAM" in os.environ else ""
    print(f"{mark}{text}", file=sys.stderr, flush=True)
