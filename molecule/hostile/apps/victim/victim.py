"""A neighbour with something to hide, and a file for everybody."""

from collections.abc import Callable, Iterable
from typing import Any

SECRET = "hunter2 of the victim"


def application(_environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"whole\n"]
