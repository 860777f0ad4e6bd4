"""Reads log files line by line: plain or gzip, of any size, from a pipe too."""

import gzip
import io
import math
import os
import sys
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from tqdm import tqdm

from ..errors import FatalError, from_os_error

STDIN = "-"
_GZIP = b"\x1f\x8b"
_MOST_LINE = 64 * 1024  # nginx's own limit for a request's first line and headers is 32 KB
_BUFFER = 1 << 20
_EVERY = 4096  # lines from one look at the progress to the next


class Lines:
    """The lines of some log files. `problems` has what could not be read to its end."""

    def __init__(
        self, files: Sequence[str], *, progress: bool | None = None, since: float | None = None
    ) -> None:
        """Take `progress` for yes or no; by itself it is shown on a terminal only.

        A file that was last written before `since` has nothing that is wanted, and is not read.
        """
        self.problems: list[str] = []
        self._files = [file for file in files if since is None or _written(file) >= since]
        self._progress = progress

    def __iter__(self) -> Iterator[str]:
        sizes = [_size(file) for file in self._files]
        quiet = None if self._progress is None else not self._progress
        with tqdm(
            total=sum(sizes) or None, unit="B", unit_scale=True, leave=False, disable=quiet
        ) as bar:
            for file in self._files:
                try:
                    yield from self._of(file, bar)
                except OSError as error:
                    self.problems.append(str(from_os_error(file, error)))
                except (EOFError, zlib.error) as error:  # of gzip, cut off or damaged
                    self.problems.append(f"{file}: is damaged: {error}")

    def _of(self, file: str, bar: "tqdm[None]") -> Iterator[str]:
        with _opened(file) as raw:
            done = 0
            lines = io.BufferedReader(gzip.GzipFile(fileobj=raw)) if _is_gzip(raw) else raw
            count = 0
            while line := lines.readline(_MOST_LINE):
                if len(line) == _MOST_LINE and not line.endswith(b"\n"):
                    _skip_line(lines)
                yield line.decode("utf-8", "replace")
                count += 1
                if count % _EVERY == 0:
                    at = _position(raw)
                    bar.update(at - done)
                    done = at
            bar.update(_position(raw) - done)


def check(files: Sequence[str]) -> None:
    """Raise FatalError unless every file is there, so that an hour's work isn't for nothing."""
    for file in files:
        if file != STDIN:
            try:
                with Path(file).open("rb") as one:
                    one.peek(1)
            except OSError as error:
                raise from_os_error(file, error) from error
    if files.count(STDIN) > 1:
        raise FatalError(f"{STDIN} (standard input) can be read only once", 1)


def _opened(file: str) -> io.BufferedReader:
    if file == STDIN:
        return io.BufferedReader(io.FileIO(os.dup(sys.stdin.fileno())), _BUFFER)
    return io.BufferedReader(io.FileIO(file), _BUFFER)


def _is_gzip(raw: io.BufferedReader) -> bool:
    return raw.peek(2)[:2] == _GZIP


def _skip_line(lines: BinaryIO) -> None:
    while (part := lines.readline(_MOST_LINE)) and not part.endswith(b"\n"):
        pass


def replace(file: str, parts: Iterable[str]) -> None:
    """Put a file in place when all its parts are written; raises OSError."""
    temporary = Path(f"{file}.{os.getpid()}")  # beside it: a rename can't cross file systems
    try:
        with temporary.open("w", encoding="utf-8", errors="replace") as out:
            out.writelines(parts)
        temporary.replace(file)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def _written(file: str) -> float:
    try:
        return math.inf if file == STDIN else Path(file).stat().st_mtime
    except OSError:  # told when it is read
        return math.inf


def _size(file: str) -> int:
    try:
        return 0 if file == STDIN else Path(file).stat().st_size
    except OSError:
        return 0


def _position(raw: io.BufferedReader) -> int:
    try:
        return raw.tell()
    except OSError:  # a pipe
        return 0
