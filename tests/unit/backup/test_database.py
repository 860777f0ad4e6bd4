"""Copies of SQLite databases while their app has them open."""

import sqlite3
from contextlib import closing

import pytest

from backup_py import database
from backup_py.errors import BackupError
from backup_py.identity import Owner

MOST = 1 << 30  # bytes


@pytest.fixture
def path(tmp_path):
    return tmp_path / "app.sqlite3"


@pytest.fixture
def app(path):
    """The app's own connection, open all the time."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


def fill(app, mode="delete", rows=10, text="x"):
    app.execute("pragma synchronous = off")
    app.execute(f"pragma journal_mode = {mode}")
    app.execute("create table t (id integer primary key, text text)")
    app.execute("begin")
    app.executemany("insert into t (text) values (?)", [(text,)] * rows)
    app.execute("commit")


def copied(path):
    target = path.with_name("copy")
    database.copy(path, target, Owner.of(path), MOST)
    with closing(sqlite3.connect(f"file:{target}?immutable=1", uri=True)) as copy:
        return copy.execute("select count(*) from t").fetchone()[0]


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_what_is_committed_is_in_the_copy_and_what_is_not_is_not(path, app, mode):
    fill(app, mode)
    app.execute("begin immediate")
    app.execute("insert into t (text) values ('not yet')")
    assert copied(path) == 10
    app.execute("commit")


def test_what_is_still_in_the_write_ahead_log_is_in_the_copy(path, app):
    fill(app, "wal")
    assert path.with_name("app.sqlite3-wal").stat().st_size > 0
    assert copied(path) == 10


def test_a_copy_needs_no_file_beside_it(path, app):
    fill(app, "wal")
    copied(path)
    assert [found.name for found in path.parent.glob("copy*")] == ["copy"]


def test_a_database_that_is_locked_all_the_time_is_told(path, app, monkeypatch):
    fill(app)
    monkeypatch.setattr(database, "LOCKED_SECONDS", 0)
    monkeypatch.setattr(database, "PAUSE_SECONDS", 0)
    app.execute("begin exclusive")
    with pytest.raises(BackupError, match=r"app\.sqlite3: locked for 0 seconds"):
        copied(path)


def test_a_big_database_that_is_written_to_all_the_time_is_copied_in_the_end(
    path, app, monkeypatch
):
    fill(app, rows=100, text="x" * 1000)
    monkeypatch.setattr(database, "ONE_STEP_BYTES", 4 * 4096 * 4)
    monkeypatch.setattr(database, "PAUSE_SECONDS", 0)
    connect = sqlite3.connect
    steps: list[int] = []

    class Interrupting(sqlite3.Connection):
        """Has the app write between two steps."""

        def backup(self, target, *, pages=-1, progress=None, name="main", sleep=0.25):
            def between(*status):
                steps.append(pages)
                if pages > 0:
                    app.execute("insert into t (text) values ('more')")
                assert progress is not None
                progress(*status)

            super().backup(target, pages=pages, progress=between, name=name, sleep=sleep)

    def interrupting(*place, **how):
        return connect(*place, factory=Interrupting, **how)

    monkeypatch.setattr("sqlite3.connect", interrupting)
    database.copy(path, path.with_name("copy"), Owner.of(path), MOST)
    assert steps[-1] == -1
    assert len(steps) > database.MOST_RESTARTS
    with closing(connect(path.with_name("copy"))) as copy:
        assert copy.execute("select count(*) from t").fetchone()[0] == 100 + len(steps) - 1


def test_a_damaged_database_is_no_backup(path, app):
    fill(app, rows=1000, text="x" * 100)
    app.close()
    with path.open("r+b") as file:
        file.seek(3 * 4096)
        file.write(b"\xff" * 4096)
    with pytest.raises(BackupError, match="the database is damaged"):
        copied(path)


def test_what_only_looks_like_a_database_is_told(path):
    path.write_bytes(database.MAGIC + b"\0" * 200)
    with pytest.raises(BackupError, match=r"app\.sqlite3"):
        copied(path)


def test_a_database_that_needs_functions_of_its_app_is_copied(path, app):
    app.create_function("own", 1, lambda value: value, deterministic=True)
    app.execute("create table t (id integer primary key, text text check (own(text)))")
    app.execute("create index i on t (own(text))")
    app.create_collation("own", lambda one, other: (one > other) - (one < other))
    app.execute("create table c (text text unique collate own)")
    app.execute("insert into t (text) values (1)")
    app.execute("insert into c values ('a'), ('b')")
    target = path.with_name("copy")
    database.copy(path, target, Owner.of(path), MOST)
    assert target.stat().st_size == path.stat().st_size
