"""testinfra's way into a container, without a process of the engine for each question."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Any

import testinfra.backend
from testinfra.backend.base import CommandResult
from testinfra.backend.podman import PodmanBackend

from containers import inside


class EnteredContainer(PodmanBackend):  # type: ignore[misc]  # testinfra has no types
    """A container of podman's, entered by nsenter where that can be done."""

    def run(self, command: str, *args: str, **kwargs: Any) -> CommandResult:
        """Run a shell command inside."""
        shell = self.get_command(command, *args)
        cache = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "containers"
        entered = inside.command(self.NAME, self.name, ["/bin/sh", "-c", shell], cache)
        if not entered:
            return super().run(command, *args, **kwargs)
        # nsenter would take along whatever umask there is on this side
        result = self.run_local(f"umask 022; {shlex.join(entered)}")
        result.command = self.encode(shell)
        return result


def register() -> None:
    """Have testinfra use it for all `podman://` hosts."""
    path = f"{EnteredContainer.__module__}.{EnteredContainer.__qualname__}"
    testinfra.backend.BACKENDS[EnteredContainer.NAME] = path
