"""Which group of a robots.txt a crawler obeys, and what that says of a path: RFC 9309.

Protego knows how a rule matches a path, and which of several wins. It tells neither the group nor
the rule; and it takes a group for a crawler's whose name only begins like it, which RFC 9309 does
not. So the groups are read here, and Protego is asked of one alone.
"""

import re
import string
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from urllib.parse import quote

from protego import Protego

from . import known
from .known import Manners

MOST_BYTES = 500 * 1024  # RFC 9309, 2.5: what a crawler has to read; many read no more
STAR = "*"
ITSELF = "/robots.txt"
_ALLOW, _DISALLOW, _DELAY, _AGENT = "allow", "disallow", "crawl-delay", "user-agent"
_TOKEN = re.compile(r"[A-Za-z0-9_.!-]+")
# In a rule these are themselves; anything else is written in % and two digits.
_PLAIN = "".join(set(string.printable) - set(string.whitespace) - {"#"})
_RFC = "RFC 9309"


@dataclass(frozen=True, slots=True)
class Rule:
    """A line that allows or disallows."""

    line: int
    kind: str
    path: str

    def __str__(self) -> str:
        return f"{self.kind.capitalize()}: {self.path}"


@dataclass(frozen=True)
class Group:
    """Names, and the rules that follow them. `lines` are those of the names."""

    names: tuple[str, ...]
    lines: tuple[int, ...]
    rules: tuple[Rule, ...]
    delay: float | None = None


@dataclass(frozen=True, slots=True)
class File:
    """A robots.txt."""

    groups: tuple[Group, ...]
    cut: bool = False

    def named(self, name: str) -> "Obeyed | None":
        """Return all groups of a name as one (2.2.1); None when there is none."""
        found = [group for group in self.groups if name.lower() in group.names]
        if not found:
            return None
        lines = tuple(
            line
            for group in found
            for known_name, line in zip(group.names, group.lines, strict=True)
            if known_name == name.lower()
        )
        rules = tuple(rule for group in found for rule in group.rules)
        delays = [group.delay for group in found if group.delay is not None]
        return Obeyed(name, lines, rules, delays[0] if delays else None)


@dataclass(frozen=True)
class Obeyed:
    """The rules that a name stands for, of all its groups."""

    name: str
    lines: tuple[int, ...]
    rules: tuple[Rule, ...]
    delay: float | None

    @cached_property
    def _protego(self) -> Protego:
        return _protego((rule.kind, rule.path) for rule in self.rules)

    def allows(self, path: str) -> bool:
        """Tell whether a path may be fetched."""
        return self._protego.can_fetch(f"http://host{path}", STAR)

    def deciding(self, path: str) -> Rule | None:
        """Return the rule that decides on a path; None when none matches it."""
        kind = _ALLOW if self.allows(path) else _DISALLOW
        matching = [rule for rule in self.rules if rule.kind == kind and matches(rule, path)]
        return max(matching, key=lambda rule: len(rule.path), default=None)


@dataclass(frozen=True, slots=True)
class Explanation:
    """What a crawler may do with a path, and why. `obeyed` is None when no group is for it."""

    agent: str
    path: str
    allowed: bool
    obeyed: Obeyed | None
    rule: Rule | None
    reasons: tuple[str, ...]
    delay: float | None
    delay_reason: str
    opt_out: str
    sources: tuple[str, ...]


def parse(content: bytes) -> File:
    """Read a robots.txt; whatever is none of it is passed over (2.2.4)."""
    text = content[:MOST_BYTES].decode("utf-8-sig", "replace")
    groups: list[Group] = []
    names: list[tuple[str, int]] = []
    rules: list[Rule] = []
    delay: float | None = None
    open_ = False  # whether a rule has closed the list of names

    def close() -> None:
        if names:
            group_names, lines = zip(*names, strict=True)
            groups.append(Group(group_names, lines, tuple(rules), delay))

    for number, line in enumerate(re.split(r"\r\n|\r|\n", text), 1):
        key, colon, value = line.partition("#")[0].partition(":")
        key, value = key.strip().lower(), value.strip()
        if not colon:
            continue
        if key == _AGENT:
            if not open_:
                close()
                names, rules, delay, open_ = [], [], None, True
            name = _name(value)
            if name:
                names.append((name, number))
        elif key in (_ALLOW, _DISALLOW):
            open_ = False
            if value:
                rules.append(Rule(number, key, value))
        elif key == _DELAY:
            open_ = False
            delay = _delay(value) if delay is None else delay
    close()
    return File(tuple(groups), len(content) > MOST_BYTES)


def is_token(agent: str) -> bool:
    """Tell whether this is a name as User-agent lines have them."""
    return _TOKEN.fullmatch(agent) is not None


