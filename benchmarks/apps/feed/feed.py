"""A feed of what has been measured: bare WSGI, sqlite3, string.Template; as HTML, Atom and JSON."""

import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from html import escape
from http.cookies import SimpleCookie
from pathlib import Path
from string import Template
from urllib.parse import parse_qs

DATABASE = Path(__file__).parent / "feed.sqlite3"
PAGE = Template(
    "<!doctype html><html><head><title>$title</title></head><body>"
    "<p>Unit: $unit</p><table>$rows</table></body></html>"
)
ATOM = Template(
    '<?xml version="1.0" encoding="utf-8"?><feed xmlns="http://www.w3.org/2005/Atom">'
    "<title>Measured</title><updated>$updated</updated>$entries</feed>"
)
ENTRY = Template("<entry><id>urn:row:$id</id><title>$place: $value</title></entry>")


def rows(query, *values):
    """Return all rows of a query."""
    with closing(sqlite3.connect(DATABASE)) as database:
        database.row_factory = sqlite3.Row
        return database.execute(query, values).fetchall()


def index(environ):
    """Show mean values by place, in the unit that the reader likes."""
    cookie = SimpleCookie(environ.get("HTTP_COOKIE", ""))
    unit = cookie["unit"].value if "unit" in cookie else "C"
    found = rows("select place, avg(value) as mean, count(*) as n from reading group by place")
    body = "".join(
        f"<tr><td>{escape(one['place'])}</td><td>{one['mean']:.1f}</td><td>{one['n']}</td></tr>"
        for one in found
    )
    return "text/html", PAGE.substitute(title="Measured", unit=escape(unit), rows=body)


def atom(_environ):
    """Return the newest readings for a feed reader."""
    found = rows("select id, place, value, time from reading order by time desc limit 30")
    entries = "".join(ENTRY.substitute(dict(one)) for one in found)
    return "application/atom+xml", ATOM.substitute(updated=found[0]["time"], entries=entries)


def day(environ):
    """Return the readings of a place as JSON."""
    place = parse_qs(environ.get("QUERY_STRING", "")).get("place", ["roof"])[0]
    found = rows("select time, value from reading where place = ? order by time", place)
    return "application/json", json.dumps([dict(one) for one in found])


PATHS = {"/": index, "/feed.atom": atom, "/day.json": day}


def application(environ, start_response):
    """Answer a request."""
    view = PATHS.get(environ.get("PATH_INFO", "/"))
    if view is None:
        start_response("404 Not Found", [("Content-Type", "text/plain")])
        return [b"Nothing here.\n"]
    kind, text = view(environ)
    body = text.encode()
    headers = [("Content-Type", f"{kind}; charset=utf-8"), ("Content-Length", str(len(body)))]
    start_response("200 OK", headers)
    return [body]


def prepare():
    """Make the database, with 300 readings."""
    began = datetime(2026, 1, 1, tzinfo=UTC)
    with closing(sqlite3.connect(DATABASE)) as database, database:
        database.execute("create table reading (id integer primary key, place, value, time)")
        for number in range(300):
            time = (began + timedelta(minutes=10 * number)).isoformat()
            row = (("roof", "cellar", "garden")[number % 3], 10 + number % 17, time)
            database.execute("insert into reading (place, value, time) values (?, ?, ?)", row)


if __name__ == "__main__":
    prepare()
