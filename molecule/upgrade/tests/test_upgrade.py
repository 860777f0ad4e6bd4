"""A new version of the super-daemon, by site.yml: in its place, with its generations going on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from harness.load import load
from shared.inventory import REPOSITORY, Inventory
from shared.targets import POOLS, SOCKETS, TARGETS
from shared.vps import Vps

NEEDED = (
    ".config/collections",
    "ansible.cfg",
    "containers",  # the connection plugin is made of it
    "galaxy.yml",
    "meta",
    "playbooks",
    "plugins",
    "roles",
    "supervisor_py",
)


class Copy:
    """Another version of this repository, which site.yml can be run from."""

    def __init__(self, path: Path) -> None:
        self.path = path
        for name in NEEDED:
            source, target = REPOSITORY / name, path / name
            if source.is_dir():
                shutil.copytree(source, target, symlinks=True)
            else:
                shutil.copy(source, target)

    def change(self, file: str, old: str, new: str) -> None:
        """Change a text in a file, once."""
        path = self.path / file
        text = path.read_text(encoding="utf-8")
        assert text.count(old) == 1, f"{old!r} in {file}"
        path.write_text(text.replace(old, new), encoding="utf-8")


@pytest.fixture
def copy(tmp_path):
    return Copy(tmp_path / "copy")


@pytest.fixture
def inventory(host):
    return Inventory(host.backend.name)


def _version(vps: Vps, pool: str) -> str:
    """The version that runs, which need not be the one that is installed."""
    control = f"--control-socket=/run/kechi-{pool}/control"
    text = vps.host.check_output(f"/usr/local/bin/start_server --status --json {control}")
    return str(json.loads(text)["version"])


def test_a_new_version_of_the_super_daemon_takes_its_place_and_loses_no_request(
    vps, inventory, copy, proof
):
    before = {pool: vps.state(pool) for pool in POOLS}
    copy.change("supervisor_py/__init__.py", '__version__ = "', '__version__ = "9.')
    with proof.load(vps, TARGETS, sockets=SOCKETS, pools=POOLS) as watch:
        watch.event("site.yml of another version")
        inventory.of(copy.path).apply()
    assert all(_version(vps, pool).startswith("9.") for pool in POOLS)
    assert vps.state("clock") == before["clock"]
    # The vhost server is of the same package, so that pool gets a new generation as well.
    super_daemon, generation = before["main"]
    assert vps.state("main") == (super_daemon, generation + 1)


def test_a_new_version_that_does_not_run_is_refused_with_the_reason_and_the_old_one_goes_on(
    vps, host, inventory, copy
):
    before = {pool: (vps.state(pool), _version(vps, pool)) for pool in POOLS}
    installed = host.check_output("readlink /usr/local/lib/kechi/current")
    copy.change("supervisor_py/loop.py", "import errno\n", "import errno, nonsense\n")
    with load(vps.address, TARGETS) as report:
        output = inventory.of(copy.path).refuse()
    assert report.failures == [], str(report)
    assert "No module named 'nonsense'" in output
    assert {pool: (vps.state(pool), _version(vps, pool)) for pool in POOLS} == before
    assert host.check_output("readlink /usr/local/lib/kechi/current") == installed
