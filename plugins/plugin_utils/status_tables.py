"""What `kechi.vps.pool_info` has found, as tables for a person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...supervisor_py.tables import age, aligned
from ...supervisor_py.text import visible

Found = Mapping[str, Any]

NONE = "-"
KB_PER_MB = 1024
POOLS = ("POOL", "GENERATION", "PHASE", "AGE", "PROCESSES", "MEMORY", "LIMIT", "SHARED")
APPS = ("APP", "POOL", "RELEASE", "KEPT")
CERTIFICATES = ("SITE", "CERTIFICATE", "DAYS LEFT")
MOST_CELL = 60  # characters
SELF_SIGNED = "self-signed"


def status_tables(found: Found, inventory_pools: Sequence[Found]) -> list[str]:
    """Lines: the pools' generations, their apps' releases, certificates, and what is wrong.

    Args:
        found: what `pool_info` returned.
        inventory_pools: ``vhost_app_pools``, for what the machine has and the inventory has not.
    """
    pools = found["pools"]
    if not pools:
        return ["no pool is on this machine"]
    lines = _table(POOLS, [row for pool in pools for row in _generations(pool)])
    apps = [
        (app["name"], pool["name"], app["release"] or NONE, str(app["releases"]))
        for pool in pools
        for app in pool["apps"]
    ]
    lines += ["", *_table(APPS, apps)]
    certificates = [(one["name"], one["served"], str(one["days"])) for one in found["certificates"]]
    if certificates:
        lines += ["", *_table(CERTIFICATES, certificates)]
    wrong = [sentence for pool in pools for sentence in _wrong(pool, inventory_pools)]
    wrong += [
        f"site {one['name']}: is served {SELF_SIGNED}; `kechi-certificates` there says why"
        for one in found["certificates"]
        if one["served"] == SELF_SIGNED != one["wanted"]
    ]
    return [*lines, *([""] if wrong else []), *map(visible, wrong)]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    shown = [[visible(cell, MOST_CELL) for cell in row] for row in rows]
    return aligned([head, *shown], left=1).splitlines()


def _generations(pool: Found) -> list[tuple[str, ...]]:
    limit = f"{pool['memory_max_mb']} MB" if pool["memory_max_mb"] else NONE
    generations = pool["status"]["generations"] if _is_sound(pool["status"]) else []
    if not generations:
        return [(pool["name"], NONE, pool["unit"], NONE, NONE, NONE, limit, NONE)]
    return _rows(pool["name"], generations, limit)


def _rows(name: str, generations: Sequence[Found], limit: str) -> list[tuple[str, ...]]:
    return [
        (
            name,
            str(one["number"]),
            str(one["phase"]),
            age(one["age_seconds"]),
            str(one["processes"] or NONE),
            f"{one['pss_kb'] / KB_PER_MB:.1f} MB" if one["pss_kb"] else NONE,
            limit,
            NONE if one["shared_percent"] is None else f"{one['shared_percent']:.0f} %",
        )
        for one in generations
    ]


def _is_sound(status: Any) -> bool:
    """Whether that is what a super-daemon says of itself: an app may answer in its place."""
    try:
        _rows("", status["generations"], "")
        str(status.get("trouble"))
    except (KeyError, TypeError, ValueError, AttributeError):
        return False
    return True


def _wrong(pool: Found, inventory_pools: Sequence[Found]) -> list[str]:
    sentences = []
    if pool["status"] and not _is_sound(pool["status"]):
        sentences.append(f"pool {pool['name']}: its super-daemon gives no answer that can be read")
    elif not pool["status"]:
        sentences.append(f"pool {pool['name']}: its super-daemon does not answer: {pool['unit']}")
    elif pool["status"].get("trouble"):
        sentences.append(f"pool {pool['name']}: {pool['status']['trouble']}")
    if pool["fault"]:
        sentences.append(f"pool {pool['name']}: {pool['fault']}")
    if pool["name"] not in [one.get("name") for one in inventory_pools]:
        sentences.append(f"pool {pool['name']}: is not in the inventory, and was left as it is")
    return sentences
