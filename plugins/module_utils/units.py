"""Running units that have not read what their configuration's files hold by now."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SHOWN = "--property=ActiveState,StateChangeTimestampMonotonic"
OPTIONS = {
    "name": {"type": "str", "required": True},
    "paths": {"type": "list", "elements": "path", "required": True},
    "by": {"type": "str", "choices": ["restart", "reload"], "required": True},
}


def newest(paths: list[str]) -> float:
    """When the youngest of these was changed, in seconds since the epoch; 0 where none is there."""

    def all_of(path: Path) -> Iterator[Path]:
        if path.exists():
            yield path
        if path.is_dir():
            yield from path.iterdir()

    changes = [item.stat().st_mtime for path in paths for item in all_of(Path(path))]
    return max(changes, default=0.0)


def since(shown: str, *, now: float, monotonic: float) -> float | None:
    """When the unit last changed its state, a reload included; None where it does not run.

    Args:
        shown: the unit's properties, as `systemctl show` prints them.
        now: in seconds since the epoch.
        monotonic: the same moment in seconds since boot, which no one sets.
    """
    properties = dict(line.split("=", 1) for line in shown.splitlines())
    if properties["ActiveState"] != "active":
        return None
    return now - monotonic + int(properties["StateChangeTimestampMonotonic"]) / 1e6


def bring_up_to_date(module: Any, wanted: list[dict[str, Any]]) -> list[str]:
    """Restart or reload those that are behind their files, or only name them in check mode.

    Args:
        module: an AnsibleModule.
        wanted: dictionaries as `OPTIONS` has them.
    """
    behind = []
    for unit in wanted:
        _, shown, _ = module.run_command(["systemctl", "show", SHOWN, unit["name"]], check_rc=True)
        changed_state = since(shown, now=time.time(), monotonic=time.monotonic())
        if changed_state is None or newest(unit["paths"]) <= changed_state:
            continue
        behind.append(unit["name"])
        if not module.check_mode:
            module.run_command(["systemctl", unit["by"], unit["name"]], check_rc=True)
    return behind
