"""The copy of an app's files: what is in it, what it shares, what it refuses."""

import os
import shutil
import socket
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from backup_py import database, tree
from backup_py.errors import BackupError


@pytest.fixture
def shared(tmp_path):
    source = tmp_path / "shared"
    (source / "uploads").mkdir(parents=True)
    (source / "uploads" / "photo").write_bytes(b"photo")
    (source / "uploads").chmod(0o750)
    (source / "latest").symlink_to("uploads/photo")
    (source / "outside").symlink_to("/etc/passwd")
    with closing(sqlite3.connect(source / "app.db")) as made, made:
        made.execute("create table t (x)")
    return source


def take(source, number, previous=None, excluded=lambda _path: False):
    stage = source.parent / str(number)
    found = tree.survey(source, excluded)
    tree.copy(found, stage, previous)
    return stage


def names(directory):
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


def test_a_copy_has_files_directories_and_links_as_they_are(shared):
    made = take(shared, 1)
    assert names(made) == ["app.db", "latest", "outside", "uploads", "uploads/photo"]
    assert (made / "uploads/photo").read_bytes() == b"photo"
    assert (made / "outside").readlink() == Path("/etc/passwd")
    for name in ("uploads", "uploads/photo", "app.db"):
        before, after = (shared / name).stat(), (made / name).stat()
        assert (after.st_mode, after.st_mtime_ns) == (before.st_mode, before.st_mtime_ns)


def test_what_sqlite_keeps_beside_a_database_is_part_of_its_copy_alone(shared):
    with closing(sqlite3.connect(shared / "app.db")) as app:
        app.execute("pragma journal_mode = wal")
        app.execute("create table more (x)")
        assert (shared / "app.db-wal").exists()
        made = take(shared, 1)
    assert [name for name in names(made) if name.startswith("app.db")] == ["app.db"]


def test_a_file_is_a_database_by_its_content_and_not_by_its_name(shared):
    (shared / "text.sqlite3").write_text("no database")
    (shared / "text.sqlite3-wal").write_text("nor is this a log")
    shutil.copy(shared / "app.db", shared / "nameless")
    found = tree.survey(shared, lambda _path: False)
    databases = {str(entry.path) for entry in found.entries if entry.is_database}
    assert databases == {"app.db", "nameless"}
    assert Path("text.sqlite3-wal") in [entry.path for entry in found.entries]


def test_sockets_and_pipes_are_left_out(shared):
    os.mkfifo(shared / "pipe")
    with closing(socket.socket(socket.AF_UNIX)) as listener:
        listener.bind(str(shared / "socket"))
        assert not {"pipe", "socket"} & set(names(take(shared, 1)))


def test_what_is_excluded_is_left_out_with_all_below(shared):
    made = take(shared, 1, excluded=lambda path: path == Path("uploads"))
    assert names(made) == ["app.db", "latest", "outside"]


def test_unchanged_files_and_databases_are_on_the_disk_once(shared):
    first = take(shared, 1)
    second = take(shared, 2, first)
    for name in ("uploads/photo", "app.db"):
        assert (first / name).samefile(second / name), name
    assert tree.survey(shared, lambda _path: False).new_bytes(second) == (
        (shared / "app.db").stat().st_size
    ), "a database may always turn out to be new"


def test_changed_files_and_databases_are_not_shared_with_the_copy_before(shared):
    first = take(shared, 1)
    (shared / "uploads" / "photo").write_bytes(b"other")
    with closing(sqlite3.connect(shared / "app.db")) as app, app:
        app.execute("insert into t values (1)")
    second = take(shared, 2, first)
    assert (first / "uploads/photo").read_bytes() == b"photo"
    assert (second / "uploads/photo").read_bytes() == b"other"
    assert not (first / "app.db").samefile(second / "app.db")


def test_a_database_rewritten_under_its_old_time_is_new(shared):
    first = take(shared, 1)
    before = (shared / "app.db").stat()
    with closing(sqlite3.connect(shared / "app.db")) as app, app:
        app.execute("insert into t values (1)")
    os.utime(shared / "app.db", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert not (first / "app.db").samefile(take(shared, 2, first) / "app.db")


def test_a_file_that_goes_while_it_is_copied_is_left_out(shared):
    (shared / "goes").write_text("x")
    found = tree.survey(shared, lambda _path: False)
    (shared / "goes").unlink()
    tree.copy(found, shared.parent / "1", None)
    assert "goes" not in names(shared.parent / "1")


def test_a_file_that_turns_into_a_link_is_not_followed(shared):
    found = tree.survey(shared, lambda _path: False)
    (shared / "uploads" / "photo").unlink()
    (shared / "uploads" / "photo").symlink_to("/etc/passwd")
    with pytest.raises(BackupError, match="photo"):
        tree.copy(found, shared.parent / "1", None)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
def test_files_are_read_as_their_app_so_that_nothing_else_gets_into_a_backup(
    shared, tmp_path_of_all
):
    hidden = shared.parent / "hidden"
    hidden.mkdir(mode=0o700)
    (hidden / "secret").write_text("secret")
    with closing(sqlite3.connect(hidden / "secret.db")) as made, made:
        made.execute("create table t (x)")
    for path in [shared, *shared.rglob("*")]:
        os.lchown(path, 65534, 65534)
    take(shared, 1)
    (shared / "mine").write_text("root's")
    (shared / "mine").chmod(0o600)
    with pytest.raises(BackupError, match="mine: Permission denied"):
        tree.survey(shared, lambda _path: False)
    (shared / "mine").unlink()
    found = tree.survey(shared, lambda _path: False)
    # between the survey and the copy: the app puts another's directory in the place of its own
    shutil.rmtree(shared / "uploads")
    (shared / "uploads").symlink_to(hidden)
    (hidden / "photo").write_text("secret")
    with pytest.raises(BackupError, match="uploads/photo: Not a directory"):
        tree.copy(found, shared.parent / "3", None)
    (shared / "uploads").unlink()
    (shared / "app.db").unlink()
    (shared / "app.db").symlink_to(hidden / "secret.db")
    with pytest.raises(BackupError):
        database.copy(shared / "app.db", shared.parent / "4", found.owner, 1 << 30)
    assert os.geteuid() == 0


@pytest.mark.parametrize(
    ("needed", "min_free_mb", "words"),
    [
        (10**18, 0, "needs 953674316407 MB in "),
        (0, 10**12, f"of which {10**12} MB are to stay free"),
    ],
)
def test_a_disk_without_room_is_refused_with_numbers(tmp_path, needed, min_free_mb, words):
    with pytest.raises(BackupError, match=words):
        tree.require_room(needed, tmp_path, min_free_mb)
    tree.require_room(1, tmp_path, 0)
