"""Programs that meet at a lock on purpose: each event is a line that one of them has written."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ansible_collections.kechi.vps.plugins.module_utils import locks

REPOSITORY = Path(__file__).resolve().parents[3]
SECONDS = 60  # until something is not to be expected any more
_PYTHONPATH = f"{REPOSITORY}:{REPOSITORY / '.config' / 'collections'}"


def python(directory: Path, code: str, *arguments: object) -> list[object]:
    """The command of a Python program whose locks are in this directory."""
    own = (
        "import pathlib, sys\n"
        "from ansible_collections.kechi.vps.plugins.module_utils import locks\n"
        f"locks.DIRECTORY = pathlib.Path({str(directory)!r})\n"
    )
    return [sys.executable, "-c", own + code, *arguments]


class Program:
    """A program that is `told` something on its stdin, and finds commands in `path` first."""

    def __init__(
        self, command: Sequence[object], *, told: str = "", path: Path | None = None
    ) -> None:
        self._process = subprocess.Popen(
            [*map(str, command)],
            env={
                **os.environ,
                "PYTHONPATH": _PYTHONPATH,
                "PATH": f"{path}:{os.environ['PATH']}" if path else os.environ["PATH"],
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self._process.stdin is not None
        with self._process.stdin:
            self._process.stdin.write(told)
        self._lines: list[str] = []
        self._ended = False
        self._written = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._written:
                self._lines.append(line)
                self._written.notify_all()
        with self._written:
            self._ended = True
            self._written.notify_all()

    def wait_for(self, text: str) -> None:
        """Wait until it has written that."""
        with self._written:
            self._written.wait_for(lambda: text in self.output or self._ended, SECONDS)
        assert text in self.output, self.output

    @property
    def output(self) -> str:
        """What it has written until now."""
        return "".join(self._lines)

    def has_ended(self) -> bool:
        """Whether it has."""
        return self._process.poll() is not None

    def end(self) -> tuple[int, str]:
        """Wait for its end; its exit code, and all that it has written."""
        code = self._process.wait(SECONDS)
        self._reader.join(SECONDS)
        return code, self.output

    def terminate(self) -> None:
        """Ask it to end, as systemd does."""
        self._process.terminate()

    def kill(self) -> None:
        """End it, whatever it does."""
        self._process.kill()


@contextmanager
def lock_of(directory: Path, name: str, what: str) -> Iterator[None]:
    """Hold a lock there while the block runs."""
    previous, locks.DIRECTORY = locks.DIRECTORY, directory
    try:
        with locks.held(name, what, wait_seconds=SECONDS):
            yield
    finally:
        locks.DIRECTORY = previous
