"""A report for people: as text for a terminal, as an HTML page, and as JSON for programs.

All that visitors choose comes through `visible`: nothing of theirs moves a cursor, turns the
direction of writing, or ends a tag.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields
from datetime import UTC, datetime

from jinja2 import Environment

from ..tables import age, aligned
from ..text import visible as as_visible
from .classify import GROUPS, IMPOSTOR, REST, UNDECLARED
from .lines import NO_VHOST
from .report import Client, Figures, Group, Report

_MOST_CELL = 60
_MOST_NAMES = 8  # of a group, on a vhost
_MOST_SITES = 50
_MOST_SUSPECTS = 30
_SUSPECT = (IMPOSTOR, UNDECLARED)
_MB = 1_000_000
_COLUMNS = (
    "", "ADDRESSES", "REQUESTS", "MB", "APP TIME", "SHARE", "4XX", "5XX", "ROBOTS.TXT", "BROKEN",
)  # fmt: skip

_PAGE = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="robots" content="noindex">
<title>Visitors</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 70em; padding: 0 1em;
  color-scheme: light dark; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .15em .7em; text-align: right; white-space: nowrap; }
th:first-child, td:first-child, .words td { text-align: left; }
.words td { white-space: normal; overflow-wrap: anywhere; vertical-align: top; }
tr.group { font-weight: 600; } tr.name td:first-child { padding-left: 2em; }
</style>
<h1>Visitors</h1>
{% for line in head %}<p>{{ line }}</p>
{% endfor %}{% for title, rows in tables %}<h2>{{ title }}</h2>
<table>
<tr>{% for cell in columns %}<th>{{ cell }}</th>{% endfor %}</tr>
{% for depth, cells in rows %}<tr class="{{ 'name' if depth else 'group' }}">\
{% for cell in cells %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}</table>
{% endfor %}{% if suspects %}<h2>{{ suspects_title }}</h2>
<table class="words">
{% for cells in suspects %}<tr>{% for cell in cells %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}</table>
{% endif %}</html>
"""


def visible(text: str, most: int = _MOST_CELL) -> str:
    """Return text of a visitor's so that none of it acts, and not at any length."""
    return as_visible(text, most)


def as_json(report: Report) -> Iterator[str]:
    """Yield all of it, part by part; nothing but ASCII, so that it may be printed as it is.

    As a whole it would take more memory than all that was counted.
    """
    before = "{"
    for field in fields(report):
        value = getattr(report, field.name)
        yield f"{before}\n{json.dumps(field.name)}: "
        before = ","
        if not isinstance(value, list):
            yield json.dumps(value, allow_nan=False)
            continue
        yield "["
        for number, one in enumerate(value):
            comma = "," if number else ""
            yield f"{comma}\n {json.dumps(asdict(one), allow_nan=False)}"
        yield "\n]"
    yield "\n}\n"


def suspects(report: Report) -> Iterator[str]:
    """Yield those whom somebody may want to limit, the busiest first, as lines of JSON."""
    for client in _suspected(report):
        one = {"group": client.group, "address": client.address, "agent": client.agent}
        yield f"{json.dumps(one)}\n"


def as_text(report: Report) -> Iterator[str]:
    """Yield it for a terminal."""
    parts = ["\n".join(_head(report))]
    for title, rows in _tables(report):
        table = [_COLUMNS, *((f"{'  ' * depth}{first}", *rest) for depth, (first, *rest) in rows)]
        parts.append(f"{title}\n{aligned(table, left=1)}")
    suspects = _suspects(report)
    if suspects:
        parts.append(f"{_suspects_title(report)}\n{_lines(suspects)}")
    yield "\n\n".join(parts)
    yield "\n"


def as_html(report: Report) -> Iterator[str]:
    """Yield it as a page of its own, without scripts or anything from elsewhere."""
    page = Environment(autoescape=True, keep_trailing_newline=True).from_string(_PAGE)
    yield from page.generate(
        head=_head(report),
        columns=_COLUMNS,
        tables=_tables(report),
        suspects=_suspects(report),
        suspects_title=_suspects_title(report),
    )


def _head(report: Report) -> list[str]:
    seen = report.lines - report.unread_lines - report.older_lines
    if not seen:
        lines = [f"no request in {report.lines:,} lines"]
    else:
        lines = [
            f"{seen:,} requests from {_date(report.first)} to {_date(report.last)}"
            f" ({age(report.last - report.first)})"
        ]
    if report.unread_lines:
        lines.append(f"lines that are none of an access log: {report.unread_lines:,}")
    if report.clients_not_looked_into:
        lines.append(
            f"clients with few requests, not looked into: {report.clients_not_looked_into:,}"
        )
    if report.offline:
        lines.append("offline: the names of addresses were not asked for")
    return lines


def _date(moment: float) -> str:
    try:
        return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (OverflowError, ValueError, OSError):
        return "?"


def _tables(report: Report) -> list[tuple[str, list[tuple[int, tuple[str, ...]]]]]:
    tables = []
    for site in report.sites[:_MOST_SITES]:
        rows: list[tuple[int, tuple[str, ...]]] = []
        for group in site.groups:
            addresses = _addresses(group)
            rows.append((0, _row(GROUPS[group.group], addresses, group.figures)))
            named = [one for one in group.names if one.name]
            rows += [
                (1, _row(visible(one.name), one.addresses, one.figures))
                for one in named[:_MOST_NAMES]
            ]
        rows.append((0, _row("all", None, site.figures)))
        named_so = site.vhost != NO_VHOST
        tables.append((visible(site.vhost) if named_so else "vhost unknown", rows))
    return tables


def _addresses(group: Group) -> int | None:
    return None if group.group == REST else sum(named.addresses for named in group.names)


def _row(name: str, addresses: int | None, figures: Figures) -> tuple[str, ...]:
    return (
        name,
        "" if addresses is None else f"{addresses:,}",
        f"{figures.requests:,}",
        f"{figures.bytes / _MB:,.1f}",
        "-" if figures.app_seconds is None else age(figures.app_seconds),
        "-" if figures.app_percent is None else f"{figures.app_percent:.1f} %",
        f"{figures.client_errors:,}",
        f"{figures.server_errors:,}",
        f"{figures.robots_txt_fetched:,}",
        "-" if figures.rules_broken is None else f"{figures.rules_broken:,}",
    )


def _suspected(report: Report) -> list[Client]:
    return [client for client in report.clients if client.group in _SUSPECT]


def _suspects_title(report: Report) -> str:
    count = len(_suspected(report))
    shown = f", the busiest {_MOST_SUSPECTS}" if count > _MOST_SUSPECTS else ""
    return f"Impostors and undeclared bots: {count:,}{shown}"


def _suspects(report: Report) -> list[tuple[str, ...]]:
    return [
        (
            visible(client.address),
            f"{client.figures.requests:,}",
            GROUPS[client.group].removesuffix("s"),
            visible(client.name),
            visible(client.reason, 160),
            visible(client.agent, 120),
        )
        for client in _suspected(report)[:_MOST_SUSPECTS]
    ]


def _lines(suspects: Sequence[Sequence[str]]) -> str:
    width = max(len(cells[0]) for cells in suspects)
    lines = []
    for address, requests, group, name, reason, agent in suspects:
        who = f"{group} ({name})" if name else group
        lines.append(f"{address:{width}}  requests: {requests}, {who}: {reason}")
        if agent:
            lines.append(f"{'':{width}}  {agent}")
    return "\n".join(lines)