def manners(agent: str) -> Manners | None:
    """Return what a crawler's operator says of it."""
    return next((one for one in known.MANNERS if one.name.lower() == agent.lower()), None)


def obeyed(file: File, agent: str) -> Obeyed | None:
    """Return the rules that a crawler goes by; None when it may fetch all."""
    said = manners(agent)
    if said and said.ignores_all:
        return None
    for name in _names(agent, said):
        found = file.named(name)
        if found is not None:
            return found
    return None


def explain(file: File, agent: str, path: str) -> Explanation:
    """Say what a crawler may do with a path, and why."""
    said = manners(agent)
    name = said.name if said else agent
    found = obeyed(file, name)
    allowed = found is None or path == ITSELF or found.allows(path)
    rule = None if found is None or path == ITSELF else found.deciding(path)
    delay, delay_reason = _delay_of(found, said)
    sources = [said.source] if said and (said != Manners(said.name, said.source)) else []
    if delay_reason and said and said.delay_source and said.delay_source not in sources:
        sources.append(said.delay_source)
    return Explanation(
        name,
        path,
        allowed,
        found,
        rule,
        tuple(_reasons(file, name, said, found, path, rule)),
        delay,
        delay_reason,
        said.opt_out if said else "",
        tuple(sources),
    )


def _names(agent: str, said: Manners | None) -> Iterable[str]:
    """Return the names that a crawler looks for, in order."""
    yield agent
    if said:
        yield from said.also
    if not (said and said.ignores_star):
        yield STAR


def _reasons(  # noqa: PLR0913, PLR0917
    file: File,
    name: str,
    said: Manners | None,
    found: Obeyed | None,
    path: str,
    rule: Rule | None,
) -> Iterable[str]:
    if said and said.ignores_all:
        yield f"{name} acts for a person, and may not go by robots.txt, as its operator says"
        return
    if said and said.opt_out:
        yield (
            f"nobody visits as {name}: the name only says whether what {said.crawled_by} fetches"
            f" may be used for {said.opt_out}"
        )
    looked = list(_names(name, said))
    for missing in looked[: looked.index(found.name) if found else len(looked)]:
        yield f"no group names {missing}" if missing != STAR else "there is no group for *"
    if said and said.ignores_star and found is None and file.named(STAR):
        yield f"{name} ignores the group for *, as its operator says"
    if found is None:
        yield f"so nothing is disallowed ({_RFC}, 2.2.1)"
        return
    lines = f"line{'s' if len(found.lines) > 1 else ''} {', '.join(map(str, found.lines))}"
    if found.name == STAR:
        yield f"so it obeys the group for all others, * ({lines}; {_RFC}, 2.2.1)"
    elif found.name.lower() == name.lower():
        yield f"it obeys the group that names it ({lines}; {_RFC}, 2.2.1)"
    else:
        yield f"so it obeys the group of {found.name} ({lines}), as its operator says"
    if len(found.lines) > 1:
        yield "its groups count as one"
    if path == ITSELF:
        yield f"robots.txt itself is always allowed ({_RFC}, 2.2.2)"
    elif rule is not None:
        yield f"line {rule.line} decides: {rule} (the longest rule that matches wins)"
    else:
        yield "no rule there matches, and what isn't disallowed is allowed"


def _delay_of(found: Obeyed | None, said: Manners | None) -> tuple[float | None, str]:
    """Return the delay that is asked for, and whether that helps."""
    if found is None or found.delay is None or (said and said.opt_out):
        return None, ""
    if said is None or said.delay is None:
        return found.delay, "whether it honours that, its operator does not say"
    return found.delay, "which it honours" if said.delay else "which it does not honour"


def _protego(rules: Iterable[tuple[str, str]]) -> Protego:
    lines = [f"{kind}: {quote(path, safe=_PLAIN)}" for kind, path in rules]
    return Protego.parse("\n".join([f"{_AGENT}: {STAR}", *lines]))


def matches(rule: Rule, path: str) -> bool:
    """Tell whether a rule matches a path, in Protego's eyes: alone it makes a difference."""
    rules = [(rule.kind, rule.path)]
    if rule.kind == _ALLOW:
        rules.append((_DISALLOW, "/"))
    return _protego(rules).can_fetch(f"http://host{path}", STAR) is (rule.kind == _ALLOW)


def _name(value: str) -> str:
    """Return the product token of a User-agent line, in small letters; "" when it has none."""
    if value.split()[:1] == [STAR]:
        return STAR
    match = _TOKEN.match(value)
    return match.group().lower() if match else ""


def _delay(value: str) -> float | None:
    return float(value) if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", value) else None
