import json
import re
from html.parser import HTMLParser

from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor_py.crawlers import report, view
from supervisor_py.crawlers.lines import reader
from supervisor_py.crawlers.report import Report
from supervisor_py.crawlers.view import visible
from supervisor_py.crawlers.visits import Visits

from .test_lines import COMBINED, OURS

# What terminals act on, what turns the direction of writing, and what HTML is made of.
_PARTS = (
    "\x1b[2J", "\x1b]0;x\x07", "\x9b", "\x08", "\x00", "\r", "\t", "\u202e", "\u2066", "\u200f",
    "\u2028", "\x85", "<b>", "</table>", "<script>x()</script>",
    "\"><img src=x onerror=y()>", "&lt;",
    "{{ 7 }}", "{% raw %}", "'", '"', "\\", "[", "]", "{", "}", "-", " ", "\n",
)  # fmt: skip
NASTY = st.lists(st.sampled_from(_PARTS) | st.text(max_size=9), max_size=5).map("".join)
_TAGS = {
    "html", "meta", "title", "style", "h1", "h2", "p", "table", "tr", "th", "td",
}  # fmt: skip


def reported(*lines: str) -> Report:
    read = reader()
    hits = [read(line) for line in lines]
    visits = Visits()
    visits.read(hit for hit in hits if hit is not None)
    visits.finish()
    return report.build(
        visits, {}, lists={}, offline=True, lines=len(lines), unread=hits.count(None), older=0
    )


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, list[str]]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, [name for name, _ in attrs]))

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def is_safe(found: Report, *secrets: str) -> None:
    """Assert that nothing of a report acts, in any of its forms."""
    text = "".join(view.as_text(found))
    assert re.fullmatch(r"[\x20-\x7e\n]*", text), repr(text)
    page = "".join(view.as_html(found))
    assert re.fullmatch(r"[\x20-\x7e\n]*", page), repr(page)
    tags = Tags()
    tags.feed(page)
    assert {tag for tag, _ in tags.found} <= _TAGS
    allowed = {"lang", "charset", "name", "content", "class"}
    assert {name for _, names in tags.found for name in names} <= allowed
    as_json = "".join(view.as_json(found))
    assert as_json.isascii()
    assert json.loads(as_json)["lines"] == found.lines
    for secret in secrets:
        assert secret not in page


@settings(max_examples=100)
@given(line=NASTY)
def test_no_line_crashes_it_or_reaches_anybody_unescaped(line: str) -> None:
    is_safe(reported(line, f"{line}{COMBINED}", f"{COMBINED.rstrip()}{line}"))


@settings(max_examples=100)
@given(values=st.lists(NASTY, min_size=4, max_size=4), status=st.integers(100, 599))
def test_no_field_does_either(values: list[str], status: int) -> None:
    host, agent, uri, address = values
    line = json.dumps(
        OURS | {"host": host, "agent": agent, "uri": uri, "address": address, "status": status}
    )
    bot = json.dumps(OURS | {"host": host, "agent": f"{agent} bot/1.0 {agent}"})
    combined = COMBINED.replace("Mozilla/5.0 (X11)", agent).replace("192.0.2.7", address)
    is_safe(reported(line, bot, combined, json.dumps(OURS | {"agent": "", "address": agent})))


@settings(max_examples=100)
@given(
    st.dictionaries(
        st.sampled_from([*OURS, "request", "x"]),
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.integers() | NASTY,
            lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NASTY, inner, max_size=2),
            max_leaves=4,
        ),
    )
)
def test_no_json_does_either(values: dict[str, object]) -> None:
    is_safe(reported(json.dumps(values), json.dumps(OURS | values)))


def test_markup_and_escapes_of_a_visitor_are_shown_and_do_nothing() -> None:
    agent = "<script>alert(1)</script>\x1b[2J\u202egnp.exe robot"
    found = reported(json.dumps(OURS | {"agent": "", "address": agent}))
    is_safe(found, "<script>")
    assert r"<script>alert(1)</script>\x1b[2J\u{202e}gnp.exe" in "".join(view.as_text(found))
    assert "&lt;script&gt;alert(1)" in "".join(view.as_html(found))


def test_what_is_long_is_cut_and_what_is_foreign_escaped() -> None:
    assert visible("a" * 61) == f"{'a' * 57}..."
    assert visible("\u05d0é\U0001f600\x7f") == r"\u{5d0}\xe9\u{1f600}\x7f"


def test_an_empty_log_is_told_so() -> None:
    assert next(view.as_text(reported())).splitlines()[0] == "no request in 0 lines"


def test_people_are_counted_and_not_listed() -> None:
    found = reported(COMBINED)
    assert [group.group for group in found.groups] == ["person"]
    assert found.clients == []
    assert "192.0.2.7" not in "".join(view.as_json(found))
