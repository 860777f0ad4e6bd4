"""What holds for all tests that need no container."""

import os
import shutil
import signal
import stat
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

# characters of what comes before pytest's own 42 in a test's directory: with the name of
# a socket in it, that has to fit into the 107 of an address
_LONGEST = 38
_PREFIX = "kechi-tests-"
_RANDOM = 8  # characters that mkdtemp adds
_OWN = pytest.StashKey[str]()


def pytest_configure(config: pytest.Config) -> None:
    """Give the tests a directory that no other pytest of this user takes from other users again.

    Each that begins does so with /tmp/pytest-of-USER, and the tests of strangers go through it.
    """
    if config.option.basetemp or hasattr(config, "workerinput"):
        return
    folder = Path(tempfile.gettempdir())
    too_long = len(os.fsencode(f"{folder}/{_PREFIX}")) + _RANDOM > _LONGEST
    if too_long or not all(_others_may_enter(one) for one in (folder, *folder.parents)):
        folder = Path("/tmp")
    config.option.basetemp = config.stash[_OWN] = tempfile.mkdtemp(prefix=_PREFIX, dir=folder)
    Path(config.option.basetemp).chmod(0o711)


def _others_may_enter(folder: Path) -> bool:
    return bool(folder.stat().st_mode & stat.S_IXOTH)


@pytest.fixture
def tmp_path_of_all(tmp_path: Path) -> Path:
    """`tmp_path`, where every user may go through, whatever the umask."""
    for folder in (tmp_path, *tmp_path.parents):
        if _others_may_enter(folder):
            break
        folder.chmod(folder.stat().st_mode | 0o111)
    return tmp_path


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Remove it, unless somebody may want to look."""
    if exitstatus == pytest.ExitCode.OK and _OWN in session.config.stash:
        shutil.rmtree(session.config.stash[_OWN], ignore_errors=True)
