"""Backing up app by app, and putting one back."""

import errno
import json
import shutil
import sqlite3
import subprocess
from contextlib import closing
from dataclasses import replace

import pytest

from backup_py import cli, jobs, locks, restore, settings, tree
from backup_py.errors import BackupError
from backup_py.store import Store


@pytest.fixture(autouse=True)
def own_locks(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "DIRECTORY", tmp_path / "locks")


@pytest.fixture
def machine(tmp_path):
    """Two apps without units, and a configuration as the role writes it."""
    directories = {name: tmp_path / "www" / name / "shared" for name in ("blog", "notes")}
    config = {
        "host": "vps1",
        "apps": [
            {"name": name, "directory": str(directory)} for name, directory in directories.items()
        ],
        "directory": str(tmp_path / "backups"),
        "state": str(tmp_path / "state"),
        "secrets": str(tmp_path / "backup.secrets.json"),
        "keep": 2,
        "min_free_mb": 0,
        "exclude": ["*/cache", "notes/*.tmp"],
        "restic_keep": {"daily": 7},
    }
    (tmp_path / "backup.json").write_text(json.dumps(config))
    (tmp_path / "backup.secrets.json").write_text("{}")
    for directory in directories.values():
        directory.mkdir(parents=True)
        with closing(sqlite3.connect(directory / "app.db")) as made, made:
            made.execute("create table t (x)")
        (directory / "file").write_text("first")
    return settings.read(tmp_path / "backup.json")


def newest(machine, app):
    found = Store(machine.directory, app).newest()
    assert found is not None
    return found


@pytest.fixture
def times(monkeypatch):
    """Each backup has a name of its own, without a wait."""
    names = iter(f"20260101T0000{second:02}Z" for second in range(60))
    monkeypatch.setattr(jobs, "identifier", lambda _now: next(names))
    monkeypatch.setattr(restore, "identifier", lambda: next(names))


def test_an_app_that_fails_does_not_stop_the_others_and_keeps_its_old_backups(
    machine, times, capsys
):
    assert jobs.back_up(machine, machine.apps) == []
    blog = machine.app("blog")
    (blog.directory / "app.db").write_bytes(b"SQLite format 3\0" + b"junk" * 100)
    for _ in range(3):
        assert jobs.back_up(machine, machine.apps) == ["blog"]
    assert f"blog: not backed up: {blog.directory}/app.db: " in capsys.readouterr().err
    assert len(Store(machine.directory, "notes").names()) == 2
    assert len(Store(machine.directory, "blog").names()) == 1


def test_a_disk_without_room_is_told_before_anything_is_copied(machine, times, monkeypatch, capsys):
    def copies(*_arguments):
        raise AssertionError("it was copied")

    monkeypatch.setattr(tree, "copy", copies)
    free_mb = tree.mb(shutil.disk_usage(machine.directory.parent).free)
    asked = replace(machine, min_free_mb=2 * free_mb + 1)
    assert jobs.back_up(asked, asked.apps) == ["blog", "notes"]
    said = capsys.readouterr().err
    assert f"blog: not backed up: needs 1 MB in {machine.directory}, which has" in said
    assert f"of which {2 * free_mb + 1} MB are to stay free" in said
    assert Store(machine.directory, "blog").names() == []


def test_a_disk_that_fills_up_meanwhile_is_told_and_leaves_no_half_of_a_backup(
    machine, times, monkeypatch, capsys
):
    def full(*_files):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tree._Copying, "_file", full)
    assert jobs.back_up(machine, machine.apps) == ["blog", "notes"]
    assert "blog: not backed up: " in (told := capsys.readouterr().err)
    assert "No space left on device" in told
    assert [path for path in machine.directory.rglob("*") if path.parent != machine.directory] == []


def test_what_is_excluded_is_matched_by_app_and_path(machine, times):
    for app in machine.apps:
        (app.directory / "cache").mkdir()
        (app.directory / "cache" / "x").touch()
        (app.directory / "a.tmp").touch()
    jobs.back_up(machine, machine.apps)
    found = {
        app.name: {path.name for path in newest(machine, app.name).iterdir()}
        for app in machine.apps
    }
    assert found == {"blog": {"app.db", "file", "a.tmp"}, "notes": {"app.db", "file"}}


