"""The command line by the rules of Perl's Getopt::Long, which start_server's users know.

Names in any case, one dash or two, unique abbreviations, `--x=v` and `--x v`, options anywhere
before `--`. Each wrong option has its message; all of them are found in one run.
"""

from __future__ import annotations

from .record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

FLAG, TEXT, TEXTS, INTEGER, SECONDS = "flag", "text", "texts", "integer", "seconds"
_EXPECTED = {INTEGER: "number expected", SECONDS: "seconds expected"}


class Option(Record):
    """An option: its long name, kind, what stands for its value in the help, and what it does.

    `ours` marks those that Perl's start_server lacks: they give way in abbreviations.
    """

    name: str
    kind: str
    value: str
    help: str
    ours: bool = False


class Parsed(Record):
    """What the command line said: a value by option name, the other arguments, the complaints."""

    values: dict[str, str | bool | list[str]]
    arguments: tuple[str, ...]
    problems: tuple[str, ...]

    def flag(self, name: str) -> bool:
        """Tell whether this flag was given."""
        return self.values.get(name) is True

    def text(self, name: str) -> str | None:
        """Return a value, or None when it wasn't given."""
        value = self.values.get(name)
        return value if isinstance(value, str) else None

    def texts(self, name: str) -> tuple[str, ...]:
        """Return all values of an option that may be repeated, in order."""
        value = self.values.get(name)
        return tuple(value) if isinstance(value, list) else ()

    def number(self, name: str) -> float | None:
        """Return a number that `parse` has checked, or None when it wasn't given."""
        text = self.text(name)
        return None if text is None else float(text)


def _find(options: Sequence[Option], typed: str) -> list[Option]:
    """Return the options that a typed name may mean: one, none or (ambiguous) several."""
    name = typed.lower()
    exact = [option for option in options if option.name == name]
    if exact:
        return exact
    near = [option for option in options if option.name.startswith(name)]
    return [option for option in near if not option.ours] or near


def _is(kind: str, value: str) -> bool:
    if kind == INTEGER:
        digits = value[1:] if value[:1] in ("+", "-") else value
        return digits.isascii() and digits.isdecimal()
    if kind == SECONDS:
        whole, dot, part = value.partition(".")
        return value.isascii() and whole.isdecimal() and (part.isdecimal() if dot else True)
    return True


def parse(options: Sequence[Option], argv: Sequence[str]) -> Parsed:
    """Read a command line; never raises: what is wrong is in `problems`."""
    values: dict[str, str | bool | list[str]] = {}
    arguments: list[str] = []
    problems: list[str] = []
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        if word == "--":
            arguments += rest
            break
        if not word.startswith("-") or word == "-":
            arguments.append(word)
            continue
        typed, equals, value = word.removeprefix("-").removeprefix("-").partition("=")
        found = _find(options, typed) if typed else []
        if len(found) != 1:
            names = ", ".join(sorted(option.name for option in found))
            problems.append(
                f"Option {typed} is ambiguous ({names})" if found else f"Unknown option: {typed}"
            )
            continue
        option = found[0]
        if option.kind == FLAG:
            if equals:
                problems.append(f"Option {typed} does not take an argument")
            values[option.name] = True
            continue
        if not value and (equals or not rest):
            problems.append(f"Option {typed} requires an argument")
            continue
        value = value if equals else rest.pop(0)
        if not _is(option.kind, value):
            expected = _EXPECTED[option.kind]
            problems.append(f'Value "{value}" invalid for option {typed} ({expected})')
        elif option.kind == TEXTS:
            kept = values.setdefault(option.name, [])
            assert isinstance(kept, list)
            kept.append(value)
        else:
            values[option.name] = value
    return Parsed(values, tuple(arguments), tuple(problems))


def describe(options: Sequence[Option]) -> str:
    """Return the options' part of a help text."""
    lines = []
    for option in options:
        left = f"  --{option.name}" + (f"={option.value}" if option.value else "")
        lines.append(f"{left}\n        {option.help}")
    return "\n".join(lines)
