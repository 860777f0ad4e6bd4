"""Who has a machine: one play at a time, and none that has died."""

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from ansible_collections.kechi.vps.plugins.action.play_lock import RELEASE
from ansible_collections.kechi.vps.plugins.module_utils import locks, play_lock
from ansible_collections.kechi.vps.plugins.plugin_utils import this_play

PLAY = {
    "token": "laptop/number/ns/boot/4711/99",
    "user": "ada",
    "host": "laptop",
    "pid": 4711,
    "playbook": "playbooks/site.yml",
}
OTHER = {**PLAY, "token": "runner/number/ns/boot/12/7", "user": "ci", "host": "runner", "pid": 12}


class FailedError(Exception):
    """A module has ended with this message."""


class Module:
    """What a task's module asks of Ansible."""

    def __init__(self, play=PLAY, take_over="", check_mode=False):
        self.params = {"play": play, "take_over": take_over}
        self.check_mode = check_mode
        self._name = "kechi.vps.files"
        self.warnings: list[str] = []

    def warn(self, text):
        self.warnings.append(text)

    def fail_json(self, msg):
        raise FailedError(msg)


@pytest.fixture(autouse=True)
def machine(tmp_path, monkeypatch):
    """A machine where tests are root; each task's lock ends with it, as its process does."""
    monkeypatch.setattr(locks, "DIRECTORY", tmp_path / "locks")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    kept: list[int] = []
    keep = locks.keep
    monkeypatch.setattr(locks, "keep", lambda *a, **k: kept.append(keep(*a, **k)))
    monkeypatch.setattr(play_lock.atexit, "register", lambda *_: None)
    yield SimpleNamespace(record=tmp_path / "locks" / "play", end_task=lambda: os.close(kept.pop()))
    for handle in kept:
        os.close(handle)


def take(machine, play=PLAY, **module):
    """A first task of a play, from its beginning to its end."""
    found = play_lock.take(Module(play, **module))
    if not found and not module.get("check_mode"):
        machine.end_task()
    return found


def look(play=OTHER, **module):
    """A task of a play that does not take the machine."""
    return play_lock.take(Module(play, **module), keep=False)


def wait(machine, seconds):
    """Let time pass: the record grows older."""
    status = machine.record.stat()
    os.utime(machine.record, (status.st_atime - seconds, status.st_mtime - seconds))


def test_a_second_play_is_told_who_has_the_machine_since_when_and_what_to_do(machine):
    assert take(machine) is None
    found = take(machine, OTHER)
    assert (found["user"], found["host"], found["pid"]) == ("ada", "laptop", 4711)
    found |= {"since": 1_800_000_000.0, "now": 1_800_000_090.0, "heard": 1_800_000_080.0,
              "until": 1_800_000_200.0}  # fmt: skip
    assert this_play.refusal(found) == (
        "Another play changes this machine: playbooks/site.yml by ada on laptop (pid 4711 there),"
        " since 2027-01-15 08:00:00 UTC, 90 s ago, last heard of 10 s ago. Nothing was changed by"
        " this one: run it again when that one is over. If it has died, its lock ends by itself at"
        " 2027-01-15 08:03:20 UTC, in 110 s, or at once with -e play_lock_take_over=true"
    )


def test_the_same_play_takes_the_machine_as_often_as_it_likes_and_has_it_since_the_first_time(
    machine,
):
    take(machine)
    since = take(machine, OTHER)["since"]
    assert take(machine) is None
    assert take(machine, OTHER)["since"] == since


def test_a_look_is_no_sign_of_life(machine):
    take(machine)
    wait(machine, 60)
    first, second = take(machine, OTHER), look()
    assert first["heard"] == second["heard"] < first["now"] - 50


def test_a_play_is_alive_for_some_time_after_each_of_its_tasks(machine):
    take(machine)
    for _ in range(2):
        wait(machine, play_lock.LEASE_SECONDS - 20)
        assert take(machine, OTHER)
        play_lock.at_work(Module())  # a task that changes something
        machine.end_task()
    wait(machine, play_lock.LEASE_SECONDS + 1)
    assert take(machine, OTHER) is None
    assert take(machine)["user"] == "ci"


