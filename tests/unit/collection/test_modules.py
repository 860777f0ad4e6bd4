"""The pure parts of the modules: which steps a state asks for."""

import os

import pytest

from ansible_collections.kechi.vps.plugins.module_utils import units
from ansible_collections.kechi.vps.plugins.modules import pool_state
from ansible_collections.kechi.vps.plugins.plugin_utils import trees

MB = 1024 * 1024
SETTLED = {"ActiveState": "active", "UnitFileState": "enabled", "NeedDaemonReload": "no"}
SAME = {"unit": "u", "daemon": "d", "generation": "g", "limits": "l"}


@pytest.mark.parametrize(
    ("service", "socket", "running", "steps"),
    [
        ({}, {}, SAME, []),
        ({"NeedDaemonReload": "yes"}, {}, SAME, ["daemon-reload"]),
        ({}, {"NeedDaemonReload": "yes"}, SAME, ["daemon-reload"]),
        ({}, {}, {**SAME, "generation": "old"}, ["reload"]),
        ({}, {}, {**SAME, "limits": "old"}, ["limits"]),
        ({}, {}, {**SAME, "limits": "old", "generation": "old"}, ["limits", "reload"]),
        ({}, {}, {**SAME, "daemon": "old", "generation": "old"}, ["upgrade", "reload"]),
        ({}, {}, dict.fromkeys(SAME, "old"), ["check", "restart"]),
        (
            {"NeedDaemonReload": "yes"},
            {},
            {**SAME, "unit": "old"},
            ["check", "daemon-reload", "restart"],
        ),
        (
            {"ActiveState": "inactive", "UnitFileState": ""},
            {"ActiveState": "inactive", "UnitFileState": ""},
            dict.fromkeys(SAME, ""),
            ["enable", "start"],
        ),
        ({"ActiveState": "failed"}, {}, SAME, ["start"]),
        ({"UnitFileState": "disabled"}, {}, SAME, ["enable"]),
    ],
)
def test_a_pool_gets_the_gentlest_step_that_is_enough(service, socket, running, steps):
    found = pool_state.needed({**SETTLED, **service}, [{**SETTLED, **socket}], [], running, SAME)
    assert found == steps


@pytest.mark.parametrize(
    ("service", "socket", "stale", "running", "steps"),
    [
        ({}, {}, [], SAME, []),
        ({}, {"ActiveState": "inactive"}, [], SAME, ["check", "restart"]),
        ({}, {"UnitFileState": "disabled"}, [], SAME, ["enable"]),
        (
            {"NeedDaemonReload": "yes"},
            {"ActiveState": "inactive", "UnitFileState": "disabled"},
            [],
            {**SAME, "unit": "old", "generation": "old"},
            ["check", "daemon-reload", "enable", "restart"],
        ),
        (
            {"NeedDaemonReload": "yes"},
            {},
            ["kechi@main.gone.socket"],
            {**SAME, "unit": "old"},
            ["check", "daemon-reload", "close", "restart"],
        ),
        ({}, {}, ["kechi@main.gone.socket"], SAME, ["close"]),
        (
            {"ActiveState": "failed"},
            {"ActiveState": "inactive"},
            ["kechi@main.gone.socket"],
            SAME,
            ["close", "start"],
        ),
    ],
)
def test_a_pool_with_other_isolated_apps_is_restarted_once_its_apps_are_found_to_load(
    service, socket, stale, running, steps
):
    sockets = [SETTLED, {**SETTLED, **socket}]
    assert pool_state.needed({**SETTLED, **service}, sockets, stale, running, SAME) == steps


@pytest.mark.parametrize(
    ("steps", "sets", "hooked", "found"),
    [
        ([], ("a", "a", "a"), False, []),
        (["reload"], ("a", "a", "a"), False, ["reload", "gate"]),
        (["limits"], ("a", "a", "a"), False, ["limits"]),
        (["reload"], ("a", "a", "b"), False, ["check", "rehearse", "activate", "reload", "gate"]),
        (
            ["reload"],
            ("a", "a", "b"),
            True,
            ["check", "hooks", "rehearse", "activate", "reload", "gate"],
        ),
        (
            ["check", "daemon-reload", "restart"],
            ("a", "a", "b"),
            False,
            ["check", "rehearse", "activate", "daemon-reload", "restart", "gate"],
        ),
        (
            ["enable", "start"],
            ("", "", "a"),
            True,
            ["hooks", "activate", "enable", "start", "gate"],
        ),
        # interrupted: after the switch, after the reload, after a failed reload was taken back
        (["reload"], ("b", "a", "b"), False, ["reload", "gate"]),
        ([], ("b", "a", "b"), False, ["gate"]),
        ([], ("b", "a", "a"), False, ["check", "rehearse", "activate"]),
    ],
)
def test_a_release_set_is_checked_before_its_switch_and_asked_after_it(steps, sets, hooked, found):
    active, good, target = sets
    assert pool_state.around(steps, active=active, good=good, target=target, hooked=hooked) == found


def test_a_digest_follows_files_directories_and_links(tmp_path):
    (tmp_path / "env").mkdir()
    (tmp_path / "env" / "A").write_text("1")
    (tmp_path / "current").symlink_to("releases/1")
    paths = [str(tmp_path / "env"), str(tmp_path / "current"), str(tmp_path / "absent")]
    seen = {pool_state.digest(paths)}
    for change in (
        lambda: (tmp_path / "env" / "A").write_text("2"),
        lambda: (tmp_path / "env" / "B").write_text("2"),
        lambda: (tmp_path / "absent").write_text("here"),
        lambda: ((tmp_path / "current").unlink(), (tmp_path / "current").symlink_to("releases/2")),
    ):
        change()
        assert pool_state.digest(paths) not in seen
        seen.add(pool_state.digest(paths))


def make_tree(folder, files):
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


def test_a_release_is_named_by_its_content_alone(tmp_path):
    for copy in ("a", "b"):
        make_tree(tmp_path / copy, {"app.py": "x = 1\n", "pkg/mod.py": ""})
    make_tree(tmp_path / "b", {"__pycache__/app.pyc": "", ".git/HEAD": "", "blog.sqlite3": ""})
    os.utime(tmp_path / "b" / "app.py", (1, 1))
    assert trees.digest(tmp_path / "a") == trees.digest(tmp_path / "b")
    make_tree(tmp_path / "b", {"app.py": "x = 2\n"})
    assert trees.digest(tmp_path / "a") != trees.digest(tmp_path / "b")


@pytest.mark.parametrize(
    ("state", "moment"),
    [("active", 1_000 - 50 + 20), ("inactive", None), ("reloading", None)],
)
def test_a_units_last_change_is_told_in_the_time_of_files(state, moment):
    shown = f"ActiveState={state}\nStateChangeTimestampMonotonic=20000000\n"
    assert units.since(shown, now=1_000, monotonic=50) == moment


def test_the_newest_of_files_and_directories_counts(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "file").touch()
    os.utime(tmp_path / "a" / "file", (1, 30))
    os.utime(tmp_path / "a", (1, 20))
    assert units.newest([str(tmp_path / "a" / "absent")]) == 0
    assert units.newest([str(tmp_path / "a"), str(tmp_path / "absent")]) == 30
    (tmp_path / "a" / "file").unlink()  # which its directory tells
    assert units.newest([str(tmp_path / "a")]) > 30
