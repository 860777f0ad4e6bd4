"""Run tasks in a container of this machine through the engine's `exec`."""

from __future__ import annotations

DOCUMENTATION = """
name: container
short_description: Run tasks in a podman or docker container of this machine
description:
  - Runs every task through C(podman exec) or C(docker exec), with pipelining. Root enters podman's
    containers by C(nsenter) instead, which takes less than a tenth of the time.
  - Picks the same engine as C(containers/engine.py) of this collection does, so set
    E(KECHI_ENGINE) to override it.
author:
  - the kechi.vps authors (!UNKNOWN)
options:
  remote_addr:
    description: Name or id of the container.
    type: str
    default: inventory_hostname
    vars:
      - name: inventory_hostname
      - name: ansible_host
  remote_user:
    description: User inside the container; the image's own, which is root, when not set.
    type: str
    vars:
      - name: ansible_user
    ini:
      - section: defaults
        key: remote_user
    env:
      - name: ANSIBLE_REMOTE_USER
    keyword:
      - name: remote_user
"""

import os
import shutil
import subprocess
from pathlib import Path
from typing import IO

from ansible import constants
from ansible.errors import AnsibleConnectionFailure
from ansible.module_utils.common.text.converters import to_text
from ansible.plugins.connection import ConnectionBase

from ansible_collections.kechi.vps.containers import engine, inside

UMASK = 0o022  # as an engine's `exec` and a login have it
CACHE = Path(constants.config.get_config_value("ANSIBLE_HOME")).expanduser() / "kechi/containers"


class Connection(ConnectionBase):
    """One container."""

    transport = "kechi.vps.container"
    has_pipelining = True
    _connected: bool

    def _connect(self) -> Connection:
        if not self._connected:
            try:
                self._engine = engine.choose(os.environ, shutil.which)
            except engine.EngineError as error:
                raise AnsibleConnectionFailure(str(error)) from error
            self._connected = True
        return self

    def exec_command(
        self, cmd: str, in_data: bytes | None = None, sudoable: bool = True
    ) -> tuple[int, bytes, bytes]:
        """Run a shell command inside."""
        super().exec_command(cmd, in_data=in_data, sudoable=sudoable)
        return self._exec(["/bin/sh", "-c", cmd], in_data or b"")

    def put_file(self, in_path: str, out_path: str) -> None:
        """Copy a file into the container."""
        super().put_file(in_path, out_path)
        with Path(in_path).open("rb") as source:
            code, _out, err = self._exec(["/bin/sh", "-c", 'cat > "$1"', "sh", out_path], source)
        if code:
            raise AnsibleConnectionFailure(f"{self._name}:{out_path}: {to_text(err)}")

    def fetch_file(self, in_path: str, out_path: str) -> None:
        """Copy a file out of the container."""
        super().fetch_file(in_path, out_path)
        code, out, err = self._exec(["/bin/cat", in_path], b"")
        if code:
            raise AnsibleConnectionFailure(f"{self._name}:{in_path}: {to_text(err)}")
        Path(out_path).write_bytes(out)

    def close(self) -> None:
        """Forget the engine; there is no connection to end."""
        self._connected = False

    @property
    def _name(self) -> str:
        return str(self.get_option("remote_addr"))

    def _exec(self, argv: list[str], stdin: bytes | IO[bytes]) -> tuple[int, bytes, bytes]:
        user = self.get_option("remote_user")
        command = [] if user else self._entered(argv)
        if not command:
            as_user = [f"--user={user}"] if user else []
            command = [self._engine, "exec", "--interactive", *as_user, self._name, *argv]
        # nsenter would take along whatever umask there is on this side
        if isinstance(stdin, bytes):
            done = subprocess.run(
                command, input=stdin, capture_output=True, check=False, umask=UMASK
            )
        else:
            done = subprocess.run(
                command, stdin=stdin, capture_output=True, check=False, umask=UMASK
            )
        if done.returncode:
            self._check_container(to_text(done.stderr))
        return done.returncode, done.stdout, done.stderr

    def _entered(self, argv: list[str]) -> list[str]:
        """The command without the engine; none where it takes that."""
        return inside.command(self._engine, self._name, argv, CACHE)

    def _check_container(self, stderr: str) -> None:
        """Tell a failed command from a container that is not there to run it."""
        command = [self._engine, "container", "inspect", "--format={{.State.Status}}", self._name]
        asked = subprocess.run(command, capture_output=True, text=True, check=False)
        state = asked.stdout.strip() if asked.returncode == 0 else "missing"
        if state != "running":
            raise AnsibleConnectionFailure(
                f'the container "{self._name}" is {state} (asked {self._engine}): {stderr.strip()}'
            )
