"""The machine's memory as one budget: what its pools may take together, beside the machine itself.

A pool's limit holds for all its processes, and so for both generations of a restart. Where all
limits fit into memory and swap together, the kernel never has to end one pool for another's hunger.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..plugin_utils.pools import Pool, present

POOL_MB = 300  # of a pool that names no limit: argument_specs' default, as a test sees


@dataclass(frozen=True)
class Budget:
    """What there is and what may be taken, in MB; pools as (name, limit)."""

    pools: tuple[tuple[str, int], ...]
    reserve_mb: int
    memory_mb: int
    swap_mb: int

    @property
    def pools_mb(self) -> int:
        """What all pools may take together."""
        return sum(limit for _, limit in self.pools)

    @property
    def allowed_mb(self) -> int:
        """What they may have been given, at most."""
        return max(self.memory_mb + self.swap_mb - self.reserve_mb, 0)

    @property
    def fits(self) -> bool:
        """Whether they may have it."""
        return self.pools_mb <= self.allowed_mb


def budget(pools: Sequence[Pool], *, reserve_mb: int, memory_mb: int, swap_mb: int) -> Budget:
    """Add up an inventory's pools."""
    limits = (
        (str(pool["name"]), int(pool.get("memory_max_mb") or POOL_MB)) for pool in present(pools)
    )
    return Budget(tuple(limits), reserve_mb, memory_mb, swap_mb)


def table(found: Budget) -> list[str]:
    """The budget as lines for a person: each limit, and what a generation may have of it."""
    rows = [("in MB", "limit", "each generation in a restart")]
    rows += [(f"pool {name}", str(limit), str(limit // 2)) for name, limit in found.pools]
    rows += [
        ("the machine itself, with nginx", str(found.reserve_mb), ""),
        ("together", str(found.pools_mb + found.reserve_mb), ""),
        (
            f"there is: memory {found.memory_mb}, swap {found.swap_mb}",
            str(found.memory_mb + found.swap_mb),
            "",
        ),
    ]
    first, second = (max(len(row[column]) for row in rows) for column in (0, 1))
    return [f"{row[0]:<{first}}  {row[1]:>{second}}  {row[2]}".rstrip() for row in rows]
