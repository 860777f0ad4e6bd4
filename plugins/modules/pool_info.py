#!/usr/bin/python
"""What the pools of a machine do now, and what their apps are served from; only looks."""

from __future__ import annotations

DOCUMENTATION = """
module: pool_info
short_description: Tell what the pools of a machine do, and which releases their apps have
version_added: 0.1.0
description:
  - Finds the pools by what is on the machine, so that one shows up, too, that the inventory has no
    more.
  - Asks systemd, each super-daemon (C(start_server --status)), the releases' directories, and the
    certificates that the front end serves.
attributes:
  check_mode:
    support: full
    description: It changes nothing.
author: the kechi.vps authors (!UNKNOWN)
"""

EXAMPLES = """
- name: Look at the pools
  kechi.vps.pool_info:
  register: found
"""

RETURN = """
pools:
  description: >-
    Each pool's C(name), C(unit) (systemd's state of it), C(memory_max_mb), C(status) (what
    C(start_server --status --json) says, empty where it does not answer) and C(apps).
  returned: always
  type: list
  elements: dict
certificates:
  description: >-
    What C(kechi-certificates --json) says of each site - C(name), C(hosts), what is C(wanted) and
    C(served) (acme, given or self-signed), and the C(days) that it lasts. Nothing without HTTPS.
  returned: always
  type: list
  elements: dict
"""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

UNITS = Path("/etc/systemd/system")
POOLS = Path("/etc/kechi/pools")
APPS = Path("/srv/www")
DROP_INS = re.compile(r"kechi@(.+)\.service\.d")
COMMAND_DIRECTORY = re.compile(r"--dir=/srv/www/([^/\s]+)/current")
PROPERTIES = ("ActiveState", "SubState", "MemoryMax")
BYTES_PER_MB = 1024 * 1024


def pool_names(units: list[str]) -> list[str]:
    """The pools, by the names of what lies among systemd's units; `kechi@.service.d` is all's."""
    return sorted(found[1] for name in units if (found := DROP_INS.fullmatch(name)))


def app_names(pool_file: str | None, drop_in: str) -> list[str]:
    """The apps of a pool, by its pool file, or by the unit where it runs a command.

    Raises ValueError for a pool file that can't be read.
    """
    if pool_file is not None:
        try:
            return [str(app["name"]) for app in tomllib.loads(pool_file)["apps"]]
        except (KeyError, TypeError) as error:
            raise ValueError(f"no list of apps with names: {error!r}") from error
    found = COMMAND_DIRECTORY.search(drop_in)
    return [found[1]] if found else []


def properties(shown: str) -> dict[str, str]:
    """What `systemctl show` has printed."""
    return dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)


def limit_mb(memory_max: str) -> int | None:
    """MemoryMax= in MB; None for no limit."""
    return int(memory_max) // BYTES_PER_MB if memory_max.isdigit() else None


def releases(app: str) -> dict[str, Any]:
    """An app's release of now, and how many there are."""
    current = APPS / app / "current"
    found = APPS / app / "releases"
    kept = found.iterdir() if found.is_dir() else []
    return {
        "name": app,
        "release": current.resolve().name if current.exists() else None,
        "releases": sum(not path.name.endswith(".part") for path in kept),
    }


class Machine:
    """The effects: commands, and files that may not be there."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module

    def pool(self, name: str) -> dict[str, Any]:
        """All about one pool."""
        unit = f"kechi@{name}.service"
        asked = self._out("systemctl", "show", f"--property={','.join(PROPERTIES)}", unit)
        shown = properties(asked)
        control = f"--control-socket=/run/kechi-{name}/control"
        status = self._out("/usr/local/bin/start_server", "--status", "--json", control)
        drop_in = _text(UNITS / f"{unit}.d" / "pool.conf") or ""
        apps, fault = [], ""
        file = POOLS / f"{name}.toml"
        try:
            apps = app_names(_text(file), drop_in)
        except ValueError as error:  # no TOML, no UTF-8, no apps
            fault = f"{file} can't be read: {error}"
        return {
            "name": name,
            "unit": f"{shown['ActiveState']} ({shown['SubState']})",
            "memory_max_mb": limit_mb(shown["MemoryMax"]),
            "status": json.loads(status) if status else {},
            "apps": [releases(app) for app in apps],
            "fault": fault,
        }

    def certificates(self) -> list[dict[str, Any]]:
        """What the front end's sites are served with."""
        told = self._out("/usr/local/sbin/kechi-certificates", "--json")
        found: list[dict[str, Any]] = json.loads(told) if told else []
        return found

    def _out(self, *command: str) -> str:
        """What a command prints, nothing if it fails or is not there."""
        if not self.module.get_bin_path(command[0]):
            return ""
        rc, out, _ = self.module.run_command([*command])
        return "" if rc else str(out)


def _text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None


def main() -> None:
    """Look, and tell."""
    module = AnsibleModule(argument_spec={}, supports_check_mode=True)
    machine = Machine(module)
    names = pool_names([path.name for path in UNITS.iterdir()])
    module.exit_json(
        changed=False,
        pools=[machine.pool(name) for name in names],
        certificates=machine.certificates(),
    )


if __name__ == "__main__":
    main()
