"""What differs between distributions, by facts recorded on them: handled, or refused."""

import ast
import re
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

from ansible_collections.kechi.vps.plugins.module_utils import distribution
from ansible_collections.kechi.vps.plugins.modules import machine_facts, ssh_facts, swap
from ansible_collections.kechi.vps.plugins.plugin_utils import open_ports

REPOSITORY = Path(__file__).resolve().parents[3]
OLDEST_OF_ANSIBLE = (3, 9)  # on a target, by ansible-core 2.20 and 2.21

BOOKWORM = 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nVERSION_ID="12"\nID=debian\n'
TESTING = 'PRETTY_NAME="Debian GNU/Linux forky/sid"\nVERSION_CODENAME=forky\nID=debian\n'
BULLSEYE = 'PRETTY_NAME="Debian GNU/Linux 11 (bullseye)"\nVERSION_ID="11"\nID=debian\n'
NOBLE = 'PRETTY_NAME="Ubuntu 24.04.3 LTS"\nVERSION_ID="24.04"\nID=ubuntu\nID_LIKE=debian\n'
JAMMY = 'PRETTY_NAME="Ubuntu 22.04.5 LTS"\nVERSION_ID="22.04"\nID=ubuntu\nID_LIKE=debian\n'
MINT = 'PRETTY_NAME="Linux Mint 22"\nVERSION_ID="22"\nID=linuxmint\nID_LIKE="ubuntu debian"\n'


def fault(os_release, *python):
    return distribution.fault(distribution.read(os_release), python)


@pytest.mark.parametrize(
    ("os_release", "python"),
    [(BOOKWORM, (3, 11, 2)), (TESTING, (3, 13, 9)), (NOBLE, (3, 12, 3)), (MINT, (3, 12, 3))],
)
def test_a_distribution_that_has_what_is_needed_is_taken(os_release, python):
    assert fault(os_release, *python) == ""


@pytest.mark.parametrize(
    ("os_release", "python", "name"),
    [
        (JAMMY, (3, 10, 12), "Ubuntu 22.04.5 LTS"),
        (JAMMY, (3, 12, 1), "Ubuntu 22.04.5 LTS"),  # its nginx is as old as before
        (BULLSEYE, (3, 9, 2), "Debian GNU/Linux 11 (bullseye)"),
    ],
)
def test_one_that_is_too_old_is_refused_whatever_python_was_added(os_release, python, name):
    assert fault(os_release, *python) == (
        f'this machine has "{name}", whose Python, systemd and nginx are too old for this'
        " collection; allowed: Debian 12 or newer, Ubuntu 24.04 or newer"
    )


@pytest.mark.parametrize(
    ("python", "words"), [((3, 10, 12), "is Python 3.10.12"), ((), "is not there")]
)
def test_a_python_that_start_server_could_not_run_by_is_refused(python, words):
    assert fault(MINT, *python) == (
        f'this machine has "Linux Mint 22", and /usr/bin/python3 {words}; allowed: 3.11 or newer'
    )


def test_an_os_release_is_read_as_its_man_page_has_it():
    text = "# a comment\n\nID=debian\nPRETTY_NAME='It''s \"one\"'\nBROKEN=\"no end\nnothing\n"
    assert distribution.read(text) == {"ID": "debian", "PRETTY_NAME": 'Its "one"'}
    assert distribution.fault({}, (3, 11)) == ""
    assert distribution.fault({"ID": "debian", "VERSION_ID": "none"}, (3, 11)) == ""


class Module:
    """Stands in for Ansible's on a machine with another Python than its own."""

    def __init__(self, said="3 12 3\n"):
        self.said = said
        self.warnings: list[str] = []
        self.run_commands: list[list[str]] = []
        self.warn = self.warnings.append

    def run_command(self, words):
        self.run_commands.append(words)
        return 0, self.said, ""

    def fail_json(self, msg):
        raise SystemExit(msg)


@pytest.fixture
def on(tmp_path, monkeypatch):
    """A module on a distribution whose /usr/bin/python3 is not what runs this."""

    def on(os_release, said="3 12 3\n"):
        (tmp_path / "os-release").write_text(os_release)
        (tmp_path / "python3").write_text("")
        monkeypatch.setattr(distribution, "OS_RELEASE", str(tmp_path / "os-release"))
        monkeypatch.setattr(distribution, "PYTHON", str(tmp_path / "python3"))
        return Module(said)

    return on


def test_a_machine_that_is_too_old_is_refused_before_anything_is_looked_at(on, monkeypatch):
    module = on(JAMMY, "3 10 12\n")
    monkeypatch.setattr(machine_facts, "AnsibleModule", lambda **_options: module)
    with pytest.raises(SystemExit, match=r'Nothing was changed: this machine has "Ubuntu 22\.04'):
        machine_facts.main()
    assert [words[1:] for words in module.run_commands] == [
        ["-ISc", "import sys; print(*sys.version_info[:3])"]
    ]


