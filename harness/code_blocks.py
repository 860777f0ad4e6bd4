"""The code blocks of a Markdown page, and what is to be done with each by who tries the page out.

A shell block is run where the reader is. A comment of HTML before a block, which readers don't see,
says otherwise:

    <!-- run: on the machine -->     it is run there, as root
    <!-- write: PATH -->             it is the content of a file
    <!-- append: PATH -->            it goes to the end of one
    <!-- not run: why -->            and nothing is done with it
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

RUN, WRITE, APPEND, NOT_RUN = "run", "write", "append", "not run"
HERE, MACHINE = "here", "on the machine"
SHELL = ("sh", "console")
_HEADING = re.compile(r"^(#{1,6})\s+(.*?)\s*$")
_FENCE = re.compile(r"^\s*(`{3,})(\w*)\s*$")
_MARK = re.compile(rf"^\s*<!-- ({RUN}|{WRITE}|{APPEND}|{NOT_RUN}): (.+?) -->\s*$")


class PageError(Exception):
    """A page can't be tried; the message says which block is at fault."""


@dataclass(frozen=True)
class Block:
    """One code block: what is to be done with its text, and with what, or where."""

    line: int  # of the page, of its fence
    section: str  # the headings above it, the highest first
    action: str
    argument: str
    text: str


def blocks(page: str, section: str = "") -> list[Block]:
    """The blocks of a page, or of one section and what is below it, in their order.

    Raises PageError where it is not known what to do with one, or where there is none.
    """
    found = list(_within(page, section))
    if not found:
        raise PageError(f"there is no code block in {section or 'the page'}")
    return found


def _within(page: str, section: str) -> Iterator[Block]:
    headings: list[tuple[int, str]] = []
    lines = enumerate(page.splitlines(), 1)
    mark: re.Match[str] | None = None
    for number, line in lines:
        if heading := _HEADING.match(line):
            depth = len(heading[1])
            headings = [*((d, text) for d, text in headings if d < depth), (depth, heading[2])]
        if fence := _FENCE.match(line):
            text = []
            for _, inner in lines:
                if inner.strip() == fence[1]:
                    break
                text.append(inner)
            else:
                raise PageError(f"line {number}: the block has no end")
            above = [heading for _, heading in headings]
            if not section or section in above:
                action, argument = _wanted(mark, fence[2], number)
                dedented = textwrap.dedent("\n".join(text)) + "\n"
                yield Block(number, " / ".join(above), action, argument, dedented)
        mark = _MARK.match(line)


def _wanted(mark: re.Match[str] | None, language: str, number: int) -> tuple[str, str]:
    if mark is None:
        if language not in SHELL:
            raise PageError(
                f"line {number}: a block that is no shell's, and nothing says what to do with it;"
                f" allowed: a comment before it, <!-- {NOT_RUN}: why --> and the like"
            )
        return RUN, HERE
    if mark[1] == RUN and mark[2] != MACHINE:
        raise PageError(f'line {number}: "{mark[2]}" is no place; allowed: {MACHINE}')
    return mark[1], mark[2]


def substituted(block: Block, replacements: Mapping[str, str], used: set[str]) -> str:
    """The text of a block with what is another one's replaced; notes in `used` what was."""
    text = block.text
    for old, new in replacements.items():
        if old in text:
            used.add(old)
            text = text.replace(old, new)
    return text
