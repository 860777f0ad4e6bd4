"""Render the templates of a list of files, and hand the whole list to the module if need be."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase

from ..module_utils import snapshot
from ..plugin_utils.rendering import rendered


class ActionModule(ActionBase):
    """``kechi.vps.files``: render here, write there."""

    _supports_check_mode = True

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Replace each `template` by its content; everything else is the module's."""
        super().run(tmp, task_vars)
        variables = task_vars or {}
        files = [
            rendered(file, variables=variables, loader=self._loader, templar=self._templar)
            for file in self._task.args.get("files") or []
        ]
        arguments = {**self._task.args, "files": files}
        known = arguments.pop("known", None) or {}
        wanted = (arguments.get("directories") or [], files, arguments.get("absent") or [])
        if known and not arguments.get("units") and snapshot.shows(known, *wanted):
            return {"changed": False, "paths": [], "units": []}
        result: dict[str, Any] = self._execute_module(
            module_name="kechi.vps.files", module_args=arguments, task_vars=variables
        )
        return result
