"""An app that joins a pool later: it writes a file of its own and says what it read."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Write to the directory for persistent files, and greet from there."""
    shared = Path(os.environ["GREETER_SHARED"])
    (shared / "greeting").write_text(f"hello from {shared}\n")
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [(shared / "greeting").read_bytes()]
