#!/usr/bin/python
"""Which packages are missing. The action plugin has apt install those."""

from __future__ import annotations

DOCUMENTATION = """
module: packages
short_description: Have the distribution's packages, without opening apt's cache when all are there
version_added: 0.1.0
description:
  - Asks dpkg, and only for what is missing M(ansible.builtin.apt), which fetches the package lists
    where there are none or they are older than an hour, and installs without what is merely
    recommended.
  - Packages that are there are not upgraded.
  - In check mode a machine whose package lists were never fetched, or that has no python3-apt, is
    told what would be installed; whether the packages exist can't be known there.
options:
  names:
    description: The packages, as apt takes them.
    type: list
    elements: str
    required: true
  known:
    description: >-
      The version of each installed package, as M(kechi.vps.machine_facts) returns them. Where it
      has all of O(names), nobody is asked.
    type: dict
    default: {}
attributes:
  check_mode:
    support: full
    description: Says what would be installed.
  diff_mode:
    support: full
    description: Shows the packages that are installed.
author: the kechi.vps authors (!UNKNOWN)
"""

EXAMPLES = """
- name: Install nginx
  kechi.vps.packages:
    names: [nginx]
"""

RETURN = """
versions:
  description: The version of each package that is installed.
  returned: always
  type: dict
missing:
  description: The packages that were not there.
  returned: always
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import dpkg


def main() -> None:
    """Ask dpkg."""
    module = AnsibleModule(
        argument_spec={
            "names": {"type": "list", "elements": "str", "required": True},
            "known": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    _, shown, _ = module.run_command([*dpkg.QUERY], check_rc=True)
    names = module.params["names"]
    found = dpkg.installed(shown)
    missing = [name for name in names if name not in found]
    module.exit_json(
        changed=False,
        versions={name: found[name] for name in names if name in found},
        missing=missing,
        has_lists=dpkg.has_lists(),
        blind=dpkg.blindness() if missing and module.check_mode else "",
    )


if __name__ == "__main__":
    main()
