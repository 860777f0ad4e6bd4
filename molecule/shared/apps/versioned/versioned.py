"""An app whose releases tell how they are: each part of it must be of one version.

Its code is read at load, `late.py` and `page.txt` with each request: a release that was switched
under a running generation would show itself as a mixture, which is answered with 500.
"""

import importlib
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

VERSION = 1
STARTED = os.environ.get("SERVER_STARTER_GENERATION", "none")


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer with the version, also as X-Generation, which the load takes down."""
    late = importlib.reload(importlib.import_module("late"))
    found = {VERSION, late.VERSION, int(Path("page.txt").read_text())}
    if environ["PATH_INFO"] == "/slow":
        time.sleep(1.0)
        found.add(int(Path("page.txt").read_text()))
    whole = found == {VERSION}
    headers = [("Content-Type", "text/plain"), ("X-Generation", str(VERSION))]
    start_response("200 OK" if whole else "500 Mixture", headers)
    return [f"version {found}\n".encode(), b"done\n"]
