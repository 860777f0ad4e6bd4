"""A deploy that fails: what is shown of the journal, what is noted, and what is taken back."""

import json

import pytest

from ansible_collections.kechi.vps.plugins.module_utils import journal, release_sets, releases
from ansible_collections.kechi.vps.plugins.modules import pool_state

APPS = ("blog", "shop")
CURSOR = "s=1;i=2"
START = ["enable", "start", "gate"]


def test_lines_of_another_app_are_left_out():
    lines = ["generation 4 starts", "blog: a visitor", "shop: Traceback", "shop: KeyError"]
    assert journal.relevant(lines, APPS, ["shop"]) == [lines[0], *lines[2:]]
    assert journal.relevant(lines, APPS, []) == lines


def test_no_app_pushes_anothers_lines_out():
    chatter = [f"blog: {number}" for number in range(1000)]
    lines = ["shop: Traceback", "shop: KeyError", "generation 4 failed", *chatter]
    shown = journal.relevant(lines, APPS, [])
    assert shown == [*lines[:3], *chatter[-journal.SHOWN_LINES :]]


def test_what_is_read_does_nothing_to_a_terminal_and_is_not_endless():
    assert journal.printable("\x1b[2Jé\tx\x07\u202e") == "\\x1b[2Jé\tx\\x07\\u202e"
    assert len(journal.printable("x" * 10**6)) == journal.LINE_CHARACTERS + 1


class Journal:
    """Stands in for systemd and its journal."""

    def __init__(self, before=("old",), since=()):
        self.before, self.since, self.called = before, since, []

    def __call__(self, words, **_more):
        self.called.append(" ".join(words))
        if words[0] == "journalctl" and "--show-cursor" in words:
            cursor = [f"-- cursor: {CURSOR}"] if self.before else []
            return 0, "".join(f"{line}\n" for line in [*self.before, *cursor]), ""
        if words[0] == "journalctl" and f"--after-cursor={CURSOR}" in words:
            return 0, "".join(f"{line}\n" for line in self.since), ""
        if words[0] == "journalctl" and "--sync" not in words:
            return 0, "".join(f"{line}\n" for line in [*self.before, *self.since]), ""
        return 0, "", ""


def test_only_what_came_since_the_begin_of_the_try_is_read():
    run = Journal(before=("-- cursor: of an app",), since=("new",))
    assert journal.Since(run).lines("kechi@main.service") == ["new"]
    assert run.called[0] == "journalctl --sync", "what is on its way is not of this try"


def test_an_empty_journal_has_no_begin():
    assert journal.Since(Journal(before=(), since=("new",))).lines("a.service") == ["new"]


class Pool:
    """A pool of two apps on a disk, and what it says of a failure."""

    def __init__(self, root, monkeypatch, run):
        self.root, self.run, self.warnings = root, run, []
        for name in ("etc", "units", *(f"www/{app}" for app in APPS)):
            (root / name).mkdir(parents=True)
        self.sets = release_sets.Sets(
            "main", root / "kechi", root / "www", root / "etc", root / "units"
        )
        monkeypatch.setattr(release_sets, "Sets", lambda _name: self.sets)
        monkeypatch.setattr(release_sets, "APPS", root / "www")
        monkeypatch.setattr(pool_state, "UNITS", root / "units")
        self.effects = pool_state.Pools(self)
        self.effects._since = journal.Since(run)

    # what an AnsibleModule has
    def run_command(self, words, **more):
        return self.run(words, **more)

    def warn(self, text):
        self.warnings.append(text)

    def write(self, name, **numbers):
        """A release set of some releases."""
        apps = {}
        for app, number in numbers.items():
            code = self.root / f"www/{app}/releases/{number}"
            code.mkdir(parents=True, exist_ok=True)
            releases.note(self.root / "www" / app, str(number), deployed=float(number))
            apps[app] = str(code)
        (self.sets.path(name) / "units").mkdir(parents=True)
        self.sets.link(name, apps, "")
        (self.sets.path(name) / "set.json").write_text(json.dumps({"apps": apps}))
        return name

    @property
    def failed(self):
        return {
            f"{app} {name}"
            for app in APPS
            for name, entry in releases.read(self.root / "www" / app).items()
            if entry.get("failed")
        }

    @property
    def stopped(self):
        return [words for words in self.run.called if words.startswith("systemctl disable --now")]


@pytest.fixture
def pool(tmp_path, monkeypatch):
    return lambda **more: Pool(tmp_path, monkeypatch, Journal(**more))


def test_an_app_that_has_logged_nothing_in_this_try_gets_no_lines_of_another(pool):
    machine = pool(before=["shop: Traceback of yesterday"], since=["blog: a visitor"])
    machine.sets.activate(machine.write("1" * 12, blog=1, shop=1))
    with pytest.raises(pool_state.PoolError) as told:
        machine.effects._fail("main", "the app shop does not answer", ["shop"])
    assert str(told.value) == (
        "the app shop does not answer\nThe app shop has logged nothing in this try"
    )


def test_a_new_pool_that_does_not_start_is_stopped_and_disabled_and_has_no_release(pool):
    machine = pool()
    machine.sets.activate(machine.write("1" * 12, blog=1, shop=1))
    told = machine.effects.go_back({"name": "main"}, START, was_off=True)
    assert "stopped and disabled again" in told
    assert machine.stopped == ["systemctl disable --now kechi@main.service kechi@main.socket"]
    assert machine.sets.active == ""
    assert releases.current(machine.root / "www/blog") == ""


def test_a_pool_that_was_off_and_does_not_start_is_off_again_and_keeps_its_set(pool):
    machine = pool()
    name = machine.write("1" * 12, blog=1, shop=1)
    machine.sets.activate(name)
    machine.sets.confirm(name)
    told = machine.effects.go_back({"name": "main"}, START, was_off=True)
    assert "stopped and disabled again" in told
    assert machine.sets.active == name


@pytest.mark.parametrize(("good", "failed"), [(True, ["start", "gate"]), (False, ["gate"]),
                                              (False, ["reload", "gate"])])  # fmt: skip
def test_a_pool_that_served_or_was_to_serve_is_never_stopped(pool, good, failed):
    machine = pool()
    name = machine.write("1" * 12, blog=1, shop=1)
    machine.sets.activate(name)
    if good:
        machine.sets.confirm(name)
    assert machine.effects.go_back({"name": "main"}, failed, was_off=False) == ""
    assert machine.stopped == []
    assert machine.sets.active == name


def test_only_new_releases_of_apps_that_may_be_at_fault_are_noted_as_failed(pool):
    machine = pool()
    good = machine.write("1" * 12, blog=1, shop=1)
    machine.sets.activate(good)
    machine.sets.confirm(good)
    new = machine.write("2" * 12, blog=1, shop=2)
    machine.effects.note_failure({"name": "main"}, new, pool_state.PoolError("", ["blog"]))
    assert machine.failed == set()
    machine.effects.note_failure({"name": "main"}, new, pool_state.PoolError(""))
    assert machine.failed == {"shop 2"}
    machine.effects._note_success(machine.sets, new)
    assert machine.failed == set(), "what failed for a setting may be good later"
