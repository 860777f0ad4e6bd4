"""The scenario's inventory, changed for one run of a playbook."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
SITES = Path(__file__).with_name("sites")
# one that the sites don't have, to be added by a test
NEW_APP: dict[str, Any] = {
    "name": "second",
    "hosts": ["second.example"],
    "source": "../../shared/apps/greeter",
    "wsgi": "greeter:application",
    "environment": {"GREETER_SHARED": "/srv/www/second/shared"},
}


class Inventory:
    """Runs playbooks, or their parts of some tags, with some variables of the inventory changed."""

    def __init__(self, machine: str, *tags: str, playbook: str = "playbooks/site.yml") -> None:
        self.machine = machine
        self._playbook = playbook
        self._tags = tags
        self._changed = False
        self._repository = REPOSITORY
        own = Path(os.environ["MOLECULE_SCENARIO_DIRECTORY"]) / "inventory"
        # as in molecule's base config; the later one wins
        self._sources = (SITES, own)
        self.options = [f"--inventory={source}" for source in self._sources]

    @cached_property
    def variables(self) -> dict[str, Any]:
        """The variables of all its machines, a copy to change."""
        variables: dict[str, Any] = {}
        for file in (source / "group_vars" / "all.yml" for source in self._sources):
            if file.exists():
                variables |= yaml.safe_load(file.read_text(encoding="utf-8"))
        return variables

    def of(self, repository: Path) -> Inventory:
        """The same, but by the site.yml of another copy of this repository."""
        self._changed = True  # restored it is by our own
        other = Inventory(self.machine, *self._tags, playbook=self._playbook)
        other._repository = repository
        return other

    def apply(self, *, playbook: str = "", check: bool = False, **changes: object) -> str:
        """Run a playbook, return what it said; raises AssertionError with that where it fails.

        With `check` it only says what it would change, and how.
        """
        self._changed = self._changed or not check
        done = self._run(playbook, changes, *(["--check", "--diff"] if check else []))
        assert done.returncode == 0, done.stdout + done.stderr
        self._changed = self._changed if check else bool(changes)
        return done.stdout + done.stderr

    @contextmanager
    def under_way(
        self, *, playbook: str = "", **changes: object
    ) -> Iterator[subprocess.Popen[str]]:
        """Begin to run a playbook; it is killed at the end of the block where it has not ended."""
        self._changed = True
        command = self._command(playbook, json.dumps(changes))
        with subprocess.Popen(
            command,
            cwd=self._repository,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def restore(self) -> None:
        """Bring the machine back to what the scenario's inventory says, where a test changed it."""
        if self._changed:
            self.apply()

    def is_restored(self) -> None:
        """Note that a test has undone its changes itself, and needs no further run."""
        self._changed = False

    def refuse(self, *, playbook: str = "", **changes: object) -> str:
        """Run a playbook, expect that it fails, and return what it said."""
        done = self._run(playbook, changes)
        assert done.returncode != 0, f"was not refused:\n{done.stdout}"
        return done.stdout + done.stderr

    def attempt(self) -> tuple[bool, str]:
        """Run the playbook, of which nobody knows how it ends; whether it did well, and its words.

        What the inventory says is what the next run brings the machine to.
        """
        self._changed = True
        done = self._run("", {})
        return done.returncode == 0, done.stdout + done.stderr

    def _run(
        self, playbook: str, changes: dict[str, object], *options: str
    ) -> subprocess.CompletedProcess[str]:
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump(changes, file)
            file.flush()
            return subprocess.run(
                self._command(playbook, f"@{file.name}", *options),
                cwd=self._repository,
                env=self._environment,
                capture_output=True,
                text=True,
                check=False,
            )

    def _command(self, playbook: str, variables: str, *options: str) -> list[str]:
        return [
            "ansible-playbook",
            *self.options,
            f"--limit={self.machine}",
            f"--extra-vars={variables}",
            *(f"--tags={tag}" for tag in self._tags),
            *options,
            f"playbooks/{playbook}.yml" if playbook else self._playbook,
        ]

    @property
    def _environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "ANSIBLE_CONFIG": str(self._repository / "ansible.cfg"),
            "ANSIBLE_FORCE_COLOR": "0",  # molecule forces it
        }
