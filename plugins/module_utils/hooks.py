"""Programs of a release that is not in use yet, in the sandbox that its pool has.

Such as a database migration, or a check. The environment goes in by stdin: it may hold secrets, and
what a unit or a command line says is everybody's to read.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import environments, sandbox

RUNNER = (
    "import json, os, sys; told = json.load(sys.stdin); os.environ.update(told['environment']);"
    " os.execvp(told['command'][0], told['command'])"
)
PATH = "/usr/local/bin:/usr/bin:/bin"
TIMED_OUT = 124  # the exit code of timeout(1)
KILL_AFTER_SECONDS = 5
SHOWN_LINES = 40

Run = Callable[..., tuple[int, str, str]]


def in_release(command: Sequence[str], app: Path, release: str) -> list[str]:
    """A command whose words lead to an app's current release, leading to another one."""
    current = f"{app}/current"
    return [
        release + word.removeprefix(current) if word.startswith(f"{current}/") else word
        for word in map(str, command)
    ]


@contextmanager
def environment_file(environment: Mapping[str, Any]) -> Iterator[str]:
    """A file with an environment that root alone can read; systemd reads it when a unit starts."""
    with tempfile.NamedTemporaryFile("w", encoding="utf-8") as file:
        file.write(environments.lines(environment))
        file.flush()
        yield file.name


@dataclass(frozen=True)
class Confined:
    """How programs of a pool are run: its user, what they may write to, how much, how long."""

    pool: str
    folder: str
    writable: str
    memory_mb: int
    seconds: int
    tasks: int

    @property
    def start(self) -> list[str]:
        """The command that starts one, in a unit of its own, and waits for its end."""
        return ["systemd-run", "--quiet", "--wait", "--pipe", "--collect", "--service-type=exec",
                f"--description=A new release of the pool {self.pool}", *self._properties(),
                "/usr/bin/python3", "-I", "-c", RUNNER]  # fmt: skip

    def serve(self, unit: str, **more: object) -> list[str]:
        """The command that starts a server and waits until it is ready; /run/UNIT is its own."""
        more |= {"RuntimeDirectory": unit, "NotifyAccess": "all", "TimeoutStartSec": self.seconds}
        return ["systemd-run", "--quiet", "--collect", "--service-type=notify", f"--unit={unit}",
                f"--description=A trial of the pool {self.pool}",
                # gunicorn gives a socket that it has made itself to its own user
                *self._properties(**more), "--property=SystemCallFilter=@chown"]  # fmt: skip

    def _properties(self, **more: object) -> Iterator[str]:
        return sandbox.properties(
            ("User", f"kechi-{self.pool}"),
            ("Group", f"kechi-{self.pool}"),
            ("WorkingDirectory", self.folder),
            ("ReadWritePaths", f"-{self.writable}"),
            ("MemoryMax", f"{self.memory_mb}M"),
            ("TasksMax", self.tasks),
            # should timeout(1) itself be gone
            ("RuntimeMaxSec", self.seconds + 2 * KILL_AFTER_SECONDS),
            *more.items(),
        )

    def told(self, words: Sequence[str], environment: Mapping[str, Any], virtualenv: str) -> str:
        """What the runner reads: the app's environment, and the virtualenv's programs first."""
        bounded = ["timeout", f"--kill-after={KILL_AFTER_SECONDS}", str(self.seconds)]
        own = {"PATH": f"{virtualenv}/bin:{PATH}", "VIRTUAL_ENV": virtualenv}
        values = {name: str(value) for name, value in environment.items()}
        return json.dumps(
            {
                "command": [*bounded, *map(str, words)],
                "environment": {**(own if virtualenv else {"PATH": PATH}), **values},
            }
        )

    def run(self, run_command: Run, words: Sequence[str], environment: Mapping[str, Any],
            virtualenv: str) -> str:  # fmt: skip
        """Run a program; returns what went wrong, "" for nothing."""
        rc, out, err = run_command(self.start, data=self.told(words, environment, virtualenv))
        if rc == 0:
            return ""
        how = f"not over within {self.seconds} seconds" if rc == TIMED_OUT else f"exit code {rc}"
        shown = "\n".join(f"{out}\n{err}".strip().splitlines()[-SHOWN_LINES:])
        return f"`{' '.join(map(str, words))}`: {how}\n{shown}"
