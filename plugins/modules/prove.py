#!/usr/bin/python
"""Documentation of the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = """
module: prove
short_description: Restart a machine's pools under load from here, and leave a report
version_added: 0.1.0
description:
  - Asks the sites of a machine all the time, as visitors do, while M(kechi.vps.pool_restarts)
    restarts their pools there. Fails where a request failed, a pool took more than its budget, or
    its workers shared too little, and leaves a report of each request either way.
  - Refuses before it does anything where a pool or an app is not on the machine, or a site is not
    healthy.
  - What it takes is in the variables C(prove_...), which C(docs/harness.md) lists; the playbook
    C(prove.yml) asks before it starts.
options:
  found:
    description: What M(kechi.vps.pool_info) has returned.
    type: dict
    required: true
attributes:
  check_mode:
    support: full
    description: Looks at each site once, and says what would be done.
author: the kechi.vps authors (!UNKNOWN)
"""

EXAMPLES = """
- name: Look at the pools
  kechi.vps.pool_info:
  register: found

- name: Prove that they restart without losing a request
  kechi.vps.prove:
    found: "{{ found }}"
"""

RETURN = """
plan:
  description: What is done, or would be, as lines for a person.
  returned: always
  type: list
  elements: str
report:
  description: The page on the control machine.
  returned: when it was not in check mode
  type: str
"""
