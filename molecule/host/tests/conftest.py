"""Two machines that reach each other, and log-ins by ssh from the one to the other."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from containers import engine
from shared.inventory import Inventory
from shared.reach import network_address

KEYS = "/root/.ssh/authorized_keys"
NAMES = ("kechi-host-debian12", "kechi-host-debian13")


@pytest.fixture
def peer(host, node):
    """The other machine."""
    (name,) = set(NAMES) - {host.backend.name}
    return node(name)


@pytest.fixture(scope="session")
def both(node):
    return [node(name) for name in NAMES]


@pytest.fixture(scope="session")
def key(tmp_path_factory, node):
    """A private key's file; root takes the key on both machines."""
    path: Path = tmp_path_factory.mktemp("ssh") / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    public = path.with_suffix(".pub").read_text().strip()
    for name in NAMES:
        node(name).check_output(f"mkdir -pm 700 /root/.ssh && echo '{public}' >{KEYS}")
    return path


@pytest.fixture
def by_ssh(key, both):
    """Variables that have Ansible come by ssh, each time from the other machine."""
    command = " ".join(engine.plan().command)
    addresses = {name: network_address(host) for name, host in zip(NAMES, both, strict=True)}
    first, second = NAMES
    other = f"{{{{ '{first}' if inventory_hostname == '{second}' else '{second}' }}}}"
    return {
        "ansible_connection": "ssh",
        "ansible_host": f"{{{{ {addresses}[inventory_hostname] }}}}",
        "ansible_user": "root",
        "ansible_ssh_private_key_file": str(key),
        "ansible_ssh_common_args": "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null "
        f'-o ProxyCommand="{command} exec -i {other} nc %h %p"',
        "ansible_timeout": 10,
    }


@pytest.fixture
def inventory():
    """Runs the role on both machines at once, and brings them back."""
    folder = Path(os.environ["MOLECULE_SCENARIO_DIRECTORY"]).name
    changed = Inventory("containers", playbook=f"molecule/{folder}/converge.yml")
    yield changed
    changed.restore()
