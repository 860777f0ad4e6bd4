"""A hostile app's backup and restore: nothing else is reached, and no other app pays for it."""

from __future__ import annotations

import faulthandler
import json
import os
import re
import select
import signal
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path

import pytest

from backup_py import jobs, locks, restore, settings, tree
from backup_py.errors import BackupError
from backup_py.store import Store

from .attacker import UID, as_the_app, looping, swapping
from .conftest import SECRET

APPS = ("aaa", "evil", "zzz")
DATABASE = b"SQLite format 3\0"


@pytest.fixture
def found(machine, tmp_path, monkeypatch):
    """Settings of three apps, of which the middle one is hostile; its files are in `shared`."""
    folders = {name: tmp_path / name / "shared" for name in APPS} | {"evil": machine.shared}
    config = {
        "host": "vps",
        "apps": [{"name": name, "directory": str(folders[name])} for name in APPS],
        "directory": str(tmp_path / "backups"),
        "state": str(tmp_path / "state"),
        "secrets": str(tmp_path / "secrets.json"),
        "keep": 2,
        "min_free_mb": 0,
        "exclude": [],
        "restic_keep": {},
    }
    (tmp_path / "backup.json").write_text(json.dumps(config))
    (tmp_path / "secrets.json").write_text("{}")
    for name in ("aaa", "zzz"):
        folders[name].mkdir(parents=True)
        (folders[name] / "file").write_text(name)
    names = iter(f"20260101T0000{second:02}Z" for second in range(60))
    monkeypatch.setattr(jobs, "identifier", lambda _now: next(names))
    monkeypatch.setattr(restore, "identifier", lambda: next(names))
    monkeypatch.setattr(locks, "DIRECTORY", tmp_path / "run" / "locks")
    return settings.read(tmp_path / "backup.json")


def newest(found, app):
    path = Store(found.directory, app).newest()
    assert path is not None
    return path


UNIT = Path(__file__).parents[3] / "roles/backup/templates/kechi-backup.service.j2"


def test_the_unit_may_do_all_that_a_copy_takes(found, tmp_path):
    """A directory that gives its group to what is made in it, here a group that is not root's."""
    (folder := found.app("aaa").directory / "media").mkdir()
    os.chown(folder, UID, UID)
    folder.chmod(0o2750)
    (line,) = re.findall(r"^CapabilityBoundingSet=(.*)$", UNIT.read_text(), re.MULTILINE)
    kept = ",".join(f"+{name.removeprefix('CAP_').lower()}" for name in line.split())
    confined = ["setpriv", f"--bounding-set=-all,{kept}", "--inh-caps=-all", "--clear-groups"]
    code = "from backup_py.cli import main; main()"
    backup = [sys.executable, "-c", code, f"--config={tmp_path}/backup.json", "run", "aaa"]
    subprocess.run([*confined, *backup], check=True, cwd=UNIT.parents[3], timeout=100)
    copied = newest(found, "aaa") / "media"
    assert (copied.stat().st_gid, stat.S_IMODE(copied.stat().st_mode)) == (UID, 0o2750)


def nested(levels):
    for _ in range(levels):
        Path("d").mkdir()
        os.chdir("d")


def nest(shared):
    """As the app would: by names that are relative, so that no path is too long."""
    os.chdir(shared)
    nested(1100)


def sparse(shared):
    (shared / "huge").touch()
    os.truncate(shared / "huge", 1 << 43)


def odd(shared):
    with closing(sqlite3.connect(os.fsencode(shared) + b"/\xff\x1b]0;x\x07\n.db")) as made, made:
        made.execute("create table t (x)")


def too_short(shared):
    (shared / "app.db").write_bytes(DATABASE)


def damaged(shared):
    (shared / "app.db").write_bytes(DATABASE + b"\xff" * 4096)


def unreadable(shared):
    (shared / "closed").mkdir(mode=0)


def forbidden_name(shared):
    (shared / "x\n<0>forged\x1b[2J").mkdir(mode=0)


@pytest.mark.parametrize(
    ("attack", "words"),
    [
        (nest, "nested more than 200 deep"),
        (sparse, "needs 8388608 MB"),
        (too_short, "app.db"),
        (damaged, "app.db"),
        (unreadable, "closed: Permission denied"),
        (forbidden_name, "x\\n<0>forged\\x1b[2J: Permission denied"),
    ],
)
def test_what_one_app_has_made_is_its_own_failure_and_the_others_are_backed_up(
    found, machine, capfd, attack, words
):
    as_the_app(lambda: attack(machine.shared))
    assert jobs.back_up(found, found.apps) == ["evil"]
    told = capfd.readouterr()
    assert words in told.err
    assert not set("\x1b\x07") & set(told.err + told.out)
    assert told.err.startswith("evil: not backed up: ")
    assert told.err.count("\n") == 1
    assert [(newest(found, name) / "file").read_text() for name in ("aaa", "zzz")] == ["aaa", "zzz"]
    assert [path.name for path in found.directory.rglob("*.part")] == []


