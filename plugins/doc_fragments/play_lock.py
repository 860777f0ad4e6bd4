"""What modules have in common that take a machine for a play."""


class ModuleDocFragment:
    """``extends_documentation_fragment: kechi.vps.play_lock``."""

    DOCUMENTATION = """
options:
  play:
    description: This play, as the action plugin describes it; not to be given.
    type: dict
    default: {}
  take_over:
    description: The token of a play that has ended, from the action plugin; not to be given.
    type: str
    default: ""
"""
