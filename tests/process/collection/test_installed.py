"""The collection as its users get it: built, installed from the tarball, used from elsewhere."""

import json
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[3]
ROLES = sorted(path.name for path in (REPOSITORY / "roles").iterdir())
PLAYBOOKS = sorted(path.stem for path in (REPOSITORY / "playbooks").glob("*.yml"))
PARTS = {
    "FILES.json", "LICENSE", "MANIFEST.json", "README.md", "backup_py", "containers", "docs",
    "examples", "inventory", "meta", "playbooks", "plugins", "roles", "supervisor_py",
}  # fmt: skip


class Elsewhere:
    """An empty directory of a machine that has the collection, and no checkout."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.collections = path / "collections"
        self.tarball = path / "kechi-vps-0.1.0.tar.gz"

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        ansible = {
            "ANSIBLE_HOME": str(self.path / "home"),
            "ANSIBLE_COLLECTIONS_PATH": str(self.collections),
            "ANSIBLE_INVENTORY": "localhost,",
        }
        kept = {k: v for k, v in os.environ.items() if not k.startswith("ANSIBLE_")}
        cwd = self.path / "empty"
        cwd.mkdir(exist_ok=True)
        return subprocess.run(
            command, cwd=cwd, env=kept | ansible, capture_output=True, text=True, check=False
        )

    def output(self, *command: str) -> str:
        done = self.run(*command)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def play(self, play: dict[str, object], *options: str) -> subprocess.CompletedProcess[str]:
        playbook = self.path / "playbook.yml"
        playbook.write_text(json.dumps([{"hosts": "localhost", "gather_facts": False, **play}]))
        return self.run("ansible-playbook", *options, str(playbook))


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    found = Elsewhere(tmp_path_factory.mktemp("elsewhere"))
    build = ("ansible-galaxy", "collection", "build")
    found.output(*build, "--output-path", str(found.path), str(REPOSITORY))
    install = ("ansible-galaxy", "collection", "install", "--offline")
    found.output(*install, "--collections-path", str(found.collections), str(found.tarball))
    return found


def test_the_tarball_has_what_the_roles_need_and_nothing_else(elsewhere):
    with tarfile.open(elsewhere.tarball) as tar:
        names = [Path(member.name) for member in tar if member.isfile()]
    assert {name.parts[0] for name in names} == PARTS
    inside = {str(name) for name in names if name.parts[0] == "containers"}
    assert inside == {"containers/__init__.py", "containers/engine.py"}
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
