"""systemd's fd store: it keeps the sockets that we made, and hands them to our successor.

So a super-daemon that was killed leaves its listening sockets open: connections wait for the next
one. A name in the store tells that a socket is ours, and which file at its path goes with it.
"""

from __future__ import annotations

import os

from .effects import say
from .unixpath import Made

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from .sdnotify import Notifier

_PREFIX = "start_server-"


def name_of(fd: int, made: Made | None) -> str:
    """Return the name under which a socket of ours is stored; `made` is the file at its path."""
    own = f"{_PREFIX}{os.fstat(fd).st_ino}"
    return f"{own}-{made.device}-{made.inode}" if made else own


def is_ours(name: str, fd: int) -> bool:
    """Tell whether an inherited socket was stored by one of us: then its name has its inode."""
    words = name.removeprefix(_PREFIX).split("-")
    wellformed = all(word.isdecimal() for word in words) and len(words) in (1, 3)
    return name.startswith(_PREFIX) and wellformed and int(words[0]) == os.fstat(fd).st_ino


def made_at(name: str, path: str) -> Made | None:
    """Return the file at the path of a socket that is ours, as its name tells."""
    _socket, *file = _numbers(name)
    return Made(path, *file) if file else None


def _numbers(name: str) -> list[int]:
    return [int(word) for word in name.removeprefix(_PREFIX).split("-")]


def keep(notifier: Notifier, sockets: Iterable[tuple[str, int]]) -> None:
    """Have systemd keep these sockets, by name; a failure is said, and no reason not to serve."""
    for name, fd in sockets:
        # FDPOLL=0: an error that is pending on a UDP socket is no reason to drop it.
        _tell(notifier, f"FDSTORE=1\nFDPOLL=0\nFDNAME={name}", fd)


def forget(notifier: Notifier, names: Iterable[str]) -> None:
    """Have systemd close these."""
    for name in names:
        _tell(notifier, f"FDSTOREREMOVE=1\nFDNAME={name}")


def _tell(notifier: Notifier, text: str, *fds: int) -> None:
    try:
        notifier.send(text, fds)
    except OSError as error:
        say(f"failed to tell systemd {text.splitlines()[0]}: {error.strerror}")