def test_a_name_that_is_no_text_is_backed_up_and_comes_back(found, machine):
    as_the_app(lambda: odd(machine.shared))
    assert jobs.back_up(found, found.apps) == []
    (before,) = machine.shared.iterdir()
    jobs.restore_app(found, found.app("evil"), "latest")
    assert list(machine.shared.iterdir()) == [before]


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL])
def test_a_crash_in_one_apps_backup_is_its_failure(found, machine, monkeypatch, capfd, number):
    survey = tree.survey

    def crash(source, excluded):
        if source == machine.shared:
            faulthandler.disable()
            os.kill(os.getpid(), number)
        return survey(source, excluded)

    monkeypatch.setattr(tree, "survey", crash)
    assert jobs.back_up(found, found.apps) == ["evil"]
    assert f"evil: not backed up: the process for it has died ({number.name})" in (
        capfd.readouterr().err
    )
    assert newest(found, "zzz")


def test_an_interrupt_from_the_keyboard_ends_it_all(found, monkeypatch):
    def interrupt(*_arguments):
        os.kill(os.getppid(), signal.SIGINT)
        signal.pause()

    monkeypatch.setattr(tree, "survey", interrupt)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a runner may ignore it
    try:
        with pytest.raises(KeyboardInterrupt):
            jobs.back_up(found, found.apps)
    finally:
        signal.signal(signal.SIGINT, before)


def test_an_interrupt_that_comes_just_before_a_wait_is_not_waited_out(found, monkeypatch):
    """Between Python's look for signals and the system call nothing tells of one."""
    poll = select.poll

    class Late:
        def __init__(self):
            self.poll_of = poll()
            self.register = self.poll_of.register
            self.signals = [signal.SIGINT]

        def poll(self, milliseconds):
            previous = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
            try:  # blocked, it ends no wait, and is heard once that is over
                for number in self.signals:
                    os.kill(os.getpid(), number)
                self.signals.clear()
                return self.poll_of.poll(milliseconds)
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, previous)

    monkeypatch.setattr(select, "poll", Late)
    monkeypatch.setattr(tree, "survey", lambda *_arguments: signal.pause())
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            jobs.back_up(found, found.apps)
    finally:
        signal.signal(signal.SIGINT, before)


def test_an_interrupt_that_comes_right_after_the_fork_is_not_lost(found, monkeypatch):
    """Python runs callbacks then, and what is raised in those is printed and forgotten."""
    numbers = [signal.SIGINT]

    def interrupt():
        for number in numbers:
            os.kill(os.getpid(), number)

    os.register_at_fork(after_in_parent=interrupt)  # for good, so it has to do nothing later
    monkeypatch.setattr(tree, "survey", lambda *_arguments: signal.pause())
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            jobs.back_up(found, found.apps[:1])
    finally:
        numbers.clear()
        signal.signal(signal.SIGINT, before)


def test_more_files_than_a_survey_can_hold_are_refused(found, machine, monkeypatch, capfd):
    monkeypatch.setattr(tree, "MOST_ENTRIES", 100)
    as_the_app(lambda: [(machine.shared / str(one)).touch() for one in range(101)])
    assert jobs.back_up(found, found.apps) == ["evil"]
    assert "has more than 100 files; backup_exclude leaves some out" in capfd.readouterr().err


def test_what_is_added_to_a_file_while_it_is_copied_is_the_next_backups(found, machine):
    log = machine.shared / "log"
    as_the_app(lambda: log.write_bytes(b"a" * (8 << 20)))

    def grow(surveyed):
        with log.open("ab") as file:
            file.write(b"b" * (1 << 20))
        assert surveyed

    survey = tree.survey(machine.shared, lambda _path: False)
    as_the_app(lambda: grow(survey.entries))
    stage = found.directory.parent / "stage"
    tree.copy(survey, stage, None)
    assert (stage / "log").read_bytes() == b"a" * (8 << 20)


def test_a_copy_ends_when_what_is_to_stay_free_would_be_used(found, machine, monkeypatch):
    as_the_app(lambda: (machine.shared / "big").write_bytes(b"x" * (64 << 20)))
    survey = tree.survey(machine.shared, lambda _path: False)
    left = iter([600, 500, 400] + [99] * 99)  # MB: somebody else fills the disk
    monkeypatch.setattr(tree, "_free", lambda _path: next(left) << 20)
    stage = found.directory.parent / "stage"
    with pytest.raises(BackupError, match="of which 100 MB are to stay free"):
        tree.copy(survey, stage, None, min_free_mb=100)
    assert (stage / "big").stat().st_size < 64 << 20


