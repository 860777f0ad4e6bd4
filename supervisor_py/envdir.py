"""A directory of environment variables: one file each, its first line the value."""

from __future__ import annotations

import os

_MOST = 131072  # bytes of a value; execve takes no more


def read(directory: str) -> dict[str, str]:
    """Return the variables of an envdir; none when it is missing.

    Dot files, directories, empty and unreadable files and impossible names are passed over, as in
    Perl's start_server. Raises OSError when the directory itself can't be read.
    """
    values = {}
    try:
        names = os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    for name in names:
        if name.startswith(".") or "=" in name:
            continue
        try:
            # Not blocking: a FIFO in the directory must not stop the super-daemon.
            fd = os.open(f"{directory}/{name}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            content = os.read(fd, _MOST)
        except OSError:
            continue
        finally:
            os.close(fd)
        if content:
            values[name] = os.fsdecode(content.partition(b"\n")[0].partition(b"\0")[0])
    return values
