"""Text of strangers, shown to people: none of it acts on a terminal, a log or a page."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MOST = 500  # characters of one piece of it


def visible(text: str, most: int = MOST) -> str:
    """Return text so that none of it acts, in plain ASCII, and not at any length.

    Letters of other scripts are escaped, too: those written from the right turn their neighbours.
    """
    cut = text if len(text) <= most else f"{text[: most - 3]}..."
    return "".join(one if one.isascii() and one.isprintable() else _escaped(one) for one in cut)


def all_visible(value: Any) -> Any:
    """Return what JSON is made of with all text in it visible."""
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, list):
        return [all_visible(one) for one in value]
    if isinstance(value, dict):
        return {visible(str(name)): all_visible(one) for name, one in value.items()}
    return value


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{{{code:x}}}"  # noqa: PLR2004