def test_a_database_can_not_grow_past_what_there_is_room_for(found, machine, monkeypatch):
    def fill():
        with closing(sqlite3.connect(machine.shared / "app.db")) as made, made:
            made.execute("create table t (x)")
            made.execute("insert into t values (zeroblob(8388608))")

    as_the_app(lambda: sqlite3.connect(machine.shared / "app.db").execute("create table s (x)"))
    survey = tree.survey(machine.shared, lambda _path: False)
    as_the_app(fill)
    monkeypatch.setattr(tree, "_free", lambda _path: 1 << 20)
    monkeypatch.setattr(tree, "_size", lambda _top, _entry: 0)  # it grew after it was looked at
    with pytest.raises(BackupError, match="grown to more than the 1048576 bytes"):
        tree.copy(survey, found.directory.parent / "stage", None)


def test_a_file_swapped_for_a_link_is_never_read_through_it(found, machine, capfd):
    one, other = machine.shared / "a", machine.shared / "b"

    def prepare():
        one.mkdir()
        for name in ("secret", *map(str, range(40))):
            (one / name).write_text("mine")
        other.symlink_to(machine.victim)

    as_the_app(prepare)
    # what only a link has to keep out: it is for anybody to read
    (machine.victim / "secret").chmod(0o644)
    machine.victim.chmod(0o755)
    try:
        refused = 0
        with swapping(one, other):
            for _ in range(12):
                refused += bool(jobs.back_up(found, [found.app("evil")]))
        for path in found.directory.rglob("*"):
            if path.is_file() and not path.is_symlink():
                assert SECRET not in path.read_text()
        assert refused, "the link was never met: this has proved nothing"
        assert "evil: not backed up: " in capfd.readouterr().err
    finally:
        (machine.victim / "secret").chmod(0o600)


def test_while_a_restore_works_its_app_gets_at_nothing_that_is_made_ready(found, machine):
    def prepare():
        (machine.shared / "a").mkdir()
        for name in ("secret", *map(str, range(1500))):
            (machine.shared / "a" / name).write_text("mine")

    as_the_app(prepare)
    evil = found.app("evil")
    assert jobs.back_up(found, [evil]) == []
    stage = restore.stage_of(evil)

    def reach():
        """Put a link to root's directory in the place of one that is being given away."""
        for place in (stage, stage / "files"):
            try:
                (place / "a").rename(place / "gone")
                (place / "a").symlink_to(machine.victim)
            except OSError:
                continue

    with looping(reach):
        for _ in range(6):
            jobs.restore_app(found, evil, "latest")
    assert (machine.shared / "a/secret").read_text() == "mine"
    assert (machine.shared / "a/secret").stat().st_uid == UID


def test_what_a_restore_has_replaced_is_read_as_its_apps_user(found, machine):
    def prepare():
        (machine.shared / "a").mkdir()
        for one in range(300):
            (machine.shared / "a" / str(one)).write_text("mine")

    as_the_app(prepare)
    evil = found.app("evil")
    assert jobs.back_up(found, [evil]) == []
    jobs.restore_app(found, evil, "latest")
    (before,) = restore.kept(evil)

    def swap():
        for one in range(300):
            path = before / "a" / str(one)
            path.unlink(missing_ok=True)
            path.symlink_to(machine.victim / "secret")
            path.unlink()
            path.write_text("mine")

    texts = []
    with looping(swap):
        for _ in range(8):
            # a link in a file's place may be refused, and must not be followed
            with suppress(BackupError):
                jobs.restore_app(found, evil, before.name)
            texts += [
                path.read_text()
                for path in machine.shared.rglob("*")
                if path.is_file() and not path.is_symlink()
            ]
    assert len(texts) > 300, "hardly anything was restored: this has proved nothing"
    assert not [text for text in texts if SECRET in text]


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: os.mknod(path, stat.S_IFCHR, 0)])
def test_a_backup_that_holds_what_is_no_file_is_not_restored(found, machine, make):
    as_the_app(lambda: (machine.shared / "file").write_text("mine"))
    evil = found.app("evil")
    assert jobs.back_up(found, [evil]) == []
    make(newest(found, "evil") / "odd")
    with pytest.raises((BackupError, OSError), match="odd"):
        jobs.restore_app(found, evil, "latest")
    assert not restore.stage_of(evil).exists()
    assert (machine.shared / "file").read_text() == "mine"


def test_no_setuid_bit_comes_back_and_modes_of_directories_do(found, machine):
    def prepare():
        (machine.shared / "program").write_text("x")
        (machine.shared / "program").chmod(0o6755)
        (machine.shared / "media").mkdir()
        (machine.shared / "media").chmod(0o2750)

    as_the_app(prepare)
    evil = found.app("evil")
    assert jobs.back_up(found, [evil]) == []
    jobs.restore_app(found, evil, "latest")
    assert stat.S_IMODE((machine.shared / "program").stat().st_mode) == 0o755
    assert stat.S_IMODE((machine.shared / "media").stat().st_mode) == 0o2750
