"""The command line of crawler_report."""

import ipaddress
import json
import os
import re
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from .. import effects
from ..errors import FatalError, from_os_error
from ..options import FLAG, INTEGER, SECONDS, TEXT, TEXTS, Option, Parsed
from . import command
from .known import CRAWLERS, Ranges

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .names import Names, Server

_MOST_LOOKUPS = 2000
_DNS_SECONDS = 60.0
_SPANS = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_OPTIONS = (
    Option("since", TEXT, "WHEN", "only requests since then: 7d, 2026-11-01, 2026-11-01T06:00"),
    Option("json", FLAG, "", "print JSON, with every client that isn't a person"),
    Option("html", FLAG, "", "print an HTML page"),
    Option(
        "output",
        TEXTS,
        "FILE",
        "write into this file, as its name ends (.json, .html); put in place when it is complete",
    ),
    Option("suspects", TEXT, "FILE", "write impostors and undeclared bots there, a JSON line each"),
    Option("vhost", TEXT, "NAME", "the vhost of lines that don't name theirs (combined logs)"),
    Option("robots", TEXT, "DIRECTORY", "has VHOST.txt, a robots.txt each, to count rules broken"),
    Option("offline", FLAG, "", "ask no DNS server: crawlers are unverified, but for the cache"),
    Option("resolver", TEXT, "ADDRESS[:PORT]", "the DNS server to ask (default: /etc/resolv.conf)"),
    Option("lookups", INTEGER, "N", f"most addresses to look up (default: {_MOST_LOOKUPS})"),
    Option("dns-seconds", SECONDS, "N", f"most seconds for all of it (default: {_DNS_SECONDS:g})"),
    Option("cache", TEXT, "FILE", "where names are kept for a week (default: in ~/.cache/kechi)"),
    Option(
        "ranges", TEXTS, "CRAWLER=FILE", "its address ranges, as its operator publishes them (JSON)"
    ),
    Option("progress", FLAG, "", "show a progress bar, also where there is no terminal"),
    Option("help", FLAG, "", "show this text"),
)  # fmt: skip
_USAGE = """\
Usage: crawler_report [--since=WHEN] [--json|--html] ACCESS.LOG...

Tells who visits: verified crawlers, impostors, undeclared bots, feed readers, monitors and people,
for each vhost of nginx's access logs, combined or JSON, plain or gzip; - is standard input.
"""


def main() -> NoReturn:
    """Run the crawler_report command, and exit: 1 when something could not be read or written."""
    command.run(_USAGE, _OPTIONS, _work)


def _work(parsed: Parsed) -> int:
    since, problems = None, list(parsed.problems)
    if not parsed.arguments:
        problems.append("no access log given; try --help")
    if parsed.flag("json") and parsed.flag("html"):
        problems.append("--json does not go with --html")
    text = parsed.text("since")
    if text is not None:
        since = _since(text, time.time())
        if since is None:
            problems.append(
                f"--since={text} is not allowed: a span (30m, 12h, 7d, 2w) or a time (2026-11-01,"
                " 2026-11-01T06:00, UTC unless it says else)"
            )
    if problems:
        raise FatalError("\n".join(problems), 1)
    return _report(parsed, since)


