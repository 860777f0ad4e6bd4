"""Look at a machine that no other play changes, and take it; see the module's documentation."""

from __future__ import annotations

from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean

from .play_lock import ActionModule as PlayLock
from .play_lock import Result


class ActionModule(PlayLock):
    """``kechi.vps.machine_facts``: the half that knows which play this is."""

    _VALID_ARGS = frozenset({"lock"})

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> Result:
        """Call the module as often as `play_lock` does."""
        super(PlayLock, self).run(tmp, task_vars)
        keep = boolean(self._task.args.get("lock", False))
        return self.take("kechi.vps.machine_facts", task_vars or {}, keep=keep)
