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
author: the kechi.vps authors (!UNKNOWN)
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

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import units


def main() -> None:
    """Compare, then act."""
    module = AnsibleModule(
        argument_spec={
            "units": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": units.OPTIONS,
            }
        },
        supports_check_mode=True,
    )
    behind = units.bring_up_to_date(module, module.params["units"])
    module.exit_json(changed=bool(behind), units=behind)


if __name__ == "__main__":
    main()
