"""What is told, on a terminal or in the journal."""

import os
import sys

_ERROR = "<3>"  # the priority of a line, as systemd reads it


def plain(text: str) -> str:
    """Escape what a terminal or a log would act on: names of files may hold anything."""
    return "".join(one if one.isascii() and one.isprintable() else ascii(one)[1:-1] for one in text)


def say(text: str) -> None:
    """Tell of what was done."""
    print(plain(text), flush=True)


def complain(text: str) -> None:
    """Tell of what was not."""
    mark = _ERROR if "JOURNAL_STREAM" in os.environ else ""
    print(f"{mark}{plain(text)}", file=sys.stderr, flush=True)
