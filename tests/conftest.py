"""What holds for all tests that need no container."""

import getpass
import os
import shutil
import signal
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# a shell's background job has them ignored, and so would every process that a test starts
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGQUIT, signal.SIG_DFL)

# a busy machine is slow: no failure, whatever Hypothesis thinks of it
settings.register_profile("anywhere", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("anywhere")

# characters of what comes before pytest's own 52 in the path of a test's directory: with the name
# of a socket in it, that has to fit into the 107 of an address
_LONGEST = 28
_OWN = pytest.StashKey[str]()


def pytest_configure(config: pytest.Config) -> None:
    """Give tests short directories where TMPDIR or the name of the user is long."""
    if config.option.basetemp or hasattr(config, "workerinput"):
        return
    usual = Path(tempfile.gettempdir(), f"pytest-of-{getpass.getuser()}")
    if len(os.fsencode(usual)) > _LONGEST:
        config.option.basetemp = config.stash[_OWN] = tempfile.mkdtemp(prefix="kechi-", dir="/tmp")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove them."""
    if _OWN in config.stash:
        shutil.rmtree(config.stash[_OWN], ignore_errors=True)
