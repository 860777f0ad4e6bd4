#!/usr/bin/python
"""Have running units read configuration that is newer than their last start or reload."""

from __future__ import annotations

DOCUMENTATION = """
module: unit_current
short_description: Restart or reload units whose configuration is newer than they are
version_added: 0.1.0
description:
  - Compares when the files were changed with when the unit was started or last reloaded, and so
    finishes the work of an interrupted run, too.
  - A unit that does not run, or is not there, is left alone.
options:
  units:
    description: The units.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: The unit.
        type: str
        required: true
      paths:
        description: Files, and directories (their files, and whether one has gone).
        type: list
        elements: path
        required: true
      by:
        description: How the unit reads them.
        type: str
        choices: [restart, reload]
        required: true
attributes:
  check_mode:
    support: full
    description: Says which units are behind the files as they are now.
author: the kechi.vps authors
"""

EXAMPLES = """
- name: Have the journal's limits in force
  kechi.vps.unit_current:
    units:
      - name: systemd-journald.service
        paths: [/etc/systemd/journald.conf.d]
        by: restart
"""

RETURN = """
units:
  description: What was restarted or reloaded.
  returned: always
  type: list
  elements: str
"""

import time
from collections.abc import Iterator
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

SHOWN = "--property=ActiveState,StateChangeTimestampMonotonic"


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


def main() -> None:
    """Compare, then act."""
    module = AnsibleModule(
        argument_spec={
            "units": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "name": {"type": "str", "required": True},
                    "paths": {"type": "list", "elements": "path", "required": True},
                    "by": {"type": "str", "choices": ["restart", "reload"], "required": True},
                },
            }
        },
        supports_check_mode=True,
    )
    behind = []
    for unit in module.params["units"]:
        _, shown, _ = module.run_command(["systemctl", "show", SHOWN, unit["name"]], check_rc=True)
        changed_state = since(shown, now=time.time(), monotonic=time.monotonic())
        if changed_state is None or newest(unit["paths"]) <= changed_state:
            continue
        behind.append(unit["name"])
        if not module.check_mode:
            module.run_command(["systemctl", unit["by"], unit["name"]], check_rc=True)
    module.exit_json(changed=bool(behind), units=behind)


if __name__ == "__main__":
    main()