def test_a_lock_does_not_last_until_a_clock_that_was_set_back_has_caught_up(machine):
    take(machine)
    wait(machine, -24 * 3600)
    assert take(machine, OTHER) is None


def test_a_play_that_only_looks_is_refused_by_another_and_holds_up_none(machine):
    assert look() is None
    assert not machine.record.exists()
    take(machine)
    assert look()["user"] == "ada"
    assert look(take_over=PLAY["token"]) is None
    machine.end_task()
    # what it does now is no sign of life of the play that has died
    play_lock.at_work(Module())
    machine.end_task()
    assert look({**OTHER, "token": "a third one's"}) is None


def test_a_play_that_has_ended_is_taken_over_from_and_no_other_one(machine):
    take(machine)
    assert take(machine, OTHER, take_over="somebody else's") is not None
    assert take(machine, OTHER, take_over=PLAY["token"]) is None


def test_a_machine_is_given_back_by_whom_it_belongs_to(machine):
    take(machine)
    for play, free in ((OTHER, False), (PLAY, True)):
        release = RELEASE.format(path=machine.record, token=f"'{play['token']}'")
        assert subprocess.run(["sh", "-c", release], check=True, capture_output=True).stderr == b""
        assert (take(machine, OTHER, check_mode=True) is None) == free
    # what goes on of a play that is over renews nothing
    play_lock.at_work(Module())
    machine.end_task()
    assert take(machine, OTHER) is None


