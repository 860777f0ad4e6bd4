"""What follows from the pools of an inventory, for the roles' tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from ..module_utils.sandbox import unit_lines
from ..plugin_utils import pool_plan as plans
from ..plugin_utils import pools
from ..plugin_utils import robots_policy as robots
from ..plugin_utils import server_blocks as blocks
from ..plugin_utils import status_tables as tables

SHARED = {
    "apps": "other apps",
    "routes": "other hosts or sockets",
    "static": "other directories of static files",
}
SPECS = Path(__file__).resolve().parents[2] / "roles" / "vhost_app" / "meta" / "argument_specs.yml"


def pool_plan(
    value: Sequence[pools.Pool],
    inventory_dir: str,
    server_requirements: Sequence[str],
    only: str = "",
    release: str = "",
) -> dict[str, Any]:
    """``vhost_app_pools | kechi.vps.pool_plan(inventory_dir, requirements)``: see `plan` there."""
    specs = yaml.safe_load(SPECS.read_text(encoding="utf-8"))["argument_specs"]["main"]["options"]
    return plans.plan(
        value,
        spec=specs["vhost_app_pools"]["options"],
        inventory=Path(inventory_dir),
        server_requirements=server_requirements,
        choice=plans.Choice(only, release),
    )


def certificate_files(
    value: Sequence[Mapping[str, Any]], inventory_dir: str
) -> list[dict[str, str]]:
    """``frontend_sites | kechi.vps.certificate_files(inventory_dir)``: what there is to copy."""
    return blocks.certificate_files(value, Path(inventory_dir))


def pool_apps(value: Iterable[Mapping[str, Any]]) -> list[str]:
    """``machines' variables | kechi.vps.pool_apps``: the names of the apps that they have."""
    found = [pools.present(machine.get("vhost_app_pools") or []) for machine in value]
    return sorted({app["name"] for machine in found for pool in machine for app in pool["apps"]})


def pools_behind(
    value: Sequence[Mapping[str, Any]],
    deployed: Mapping[str, Mapping[str, Any]],
    app: str = "",
) -> list[str]:
    """``vhost_app_pools | kechi.vps.pools_behind(kechi_machine.pools)``.

    The pools, or that of one app, of which the inventory tells other roles something else than the
    machine has deployed; each with what differs.
    """
    wanted = {pool["name"]: pools.of_other_roles(pool) for pool in pools.present(value)}
    known = [
        pool["name"]
        for pool in value
        if not app or app in [one["name"] for one in pool.get("apps") or []]
    ]
    found = {name: _differing(wanted.get(name), deployed.get(name)) for name in known}
    return [f"{name} ({', '.join(words)})" for name, words in found.items() if words]


def _differing(wanted: Mapping[str, Any] | None, deployed: Mapping[str, Any] | None) -> list[str]:
    """What of a pool is not the same on both sides, in an administrator's words."""
    if wanted is None and deployed is None:
        return []
    if deployed is None:
        return ["not on the machine"]
    if wanted is None:
        return ["still on the machine"]
    return [words for part, words in SHARED.items() if wanted[part] != deployed.get(part)]


def path_from(value: str, inventory_dir: str) -> str:
    """``path | kechi.vps.path_from(inventory_dir)``: where a path lies on the control machine."""
    return str(pools.source_directory(value, Path(inventory_dir)))


def sandbox(_value: str) -> str:
    """``'' | kechi.vps.sandbox``: the directives of a pool's unit that confine it."""
    return unit_lines()


class FilterModule:
    """What the roles' and playbooks' templates call, each as ``kechi.vps.NAME``."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """The filters of this file."""
        return {
            "path_from": path_from,
            "pool_apps": pool_apps,
            "pool_plan": pool_plan,
            "pool_release_sets": plans.release_sets,
            "pool_sites": pools.sites,
            "pool_backups": pools.backups,
            "pools_behind": pools_behind,
            "pool_virtualenvs": plans.virtualenvs,
            "robots_files": robots.robots_files,
            "robots_texts": robots.robots_texts,
            "sandbox": sandbox,
            "server_blocks": blocks.server_blocks,
            "status_tables": tables.status_tables,
            "site_certificates": blocks.certificates,
            "certificate_files": certificate_files,
        }
