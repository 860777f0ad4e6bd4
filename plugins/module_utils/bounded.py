"""Commands that may say more than fits into memory: the end of it is kept, all of it is read.

What strangers' programs write, and what a journal has of them, has no end that is known. Their
programs are waited for as `AnsibleModule.run_command` does it, and return the same.
"""

from __future__ import annotations

import os
import subprocess
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from threading import Thread
from typing import IO

MOST_BYTES = 1 << 20
MOST_OF_A_LINE = 4096  # bytes
CUT = b"..."
_AT_ONCE = 65536


class Tail:
    """The last lines of a stream, each of them up to a length.

    Most of what comes is let go at once: it is looked at in pieces of many lines.
    """

    def __init__(self, most_bytes: int = MOST_BYTES, most_of_a_line: int = MOST_OF_A_LINE) -> None:
        self._most, self._most_of_a_line = most_bytes, most_of_a_line
        self._pieces: deque[bytes] = deque()  # of whole lines
        self._held = 0  # bytes of these
        self._open = b""  # the line that has not ended yet
        self._is_cut = False  # it is too long: all up to its end is let go

    def feed(self, data: bytes) -> None:
        """Take in what was read."""
        at = 0
        if self._is_cut:
            at = data.find(b"\n") + 1
            if not at:
                return
            self._end_cut()
        else:
            data, self._open = self._open + data, b""
        while at < len(data):
            end = data.rfind(b"\n", at, at + self._most_of_a_line + 1) + 1
            if end:
                self._keep(data[at:end])
                at = end
                continue
            self._open = data[at : at + self._most_of_a_line]
            if len(data) - at <= self._most_of_a_line:
                return
            self._is_cut = True
            at = data.find(b"\n", at) + 1
            if not at:
                return
            self._end_cut()

    def text(self) -> str:
        """What is kept."""
        whole = b"".join([*self._pieces, self._open, CUT if self._is_cut else b""])
        return whole.decode("utf-8", "replace")

    def _end_cut(self) -> None:
        self._keep(self._open + CUT + b"\n")
        self._open, self._is_cut = b"", False

    def _keep(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self._held += len(piece)
        while self._held > self._most:
            self._held -= len(self._pieces.popleft())


def run(
    command: Sequence[str],
    data: str | None = None,
    *,
    most_bytes: int = MOST_BYTES,
    most_of_a_line: int = MOST_OF_A_LINE,
) -> tuple[int, str, str]:
    """Run a command; returns its exit code, and the ends of its stdout and stderr."""
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL if data is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # what it says is read by us as well as by people
            env={**os.environ, "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8"},
        )
    except OSError as error:
        return 127, "", f"{command[0]} can't be run: {error.strerror}"
    with process:
        tails = []
        threads = []
        for stream in filter(None, (process.stdout, process.stderr)):
            tails.append(Tail(most_bytes, most_of_a_line))
            threads.append(Thread(target=_read, args=(stream, tails[-1])))
            threads[-1].start()
        if process.stdin is not None and data is not None:
            with suppress(BrokenPipeError):  # it has ended, and its exit code says how
                process.stdin.write(data.encode())
            with suppress(BrokenPipeError):
                process.stdin.close()
        for thread in threads:
            thread.join()
        code = process.wait()
    out, err = (tail.text() for tail in tails)
    return code, out, err


def _read(stream: IO[bytes], tail: Tail) -> None:
    fd = stream.fileno()
    while data := os.read(fd, _AT_ONCE):
        tail.feed(data)
