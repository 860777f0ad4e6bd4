from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .harness import EXAMPLES, Sockets


@pytest.fixture
def sockets(tmp_path: Path) -> Iterator[Sockets]:
    with Sockets(tmp_path) as listeners:
        yield listeners


@pytest.fixture
def motd_pool(tmp_path: Path) -> Callable[..., Path]:
    def write(**settings: int) -> Path:
        path = tmp_path / "motd.toml"
        lines = "\n".join(f"{key} = {value}" for key, value in settings.items())
        path.write_text(
            f'[pool]\nname = "motd"\n{lines}\n'
            f'[[apps]]\nname = "motd"\nhosts = ["motd.test"]\ndirectory = "{EXAMPLES}/motd"\n'
            'wsgi = "motd:application"\n'
        )
        return path

    return write
