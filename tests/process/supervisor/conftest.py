from collections.abc import Iterator
from pathlib import Path

import pytest

from ..machine import published_code
from .harness import Activated, Server


@pytest.fixture(scope="session")
def published() -> Iterator[Path]:
    """Our code, where every user can import it."""
    with published_code() as code:
        yield code


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A start_server that can be started, and is gone after the test."""
    one = Server(tmp_path)
    yield one
    one.clean_up()


@pytest.fixture
def activated(tmp_path: Path) -> Iterator[Activated]:
    """A start_server that is started as systemd does it, and is gone after the test."""
    one = Activated(tmp_path)
    yield one
    one.clean_up()
