"""The collection as its users get it: built, installed from the tarball, used from elsewhere."""

import json
import tarfile
from pathlib import Path

import pytest

from .elsewhere import REPOSITORY, Elsewhere

ROLES = sorted(path.name for path in (REPOSITORY / "roles").iterdir())
PLAYBOOKS = sorted(path.stem for path in (REPOSITORY / "playbooks").glob("*.yml"))
PARTS = {
    "FILES.json", "LICENSE", "MANIFEST.json", "README.md", "backup_py", "containers", "docs",
    "examples", "harness", "inventory", "meta", "playbooks", "plugins", "roles", "supervisor_py",
}  # fmt: skip


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    found = Elsewhere(tmp_path_factory.mktemp("elsewhere"))
    found.install()
    return found


def test_the_tarball_has_what_the_roles_need_and_nothing_else(elsewhere):
    with tarfile.open(elsewhere.tarball) as tar:
        names = [Path(member.name) for member in tar if member.isfile()]
    assert {name.parts[0] for name in names} == PARTS
    inside = {str(name) for name in names if name.parts[0] == "containers"}
    assert inside == {"containers/__init__.py", "containers/engine.py", "containers/inside.py"}
    assert {name.parts[1] for name in names if name.parts[0] == "inventory"} == {"example"}
    assert [name for name in names if "__pycache__" in name.parts or ".sqlite3" in name.name] == []
    assert {f"roles/{role}/README.md" for role in ROLES} <= set(map(str, names))


def test_each_role_documents_itself_by_its_full_name(elsewhere):
    full = [f"kechi.vps.{role}" for role in ROLES]
    documented = json.loads(elsewhere.output("ansible-doc", "--type=role", "--json", *full))
    assert set(documented) == set(full)
    assert all(role["entry_points"]["main"]["options"] for role in documented.values())


def test_each_role_and_playbook_is_found_by_its_full_name(elsewhere):
    done = elsewhere.play({"roles": [f"kechi.vps.{role}" for role in ROLES]}, "--syntax-check")
    assert done.returncode == 0, done.stderr
    for playbook in PLAYBOOKS:
        elsewhere.output("ansible-playbook", "--syntax-check", f"kechi.vps.{playbook}")


@pytest.mark.parametrize(
    ("host", "sentence"),
    [
        ("web.example", "are usable"),
        ("web;example", 'vhost_app_pools[0].apps[0].hosts: "web;example" is not a host'),
    ],
)
def test_settings_are_checked_by_the_installed_code(elsewhere, host, sentence):
    app = {"name": "web", "hosts": [host], "source": "/", "wsgi": "web:application"}
    play = {
        "vars": {"vhost_app_pools": [{"name": "main", "apps": [app]}]},
        "tasks": [{"kechi.vps.check_settings": {"roles": ROLES}}],
    }
    assert sentence in elsewhere.play(play, "-v").stdout.replace('\\"', '"')