def test_a_release_of_what_was_never_taken_is_none(tmp_path):
    release = RELEASE.format(path=tmp_path / "none" / "play", token="t")
    done = subprocess.run(["sh", "-c", release], check=True, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("", "")


def test_check_mode_takes_nothing_and_sees_who_has_it(machine):
    assert take(machine, check_mode=True) is None
    assert not machine.record.exists()
    take(machine)
    assert take(machine, OTHER, check_mode=True)["user"] == "ada"


def test_a_record_that_was_cut_off_is_nobodys(machine):
    take(machine)
    with machine.record.open("r+") as record:
        record.truncate(len(str(PLAY["token"])) + 5)
    assert take(machine, OTHER) is None


def test_a_task_that_goes_on_after_its_play_was_interrupted_holds_up_the_next(machine, monkeypatch):
    take(machine)
    play_lock.at_work(Module())  # and does not end
    monkeypatch.setattr(play_lock, "WAIT_SECONDS", 0)
    with pytest.raises(FailedError) as failed:
        take(machine, OTHER, take_over=PLAY["token"])
    assert f"a task of a play (files) (pid {os.getpid()}, since 2" in str(failed.value)
    assert "wait for its end, or end that process there" in str(failed.value)
    machine.end_task()
    assert take(machine, OTHER, take_over=PLAY["token"]) is None


@pytest.fixture
def process():
    """Another process of this control machine, as a play is one."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def test_a_play_of_this_control_machine_is_over_when_its_process_is(process):
    play = this_play.identity(process.pid, ["playbooks/site.yml"])
    assert play["playbook"] == "playbooks/site.yml"
    assert not this_play.is_over(play)
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert this_play.is_over(play), "a zombie"
    process.wait()
    assert this_play.is_over(play)


def test_a_number_that_another_process_has_by_now_is_not_the_plays(process):
    play = this_play.identity(process.pid, [])
    place, pid, started = play["token"].rsplit("/", 2)
    assert this_play.is_over({**play, "token": f"{place}/{pid}/{int(started) - 1}"})


def test_of_another_control_machine_nobody_knows():
    assert not this_play.is_over(OTHER)


def pretend_control_machine(root, *, namespace, number, boot):
    """Write what a control machine has to say of itself, and of no process."""
    for folder in ("proc/self/ns", "proc/sys/kernel/random", "etc"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / "proc/self/ns/pid").unlink(missing_ok=True)
    (root / "proc/self/ns/pid").symlink_to(namespace)
    (root / "proc/sys/kernel/random/boot_id").write_text(f"{boot}\n")
    (root / "etc/machine-id").write_text(number)


@pytest.mark.parametrize("linux", [True, False])
def test_a_process_that_can_not_be_seen_is_asked_for_by_its_number(process, tmp_path, linux):
    """As another user's under hidepid, and where there is no /proc."""
    if linux:
        pretend_control_machine(tmp_path, namespace="pid:[1]", number="0123abc", boot="one")
    token = this_play.identity(process.pid, [], root=tmp_path)["token"]
    play = {"token": f"{token}99"}  # when it was started was seen by itself
    assert not this_play.is_over(play, root=tmp_path)
    process.kill()
    process.wait()
    assert this_play.is_over(play, root=tmp_path)


@pytest.mark.parametrize(
    ("namespace", "number", "over"),
    [
        ("pid:[4026531836]", "0123abc", True),
        ("pid:[4026531836]", "", False),  # which machine it is, nobody knows
        ("pid:[4026532999]", "0123abc", False),  # a container, of an image that others have
    ],
)
def test_a_reboot_of_the_control_machine_has_ended_its_plays(tmp_path, namespace, number, over):
    pretend_control_machine(tmp_path, namespace=namespace, number=number, boot="one")
    play = this_play.identity(os.getpid(), [], root=tmp_path)
    assert not this_play.is_over(play, root=tmp_path)
    pretend_control_machine(tmp_path, namespace=namespace, number=number, boot="two")
    assert this_play.is_over(play, root=tmp_path) == over


class Asked:
    """A module that is asked to take a machine that the plays have, one after the other."""

    def __init__(self, *holders):
        self.holders = list(holders)
        self.tokens: list[str] = []

    def __call__(self, take_over):
        self.tokens.append(take_over)
        holder = self.holders.pop(0) if self.holders else None
        return {"changed": False, "held_by": holder}


TIMES = {"since": 0.0, "now": 60.0, "heard": 30.0, "until": 90.0}
ALIVE = {**OTHER, **TIMES}


@pytest.fixture
def dead(process):
    play = this_play.identity(process.pid, [])
    process.kill()
    process.wait()
    return {**play, **TIMES}


def test_a_free_machine_is_asked_once():
    ask = Asked()
    assert this_play.take(ask, forced=False, keep=True, check_mode=False) == {"changed": False}
    assert ask.tokens == [""]


def test_the_lock_of_a_dead_play_is_taken_over_and_that_is_said(dead):
    ask = Asked(dead)
    taken = this_play.take(ask, forced=False, keep=True, check_mode=False)
    assert ask.tokens == ["", dead["token"]]
    assert not taken.get("failed")
    assert "The lock that a play has left behind at its end was taken over" in taken["warnings"][0]


def test_a_play_that_takes_nothing_says_nothing_of_a_dead_one(dead):
    ask = Asked(dead)
    assert this_play.take(ask, forced=False, keep=False, check_mode=False) == {"changed": False}
    assert ask.tokens == ["", dead["token"]]


@pytest.mark.parametrize("forced", [False, True])
def test_the_lock_of_a_play_that_may_be_alive_is_taken_over_by_force_alone(forced):
    ask = Asked(ALIVE)
    taken = this_play.take(ask, forced=forced, keep=True, check_mode=False)
    assert taken.get("failed", False) != forced
    assert ask.tokens == (["", ALIVE["token"]] if forced else [""])


def test_of_two_plays_that_take_over_from_a_dead_one_the_later_is_refused(dead):
    taken = this_play.take(Asked(dead, ALIVE), forced=False, keep=True, check_mode=False)
    assert taken["failed"]
    assert "by ci on runner" in taken["msg"]


def test_check_mode_is_told_of_a_play_that_is_under_way_and_not_of_a_dead_one(dead):
    shown = this_play.take(Asked(ALIVE), forced=False, keep=True, check_mode=True)
    assert not shown.get("failed")
    assert "it is changed by playbooks/site.yml by ci on runner" in shown["warnings"][0]
    assert "warnings" not in this_play.take(Asked(dead), forced=False, keep=True, check_mode=True)
