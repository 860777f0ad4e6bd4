"""Two apps that need two versions of a library, as far as their requirements.txt say so.

A pool has one virtualenv, so one version is installed. An app whose need that doesn't meet is
refused when it is there for a neighbour's sake; a need that nobody contradicts is the app's affair.
"""

import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

Release = tuple[int, ...]  # 1.2.3 as numbers

REQUIREMENTS = "requirements.txt"
# name[extra]>=1.2,<2: the part of PEP 508 that files are written in by hand, or frozen to
LINE = re.compile(
    r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)\s*(\[[^]]*\])?\s*"
    r"(?P<wanted>((===|==|~=|!=|<=|>=|<|>)\s*[A-Za-z0-9.*+!_-]+\s*,?\s*)*)",
    re.ASCII,
)
COMPARISONS: dict[str, Callable[[Release, Release], bool]] = {
    "===": operator.eq,
    "==": operator.eq,
    "!=": operator.ne,
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}


@dataclass(frozen=True, slots=True)
class Need:
    """A line of an app's requirements, of a library that is installed."""

    text: str
    where: str  # file:line
    library: str  # its canonical name
    installed: str  # its version
    met: bool


def clashes(apps: Mapping[str, Sequence[Need]]) -> dict[str, str]:
    """Return a sentence for each app that needs another version than a neighbour has. Pure."""
    met = {need.library: (app, need) for app, needs in apps.items() for need in needs if need.met}
    found: dict[str, str] = {}
    for app, needs in apps.items():
        for need in needs:
            if not need.met and need.library in met:
                other, others = met[need.library]
                found.setdefault(
                    app,
                    f"it needs {need.text} ({need.where}), and the virtualenv has {need.installed},"
                    f" which the app {other} needs ({others.text}, {others.where}): a pool has"
                    " one virtualenv, for isolated apps, too; move one of them to another pool",
                )
    return found


def needs(directory: Path) -> Iterator[Need]:
    """Yield what an app's requirements say of installed libraries; nothing, where it has none."""
    file = directory / REQUIREMENTS
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return
    for number, line in enumerate(lines, 1):
        text = line.partition(" #")[0].partition(" --")[0].rstrip("\\ ")
        found = LINE.fullmatch(text)
        if found is None:
            continue  # pip's options, a comment, a file's name, a marker
        try:
            installed = metadata.version(found["name"])
        except metadata.PackageNotFoundError:
            continue  # an import will say it
        name = re.sub(r"[-_.]+", "-", found["name"]).lower()
        yield Need(text, f"{file}:{number}", name, installed, meets(installed, found["wanted"]))


def meets(version: str, wanted: str) -> bool:
    """Tell whether a version is within `>=2,<3`; what is not plain numbers is taken to be.

    The rules are those of PEP 440, of which pip knows more. Pure.
    """
    has = _numbers(version)
    return has is None or all(
        _meets(has, part) for part in wanted.replace(" ", "").split(",") if part
    )


def _meets(has: Release, part: str) -> bool:
    number = part.lstrip("=~!<>")
    compared = part[: -len(number)]
    series = part.endswith(".*")
    limit = _numbers(number.removesuffix(".*"))
    if limit is None:
        return True
    if series or compared == "~=":
        same = limit if series else limit[:-1]
        within = has[: len(same)] == same
        return not within if compared == "!=" else within and (series or has >= limit)
    return COMPARISONS[compared](_padded(has, limit), _padded(limit, has))


def _numbers(version: str) -> Release | None:
    """Return 1.2.3 as numbers, or None for a version with more to it, as release candidates."""
    parts = version.split(".")
    return tuple(map(int, parts)) if all(part.isdecimal() for part in parts) else None


def _padded(one: Release, other: Release) -> Release:
    return one + (0,) * (len(other) - len(one))
