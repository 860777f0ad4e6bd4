"""An app that keeps some memory with each request, as apps with an unbounded cache do."""

import os
from collections.abc import Callable, Iterable
from typing import Any

KEPT_BYTES = 256 * 1024
kept: list[bytes] = []


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Keep some more, and say how much that is by now."""
    kept.append(os.urandom(KEPT_BYTES))
    headers = [
        ("Content-Type", "text/plain"),
        ("X-Generation", os.environ.get("SERVER_STARTER_GENERATION", "none")),
        ("X-Pid", str(os.getpid())),
    ]
    start_response("200 OK", headers)
    return [f"{len(kept) * KEPT_BYTES // 1024} kB\n".encode()]
