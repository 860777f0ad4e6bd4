"""A history: a file of samples, one line of JSON each, that can't grow without end."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import FatalError
from . import view
from .sample import Sample

MOST_BYTES = 10_000_000  # then the file is renamed to FILE.1, and a new one begun


@dataclass(frozen=True, slots=True)
class Point:
    """A sample in a plot: `requests` are counted on over restarts, from the first sample."""

    requests: int
    shared_percent: float
    pss_kb: int


def append(file: Path, samples: Sequence[Sample], most_bytes: int = MOST_BYTES) -> None:
    """Write samples at the end of a history; raises FatalError.

    The file is opened each time: who renames it, as logrotate does, need tell nobody.
    """
    try:
        if file.exists() and file.stat().st_size >= most_bytes:
            file.rename(_older(file))
        with file.open("a", encoding="utf-8") as history:
            history.write("".join(f"{json.dumps(view.as_json(one))}\n" for one in samples))
    except OSError as error:
        raise FatalError(f"{file}: the history can't be written: {error.strerror}") from None


def read(file: Path) -> dict[str, list[Point]]:
    """Return the points of each pool in a history, and in its older half where there is one.

    Raises FatalError for a file that can't be read or isn't a history, with the line, and for one
    with nothing to plot.
    """
    older = _older(file)
    lines = [*(_lines(older) if older.exists() else ()), *_lines(file)]
    series: dict[str, list[tuple[int, float, int]]] = {}
    for place, text in lines:
        known = _known(place, text)
        if known is not None:
            series.setdefault(known[0], []).append(known[1])
    if not series:
        raise FatalError(
            f"{file}: there is nothing to plot: no sample has both requests, which vhost_server"
            " counts, and workers"
        )
    return {pool: list(_counted_on(found)) for pool, found in series.items()}


def _older(file: Path) -> Path:
    return file.with_name(f"{file.name}.1")


def _lines(file: Path) -> Iterator[tuple[str, str]]:
    try:
        with file.open(encoding="utf-8") as history:
            for number, text in enumerate(history, 1):
                yield f"{file}:{number}", text
    except OSError as error:
        raise FatalError(f"{file}: the history can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise FatalError(f"{file}: is not a history: it is no text") from None


def _known(place: str, text: str) -> tuple[str, tuple[int, float, int]] | None:
    try:
        sample = json.loads(text)
        requests, percent = sample["requests"], sample["workers_shared_percent"]
        pool, pss = str(sample["pool"] or ""), int(sample["pss_kb"])
        if requests is None or percent is None:
            return None
        return pool, (int(requests), float(percent), pss)
    except (ValueError, TypeError, KeyError):
        raise FatalError(f"{place}: is not a line of a history: {text.strip()[:60]!r}") from None


def _counted_on(found: Iterable[tuple[int, float, int]]) -> Iterator[Point]:
    """Go on counting where a new generation has begun at 0."""
    before = total = 0
    for requests, percent, pss in found:
        total += requests - before if requests >= before else requests
        before = requests
        yield Point(total, percent, pss)
