"""Local backups: complete under their names, and not too many."""

import os

import pytest

from backup_py.errors import BackupError
from backup_py.store import Store, identifier


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "backups", "blog")


def keep(store, name):
    with store.making(name) as part:
        part.mkdir()
        (part / "file").write_text(name)


def half(store):
    before = store.names()
    with store.making("20260102T000000Z") as part:
        part.mkdir()
        (part / "file").write_text("half")
        assert store.names() == before
        1 / 0  # noqa: B018


def test_a_backup_is_named_by_its_time():
    assert identifier(1_000_000_000) == "20010909T014640Z"
    assert identifier(1_000_000_000) < identifier(1_000_000_001)


def test_a_backup_has_its_name_only_when_it_is_whole(store, tmp_path):
    keep(store, "20260101T000000Z")
    with pytest.raises(ZeroDivisionError):
        half(store)
    assert store.names() == ["20260101T000000Z"]
    assert [path.name for path in (tmp_path / "backups/blog").iterdir()] == store.names()


def test_what_a_killed_run_has_left_goes(store, tmp_path):
    left = tmp_path / "backups/blog/20260101T000000Z.part/deep"
    left.mkdir(parents=True)
    keep(store, "20260102T000000Z")
    assert not left.parent.exists()


def test_the_newest_stay(store):
    names = [f"2026010{day}T000000Z" for day in range(1, 6)]
    for name in names:
        keep(store, name)
    assert store.prune(2) == names[2::-1]
    assert store.names() == names[:2:-1]
    assert store.newest().name == names[-1]


def test_no_backup_is_written_over(store):
    keep(store, "20260101T000000Z")
    with pytest.raises(BackupError, match="is there already"):
        keep(store, "20260101T000000Z")


@pytest.mark.parametrize("name", ["20270101T000000Z", "../../etc", "20260101T000000Z.part"])
def test_a_backup_that_is_not_there_is_told_with_those_that_are(store, name):
    keep(store, "20260101T000000Z")
    with pytest.raises(BackupError, match="there are: 20260101T000000Z"):
        store.path(name)


def test_nobody_else_can_look_into_backups(store, tmp_path):
    before = os.umask(0)
    try:
        keep(store, "20260101T000000Z")
    finally:
        os.umask(before)
    assert (tmp_path / "backups/blog").stat().st_mode & 0o777 == 0o700
