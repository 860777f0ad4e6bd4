from collections.abc import Iterator
from pathlib import Path

import pytest

from .harness import Server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A start_server that can be started, and is gone after the test."""
    one = Server(tmp_path)
    yield one
    one.clean_up()
