"""An app that takes more memory than its pool may have: the worker that runs it is killed."""

from collections.abc import Callable, Iterable
from typing import Any

MB = 1024 * 1024
CHUNK_MB = 16


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Take MEGABYTES= of the query string, touch every page, and answer if still alive."""
    wanted = int(environ.get("QUERY_STRING", "").removeprefix("megabytes=") or 0)
    taken = []
    for _ in range(0, wanted, CHUNK_MB):
        chunk = bytearray(CHUNK_MB * MB)
        chunk[::4096] = b"x" * len(chunk[::4096])
        taken.append(chunk)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"took {len(taken) * CHUNK_MB} MB\n".encode()]
