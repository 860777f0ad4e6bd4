"""Where the collection is installed from its tarball, and no checkout is."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]


class Elsewhere:
    """An empty directory to run Ansible from, with collections of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.collections = path / "collections"
        self.tarball = path / "kechi-vps-0.1.0.tar.gz"

    def install(self) -> None:
        """Build the collection, and install that; asks no server."""
        build = ("ansible-galaxy", "collection", "build", "--output-path", str(self.path))
        self.output(*build, str(REPOSITORY))
        install = ("ansible-galaxy", "collection", "install", "--offline", "--collections-path")
        self.output(*install, str(self.collections), str(self.tarball))

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command of Ansible, whatever its exit code."""
        ansible = {
            "ANSIBLE_PIPELINING": "true",
            "ANSIBLE_HOME": str(self.path / "home"),
            "ANSIBLE_COLLECTIONS_PATH": str(self.collections),
            "ANSIBLE_INVENTORY": "localhost,",
        }
        kept = {k: v for k, v in os.environ.items() if not k.startswith("ANSIBLE_")}
        cwd = self.path / "empty"
        cwd.mkdir(exist_ok=True)
        return subprocess.run(
            command, cwd=cwd, env=kept | ansible, capture_output=True, text=True, check=False
        )

    def output(self, *command: str) -> str:
        """Run a command, and return its output; raises AssertionError where it fails."""
        done = self.run(*command)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def play(self, play: dict[str, object], *options: str) -> subprocess.CompletedProcess[str]:
        """Run one play, of localhost if it says no other."""
        playbook = self.path / "playbook.yml"
        playbook.write_text(json.dumps([{"hosts": "localhost", "gather_facts": False, **play}]))
        return self.run("ansible-playbook", *options, str(playbook))
