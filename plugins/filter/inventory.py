"""Which hosts of an inventory a playbook may work on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError

from ..plugin_utils import inventory_problems


def declared_hosts(groups: Mapping[str, Sequence[str]], sources: Sequence[str]) -> str:
    """``groups | kechi.vps.declared_hosts(ansible_inventory_sources)``: the pattern of all hosts.

    It fails where some are in no group. As the `hosts` of a first play it is asked before any of
    them is connected to, or named, whatever ``--limit`` says.
    """
    files = inventory_problems.origins(groups.get("ungrouped", ()), sources)
    found = list(inventory_problems.problems(files, sources))
    if found:
        raise AnsibleFilterError(
            "\n".join(["The inventory can't be used, and nothing was changed:", *found])
        )
    return "all"


class FilterModule:
    """What playbooks' templates call, as ``kechi.vps.NAME``."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """The filters of this file."""
        return {"declared_hosts": declared_hosts}
