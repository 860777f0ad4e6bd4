"""What is noted of running pools is root's alone: none of it is where an app can write."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from ansible_collections.kechi.vps.plugins.modules import pool_state

ROOT = Path(__file__).parents[3]
TEMPLATES = ROOT / "roles/supervisor/templates"
DIGEST = "34c4e988c25c0363c2be"


@pytest.fixture
def pools(tmp_path, monkeypatch):
    for name in ("NOTES", "RUNNING"):
        monkeypatch.setattr(pool_state, name, tmp_path / name.lower())
        (tmp_path / name.lower()).mkdir()
    for kind in pool_state.KINDS:
        (tmp_path / "notes" / f"evil.{kind}").write_text(DIGEST)
    return pool_state.Pools(SimpleNamespace(run_command=lambda _words: (0, "", "")))


def commands_of_root():
    """Words of the commands that the units run as root, outside of the sandbox."""
    for template in ("kechi@.service.j2", "restart.conf.j2"):
        text = (TEMPLATES / template).read_text().replace("\\\n", " ")
        for line in text.splitlines():
            name, _, command = line.partition("=")
            if name.startswith("Exec") and command.startswith("+"):
                yield command.removeprefix("+").split()


def test_a_note_is_written_where_no_app_can_put_a_link(pools, tmp_path):
    pools._made_of("evil", "limits")
    noted = tmp_path / "running" / "evil.limits"
    assert noted.read_text() == DIGEST
    assert noted.stat().st_mode & 0o777 == 0o600


def test_a_note_replaces_a_link_and_does_not_write_through_it(pools, tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("root's own")
    (tmp_path / "running" / "evil.limits").symlink_to(victim)
    pools._made_of("evil", "limits")
    assert victim.read_text() == "root's own"
    assert pools.running("evil")["limits"] == DIGEST


def test_what_runs_is_known_from_roots_notes_alone(pools, tmp_path):
    assert set(pools.running("evil").values()) == {""}, "of an older version, or not running"
    for kind in pool_state.KINDS:
        pools._made_of("evil", kind)
    assert set(pools.running("evil").values()) == {DIGEST}


def test_a_pool_that_is_stopped_for_good_leaves_no_note(pools, tmp_path, monkeypatch):
    monkeypatch.setattr(pool_state, "UNITS", tmp_path)
    for kind in pool_state.KINDS:
        pools._made_of("evil", kind)
    pools.act({"name": "evil"}, "stop", "")
    assert list((tmp_path / "running").iterdir()) == []


def test_the_units_note_as_root_and_only_in_roots_own_directories():
    found = [command for command in commands_of_root() if command[0] == "/usr/bin/install"]
    assert len(found) == 2, "at the start, and at a reload"
    for command in found:
        assert f"--target-directory={pool_state.RUNNING}" in command
        noted = [word for word in command if word.startswith("/etc/kechi/pools/%i.")]
        assert noted


def test_no_command_that_a_unit_runs_as_root_names_what_is_an_apps():
    commands = [*commands_of_root()]
    assert commands
    for command in commands:
        assert not [word for word in command if "/run/kechi-%i" in word or "/srv/www" in word]


def test_the_units_and_the_module_note_the_same_kinds():
    start = next(command for command in commands_of_root() if len(command) > 5)
    noted = {word.rpartition(".")[2] for word in start if word.startswith("/etc/kechi/pools/")}
    assert noted == set(pool_state.KINDS)


def test_the_module_knows_no_path_of_an_apps_but_the_control_socket():
    text = (ROOT / "plugins/modules/pool_state.py").read_text()
    code = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    assert code.count("/run/kechi-") == code.count('CONTROL = "/run/kechi-%s/control"') == 1
