"""Give every scenario's tests their hosts, and a failing one the story of its machine."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Generator

import pytest
import testinfra
from testinfra.host import Host

from containers import engine
from containers.machines import Machines

# what tells why a machine misbehaves
STORY = (
    "systemctl list-units --all --failed --no-pager --plain --no-legend",
    "systemctl status --no-pager --lines=0 'kechi*' nginx.service",
    "journalctl --no-pager --quiet --lines=80 --unit='kechi*' --unit=nginx.service",
)


def _names() -> list[str]:
    inventory = f"{os.environ['MOLECULE_SCENARIO_DIRECTORY']}/inventory/"
    command = ["ansible", f"--inventory={inventory}", "containers", "--list-hosts"]
    listed = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return [line.strip() for line in listed.stdout.splitlines()[1:]]


def pytest_configure(config: pytest.Config) -> None:
    """Point testinfra's `host` fixture at the containers of the scenario's inventory."""
    chosen = engine.choose(os.environ, shutil.which)
    config.option.hosts = ",".join(f"{chosen}://{name}" for name in _names())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the units' state and journal to the report of a failed test."""
    report = yield
    host = getattr(item, "funcargs", {}).get("host")
    if report.failed and host is not None:
        for command in STORY:
            report.sections.append((command, host.run(command).stdout))
    return report


@pytest.fixture(scope="session")
def node() -> Callable[[str], Host]:
    """Look another machine up by name, for tests that need several."""
    chosen = engine.choose(os.environ, shutil.which)
    return lambda name: testinfra.get_host(f"{chosen}://{name}")


@pytest.fixture(scope="session")
def address() -> Callable[..., str]:
    """Say where this machine reaches a host's nginx, at port 80 or another, as HOST:PORT."""
    machines = Machines(engine.plan())
    return lambda host, *port: machines.address(host.backend.name, *port)