def test_a_distribution_that_nobody_has_tried_is_warned_of_and_others_are_not(on):
    module = on(MINT)
    assert machine_facts.require_distribution(module) == "linuxmint"
    assert module.warnings == [
        'this machine has "Linux Mint 22": allowed: Debian 12 or newer, Ubuntu 24.04 or newer; on'
        " others nobody has tried"
    ]
    module = on(NOBLE)
    assert machine_facts.require_distribution(module) == "ubuntu"
    assert module.warnings == []


def test_the_python_that_runs_this_is_not_started_to_be_asked(monkeypatch):
    monkeypatch.setattr(distribution, "PYTHON", sys.executable)
    module = Module()
    assert machine_facts.python_version(module) == sys.version_info[:3]
    assert module.run_commands == []


def test_a_machine_without_a_python_of_its_own_is_told_so(tmp_path, monkeypatch):
    monkeypatch.setattr(distribution, "PYTHON", str(tmp_path / "none"))
    assert machine_facts.python_version(Module("")) == ()


def test_the_first_look_at_a_machine_can_be_read_by_the_oldest_python_that_ansible_takes():
    plugins = REPOSITORY / "plugins"
    seen, left = set(), [plugins / "modules" / "machine_facts.py"]
    while left:
        path = left.pop()
        tree = ast.parse(path.read_text(), feature_version=OLDEST_OF_ANSIBLE)
        seen.add(path.name)
        names = [
            name.name
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and node.level
            for name in node.names
        ]
        found = (plugins / "module_utils" / f"{name}.py" for name in names)
        left += [path for path in found if path.name not in seen and path.is_file()]
    assert {"machine_facts.py", "distribution.py", "dpkg.py", "release_sets.py"} <= seen


def variable(role, name, **known):
    """A computed variable of a role, as Ansible gives it."""
    values = yaml.safe_load((REPOSITORY / "roles" / role / "vars/main.yml").read_text())
    templar = Templar(loader=DataLoader(), variables=known)
    return templar.template(trust_as_template(str(values[name])))


@pytest.mark.parametrize(
    ("version", "is_directive"),
    [
        ("1.22.1-9+deb12u3", False),
        ("1.24.0-2ubuntu7.5", False),  # Ubuntu 24.04
        ("1.26.3-3+deb13u1", True),
        ("1.28.0-6ubuntu1", True),
    ],
)
def test_http2_is_switched_on_in_the_way_that_the_machines_nginx_knows(version, is_directive):
    found = {"versions": {"nginx": version}, "changed": False}
    said = variable("frontend", "_frontend_http2_directive", __frontend_packages=found)
    assert str(said) == str(is_directive)


def release(origin, suite, codename, label):
    """What the Release file of an archive says."""
    return {"origin": origin, "suite": suite, "codename": codename, "label": label}


def security_updates(identity):
    """The configuration of unattended-upgrades for a distribution."""
    template = (REPOSITORY / "roles/host/templates/security_updates.j2").read_text()
    known = {
        "_host_machine": {"distribution": identity},
        "host_security_updates_reboot": False,
        "host_security_updates_reboot_time": "04:00",
    }
    return str(Templar(loader=DataLoader(), variables=known).template(trust_as_template(template)))


@pytest.mark.parametrize(
    ("identity", "origins"),
    [("debian", {"Debian"}), ("ubuntu", {"Ubuntu", "UbuntuESMApps", "UbuntuESM"}),
     ("linuxmint", {"Debian", "Ubuntu", "UbuntuESMApps", "UbuntuESM"})],
)  # fmt: skip
def test_each_distribution_is_told_of_its_own_archives_alone(identity, origins):
    assert set(re.findall(r'"origin=(\w+),', security_updates(identity))) == origins