def _report(parsed: Parsed, since: float | None) -> int:
    try:
        from . import files, names, policy, report, view  # noqa: PLC0415  # need the libraries
        from .lines import Hit, reader  # noqa: PLC0415
        from .visits import Visits  # noqa: PLC0415
    except ImportError as error:
        raise FatalError(
            f"crawler_report needs more ({error}): pip install 'kechi-vps[crawlers]'", 1
        ) from None
    resolver = parsed.text("resolver")
    server = None if resolver is None else names.server(resolver)
    lists = dict(_ranges(text) for text in parsed.texts("ranges"))
    robots = parsed.text("robots")
    policies = {} if robots is None else policy.of_directory(Path(robots))
    files.check(parsed.arguments)

    lines = files.Lines(
        parsed.arguments, progress=True if parsed.flag("progress") else None, since=since
    )
    read = reader(parsed.text("vhost") or "")
    counts = {"lines": 0, "unread": 0, "older": 0}

    def hits() -> Iterator[Hit]:
        for line in lines:
            counts["lines"] += 1
            hit = read(line)
            if hit is None:
                counts["unread"] += 1
            elif since is not None and hit.time < since:
                counts["older"] += 1
            else:
                yield hit

    visits = Visits(policies)
    visits.read(hits())
    visits.finish()
    found, troubles = _look_up(parsed, report.to_look_up(visits, _most_lookups(parsed)), server)
    built = report.build(visits, found, lists=lists, offline=parsed.flag("offline"), **counts)
    forms = {"json": view.as_json, "html": view.as_html}
    asked = next((form for form in forms if parsed.flag(form)), "")
    for file in parsed.texts("output") or [""]:
        form = asked or file.rpartition(".")[2]
        _write(file, forms.get(form, view.as_text)(built))
    suspects = parsed.text("suspects")
    if suspects is not None:
        _write(suspects, view.suspects(built))
    for problem in [*lines.problems, *troubles]:
        effects.say(problem)
    return 1 if lines.problems else 0


def _look_up(
    parsed: Parsed, addresses: Sequence[str], server: "Server | None"
) -> tuple[dict[str, "Names | None"], list[str]]:
    """Return the names of addresses, and what went wrong, which is no reason to end with 1."""
    from . import names  # noqa: PLC0415
    from .cache import Cache  # noqa: PLC0415

    cache = Cache(_cache(parsed))
    seconds = parsed.number("dns-seconds")
    found = names.look_up(
        addresses,
        cache,
        server,
        _DNS_SECONDS if seconds is None else seconds,
        offline=parsed.flag("offline"),
    )
    cache.close(time.time())
    troubles = [cache.trouble] if cache.trouble else []
    unknown = sum(one is None for one in found.values())
    if unknown and not parsed.flag("offline"):
        troubles.append(f"{unknown} of {len(found)} addresses: their names could not be learnt")
    return found, troubles


def _most_lookups(parsed: Parsed) -> int:
    number = parsed.number("lookups")
    return _MOST_LOOKUPS if number is None else max(int(number), 0)


def _cache(parsed: Parsed) -> Path | None:
    text = parsed.text("cache")
    if text is not None:
        return Path(text)
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(home) / "kechi" / "crawlers.sqlite" if os.path.isabs(home) else None


def _since(text: str, now: float) -> float | None:
    """Return from when on requests count; None when that is no time."""
    span = re.fullmatch(r"(\d{1,6})([mhdw])", text)
    if span:
        return now - int(span[1]) * _SPANS[span[2]]
    from .lines import when  # noqa: PLC0415

    return when(text) if re.match(r"\d{4}-", text) else None


def _ranges(text: str) -> tuple[str, Ranges]:
    """Read `CRAWLER=FILE`, a list as operators publish it; raises FatalError."""
    name, _, file = text.partition("=")
    known = {crawler.name.lower(): crawler.name for crawler in CRAWLERS}
    if not file or name.lower() not in known:
        raise FatalError(
            f"--ranges={text} is not allowed: CRAWLER=FILE, with one of"
            f" {', '.join(sorted(known.values(), key=str.lower))}",
            1,
        )
    try:
        document = json.loads(Path(file).read_bytes())
        networks = tuple(
            ipaddress.ip_network(prefix)
            for entry in document["prefixes"]
            for key, prefix in entry.items()
            if key in ("ipv4Prefix", "ipv6Prefix")
        )
        date = str(document.get("creationTime", "?"))[:10]
    except OSError as error:
        raise from_os_error(file, error) from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise FatalError(
            f'{file}: is no list of address ranges ({{"prefixes": [{{"ipv4Prefix": ...}}]}}):'
            f" {error}",
            1,
        ) from None
    return known[name.lower()], Ranges(networks, date, file)


def _write(file: str, parts: Iterable[str]) -> None:
    from . import files  # noqa: PLC0415  # needs the libraries

    if not file:
        sys.stdout.writelines(parts)
        return
    try:
        files.replace(file, parts)
    except OSError as error:
        raise from_os_error(file, error) from error
