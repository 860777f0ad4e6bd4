"""The text of a pool file, and in which line of it something is said. Pure."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass

STEP = re.compile(r"\w[\w-]*|\[\d+\]", re.ASCII)


@dataclass(frozen=True, slots=True)
class Source:
    """A pool file's name and text, which is TOML."""

    name: str
    text: str

    def where(self, place: str) -> str:
        """Return `file:line` for a place such as `apps[1].hosts`: of its parent, where it is not.

        tomllib keeps no lines, so this reads the file in longer and longer parts, each one whole
        statements, until the place is there.
        """
        steps = STEP.findall(place)
        while steps:
            if line := self._line_of(steps):
                return f"{self.name}:{line}"
            steps.pop()
        return self.name

    def _line_of(self, steps: list[str]) -> int | None:
        lines = self.text.splitlines(keepends=True)
        begin = 1  # of the statement that is being read
        for number in range(1, len(lines) + 1):
            try:
                document = tomllib.loads("".join(lines[:number]))
            except tomllib.TOMLDecodeError:
                continue
            if _has(document, steps):
                return begin
            begin = number + 1
        return None


def _has(found: object, steps: list[str]) -> bool:
    for step in steps:
        if step.startswith("["):
            index = int(step[1:-1])
            if not isinstance(found, list) or index >= len(found):
                return False
            found = found[index]
        else:
            if not isinstance(found, Mapping) or step not in found:
                return False
            found = found[step]
    return True
