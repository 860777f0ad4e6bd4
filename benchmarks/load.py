"""Clients that ask all the time, and what a restart did to them."""

from __future__ import annotations

import contextlib
import http.client
import threading
import time

from .processes import PATIENCE, PAUSE

CLIENTS = 4


class Load:
    """Clients that make one new connection after the other, and note how long each answer took."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(CLIENTS)]
        self.answers: list[tuple[float, float]] = []  # when it began and ended
        self.failed = 0

    def _ask(self) -> None:
        while not self._over.is_set():
            began = time.perf_counter()
            try:
                self.once()
            except (OSError, http.client.HTTPException):
                self.failed += 1
            self.answers.append((began, time.perf_counter()))
            time.sleep(PAUSE)

    def once(self) -> int:
        """Make one request over a connection of its own; return the process that loaded the app.

        Raises OSError or HTTPException.
        """
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE)
        with contextlib.closing(connection):
            connection.request("GET", "/")
            answer = connection.getresponse().read()
            if not answer.isdigit():
                raise http.client.HTTPException("not the answer of the application")
            return int(answer)

    def slowest_ms(self, began: float, ended: float) -> float:
        """Return the longest that a request took that was under way in this time."""
        times = [
            stop - start for start, stop in list(self.answers) if stop > began and start < ended
        ]
        return max(times) * 1000

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()
