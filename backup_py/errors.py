"""What goes wrong, in sentences for an administrator."""


class BackupError(Exception):
    """One thing could not be done; the message says which and why."""