def test_a_restore_puts_a_backup_in_place_and_keeps_what_was_there(machine, times):
    jobs.back_up(machine, machine.apps)
    blog = machine.app("blog")
    (blog.directory / "file").write_text("second")
    jobs.back_up(machine, machine.apps)
    (blog.directory / "file").write_text("third")
    blog.directory.chmod(0o750)
    jobs.restore_app(machine, blog, "20260101T000000Z")
    assert (blog.directory / "file").read_text() == "first"
    assert blog.directory.stat().st_mode & 0o777 == 0o750
    (kept,) = restore.kept(blog)
    assert (kept / "file").read_text() == "third"
    jobs.restore_app(machine, blog, "latest")
    assert (blog.directory / "file").read_text() == "second"
    jobs.restore_app(machine, blog, kept.name)
    assert (blog.directory / "file").read_text() == "third"
    assert not restore.stage_of(blog).exists()
    backup = newest(machine, "blog")
    assert not (backup / "file").samefile(blog.directory / "file"), "a backup is not the app's"


@pytest.mark.parametrize(
    ("backup", "words"),
    [("20270101T000000Z", "no backup 20270101T000000Z"), ("restic:ab", "no repository is set")],
)
def test_a_restore_that_fails_leaves_everything_as_it_was(machine, times, backup, words):
    jobs.back_up(machine, machine.apps)
    blog = machine.app("blog")
    with pytest.raises(BackupError, match=words):
        jobs.restore_app(machine, blog, backup)
    assert (blog.directory / "file").read_text() == "first"
    assert list(blog.directory.parent.iterdir()) == [blog.directory]


def test_a_damaged_backup_is_not_put_in_place(machine, times):
    jobs.back_up(machine, machine.apps)
    blog = machine.app("blog")
    database = newest(machine, "blog") / "app.db"
    database.write_bytes(database.read_bytes()[:4096])
    with pytest.raises(BackupError, match=r"app\.db of the backup is damaged"):
        jobs.restore_app(machine, blog, "latest")
    assert list(blog.directory.parent.iterdir()) == [blog.directory]


@pytest.fixture
def unit(machine, tmp_path, monkeypatch):
    """The blog with a unit; the test says what a restart of it does."""
    state = {"ActiveState": "active", "StatusText": "generation 1 serving", "starts": True}
    ran = []

    def run(command, **_how):
        ran.append(command[1])
        (drop_in,) = [*(tmp_path / "units").rglob("*.conf")] or [None]
        if command[1] == "restart":
            assert drop_in is not None
            assert drop_in.read_text().endswith("kechi_backup swap blog\n")
            if state.get("swaps", True):
                restore.swap(blog)
            return subprocess.CompletedProcess(command, 0 if state["starts"] else 1, "", "why")
        name = command[2].removeprefix("--property=") if command[1] == "show" else ""
        return subprocess.CompletedProcess(command, 0, f"{state.get(name, '')}\n", "")

    blog = replace(machine.app("blog"), unit="kechi@main.service")
    monkeypatch.setattr("subprocess.run", run)
    monkeypatch.setattr(restore, "_UNITS", tmp_path / "units")
    return blog, state, ran


def test_the_swap_is_a_step_of_the_units_start_and_of_this_one_alone(machine, times, unit):
    blog, _state, ran = unit
    jobs.back_up(machine, machine.apps)
    (blog.directory / "file").write_text("second")
    jobs.restore_app(machine, blog, "latest")
    assert (blog.directory / "file").read_text() == "first"
    assert ran == ["show", "daemon-reload", "restart", "daemon-reload", "show"]
    assert list((restore._UNITS).iterdir()) == []


def test_a_unit_that_does_not_run_is_not_started(machine, times, unit):
    blog, state, ran = unit
    jobs.back_up(machine, machine.apps)
    state["ActiveState"] = "inactive"
    jobs.restore_app(machine, blog, "latest")
    assert ran == ["show"]
    assert len(restore.kept(blog)) == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"starts": False}, r"does not start with it: why; what was there before comes back by: "),
        ({"StatusText": "x; can't load blog; y"}, r"but can't load blog; y; what was there"),
        ({"starts": False, "swaps": False}, r"does not start with it: why; nothing was changed"),
    ],
)
def test_a_restore_that_its_unit_does_not_take_is_told_with_the_way_back(
    machine, times, unit, change, words
):
    blog, state, _ran = unit
    jobs.back_up(machine, machine.apps)
    jobs.restore_app(machine, blog, "latest")  # which has left what it replaced
    state.update(change)
    with pytest.raises(BackupError, match=words):
        jobs.restore_app(machine, blog, "latest")
    assert not restore.stage_of(blog).exists()
    assert list((restore._UNITS).iterdir()) == []


