"""Render the templates of release sets' files, and hand the sets to the module."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase

from ..plugin_utils.rendering import rendered


class ActionModule(ActionBase):
    """``kechi.vps.release_sets``: render here, write there."""

    _supports_check_mode = True

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Replace each `template` by its content; everything else is the module's."""
        super().run(tmp, task_vars)
        variables = task_vars or {}
        sets = [
            {
                **one,
                "files": [
                    rendered(file, variables=variables, loader=self._loader, templar=self._templar)
                    for file in one["files"]
                ],
            }
            for one in self._task.args.get("sets") or []
        ]
        result: dict[str, Any] = self._execute_module(
            module_name="kechi.vps.release_sets",
            module_args={**self._task.args, "sets": sets},
            task_vars=variables,
        )
        result.pop("invocation", None)  # -vvv would show the environments of apps
        return result
