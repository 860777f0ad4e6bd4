"""Send to the target only those trees that it does not hold yet; see the module's documentation."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ..plugin_utils import trees


class ActionModule(ActionBase):
    """``kechi.vps.release``: ask what is missing, send that, switch."""

    TRANSFERS_FILES = True
    _supports_check_mode = True

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """One call of the module where nothing changed, two and a transfer where something did."""
        super().run(tmp, task_vars)
        wanted = [
            {**tree, "digest": self._digest(tree)} for tree in self._task.args.get("trees") or []
        ]
        arguments = {**self._task.args, "trees": wanted}
        result = self._module(arguments, task_vars)
        if result.get("failed") or not result["changed"] or self._task.check_mode:
            return result
        self._make_tmp_path()
        try:
            for tree in wanted:
                if tree["destination"] in result["absent"]:
                    tree["archive"] = self._send(tree)
            return self._module({**arguments, "act": True}, task_vars)
        finally:
            self._remove_tmp_path(self._connection._shell.tmpdir)

    def _module(
        self, arguments: dict[str, Any], task_vars: dict[str, Any] | None
    ) -> dict[str, Any]:
        result: dict[str, Any] = self._execute_module(
            module_name="kechi.vps.release", module_args=arguments, task_vars=task_vars
        )
        return result

    @staticmethod
    def _digest(tree: dict[str, Any]) -> str:
        source = Path(tree["source"])
        if not source.is_dir():
            raise AnsibleActionFail(
                f"trees: source {source} is no directory on the control machine"
            )
        return trees.digest(source, tree.get("inside", ""))

    def _send(self, tree: dict[str, Any]) -> str:
        with tempfile.TemporaryDirectory() as folder:
            local = Path(folder) / f"{tree['digest']}.tar.gz"
            trees.archive(Path(tree["source"]), local, tree.get("inside", ""))
            remote: str = self._connection._shell.join_path(
                self._connection._shell.tmpdir, local.name
            )
            self._transfer_file(str(local), remote)
        return remote
