"""Write the part of each role's README that says what its variables are: `make docs`.

It comes from ``meta/argument_specs.yml`` and stands between two marks; the text around them is
written by hand. A role without a README gets one.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

ROLES = Path(__file__).resolve().parents[1] / "roles"
BEGIN = "<!-- from meta/argument_specs.yml, by `make docs`: begin -->"
END = "<!-- from meta/argument_specs.yml, by `make docs`: end -->"
_MARK = re.compile(f"{re.escape(BEGIN)}|{re.escape(END)}")

Option = Mapping[str, Any]

# the markup of Ansible's documentation that the specs use
_CODE = re.compile(r"\b[COVMPE]\(((?:[^()\\]|\\.)*)\)")
_BOLD = re.compile(r"\bB\(([^()]*)\)")
_ITALIC = re.compile(r"\bI\(([^()]*)\)")
_LINK = re.compile(r"\bL\(([^(),]*), *([^()]*)\)")
_PLAIN_LINK = re.compile(r"\bU\(([^()]*)\)")
_SPECIAL = re.compile(r"[*<]")


def section(spec: Option) -> str:
    """The generated part: what the role does, and a table of its variables at each level."""
    told = [_text(paragraph) for paragraph in _paragraphs(spec.get("description"))]
    return "\n\n".join([*told, "## Variables", *_tables("", spec.get("options") or {})])


def readme(role: str, before: str | None, spec: Option) -> str:
    """The whole README of a role: what stands there already, around the generated part.

    Raises:
        ValueError: the file has no such part, or half of its marks.
    """
    part = f"{BEGIN}\n\n{section(spec)}\n\n{END}"
    if before is None:
        return f"# kechi.vps.{role}\n\n{part}\n"
    if _MARK.findall(before) != [BEGIN, END]:
        raise ValueError(f"roles/{role}/README.md needs these two lines, once:\n{BEGIN}\n{END}")
    head, _, rest = before.partition(BEGIN)
    return head + part + rest.partition(END)[2]


def drift(roles: Path) -> dict[Path, str]:
    """The READMEs that are not what the specs say, each with what it should be."""
    wanted = {}
    for specs in sorted(roles.glob("*/meta/argument_specs.yml")):
        role = specs.parents[1]
        spec = yaml.safe_load(specs.read_text(encoding="utf-8"))["argument_specs"]["main"]
        path = role / "README.md"
        before = path.read_text(encoding="utf-8") if path.exists() else None
        after = readme(role.name, before, spec)
        if after != before:
            wanted[path] = after
    return wanted


def _tables(prefix: str, options: Mapping[str, Option]) -> Iterator[str]:
    """The table of one mapping's keys, then those of the mappings in it, each under its name."""
    rows = ["| name | type | default | what it is |", "| --- | --- | --- | --- |"]
    for name, option in options.items():
        cells = (f"`{name}`", _type(prefix + name, option), _default(option), _meaning(option))
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    yield "\n".join(rows)
    for name, option in options.items():
        if option.get("options"):
            place = _place(prefix + name, option)
            yield f"### `{place}`"
            yield from _tables(f"{place}.", option["options"])


def _place(path: str, option: Option) -> str:
    return f"{path}[]" if option.get("type") == "list" else path


def _type(path: str, option: Option) -> str:
    kind = str(option.get("type", "str"))
    if kind == "list":
        kind = f"list of {option.get('elements', 'raw')}"
    if option.get("choices"):
        return f"{kind}: {', '.join(f'`{choice}`' for choice in option['choices'])}"
    if not option.get("options"):
        return kind
    # as Markdown's renderers name a heading
    anchor = re.sub(r"[^\w-]", "", _place(path, option).lower())
    return f"[{kind}](#{anchor})"


def _default(option: Option) -> str:
    if option.get("required"):
        return "**required**"
    if option.get("default") is None:
        return ""
    return f"`{json.dumps(option['default'], ensure_ascii=False)}`"


def _meaning(option: Option) -> str:
    return " ".join(_text(paragraph) for paragraph in _paragraphs(option.get("description")))


def _paragraphs(value: str | list[str] | None) -> list[str]:
    found = [value] if isinstance(value, str) else value or []
    return [" ".join(paragraph.split()) for paragraph in found]


def _text(paragraph: str) -> str:
    """Ansible's markup as Markdown; what Markdown would take for its own is escaped."""
    done, place = [], 0
    for code in _CODE.finditer(paragraph):
        done += [_prose(paragraph[place : code.start()]), f"`{code[1]}`"]
        place = code.end()
    return "".join([*done, _prose(paragraph[place:])])


def _prose(text: str) -> str:
    text = _SPECIAL.sub(r"\\\g<0>", text)
    text = _BOLD.sub(r"**\1**", text)
    text = _ITALIC.sub(r"*\1*", text)
    text = _LINK.sub(r"[\1](\2)", text)
    return _PLAIN_LINK.sub(r"\1", text)


def main() -> int:
    """Write what has drifted."""
    try:
        wanted = drift(ROLES)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    for path, text in wanted.items():
        path.write_text(text, encoding="utf-8")
        print(f"wrote {path.relative_to(ROLES.parent)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
