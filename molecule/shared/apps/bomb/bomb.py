"""An app that sets a fork bomb off: processes that fork for as long as they live."""

import subprocess
import sys
from collections.abc import Callable, Iterable
from typing import Any

FUSE = """
import os, sys, time
end = time.monotonic() + float(sys.argv[1])
while time.monotonic() < end:
    try:
        os.fork()
    except OSError:  # as many as there may be
        time.sleep(0.05)
"""


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Start it, for the seconds of SECONDS= in the query string, and don't wait."""
    seconds = float(environ.get("QUERY_STRING", "").removeprefix("seconds=") or 0)
    subprocess.Popen([sys.executable, "-c", FUSE, str(seconds)])
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"lit\n"]
