"""Inputs for what reads bytes of others: those of the corpus, and mutations of them.

`make unit` tries each file of the corpus and some mutations; `make fuzz` goes on for an hour, or as
long as KECHI_FUZZ_SECONDS says for each reader. What fails is left in .cache/fuzz: once it is
mended, its place is in the corpus.
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable
from pathlib import Path

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

CORPUS = Path(__file__).with_name("corpus")
FAILED = Path(__file__).parents[2] / ".cache" / "fuzz"
SECONDS = float(os.environ.get("KECHI_FUZZ_SECONDS", "0"))
EXAMPLES = 2000 if SECONDS else 60
MOST_BYTES = 8192
MOST_EDITS = 6


def corpus(kind: str) -> list[bytes]:
    """The kept inputs of a kind, in the order of their names."""
    found = [file.read_bytes() for file in sorted((CORPUS / kind).iterdir())]
    assert found, f"no file in {CORPUS / kind}"
    return found


@st.composite
def mutated(draw: st.DrawFn, entries: list[bytes]) -> bytes:
    """One of the entries with some of its bytes replaced, removed, doubled, or another's put in."""
    data = draw(st.sampled_from(entries))
    for _ in range(draw(st.integers(0, MOST_EDITS))):
        at, end = sorted(draw(st.tuples(*[st.integers(0, len(data))] * 2)))
        piece = draw(
            st.binary(max_size=8)
            | st.sampled_from(
                [b"\0", b"\n", b"\r\n", b"\x1b[2J", b"\xff\xfe", b"-1", b"9" * 40, b""]
            )
            | st.just(data[at:end])
            | st.sampled_from([other[: end + 1] for other in entries])
        )
        keep = end if draw(st.booleans()) else at
        data = (data[:at] + piece + data[keep:])[:MOST_BYTES]
    return data


def fuzzed(kind: str) -> Callable[[Callable[[bytes], None]], Callable[[], None]]:
    """Make a test of a check that takes bytes: it fails where the check raises."""
    entries = corpus(kind)

    def decorate(check: Callable[[bytes], None]) -> Callable[[], None]:
        def kept(data: bytes) -> None:
            try:
                check(data)
            except BaseException:
                FAILED.mkdir(parents=True, exist_ok=True)  # the last one written is the smallest
                (FAILED / kind).write_bytes(data)
                raise

        tried = given(data=mutated(entries) | st.binary(max_size=200))(kept)
        for entry in entries:
            tried = example(data=entry)(tried)
        tried = settings(
            max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck)
        )(tried)

        @functools.wraps(check)
        def test() -> None:
            ends = time.monotonic() + SECONDS
            tried()
            while time.monotonic() < ends:
                tried()

        del test.__wrapped__  # pytest would look for `data`
        return test

    return decorate
