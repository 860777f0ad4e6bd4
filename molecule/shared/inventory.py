"""The scenario's inventory, changed for one run of site.yml."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).resolve().parents[2]


class Inventory:
    """Runs site.yml, or its parts of some tags, on one machine with some variables changed."""

    def __init__(self, machine: str, *tags: str, playbook: str = "playbooks/site.yml") -> None:
        self.machine = machine
        self.playbook = playbook
        self._tags = tags
        self._changed = False
        self._repository = REPOSITORY
        self.path = Path(os.environ["MOLECULE_SCENARIO_DIRECTORY"]) / "inventory"

    @cached_property
    def variables(self) -> dict[str, Any]:
        """The variables of all its machines, a copy to change."""
        text = (self.path / "group_vars" / "all.yml").read_text(encoding="utf-8")
        variables: dict[str, Any] = yaml.safe_load(text)
        return variables

    def of(self, repository: Path) -> Inventory:
        """The same, but by the site.yml of another copy of this repository."""
        self._changed = True  # restored it is by our own
        other = Inventory(self.machine, *self._tags, playbook=self.playbook)
        other._repository = repository
        return other

    def apply(self, **changes: object) -> str:
        """Run site.yml, and return what it said; raises AssertionError with that if it fails."""
        self._changed = True
        done = self._run(changes)
        assert done.returncode == 0, done.stdout + done.stderr
        self._changed = bool(changes)
        return done.stdout + done.stderr

    def restore(self) -> None:
        """Bring the machine back to what the scenario's inventory says, where a test changed it."""
        if self._changed:
            self.apply()

    def refuse(self, **changes: object) -> str:
        """Run site.yml, expect that it fails, and return what it said."""
        done = self._run(changes)
        assert done.returncode != 0, f"was not refused:\n{done.stdout}"
        return done.stdout + done.stderr

    def play(self, playbook: str, *arguments: str) -> str:
        """Run another playbook than site.yml; raises AssertionError with its output if it fails."""
        done = self._play(f"playbooks/{playbook}", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def refuse_play(self, playbook: str, *arguments: str) -> str:
        """Run another playbook, expect that it fails, and return what it said."""
        done = self._play(f"playbooks/{playbook}", *arguments)
        assert done.returncode != 0, f"was not refused:\n{done.stdout}"
        return done.stdout + done.stderr

    def _run(self, changes: dict[str, object]) -> subprocess.CompletedProcess[str]:
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump(changes, file)
            file.flush()
            tags = [f"--tags={tag}" for tag in self._tags]
            return self._play(self.playbook, f"--extra-vars=@{file.name}", *tags)

    def _play(self, playbook: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [
                "ansible-playbook",
                f"--inventory={self.path}/",
                f"--limit={self.machine}",
                *arguments,
                playbook,
            ],
            cwd=self._repository,
            env={**os.environ, "ANSIBLE_CONFIG": str(self._repository / "ansible.cfg")},
            capture_output=True,
            text=True,
            check=False,
        )
