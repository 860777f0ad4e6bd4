"""Run the checks of roles' variables on the control machine; see the module's documentation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ..plugin_utils import memory_budget
from ..plugin_utils.checks import BY_ROLE, Machine, planned_swap_mb, pools_budget
from ..plugin_utils.settings import problems, unknown

ROLES = Path(__file__).resolve().parents[2] / "roles"
SWAP = "swap"
POOLS = "vhost_app"


def _read(role: str, *parts: str) -> Any:
    return yaml.safe_load(ROLES.joinpath(role, *parts).read_text(encoding="utf-8"))


def _is_left_out(role: str, task_vars: Mapping[str, Any]) -> bool:
    """Whether this run leaves a role out, by tags that are roles' names, as in `site.yml`."""
    wanted, skipped = (task_vars.get(f"ansible_{kind}_tags", ()) for kind in ("run", "skip"))
    others = not BY_ROLE.keys().isdisjoint(wanted)
    return role in skipped or (others and not {role, "all"}.intersection(wanted))


class ActionModule(ActionBase):
    """``kechi.vps.check_settings``: every problem of the named roles' variables, in one failure."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _requires_connection = False

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Check; fail with all problems, or return how many variables were looked at."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        task_vars = task_vars or {}
        _, arguments = self.validate_argument_spec(
            {"roles": {"type": "list", "elements": "str", "required": True}}
        )
        machine = self._machine(arguments["roles"], task_vars)
        found: list[str] = []
        looked_at = 0
        for role in arguments["roles"]:
            if role not in BY_ROLE:
                raise AnsibleActionFail(f"no such role: {role}; allowed: {', '.join(BY_ROLE)}")
            spec = _read(role, "meta", "argument_specs.yml")["argument_specs"]["main"]["options"]
            values = self._values(role, spec, task_vars)
            looked_at += len(values)
            # the second round of checks may rely on the types that the first one found right
            wrong = [*unknown(role, spec, task_vars), *problems(spec, values)]
            found += wrong or list(BY_ROLE[role](values, machine))
            if role == POOLS and not wrong and (budget := pools_budget(values, machine)):
                result["memory_budget"] = memory_budget.table(budget)
        if found:
            result["failed"] = True
            result["msg"] = "\n".join(
                ["The settings can't be used, and nothing was changed:", *(f"  {p}" for p in found)]
            )
        else:
            result["msg"] = f"{looked_at} settings of {', '.join(arguments['roles'])} are usable"
        result["changed"] = False
        return result

    def _machine(self, checked: Sequence[str], task_vars: Mapping[str, Any]) -> Machine:
        """What is known of the machine; swap counts that this play will have made."""
        facts = task_vars.get("ansible_facts", {})
        memory_mb, swap_mb = facts.get("memtotal_mb"), int(facts.get("swaptotal_mb") or 0)
        played = [
            str(name).rpartition(".")[2] for name in task_vars.get("ansible_play_role_names", [])
        ]
        is_container = "container" in facts.get("virtualization_tech_guest", [])
        is_made = SWAP in (*checked, *played) and not _is_left_out(SWAP, task_vars)
        if memory_mb is not None and is_made and not is_container:
            spec = _read(SWAP, "meta", "argument_specs.yml")["argument_specs"]["main"]["options"]
            values = self._values(SWAP, spec, task_vars)
            machine = Machine(memory_mb=memory_mb, inventory=Path.cwd())
            if not problems(spec, values) and not list(BY_ROLE[SWAP](values, machine)):
                swap_mb = max(swap_mb, planned_swap_mb(values, memory_mb))
        return Machine(
            memory_mb=memory_mb,
            inventory=Path(str(task_vars.get("inventory_dir") or Path.cwd())),
            swap_mb=swap_mb,
        )

    def _values(
        self, role: str, spec: Mapping[str, Any], task_vars: Mapping[str, Any]
    ) -> dict[str, Any]:
        """The role's variables as they would be in it: the inventory's, else the defaults."""
        defaults = _read(role, "defaults", "main.yml") or {}
        raw = {name: task_vars.get(name, defaults.get(name)) for name in spec}
        return {
            name: self._templar.template(value) for name, value in raw.items() if value is not None
        }
