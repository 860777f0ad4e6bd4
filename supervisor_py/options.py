"""The command line by the rules of Perl's Getopt::Long, which start_server's users know.

Names in any case, after one dash, two, or a plus; unique abbreviations; `--x=v` and `--x v`;
options anywhere before `--`. Each wrong option has its message; all are found in one run.
"""

from __future__ import annotations

from .record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

FLAG, TEXT, TEXTS, INTEGER, SECONDS = "flag", "text", "texts", "integer", "seconds"
_MOST_DIGITS = 18  # of an integer: more than 64 bits hold are no number of anything
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


def _split(word: str) -> tuple[str, str, str | None] | None:
    """Return what begins an option, its name and its value; None for another argument."""
    for starter in ("--", "-", "+"):
        if word.startswith(starter):
            # From the second letter on: a name can't be empty.
            name, equals, value = word[len(starter) + 1 :].partition("=")
            first = word[len(starter) : len(starter) + 1]
            return starter, first + name, value if equals else None
    return None


def _find(options: Sequence[Option], name: str, given: bool) -> list[Option]:
    """Return the options that a typed name may mean: one, none or (ambiguous) several.

    `given` tells that it has a value, so that `--status=FILE` still is Perl's --status-file.
    """
    exact = [option for option in options if option.name == name]
    if exact and not (exact[0].ours and exact[0].kind == FLAG and given):
        return exact
    near = [option for option in options if option.name.startswith(name)]
    return [option for option in near if not option.ours] or exact or near


def _number(value: str) -> str | None:
    """Return an integer in plain digits; None when it is none. It may have a sign and `_`."""
    value = value.removesuffix("\n")
    digits = value.removeprefix("-") if value.startswith("-") else value.removeprefix("+")
    plain = digits.replace("_", "")
    if not (plain.isascii() and plain.isdecimal() and len(plain) <= _MOST_DIGITS):
        return None
    return str(-int(plain) if value.startswith("-") else int(plain))


def _seconds(value: str) -> str | None:
    whole, dot, part = value.partition(".")
    right = value.isascii() and whole.isdecimal() and (part.isdecimal() if dot else True)
    return value if right else None


class _Reading:
    """A command line that is being read."""

    def __init__(self, options: Sequence[Option], argv: Sequence[str]) -> None:
        self._options = options
        self._rest = list(argv)
        self.values: dict[str, str | bool | list[str]] = {}
        self.arguments: list[str] = []
        self.problems: list[str] = []

    def read(self) -> None:
        while self._rest:
            word = self._rest.pop(0)
            if word == "--":
                self.arguments += self._rest
                break
            split = None if word == "-" else _split(word)
            if split is None:
                self.arguments.append(word)
            else:
                self._option(*split)

    def _option(self, starter: str, typed: str, value: str | None) -> None:
        name = typed.lower()
        if not name:
            self.problems.append(f"Missing option after {starter}")
            return
        found = _find(self._options, name, value is not None)
        if not found:
            self.problems.append(f"Unknown option: {name}")
        elif len(found) > 1:
            names = ", ".join(sorted(option.name for option in found))
            self.problems.append(f"Option {name} is ambiguous ({names})")
        elif found[0].kind == FLAG:
            self.values[found[0].name] = True
            if value is not None:
                self.problems.append(f"Option {found[0].name} does not take an argument")
        elif value == "" or (value is None and not self._rest):
            self.problems.append(f"Option {found[0].name} requires an argument")
        else:
            self._keep(found[0], self._rest.pop(0) if value is None else value)

    def _keep(self, option: Option, value: str) -> None:
        read = {INTEGER: _number, SECONDS: _seconds}.get(option.kind)
        kept = read(value) if read else value
        if kept is None:
            expected = _EXPECTED[option.kind]
            self.problems.append(f'Value "{value}" invalid for option {option.name} ({expected})')
        elif option.kind == TEXTS:
            values = self.values.setdefault(option.name, [])
            assert isinstance(values, list)
            values.append(kept)
        else:
            self.values[option.name] = kept


def parse(options: Sequence[Option], argv: Sequence[str]) -> Parsed:
    """Read a command line; never raises: what is wrong is in `problems`."""
    reading = _Reading(options, argv)
    reading.read()
    return Parsed(reading.values, tuple(reading.arguments), tuple(reading.problems))


def describe(options: Sequence[Option]) -> str:
    """Return the options' part of a help text."""
    lines = []
    for option in options:
        left = f"  --{option.name}" + (f"={option.value}" if option.value else "")
        lines.append(f"{left}\n        {option.help}")
    return "\n".join(lines)
