"""Says what has reached it of a request, and fails, waits or writes much when it is asked to."""

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from urllib.parse import parse_qs


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer with the environment's texts as JSON, and the number of bytes of the body.

    ``status``, ``seconds`` (between the answer's halves), ``bytes``, and header fields that begin
    with ``X-`` are taken from the query.
    """
    query = {key: values[0] for key, values in parse_qs(environ["QUERY_STRING"]).items()}
    said = {key: value for key, value in environ.items() if isinstance(value, str)}
    said["body"] = str(len(environ["wsgi.input"].read()))
    said["more"] = "x" * int(query.get("bytes", "0"))
    headers = [
        ("Content-Type", "application/json"),
        ("X-Generation", os.environ.get("SERVER_STARTER_GENERATION", "none")),
        ("X-Received", said["body"]),
        *((name, value) for name, value in query.items() if name.startswith("X-")),
    ]
    start_response(query.get("status", "200 OK"), headers)
    return _slowly(json.dumps(said).encode(), float(query.get("seconds", "0")))


def _slowly(text: bytes, seconds: float) -> Iterator[bytes]:
    half = len(text) // 2
    yield text[:half]
    time.sleep(seconds)
    yield text[half:]
