"""The role `vhost_app`: pools and apps, what is deployed of them, and the memory they share."""

from __future__ import annotations

import stat
from collections.abc import Iterator

from .. import memory_budget, pool_problems
from ..pools import present, source_directory
from ..settings import problem
from .common import Machine, Values, at_least

SMALLEST_BUILD_MB = 128  # uv alone takes up to 90


def vhost_app(values: Values, machine: Machine) -> Iterator[str]:
    """Pools and apps, each alone and all together, and the memory that they share."""
    pools = values["vhost_app_pools"]
    yield from at_least(values, "vhost_app_reserve_mb", 0, "MB")
    yield from _deployed(values, machine)
    yield from pool_problems.problems(
        pools, memory_mb=machine.memory_mb, inventory=machine.inventory
    )
    budget = pools_budget(values, machine)
    if budget and not budget.fits:
        yield problem(
            "vhost_app_pools",
            budget.pools_mb,
            "MB are more than the pools may take together (memory_max_mb of each); allowed: "
            f"{budget.allowed_mb} (memory {budget.memory_mb} + swap {budget.swap_mb} - "
            f"vhost_app_reserve_mb {budget.reserve_mb})",
            pools,
        )


def _deployed(values: Values, machine: Machine) -> Iterator[str]:
    """What is to be deployed of the apps, and from which wheels."""
    yield from at_least(values, "vhost_app_build_memory_max_mb", SMALLEST_BUILD_MB, "MB")
    for name in ("build", "load", "hook", "health"):
        yield from at_least(values, f"vhost_app_{name}_timeout_seconds", 1, "seconds")
    yield from at_least(values, "vhost_app_keep_releases", 1, "releases")
    only, house = str(values["vhost_app_only"]), str(values["vhost_app_wheel_house"])
    apps = [app["name"] for pool in present(values["vhost_app_pools"]) for app in pool["apps"]]
    if only and only not in apps:
        yield problem("vhost_app_only", only, f"is no app here; allowed: {', '.join(apps)}")
    if values["vhost_app_release"] and not only:
        name = "vhost_app_release"
        yield problem(name, values[name], "is of no app; allowed with `vhost_app_only`")
    folder = source_directory(house, machine.inventory)
    if house and not folder.is_dir():
        fault = f"is no directory on the control machine ({folder})"
        yield problem("vhost_app_wheel_house", house, fault)
    elif house:
        for path in (folder, *sorted(folder.iterdir())):
            if path.lstat().st_mode & stat.S_IWOTH and not path.is_symlink():
                fault = f"could be anybody's: {path} is writable by all (chmod o-w)"
                yield problem("vhost_app_wheel_house", house, fault)


def pools_budget(values: Values, machine: Machine) -> memory_budget.Budget | None:
    """The budget of the machine's memory; None where its memory is not known."""
    if machine.memory_mb is None:
        return None
    return memory_budget.budget(
        values["vhost_app_pools"],
        reserve_mb=int(values["vhost_app_reserve_mb"]),
        memory_mb=machine.memory_mb,
        swap_mb=machine.swap_mb,
    )
