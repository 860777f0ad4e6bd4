"""What a role's variables must look like, and every way in which they do not.

The types are Ansible's own (the ``argument_specs`` of each role); the sentences are ours, because
they have to name the value, what is allowed and where it was set, for every mistake at once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ansible.module_utils.common.validation import (
    check_type_bool,
    check_type_dict,
    check_type_float,
    check_type_int,
    check_type_list,
)

Spec = Mapping[str, Mapping[str, object]]

MISSING = object()
HIDDEN = "(hidden)"  # what stands for a secret


@dataclass(frozen=True)
class Kind:
    """One type of a spec: how Ansible reads it, and how a person calls it."""

    words: str
    read: Callable[[object], object]


def _text(value: object) -> str:
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        return str(value)
    raise TypeError


KINDS: Mapping[str, Kind] = {
    "str": Kind("a text", _text),
    "path": Kind("a path", _text),
    "int": Kind("a whole number", check_type_int),
    "float": Kind("a number", check_type_float),
    "bool": Kind("true or false", check_type_bool),
    "list": Kind("a list", check_type_list),
    "dict": Kind("a mapping", check_type_dict),
    "raw": Kind("anything", lambda value: value),
}


def where_set(value: object) -> str:
    """``file:line`` that a value of the inventory came from, or "" where Ansible does not say."""
    try:
        from ansible._internal._datatag._tags import Origin  # noqa: PLC0415 - private, and may go
    except ImportError:
        return ""
    origin = Origin.get_tag(value)
    if origin is None or not origin.path:
        return ""
    path = Path(origin.path)
    here = Path.cwd()
    shown = path.relative_to(here) if path.is_relative_to(here) else path
    return f"{shown}:{origin.line_num}" if origin.line_num else str(shown)


def shown(value: object) -> str:
    """A value as a person would have written it, short enough for one line."""
    try:
        text = json.dumps(value, ensure_ascii=False, default=str)
    except (TypeError, ValueError):
        text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."  # noqa: PLR2004


def problem(
    path: str, value: object, fault: str, container: object = None, *, secret: bool = False
) -> str:
    """One sentence: the place in the inventory, what was found, what is allowed, file and line."""
    seen = HIDDEN if secret else shown(value)
    found = "is missing" if value is MISSING else f"{seen} {fault}"
    tail = f"; {fault}" if value is MISSING else ""
    place = where_set(value) or where_set(container)
    return f"{path}: {found}{tail}" + (f" (set in {place})" if place else "")


def problems(spec: Spec, values: Mapping[str, object]) -> list[str]:
    """Every way in which the values break the spec of a role (``argument_specs.*.options``)."""
    return [
        sentence
        for name, option in spec.items()
        for sentence in _check(name, option, values.get(name, MISSING), values)
    ]


def unknown(role: str, spec: Spec, names: Mapping[str, object]) -> list[str]:
    """Variables that carry the role's prefix and that the role does not know: misspelt ones."""
    return [
        problem(name, value, f"is not a known setting; known: {', '.join(sorted(spec))}")
        for name, value in names.items()
        if name.startswith(f"{role}_") and name not in spec
    ]


def _check(
    path: str, option: Mapping[str, object], value: object, container: object
) -> Iterator[str]:
    kind = KINDS[str(option.get("type", "str"))]
    if value is MISSING or value is None:
        if option.get("required"):
            yield problem(path, MISSING, f"{kind.words} is required", container)
        return
    try:
        read = kind.read(value)
    except (TypeError, ValueError):
        secret = bool(option.get("no_log"))
        yield problem(path, value, f"is not {kind.words}", container, secret=secret)
        return
    choices = option.get("choices")
    if isinstance(choices, list) and not isinstance(read, list) and read not in choices:
        yield problem(path, value, f"is not one of {', '.join(map(str, choices))}", container)
    if isinstance(read, list):
        if isinstance(value, str):
            yield problem(path, value, "is not a list", container)
            return
        own = {key: option[key] for key in ("options", "choices") if key in option}
        element: dict[str, object] = {"type": option.get("elements", "raw"), **own}
        for number, item in enumerate(read):
            yield from _check(f"{path}[{number}]", element, item, value)
    elif isinstance(read, dict) and "options" in option:
        yield from _check_mapping(path, option["options"], read)


def _check_mapping(path: str, options: object, value: dict[str, object]) -> Iterator[str]:
    assert isinstance(options, dict)
    for key, item in value.items():
        if key not in options:
            allowed = ", ".join(sorted(options))
            yield problem(f"{path}.{key}", item, f"is not a known setting; known: {allowed}", value)
    for key, option in options.items():
        yield from _check(f"{path}.{key}", option, value.get(key, MISSING), value)