@pytest.mark.parametrize(
    ("codename", "archive", "wanted"),
    [
        ("bookworm", release("Debian", "oldstable-security", "bookworm-security",
                             "Debian-Security"), True),
        ("bookworm", release("Debian", "oldstable", "bookworm", "Debian"), False),
        ("bookworm", release("Debian", "oldstable-updates", "bookworm-updates", "Debian"), False),
        ("bookworm", release("Docker", "bookworm", "bookworm", "Docker CE"), False),
        ("noble", release("Ubuntu", "noble-security", "noble", "Ubuntu"), True),
        ("noble", release("UbuntuESMApps", "noble-apps-security", "noble", "UbuntuESMApps"), True),
        ("noble", release("UbuntuESM", "noble-infra-security", "noble", "UbuntuESM"), True),
        ("noble", release("Ubuntu", "noble", "noble", "Ubuntu"), False),
        ("noble", release("Ubuntu", "noble-updates", "noble", "Ubuntu"), False),
        ("noble", release("Ubuntu", "noble-backports", "noble", "Ubuntu"), False),
        ("noble", release("Ubuntu", "jammy-security", "jammy", "Ubuntu"), False),
        ("noble", release("LP-PPA-someone-nginx", "noble", "noble", "PPA"), False),
    ],
)  # fmt: skip
def test_security_updates_come_from_the_security_archives_of_the_release_alone(
    codename, archive, wanted
):
    text = security_updates("ubuntu" if codename == "noble" else "debian")
    block = text.partition("Unattended-Upgrade::Origins-Pattern {")[2].partition("};")[0]
    patterns = re.findall(r'^\s*"(.*)";$', block, re.MULTILINE)
    assert patterns
    matching = [
        pattern
        for pattern in patterns
        if all(
            fnmatch(archive[key], value.replace("${distro_codename}", codename))
            for key, value in (part.split("=") for part in pattern.split(","))
        )
    ]
    assert bool(matching) is wanted


# Ubuntu 24.04 before anybody has logged in, and after: sshd is started by its socket
BEFORE = 'tcp LISTEN 0 4096 *:22 *:* users:(("systemd",pid=1,fd=178))\n'
AFTER = 'tcp LISTEN 0 4096 *:22 *:* users:(("sshd",pid=1142,fd=3),("systemd",pid=1,fd=178))\n'
SSH_SOCKET = "Id=ssh.socket\nListen=[::]:22 (Stream)\nActiveState=active\nUnitFileState=enabled\n"


@pytest.mark.parametrize("sockets", [BEFORE, AFTER], ids=["before a login", "after it"])
def test_where_systemd_listens_for_sshd_its_port_stays_open(sockets):
    listening = ssh_facts.listening(sockets)
    ports = ssh_facts.listening_ports(listening) | ssh_facts.socket_unit_ports(SSH_SOCKET)
    assert ports == {22}
    assert open_ports.closed(listening, ports, [80], []) == []


@pytest.mark.parametrize(
    ("text", "enabled"),
    [
        ("# /etc/ufw/ufw.conf\n\nENABLED=yes\nLOGLEVEL=low\n", True),
        ('ENABLED="yes"\n', True),
        ("# set to yes\nENABLED=no\nLOGLEVEL=low\n", False),
        ("#ENABLED=yes\n", False),
        ("", False),
    ],
)
def test_an_enabled_ufw_is_seen(tmp_path, text, enabled):
    (tmp_path / "ufw.conf").write_text(text)
    assert machine_facts.ufw(tmp_path / "ufw.conf") is enabled
    assert machine_facts.ufw(tmp_path / "none") is False


def test_a_kernel_without_zram_is_told_with_the_package_that_ubuntu_has_it_in():
    assert swap.no_zram("6.8.0-87-generic") == (
        "the running kernel, 6.8.0-87-generic, has no module zram; Ubuntu's is in the package"
        " linux-modules-extra-6.8.0-87-generic"
    )


# as needrestart reads its further files, and asks what they say of a unit
ASK = """
use strict; our %nrconf = (override_rc => { qr(^getty@.+\\.service$) => 0 });
my ($file, $unit) = @ARGV;
eval do { local (@ARGV, $/) = $file; <> }; die $@ if $@;
for my $re (keys %{$nrconf{override_rc}}) { print $nrconf{override_rc}{$re} if $unit =~ /$re/ }
"""


@pytest.mark.parametrize(("unit", "said"), [("kechi@main.service", "0"), ("nginx.service", "")])
def test_needrestart_leaves_pools_alone_and_nothing_else(tmp_path, unit, said):
    values = yaml.safe_load((REPOSITORY / "roles/supervisor/vars/main.yml").read_text())
    (file,) = values["_supervisor_needrestart_files"]
    (tmp_path / "kechi.conf").write_text(file["content"])
    words = ["perl", "-e", ASK, tmp_path / "kechi.conf", unit]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout == said


@pytest.mark.parametrize(("packages", "written"), [({"needrestart": "3.6"}, True), ({}, False)])
def test_needrestart_is_told_where_it_is_installed(packages, written):
    tasks = yaml.safe_load((REPOSITORY / "roles/supervisor/tasks/main.yml").read_text())
    (files,) = [task["kechi.vps.files"]["files"] for task in tasks if "kechi.vps.files" in task]
    values = {
        "_supervisor_files": [],
        "_supervisor_environment_files": [],
        "_supervisor_needrestart_files": [{"path": "/etc/needrestart/conf.d/kechi.conf"}],
        "supervisor_kill_old_delay_seconds": None,
        "_supervisor_machine": SimpleNamespace(packages=packages).__dict__,
    }
    found = Templar(loader=DataLoader(), variables=values).template(trust_as_template(files))
    assert bool(found) is written
