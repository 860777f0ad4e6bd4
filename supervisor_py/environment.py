"""The environment that generations get, and the policy that it holds; the envdir may change both.

A variable comes from the envdir, else the command line, else the environment that we were started
with, else its default. A file deleted from the envdir gives its variable's start-up value back.
"""

from __future__ import annotations

from . import envdir, settings
from .errors import FatalError, from_os_error
from .sdnotify import OURS_ALONE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from .model import Policy


class Environment:
    """`variables` for the next generation and the `policy` in force."""

    def __init__(
        self, inherited: Mapping[str, str], command_line: Mapping[str, str], policy: Policy
    ) -> None:
        """Read the envdir for the first time; raises FatalError for a wrong value."""
        kept = {name: value for name, value in inherited.items() if name not in OURS_ALONE}
        self._started_with = {**kept, **command_line}
        self._complaint = ""
        self.policy = policy
        self.variables = self._started_with
        self._read()

    def _read(self) -> None:
        found = dict(self._started_with)
        directory = found.get(settings.ENVDIR, "")
        if directory:
            try:
                found.update(envdir.read(directory))
            except OSError as error:
                raise from_os_error(f"failed to read envdir {directory}", error) from error
        found = settings.complete(found)
        # Both or neither: a wrong value must not come in by halves.
        self.policy = settings.policy_in(self.policy, found)
        self.variables = found

    def refresh(self) -> str:
        """Read the envdir again; return what is newly wrong with it: then nothing has changed."""
        try:
            self._read()
        except FatalError as error:
            complaint, said = str(error), self._complaint
            self._complaint = complaint
            return "" if complaint == said else complaint
        self._complaint = ""
        return ""
