"""Keep what a pool's module was told, such as the environments of apps, off the screen."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    """``kechi.vps.pool_state``: all is the module's."""

    _supports_check_mode = True

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Run the module, and leave its arguments out of what -vvv shows."""
        super().run(tmp, task_vars)
        result: dict[str, Any] = self._execute_module(task_vars=task_vars or {})
        result.pop("invocation", None)
        return result
