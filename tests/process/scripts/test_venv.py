"""What `make setup` makes."""

import subprocess
import sys
from pathlib import Path

from scripts.running import REPOSITORY


def test_molecule_finds_ansible_where_no_virtualenv_is_activated() -> None:
    molecule = Path(sys.executable).with_name("molecule")
    done = subprocess.run(
        [molecule, "matrix", "--scenario-name=node", "test"],
        cwd=REPOSITORY,
        env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "converge" in done.stdout
    wrong = subprocess.run(
        [molecule, "no-such-command"], cwd=REPOSITORY, capture_output=True, check=False
    )
    assert wrong.returncode != 0, "its exit code is what make judges it by"
