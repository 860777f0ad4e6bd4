"""Environments of apps, which may hold secrets: as systemd reads them, and in diffs."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from typing import Any

FILE = "environment"  # beside the drop-ins of a pool's unit, which systemd reads by *.conf alone
# an assignment as `lines` writes it
_IN_FILE = re.compile(r'^([^\s="]+)=("(?:[^"\\]|\\.)*")$', re.MULTILINE | re.DOTALL)
# as units had them once: the older side of a diff
_IN_UNIT = re.compile(r'^(Environment="(?!KECHI_)[^\s="]+)=(.*")$', re.MULTILINE)
_TABLE = re.compile(r"^\[apps\.environment\]\n(?:[^\[\n].*\n?)*", re.MULTILINE)
_IN_TABLE = re.compile(r"^([^=\n]+?) = (.*)$", re.MULTILINE)


def lines(environment: Mapping[str, Any]) -> str:
    """An environment as a unit's `EnvironmentFile=` has it."""
    return "".join(
        '{}="{}"\n'.format(name, re.sub(r'(["\\$`])', r"\\\1", str(value)))
        for name, value in environment.items()
    )


class Hidden:
    """Texts with a mark for each value of an environment; equal values have equal marks.

    Args:
        salt: of this run alone, or a mark would give a weak secret away.
    """

    def __init__(self, salt: bytes) -> None:
        self._salt = salt

    def pool_file(self, text: str) -> str:
        """A pool file, with its tables of environments hidden."""
        return _TABLE.sub(lambda table: _IN_TABLE.sub(self._marked, table[0]), text)

    def unit(self, text: str) -> str:
        """A drop-in of a pool's unit."""
        return _IN_UNIT.sub(self._marked, text)

    def file(self, text: str) -> str:
        """What `lines` has written."""
        return _IN_FILE.sub(self._marked, text)

    def _marked(self, found: re.Match[str]) -> str:
        value = found[2].encode("utf-8", "surrogatepass")
        mark = hmac.new(self._salt, value, hashlib.sha256).hexdigest()[:8]
        return f"{found[1]}=(hidden: {mark})"
