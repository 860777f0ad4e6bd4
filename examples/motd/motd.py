"""A message of the day: plain WSGI, no framework, a file beside the code."""

import os
import random
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

LONGEST_SLOW_SECONDS = 30.0


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer / with a quote, /slow?seconds=N bit by bit, and /healthz with "ok"."""
    page = PAGES.get(environ.get("PATH_INFO", "/"))
    if page is None:
        start_response("404 Not Found", [("Content-Type", "text/plain; charset=utf-8")])
        return [b"There is no such page.\n"]
    status, body = page(environ)
    start_response(
        status,
        [
            ("Content-Type", "text/plain; charset=utf-8"),
            ("X-Generation", os.environ.get("SERVER_STARTER_GENERATION", "none")),
            ("X-Pid", str(os.getpid())),
            ("X-Directory", str(Path.cwd())),
        ],
    )
    return body


def quote(_environ: dict[str, Any]) -> tuple[str, Iterable[bytes]]:
    """Pick a line of quotes.txt, which is found because the working directory is the app's."""
    lines = Path("quotes.txt").read_text(encoding="utf-8").splitlines()
    return "200 OK", [f"{random.choice(lines)}\n".encode()]  # noqa: S311  # no secret


def slow(environ: dict[str, Any]) -> tuple[str, Iterable[bytes]]:
    """Stream a line every tenth of a second, each one read from the app's directory."""
    wanted = parse_qs(environ.get("QUERY_STRING", "")).get("seconds", ["1"])[0]
    try:
        seconds = float(wanted)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= LONGEST_SLOW_SECONDS:
        return "400 Bad Request", [f"seconds: from 0 to {LONGEST_SLOW_SECONDS:g}\n".encode()]

    def lines() -> Iterator[bytes]:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            size = Path("quotes.txt").stat().st_size
            yield f"{left:.1f} s left in {Path.cwd()}, quotes.txt has {size} bytes\n".encode()
            time.sleep(min(0.1, left))
        yield b"done\n"

    return "200 OK", lines()


def healthz(_environ: dict[str, Any]) -> tuple[str, Iterable[bytes]]:
    """Say that the app answers."""
    return "200 OK", [b"ok\n"]


PAGES = {"/": quote, "/slow": slow, "/healthz": healthz}
