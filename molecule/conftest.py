"""Give every scenario's tests their hosts, and a failing one the story of its machine."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Generator
from pathlib import Path

import pytest
import testinfra
from testinfra.host import Host

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))  # molecule starts pytest in the scenario's directory

from harness import results, store  # noqa: E402
from harness.results import Suite  # noqa: E402
from shared import backend, reach  # noqa: E402
from shared.proof import Proof  # noqa: E402
from shared.vps import Vps  # noqa: E402

REPORTS = REPOSITORY / "reports"
FAILURE_CHARACTERS = 2000
FAILURE = pytest.StashKey[str]()
OUTCOMES = pytest.StashKey[dict[str, str]]()
BEGAN = pytest.StashKey[float]()
MACHINES = pytest.StashKey[dict[str, str]]()

# what tells why a machine misbehaves
STORY = (
    "systemctl list-units --all --failed --no-pager --plain --no-legend",
    "systemctl status --no-pager --lines=0 'kechi*' nginx.service",
    "journalctl --no-pager --quiet --lines=80 --unit='kechi*' --unit=nginx.service",
)


def pytest_configure(config: pytest.Config) -> None:
    """Point testinfra's `host` fixture at the machines of the scenario's inventory."""
    backend.register()
    config.stash[MACHINES] = {
        name: reach.specification(name, group) for name, group in reach.listed().items()
    }
    config.option.hosts = ",".join(config.stash[MACHINES].values())
    config.stash[OUTCOMES] = {}
    config.stash[BEGAN] = time.time()


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Note how the scenario's tests have ended, for the index of reports."""
    if session.config.option.collectonly:
        return
    outcomes = session.config.stash[OUTCOMES]
    began, ended = session.config.stash[BEGAN], time.time()
    scenario = os.environ["MOLECULE_SCENARIO_NAME"]
    over = exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
    trouble = (
        "" if over else f"pytest ended before its tests did: {pytest.ExitCode(exitstatus).name}"
    )
    store.write_suite(REPORTS, Suite(scenario, ended, outcomes, ended - began, trouble))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the units' state and journal to the report of a failed test."""
    report = yield
    outcomes = item.config.stash[OUTCOMES]
    if report.when == "call" or report.outcome != "passed":
        results.note(outcomes, item.name, report.outcome)
    if report.failed and call.excinfo is not None:
        said = str(call.excinfo.value) or call.excinfo.typename  # never nothing: it has failed
        item.stash[FAILURE] = said[:FAILURE_CHARACTERS]
    host = getattr(item, "funcargs", {}).get("host")
    if report.failed and host is not None:
        for command in STORY:
            try:
                told = host.run(command).stdout
            except RuntimeError as error:  # a virtual machine is not reached
                told = str(error)
            report.sections.append((command, told))
    return report


@pytest.fixture(scope="session")
def node(pytestconfig: pytest.Config) -> Callable[[str], Host]:
    """Look another machine up by name, for tests that need several."""
    return lambda name: testinfra.get_host(pytestconfig.stash[MACHINES][name])


@pytest.fixture(scope="session")
def address() -> Callable[..., str]:
    """Say where this machine reaches a host's nginx, at port 80 or another, as HOST:PORT."""
    return lambda host, *port: reach.machines(host).address(reach.name(host), *port)


@pytest.fixture
def vps(host: Host, address: Callable[..., str]) -> Vps:
    """Ask the machine that the test runs on."""
    return Vps(host, address(host))


@pytest.fixture
def proof(request: pytest.FixtureRequest, host: Host) -> Generator[Proof]:
    """Load a machine, and leave a report when the test has ended, failed or not."""
    test = request.node.originalname
    scenario, machine = os.environ["MOLECULE_SCENARIO_NAME"], reach.name(host)
    name = re.sub(r"[^\w.-]", "_", f"{scenario}.{machine}.{test}")
    proof = Proof(name, test.removeprefix("test_").replace("_", " "), REPORTS)
    yield proof
    print(f"report: {proof.write(request.node.stash.get(FAILURE, ''))}")
