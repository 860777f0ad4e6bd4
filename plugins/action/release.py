"""Send to the target only those trees that it does not hold yet; see the module's documentation."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ansible import constants
from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ..plugin_utils import sources, trees

PASSED_ON = ("destination", "group", "public", "validate")
CACHE = Path(constants.config.get_config_value("ANSIBLE_HOME")).expanduser() / "kechi"


class ActionModule(ActionBase):
    """``kechi.vps.release``: ask what is missing, send that, switch."""

    TRANSFERS_FILES = True
    _supports_check_mode = True

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """One call of the module where nothing changed, two and a transfer where something did."""
        super().run(tmp, task_vars)
        with ExitStack() as held:
            found: dict[str, sources.Found] = {}
            wanted = []
            for tree in self._task.args.get("trees") or []:
                entry = {key: tree[key] for key in PASSED_ON if tree.get(key)}
                wanted.append(entry)
                if tree.get("release"):
                    entry["release"] = tree["release"]
                    continue
                one = found[entry["destination"]] = self._found(tree, held)
                digest = self._digest(entry["destination"], one)
                entry.update(digest=digest, origin=one.origin, inside=one.inside)
            return self._published(wanted, found, task_vars)

    def _published(
        self,
        wanted: list[dict[str, Any]],
        found: dict[str, sources.Found],
        task_vars: dict[str, Any] | None,
    ) -> dict[str, Any]:
        arguments = {**self._task.args, "trees": wanted}
        result = self._module(arguments, task_vars)
        if result.get("failed") or not result["changed"] or self._task.check_mode:
            return result
        self._make_tmp_path()
        try:
            for tree in wanted:
                if tree["destination"] in result["absent"]:
                    tree["archive"] = self._send(found[tree["destination"]], tree["digest"])
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
    def _found(tree: dict[str, Any], held: ExitStack) -> sources.Found:
        try:
            return held.enter_context(sources.found(tree, CACHE))
        except sources.SourceError as error:
            raise AnsibleActionFail(f"{tree['destination']}: {error}") from error

    @staticmethod
    def _digest(destination: str, tree: sources.Found) -> str:
        try:
            return trees.digest(tree.path, tree.inside, tree.links_within)
        except (OSError, trees.TreeError) as error:
            raise AnsibleActionFail(f"{destination}: its code can't be read: {error}") from error

    def _send(self, tree: sources.Found, digest: str) -> str:
        with tempfile.TemporaryDirectory() as folder:
            local = Path(folder) / f"{digest}.tar.gz"
            trees.archive(tree.path, local, tree.inside, tree.links_within)
            remote: str = self._connection._shell.join_path(
                self._connection._shell.tmpdir, local.name
            )
            self._transfer_file(str(local), remote)
        return remote
