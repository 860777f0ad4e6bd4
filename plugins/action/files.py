"""Render the templates of a list of files, and hand the whole list to the module."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.plugins.loader import lookup_loader


class ActionModule(ActionBase):
    """``kechi.vps.files``: render here, write there."""

    _supports_check_mode = True

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Replace each `template` by its content; everything else is the module's."""
        super().run(tmp, task_vars)
        variables = task_vars or {}
        files = [self._rendered(file, variables) for file in self._task.args.get("files") or []]
        result: dict[str, Any] = self._execute_module(
            module_name="kechi.vps.files",
            module_args={**self._task.args, "files": files},
            task_vars=variables,
        )
        return result

    def _rendered(self, file: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        rest = {key: value for key, value in file.items() if key not in ("template", "item")}
        if ("content" in file) == ("template" in file):
            raise AnsibleActionFail(f"files: {file.get('path')}: one of content and template")
        if "content" in file:
            return rest
        lookup = lookup_loader.get(
            "ansible.builtin.template", loader=self._loader, templar=self._templar
        )
        (content,) = lookup.run(
            [file["template"]], variables=variables, template_vars={"item": file.get("item")}
        )
        return {**rest, "content": content}
