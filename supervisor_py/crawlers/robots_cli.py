"""The command line of robots."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from ..errors import FatalError, from_os_error
from ..options import FLAG, TEXT, Option, Parsed
from . import command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .robots import Explanation

_EXPLAIN = "explain"
_OPTIONS = (
    Option("agent", TEXT, "NAME", "the crawler, by its name in robots.txt (Applebot)"),
    Option("file", TEXT, "ROBOTS.TXT", "read this file, instead of the host's; - for stdin"),
    Option("json", FLAG, "", "print JSON"),
    Option("help", FLAG, "", "show this text"),
)
_USAGE = """\
Usage: robots explain HOST --agent=NAME [PATH]
       robots explain --file=ROBOTS.TXT --agent=NAME [PATH]

Tells which group of a robots.txt a crawler really obeys, and why, and whether it may fetch a path.
"""
_MOST_REASON = 500
_NOT_FOUND, _BROKEN, _OK = 400, 500, 300


@dataclass(frozen=True, slots=True)
class _Source:
    """A robots.txt, from where it is, and what its HTTP status says of it."""

    name: str
    content: bytes
    reason: str = ""
    unreachable: bool = False


def main() -> NoReturn:
    """Run the robots command, and exit: 1 when there is nothing to explain."""
    command.run(_USAGE, _OPTIONS, _work)


def _work(parsed: Parsed) -> int:
    try:
        from . import robots  # noqa: PLC0415  # needs a library
        from .view import visible  # noqa: PLC0415
    except ImportError as error:
        raise FatalError(
            f"robots needs more ({error}): pip install 'kechi-vps[crawlers]'", 1
        ) from None
    agent, host, path = _words(parsed)
    if not robots.is_token(agent):
        raise FatalError(
            f"--agent={agent} is not allowed: a name as User-agent lines have it (Applebot),"
            " not a whole User-Agent",
            1,
        )
    source = _source(parsed, host)
    found = robots.explain(robots.parse(source.content), agent, path)
    cut = len(source.content) > robots.MOST_BYTES
    allowed = found.allowed and not (source.unreachable and path != robots.ITSELF)
    reasons = [source.reason] if source.reason else list(found.reasons)
    if cut:
        reasons.append("of a file this long, only the first 500 KiB count")
    if parsed.flag("json"):
        text = json.dumps(_document(found, source.name, allowed, reasons), indent=1)
    else:
        lines = [_headline(found, allowed), *(f"  {reason}" for reason in reasons)]
        if found.delay is not None:
            lines.append(f"  Crawl-delay: {found.delay:g}, {found.delay_reason}")
        lines.append(f"robots.txt: {source.name}")
        lines += [f"see {one}" for one in found.sources]
        text = "\n".join(visible(line, _MOST_REASON) for line in lines)
    sys.stdout.write(f"{text}\n")
    return 0


def _words(parsed: Parsed) -> tuple[str, str, str]:
    """Return the agent, the host ("" where a file is given) and the path."""
    problems = list(parsed.problems)
    command, *words = parsed.arguments or ("",)
    if command != _EXPLAIN:
        problems.append(f"{command or 'nothing'} is not allowed: explain; try --help")
    agent = parsed.text("agent")
    if agent is None:
        problems.append("no --agent given, such as --agent=Applebot")
    host = ""
    if parsed.text("file") is None:
        if words:
            host = words.pop(0)
        elif command == _EXPLAIN:
            problems.append("no host given; try --help")
    path = words.pop(0) if words else "/"
    if not path.startswith("/"):
        problems.append(f"{path} is not allowed: a path, which begins with /")
    if words:
        problems.append(f"{words[0]} is not allowed: one path")
    if problems or agent is None:
        raise FatalError("\n".join(problems), 1)
    return agent, host, path


def _source(parsed: Parsed, host: str) -> _Source:
    file = parsed.text("file")
    if file is not None:
        try:
            content = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        except OSError as error:
            raise from_os_error(file, error) from error
        return _Source("stdin" if file == "-" else file, content)
    from . import fetch  # noqa: PLC0415  # a file needs none of it

    fetched = fetch.fetch(fetch.url_of(host))
    name = fetched.url
    if fetched.status >= _BROKEN:
        reason = (
            f"robots.txt is answered with {fetched.status}: a crawler takes that for everything"
            " disallowed (RFC 9309, 2.3.1.4)"
        )
        return _Source(name, b"", reason, unreachable=True)
    if fetched.status >= _NOT_FOUND:
        reason = (
            f"robots.txt is answered with {fetched.status}: nothing is disallowed"
            " (RFC 9309, 2.3.1.3)"
        )
        return _Source(name, b"", reason)
    if fetched.status >= _OK:
        reason = (
            f"robots.txt is sent on ({fetched.status}) too often, or to what is neither http nor"
            " https: a crawler may take that for nothing disallowed (RFC 9309, 2.3.1.2)"
        )
        return _Source(name, b"", reason)
    return _Source(name, fetched.content)


def _headline(found: "Explanation", allowed: bool) -> str:
    if found.opt_out:
        return f"{found.path} may {'' if allowed else 'not '}be used for {found.opt_out}"
    return f"{found.agent} may {'' if allowed else 'not '}fetch {found.path}"


def _document(
    found: "Explanation", source: str, allowed: bool, reasons: Sequence[str]
) -> dict[str, object]:
    return {
        "agent": found.agent,
        "path": found.path,
        "allowed": allowed,
        "opt_out": found.opt_out or None,
        "group": found.obeyed.name if found.obeyed else None,
        "group_lines": list(found.obeyed.lines) if found.obeyed else [],
        "rule": str(found.rule) if found.rule else None,
        "rule_line": found.rule.line if found.rule else None,
        "crawl_delay_seconds": found.delay,
        "crawl_delay": found.delay_reason or None,
        "reasons": list(reasons),
        "robots_txt": source,
        "sources": list(found.sources),
    }
