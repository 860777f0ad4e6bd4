"""What a unit has logged since a moment, for people: whose lines, how many, in printable text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable

CURSOR = "-- cursor: "
READ_LINES = 5000  # of the journal, whoever wrote them
SHOWN_LINES = 40  # of one app, or of the servers
LINE_CHARACTERS = 500

Run = Callable[..., tuple[int, str, str]]


class Since:
    """The journal from the moment on at which this was made."""

    def __init__(self, run_command: Run) -> None:
        self._run = run_command
        _, out, _ = self._journalctl("--lines=1", "--show-cursor")
        # the last line: a message may hold anything
        last = out.rstrip("\n").rpartition("\n")[2]
        self._cursor = last.removeprefix(CURSOR) if last.startswith(CURSOR) else ""

    def lines(self, unit: str) -> list[str]:
        """What a unit has logged since."""
        after = [f"--after-cursor={self._cursor}"] if self._cursor else []
        _, out, _ = self._journalctl(f"--lines={READ_LINES}", f"--unit={unit}", *after)
        return out.splitlines()

    def _journalctl(self, *options: str) -> tuple[int, str, str]:
        self._run(["journalctl", "--sync"])  # what was written a moment ago is on its way
        return self._run(["journalctl", "--no-pager", "--quiet", "--output=cat", *options])


def relevant(lines: Iterable[str], apps: Collection[str], failed: Collection[str]) -> list[str]:
    """The lines that tell why something failed.

    The vhost server begins each line of an app with its name. None of an app that is known to be
    well is kept, and of each other one the last, so that none pushes another's out.

    Args:
        lines: of the journal.
        apps: the pool's apps.
        failed: those that are known to have failed; none: it may be any of them.
    """

    def writer(line: str) -> str:
        name, colon, _ = line.partition(": ")
        return name if colon and name in apps else ""

    kept = []
    count: Counter[str] = Counter()
    for line in reversed(list(lines)):
        whose = writer(line)
        count[whose] += 1
        if count[whose] <= SHOWN_LINES and (not whose or not failed or whose in failed):
            kept.append(printable(line))
    return kept[::-1]


def printable(line: str, most: int = LINE_CHARACTERS) -> str:
    """A line for a terminal: escaped where it would do more than be read, and not too long."""
    text = "".join(
        char if char.isprintable() or char == "\t" else repr(char)[1:-1] for char in line
    )
    return text if len(text) <= most else f"{text[:most]}…"
