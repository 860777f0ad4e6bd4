"""What the machine that tests run on has, and what they make on it for other users."""

import contextlib
import shutil
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:  # switched off, in one way or another
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not _has_ipv6(), reason="this machine has no IPv6")


def _others_may_enter(folder: Path) -> bool:
    return all(one.stat().st_mode & stat.S_IXOTH for one in (folder, *folder.parents))


@contextlib.contextmanager
def folder_for_others() -> Iterator[Path]:
    """A directory that every user may enter and read; pytest's own are for who runs it."""
    places = [Path(place) for place in ("/tmp", "/var/tmp", tempfile.gettempdir())]
    place = next(one for one in places if one.is_dir() and _others_may_enter(one))
    folder = Path(tempfile.mkdtemp(dir=place))
    try:
        folder.chmod(0o755)
        yield folder
    finally:
        shutil.rmtree(folder)


@contextlib.contextmanager
def published_code() -> Iterator[Path]:
    """Our package where every user can import it: the checkout may be root's alone."""
    with folder_for_others() as folder:
        left = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / "supervisor_py", folder / "supervisor_py", ignore=left)
        for path in folder.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)
        yield folder
