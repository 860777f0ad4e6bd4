"""Files beside an inventory that Ansible takes for hosts: found by Ansible itself, never shown."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[3]
EXAMPLE = REPOSITORY / "inventory" / "example"
SECRET = "1RrP7T-no-host"
LIST = "--list-hosts"
GROUPED = {"vps": {"hosts": {"vps1": {"ansible_connection": "local"}}}}


@pytest.fixture
def inventory(tmp_path):
    """An inventory's directory with one machine in a group, and more files."""

    def write(**files):
        folder = tmp_path / "mine"
        folder.mkdir()
        (folder / "hosts.yml").write_text(yaml.safe_dump(GROUPED))
        for name, text in files.items():
            path = folder / name.replace("__", "/").replace("DOT", ".")
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        return folder

    return write


def playbook(*options):
    """Run a playbook that is to be refused, or to say which hosts it would work on."""
    done = subprocess.run(
        [Path(sys.executable).with_name("ansible-playbook"), *options, "playbooks/site.yml"],
        cwd=REPOSITORY, capture_output=True, text=True, check=False,
        env={**os.environ, "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg")},
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def words(text):
    return " ".join(text.split())


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"DOTsecrets__notes": SECRET, "DOTsecrets__multi": "a secret\nof lines\n"},
        {"host_vars__vps1DOTyml": "secret: 1", "group_vars__allDOTyml": "secret: 2"},
        {"hostsDOTymlDOTbak": SECRET, "secret~": SECRET},
    ],
    ids=["nothing", "secrets", "variables", "backup copies"],
)
def test_an_inventory_whose_other_files_ansible_skips_is_used(inventory, files):
    code, said = playbook(f"--inventory={inventory(**files)}", LIST)
    assert code == 0, said
    assert "hosts (1)" in said
    assert SECRET not in said


@pytest.mark.parametrize("limit", [[], ["--limit=!vps2"]])
def test_secrets_of_an_earlier_copy_are_refused_with_what_to_move(inventory, limit):
    folder = inventory(secrets__notes=SECRET, secrets__multi="first line\nsecond line\n")
    code, said = playbook(f"--inventory={folder}", *limit)
    assert code != 0
    assert f"mv {folder}/secrets {folder}/.secrets && sed -i" in words(said)
    assert SECRET not in said
    assert "of no group" not in said, "one thing to do"


def test_the_command_that_is_told_moves_secrets_and_what_refers_to_them(inventory):
    folder = inventory(
        secrets__notes=SECRET,
        host_vars__vps1DOTyml="a: \"{{ lookup('file', inventory_dir ~ '/secrets/notes') }}\"\n",
    )
    _, said = playbook(f"--inventory={folder}")
    told = words(said).partition("to them: ")[2].partition(".yml")[0] + ".yml"
    subprocess.run(told, shell=True, check=True)
    assert (folder / ".secrets" / "notes").read_text() == SECRET
    assert "'/.secrets/notes'" in (folder / "host_vars" / "vps1.yml").read_text()
    assert playbook(f"--inventory={folder}", LIST)[0] == 0


def test_a_file_that_is_taken_for_hosts_is_named_and_they_are_not(inventory):
    folder = inventory(README=f"{SECRET}\n{SECRET}2\n")
    code, said = playbook(f"--inventory={folder}", "--limit=!vps2")
    assert code != 0
    assert f"{folder}/README: 2 hosts of no group" in words(said)
    assert SECRET not in said


@pytest.mark.parametrize("path", sorted(REPOSITORY.glob("playbooks/*.yml")), ids=lambda p: p.name)
def test_each_playbook_begins_with_that_look(path):
    first, *_ = yaml.safe_load(path.read_text())
    assert first["hosts"] == "{{ groups | kechi.vps.declared_hosts(ansible_inventory_sources) }}"


def test_each_of_several_inventories_is_looked_at(inventory, tmp_path):
    folder = inventory()
    other = tmp_path / "other"
    other.mkdir()
    (other / "token").write_text(SECRET)
    code, said = playbook(f"--inventory={folder}", f"--inventory={other}")
    assert code != 0
    assert f"{other}/token: 1 host of no group" in words(said)
    assert playbook(f"--inventory={folder}/hosts.yml", LIST)[0] == 0


def test_the_example_keeps_its_secrets_where_ansible_does_not_look():
    text = (EXAMPLE / "host_vars" / "vps1.yml").read_text()
    assert text.count("inventory_dir ~ '/.secrets/") == 3
    assert "'/secrets/" not in text
    assert playbook(f"--inventory={EXAMPLE}", LIST)[0] == 0
