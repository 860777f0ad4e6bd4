#!/usr/bin/python
"""Documentation of the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = """
module: check_settings
short_description: Check the variables of this collection's roles before anything changes
version_added: 0.1.0
description:
  - Compares the variables with the roles' C(meta/argument_specs.yml), then with what types can't
    say (two apps with one host, a memory limit over the machine's).
  - Fails with every problem at once. Each names the variable, its value, what is allowed, and the
    file and line it was set in.
  - Runs on the control machine, and changes nothing.
options:
  roles:
    description: The roles to check.
    type: list
    elements: str
    required: true
author: the kechi.vps authors (!UNKNOWN)
"""

EXAMPLES = """
- name: Check the inventory
  kechi.vps.check_settings:
    roles: [host, swap, supervisor, vhost_app, frontend]
"""

RETURN = """
memory_budget:
  description: What the pools may take of the machine's memory, as the lines of a table.
  returned: when the role vhost_app is among O(roles), and the machine's memory is known
  type: list
  elements: str
"""
