"""Directories as on a target: an app's in root's, and files of others that it is not to reach."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from .attacker import OTHER, UID

SECRET = "root's own secret\n"


@dataclass(frozen=True)
class Machine:
    """An app's directory with `shared` in it, and what belongs to root and to a neighbour."""

    app: Path
    shared: Path
    victim: Path  # a directory of root's with a file `secret`
    neighbour: Path  # a neighbour's directory with a directory `thumbs`

    def state(self) -> list[tuple[str, int, int, int, bytes]]:
        """What must stay as it is: owner, group, mode and content."""
        found = []
        for top in (self.victim, self.neighbour):
            for path in sorted((top, *top.rglob("*"))):
                info = path.lstat()
                content = path.read_bytes() if path.is_file() else b""
                found.append((str(path), info.st_uid, info.st_gid, info.st_mode, content))
        return found


@pytest.fixture
def machine(tmp_path_of_all):
    if os.geteuid() != 0:
        pytest.skip("only root can be tricked into what root may do")
    tmp_path = tmp_path_of_all  # an app gets through to its own
    made = Machine(tmp_path / "app", tmp_path / "app/shared", tmp_path / "etc", tmp_path / "next")
    made.shared.mkdir(parents=True)
    os.chown(made.shared, UID, UID)
    made.victim.mkdir()
    (made.victim / "secret").write_text(SECRET)
    (made.victim / "secret").chmod(0o600)
    (made.neighbour / "thumbs").mkdir(parents=True)
    (made.neighbour / "thumbs").chmod(0o700)
    for path in (made.app, made.shared, made.victim, made.neighbour):
        path.chmod(0o755)  # whatever the umask
    for path in (made.neighbour, made.neighbour / "thumbs"):
        os.chown(path, OTHER, OTHER)
    before = made.state()
    yield made
    # pytest's own way to remove what is left would not get to the end of some of it
    subprocess.run(["rm", "-rf", str(tmp_path / "backups"), str(made.app)], check=True)
    assert made.state() == before, "what is not the app's has been touched"
