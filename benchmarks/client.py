"""A client that asks pages over unix sockets as a front end does: a new connection for each."""

from __future__ import annotations

import itertools
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from .mix import WebApp
from .processes import PATIENCE

OK = 200


class BadAnswerError(RuntimeError):
    """A page was not what it should be."""


def request(host: str, page: str, cookie: str = "", *, keep: bool = False) -> bytes:
    """Return a GET request."""
    kept = f"Cookie: {cookie}\r\n" if cookie else ""
    connection = "keep-alive" if keep else "close"
    return f"GET {page} HTTP/1.1\r\nHost: {host}\r\n{kept}Connection: {connection}\r\n\r\n".encode()


def parse(answer: bytes) -> tuple[int, dict[str, str], int]:
    """Return an answer's status, the cookies that it sets, and the length of its body.

    Raises BadAnswerError for what is no answer.
    """
    head, end, body = answer.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    words = lines[0].split(" ", 2)
    if not end or not words[0].startswith("HTTP/1.") or not words[1].isdigit():
        raise BadAnswerError(f"no HTTP answer: {answer[:80]!r}")
    cookies = {}
    for line in lines[1:]:
        name, _, value = line.partition(":")
        if name.lower() == "set-cookie":
            key, _, rest = value.strip().partition("=")
            cookies[key] = rest.partition(";")[0]
    return int(words[1]), cookies, len(body)


def ask(path: Path, host: str, page: str, cookie: str = "") -> tuple[int, dict[str, str], int]:
    """Ask for one page over a connection of its own; raises OSError or BadAnswerError."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(PATIENCE)
        connection.connect(str(path))
        connection.sendall(request(host, page, cookie))
        parts = []
        while part := connection.recv(65536):
            parts.append(part)
    return parse(b"".join(parts))


class Browser:
    """A visitor, who keeps cookies."""

    def __init__(self, sockets: Mapping[str, Path]) -> None:
        self._sockets = sockets
        self._cookies: dict[str, dict[str, str]] = {}

    def get(self, app: WebApp, page: str) -> None:
        """Ask for a page; raises OSError, or BadAnswerError for any status but 200."""
        jar = self._cookies.setdefault(app.name, {})
        cookie = "; ".join(f"{name}={value}" for name, value in jar.items())
        status, new, _length = ask(self._sockets[app.name], app.host, page, cookie)
        jar.update(new)
        if status != OK:
            raise BadAnswerError(f"{app.host}{page} answers {status}")


def visit(
    apps: Sequence[WebApp], sockets: Mapping[str, Path], requests: int, at_once: int
) -> list[float]:
    """Ask for all pages of all apps in turn, some at once; return how many seconds each took.

    Raises the first error that any of the visitors has met.
    """
    turns = [(app, page) for app in apps for page in app.pages]
    # neighbours in time are different apps: what one request leaves warm is of no use to the next
    turns.sort(key=lambda turn: (turn[0].pages.index(turn[1]), apps.index(turn[0])))
    numbers = itertools.count()
    took: list[float] = []
    errors: list[BaseException] = []

    def visitor() -> None:
        browser = Browser(sockets)
        try:
            while (number := next(numbers)) < requests and not errors:
                began = time.perf_counter()
                browser.get(*turns[number % len(turns)])
                took.append(time.perf_counter() - began)
        except (OSError, BadAnswerError) as error:
            errors.append(error)

    threads = [threading.Thread(target=visitor) for _ in range(at_once)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return took


def accepting(sockets: Mapping[str, Path]) -> bool:
    """Tell whether somebody listens on all of them."""
    for path in set(sockets.values()):
        with socket.socket(socket.AF_UNIX) as connection:
            if connection.connect_ex(str(path)) != 0:
                return False
    return True
