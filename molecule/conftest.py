"""Give every scenario's tests their hosts, and a failing one the story of its machine."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from pathlib import Path

import pytest
import testinfra
from testinfra.host import Host

from containers import engine
from containers.machines import Machines

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))  # molecule starts pytest in the scenario's directory

from harness import store  # noqa: E402
from harness.results import Suite  # noqa: E402
from shared.proof import Proof  # noqa: E402
from shared.vps import Vps  # noqa: E402

REPORTS = REPOSITORY / "reports"
FAILURE_CHARACTERS = 2000
FAILURE = pytest.StashKey[str]()
OUTCOMES = pytest.StashKey[dict[str, str]]()
BEGAN = pytest.StashKey[float]()

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
    config.stash[OUTCOMES] = {}
    config.stash[BEGAN] = time.time()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Note how the scenario's tests have ended, for the index of reports."""
    outcomes = session.config.stash[OUTCOMES]
    if outcomes:
        began, ended = session.config.stash[BEGAN], time.time()
        scenario = os.environ["MOLECULE_SCENARIO_NAME"]
        store.write_suite(REPORTS, Suite(scenario, ended, outcomes, ended - began))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the units' state and journal to the report of a failed test."""
    report = yield
    outcomes = item.config.stash[OUTCOMES]
    if report.when == "call" or report.outcome != "passed":
        outcomes[item.name] = report.outcome
    if report.failed and call.excinfo is not None:
        item.stash[FAILURE] = str(call.excinfo.value)[:FAILURE_CHARACTERS]
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


@pytest.fixture
def vps(host: Host, address: Callable[..., str]) -> Vps:
    """Ask the machine that the test runs on."""
    return Vps(host, address(host))


@pytest.fixture
def proof(request: pytest.FixtureRequest, host: Host) -> Generator[Proof]:
    """Load a machine, and leave a report when the test has ended, failed or not."""
    test = request.node.originalname
    scenario, machine = os.environ["MOLECULE_SCENARIO_NAME"], host.backend.name
    name = re.sub(r"[^\w.-]", "_", f"{scenario}.{machine}.{test}")
    proof = Proof(name, test.removeprefix("test_").replace("_", " "), REPORTS)
    yield proof
    print(f"report: {proof.write(request.node.stash.get(FAILURE, ''))}")
