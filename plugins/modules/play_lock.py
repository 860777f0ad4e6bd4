#!/usr/bin/python
"""One play at a time changes a machine. What it does is `module_utils/play_lock.py`'s."""

from __future__ import annotations

DOCUMENTATION = """
module: play_lock
short_description: Let no other play change a machine until this one has ended
version_added: 0.1.0
description:
  - Another play that wants to take the machine is refused, and told who has it and since when.
  - A play of the same control machine whose process has ended is taken over from, and so is any
    other one some minutes after its last task, or at once with C(-e play_lock_take_over=true).
  - A task of it that goes on is waited for, for a minute.
options:
  state:
    description: C(held) - take the machine. C(released) - give it back, at the end of the play.
    type: str
    choices: [held, released]
    default: held
extends_documentation_fragment:
  - kechi.vps.play_lock
attributes:
  check_mode:
    support: full
    description: Takes no lock; a play that is under way is warned of.
author: the kechi.vps authors (!UNKNOWN)
"""

EXAMPLES = """
- name: Lock the machine for this play
  kechi.vps.play_lock:

- name: Unlock the machine
  kechi.vps.play_lock:
    state: released
"""

RETURN = """
held_by:
  description: The play that has the machine; for the action plugin, which says so or fails.
  returned: where another one has it
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import play_lock


def main() -> None:
    """Take it."""
    state = {"type": "str", "choices": ["held", "released"], "default": "held"}
    module = AnsibleModule(
        argument_spec={"state": state, **play_lock.OPTIONS}, supports_check_mode=True
    )
    held_by = play_lock.take(module)
    module.exit_json(changed=False, held_by=held_by)


if __name__ == "__main__":
    main()
