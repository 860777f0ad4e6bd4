"""Have apt install what dpkg does not have; see the module's documentation."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase

LISTS_SECONDS = 3600  # how old the package lists may be when something has to be installed

Result = dict[str, Any]


class ActionModule(ActionBase):
    """``kechi.vps.packages``: no call where all is known to be there, one where it is."""

    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> Result:
        """Look, and hand the rest to apt."""
        super().run(tmp, task_vars)
        variables = task_vars or {}
        names = [str(name) for name in self._task.args.get("names") or []]
        known = self._task.args.get("known") or {}
        if all(name in known for name in names):
            versions = {name: known[name] for name in names}
            return {"changed": False, "missing": [], "versions": versions}
        found = self._module("kechi.vps.packages", {"names": names}, variables)
        if found.get("failed") or not found["missing"]:
            return found
        missing = found["missing"]
        if found["blind"]:
            return {
                **found,
                "changed": True,
                "msg": f"would install {', '.join(missing)}; whether they are to be had can't be "
                f"told on this machine, as {found['blind']}",
                "diff": _diff(missing),
            }
        arguments = {
            "name": missing,
            "state": "present",
            "install_recommends": False,
            "update_cache": True,
            "cache_valid_time": LISTS_SECONDS if found["has_lists"] else 0,
        }
        done = self._module("ansible.builtin.apt", arguments, variables)
        if done.get("failed") or self._task.check_mode:
            return {**done, "missing": missing, "versions": found["versions"]}
        now = self._module("kechi.vps.packages", {"names": names}, variables)
        return {**done, "missing": missing, "versions": now.get("versions", {})}

    def _module(self, name: str, arguments: Result, variables: dict[str, Any]) -> Result:
        result: Result = self._execute_module(
            module_name=name, module_args=arguments, task_vars=variables
        )
        return result


def _diff(missing: list[str]) -> dict[str, str]:
    header = "installed packages"
    after = "".join(f"{name}\n" for name in missing)
    return {"before_header": header, "after_header": header, "before": "", "after": after}
