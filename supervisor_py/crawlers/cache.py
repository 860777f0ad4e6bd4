"""Names of addresses, kept on disk until they are old."""

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

DAY = 86400.0
KEPT_SECONDS = 7 * DAY
# Of addresses without a name: a crawler's new one may get it soon.
KEPT_NAMELESS_SECONDS = 1 * DAY
_MOST = 100_000
_BUSY_SECONDS = 5.0
# A new shape of the table is a new version: the old one is thrown away, as it can be asked again.
_VERSION = 1

Kept = tuple[tuple[str, ...], tuple[str, ...]]


class Cache:
    """A cache in a file; of none, or of one that can't be used, everything is asked each time."""

    def __init__(self, file: Path | None) -> None:
        self._database: sqlite3.Connection | None = None
        self.trouble = ""
        if file is None:
            return
        try:
            file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._database = _open(file)
        except (OSError, sqlite3.Error) as error:
            self.trouble = f"{file}: not used as a cache: {error}"

    def get(self, address: str, now: float) -> Kept | None:
        """Return what is known of an address, and isn't too old."""
        with self._trying() as database:
            if database is None:
                return None
            row = database.execute(
                "SELECT names FROM names WHERE address = ? AND expires > ? AND expires <= ?",
                # the third: a clock that went wrong must not keep something for years
                (address, now, now + KEPT_SECONDS),
            ).fetchone()
            return row and _read(row[0])
        return None

    def put(self, address: str, names: Kept, now: float) -> None:
        """Keep what was learnt of an address."""
        seconds = KEPT_SECONDS if any(names) else KEPT_NAMELESS_SECONDS
        with self._trying() as database:
            if database is not None:
                database.execute(
                    "INSERT OR REPLACE INTO names VALUES (?, ?, ?)",
                    (address, json.dumps(names), now + seconds),
                )

    def close(self, now: float) -> None:
        """Write all, and forget what is too old or too much."""
        with self._trying() as database:
            if database is not None:
                database.execute("DELETE FROM names WHERE expires <= ?", (now,))
                database.execute(
                    "DELETE FROM names WHERE address NOT IN"
                    " (SELECT address FROM names ORDER BY expires DESC LIMIT ?)",
                    (_MOST,),
                )
                database.commit()
                database.close()
        self._database = None

    @contextlib.contextmanager
    def _trying(self) -> Iterator[sqlite3.Connection | None]:
        """Give up the cache, and nothing else, when it fails."""
        try:
            yield self._database
        except sqlite3.Error as error:
            self.trouble = f"not used as a cache any more: {error}"
            self._database = None


def _open(file: Path) -> sqlite3.Connection:
    database = sqlite3.connect(file, timeout=_BUSY_SECONDS)
    try:
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if version != _VERSION:
            database.execute("DROP TABLE IF EXISTS names")
            database.execute(f"PRAGMA user_version = {_VERSION}")
        database.execute(
            "CREATE TABLE IF NOT EXISTS names"
            " (address TEXT PRIMARY KEY, names TEXT NOT NULL, expires REAL NOT NULL) WITHOUT ROWID"
        )
        database.commit()
    except sqlite3.Error:
        database.close()
        raise
    return database


def _read(text: str) -> Kept | None:
    try:
        confirmed, unconfirmed = json.loads(text)
        return tuple(map(str, confirmed)), tuple(map(str, unconfirmed))
    except (ValueError, TypeError):
        return None
