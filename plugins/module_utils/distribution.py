"""Which distribution a machine has, and whether this collection can do anything for it.

Read on the target before all else, by its own Python, which may be an old one: nothing here is
newer than Python 3.9, which ansible-core asks for itself.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping

OS_RELEASE = "/etc/os-release"
PYTHON = "/usr/bin/python3"  # which start_server and its like run by
OLDEST_PYTHON = (3, 11)
# the first releases with that Python, with systemd 252, and with an nginx (1.19.4) that can end TLS
# for names that no site has
OLDEST = {"debian": (12,), "ubuntu": (24, 4)}
ALLOWED = "allowed: Debian 12 or newer, Ubuntu 24.04 or newer"


def read(text: str) -> dict[str, str]:
    """What an os-release file says; lines that say nothing are left out."""
    found = {}
    for line in text.splitlines():
        name, equals, value = line.strip().partition("=")
        if equals and not name.startswith("#"):
            try:
                found[name] = "".join(shlex.split(value))
            except ValueError:  # a quote without an end
                continue
    return found


def fault(found: Mapping[str, str], python: tuple[int, ...]) -> str:
    """Why a machine can't be one of ours; "" where it can.

    Args:
        found: its os-release.
        python: the version of its own Python; () where it has none.
    """
    name = found.get("PRETTY_NAME") or found.get("ID") or "a system without /etc/os-release"
    oldest = OLDEST.get(found.get("ID", ""))
    version = _version(found.get("VERSION_ID", ""))
    # a release to come, such as Debian's testing, has no number yet
    if oldest and version and version < oldest:
        return (
            f'this machine has "{name}", whose Python, systemd and nginx are too old for this'
            f" collection; {ALLOWED}"
        )
    if python < OLDEST_PYTHON:
        shown = f"is Python {'.'.join(map(str, python))}" if python else "is not there"
        wanted = ".".join(map(str, OLDEST_PYTHON))
        return f'this machine has "{name}", and {PYTHON} {shown}; allowed: {wanted} or newer'
    return ""


def is_known(found: Mapping[str, str]) -> bool:
    """Whether anybody has tried this distribution."""
    return found.get("ID", "") in OLDEST


def _version(text: str) -> tuple[int, ...]:
    numbers = text.split(".")
    return tuple(map(int, numbers)) if all(number.isdecimal() for number in numbers) else ()
