"""The packages of this machine, without apt's cache, which takes a second to open."""

from __future__ import annotations

import glob

QUERY = ("dpkg-query", "--show", "--showformat=${db:Status-Status} ${Package} ${Version}\n")
LISTS = "/var/lib/apt/lists/*_Packages*"


def installed(shown: str) -> dict[str, str]:
    """The version of each package that is there whole, by what `QUERY` shows."""
    rows = (line.split(" ") for line in shown.splitlines())
    return {row[1]: row[2] for row in rows if row[0] == "installed"}


def has_lists(lists: str = LISTS) -> bool:
    """Whether package lists were ever fetched; their directory alone can be as new as they."""
    return bool(glob.glob(lists))  # noqa: PTH207


def blindness(lists: str = LISTS) -> str:
    """Why apt's check mode can't tell what it would install; "" where it can."""
    try:
        import apt  # type: ignore[import-not-found]  # noqa: F401, PLC0415 - the distribution's
    except ImportError:
        return "python3-apt is not installed yet"
    return "" if has_lists(lists) else "its package lists were never fetched"
