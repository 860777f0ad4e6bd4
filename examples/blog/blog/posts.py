"""The blog's posts, in an SQLite file that many processes and threads write to."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

BUSY_SECONDS = 10.0  # how long a writer waits for another one
SCHEMA = """
create table if not exists posts (
    id integer primary key,
    headline text not null,
    text text not null,
    written text not null default (strftime('%Y-%m-%d %H:%M', 'now'))
)
"""


@dataclass(frozen=True)
class Post:
    """One post; `written` is UTC, to the minute."""

    headline: str
    text: str
    written: str


class Posts:
    """Posts in the file at `path`, which is made on first use.

    A connection lives as long as one call: it must not be shared by threads, nor survive a fork,
    and opening one costs less than a page.
    """

    def __init__(self, path: str) -> None:
        self._path = path

    def newest(self, limit: int) -> list[Post]:
        """Return the newest posts first."""
        query = "select headline, text, written from posts order by id desc limit ?"
        with self._database() as database:
            return [Post(*row) for row in database.execute(query, (limit,))]

    def count(self) -> int:
        """Return the number of posts."""
        with self._database() as database:
            return int(database.execute("select count(*) from posts").fetchone()[0])

    def add(self, headline: str, text: str) -> None:
        """Write a post."""
        with self._database() as database:
            database.execute("insert into posts (headline, text) values (?, ?)", (headline, text))

    @contextmanager
    def _database(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self._path, timeout=BUSY_SECONDS)) as database, database:
            database.execute("pragma journal_mode = wal")
            database.execute("pragma synchronous = normal")
            database.execute(SCHEMA)
            yield database