def test_a_swap_that_was_cut_in_two_is_finished_by_the_next_one(machine):
    blog = machine.app("blog")
    restore.stage_of(blog).mkdir()
    blog.directory.rename(restore.files_of(blog))
    restore.swap(blog)
    assert (blog.directory / "file").read_text() == "first"
    restore.swap(blog)
    assert restore.kept(blog) == []


def test_a_restore_of_what_is_not_there_says_who_makes_it(machine, times):
    jobs.back_up(machine, machine.apps)
    blog = machine.app("blog")
    blog.directory.rename(blog.directory.with_name("lost"))
    with pytest.raises(BackupError, match=r"run site\.yml first"):
        jobs.restore_app(machine, blog, "latest")


def test_all_that_can_be_restored_is_listed(machine, times):
    jobs.back_up(machine, machine.apps)
    jobs.restore_app(machine, machine.app("blog"), "latest")
    rows = jobs.listed(machine, machine.apps, local=False)
    assert [(row["app"], row["backup"]) for row in rows] == [
        ("blog", "20260101T000000Z"),
        ("blog", "shared.before-20260101T000001Z"),
        ("notes", "20260101T000000Z"),
    ]


def test_backups_of_the_machine_are_made_and_listed_where_the_repository_is_out_of_reach(
    machine, times, monkeypatch, capsys
):
    def refused(command, **_how):
        return subprocess.CompletedProcess(command, 1, "", "Fatal: connection refused\n")

    monkeypatch.setattr("subprocess.run", refused)
    remote = {"RESTIC_REPOSITORY": "sftp:x@y:/z", "RESTIC_PASSWORD": "x"}
    machine = replace(machine, remote=remote)
    assert jobs.back_up(machine, machine.apps) == ["blog", "notes"]
    rows = jobs.listed(machine, machine.apps, local=False)
    assert [row["app"] for row in rows] == ["blog", "notes"]
    refusals = capsys.readouterr().err.splitlines()
    assert len(refusals) == 2
    assert all("connection refused" in line for line in refusals), "once, and not for each app"


def test_an_unknown_app_is_told_with_those_there_are(machine):
    with pytest.raises(BackupError, match="x: no such app on this machine; known: blog, notes"):
        machine.app("x")


@pytest.mark.parametrize(
    ("text", "words"), [("[]", "is no mapping"), ("{}", "KeyError"), ("{", "Expecting")]
)
def test_a_configuration_that_is_none_is_told(tmp_path, text, words):
    (tmp_path / "backup.json").write_text(text)
    with pytest.raises(BackupError, match=words):
        settings.read(tmp_path / "backup.json")


def test_the_command_ends_with_1_and_the_journals_priority_where_an_app_fails(
    machine, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("JOURNAL_STREAM", "1:2")
    monkeypatch.setattr("os.umask", lambda mask: mask)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setattr(
        "sys.argv", ["kechi_backup", f"--config={tmp_path / 'backup.json'}", "run", "blog"]
    )
    (machine.app("blog").directory / "app.db").write_bytes(b"SQLite format 3\0" + b"junk" * 100)
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 1
    assert capsys.readouterr().err.startswith("<3>blog: not backed up: ")


def test_a_second_backup_within_a_second_has_a_name_of_its_own(machine, monkeypatch):
    names = iter(["20260101T000000Z", "20260101T000000Z", "20260101T000000Z", "20260101T000001Z"])
    monkeypatch.setattr(jobs, "identifier", lambda _now: next(names))
    assert jobs.back_up(machine, machine.apps) == []
    assert jobs.back_up(machine, machine.apps) == []
    assert Store(machine.directory, "blog").names() == ["20260101T000001Z", "20260101T000000Z"]
