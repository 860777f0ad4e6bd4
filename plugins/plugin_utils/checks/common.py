"""What every role's check is made with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..settings import problem

Values = Mapping[str, Any]


@dataclass(frozen=True)
class Machine:
    """What the checks may know.

    Memory in MB (None: unknown), the inventory's folder, and swap in MB that is there or will be.
    """

    memory_mb: int | None
    inventory: Path
    swap_mb: int = 0


def at_least(values: Values, name: str, least: int, unit: str) -> Iterator[str]:
    """A sentence where a number is too small."""
    if int(values[name]) < least:
        yield problem(name, values[name], f"is too small; allowed: {least} or more {unit}")


def within(values: Values, name: str, least: int, most: int) -> Iterator[str]:
    """A sentence where a number is out of its range."""
    if not least <= int(values[name]) <= most:
        yield problem(name, values[name], f"is outside {least} to {most}")
