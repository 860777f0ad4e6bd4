"""A wiki: Pyramid with Jinja2, sqlite3, page history, and a signed session."""

import difflib
import re
import sqlite3
from contextlib import closing
from html import escape
from pathlib import Path

from pyramid.config import Configurator
from pyramid.httpexceptions import HTTPFound, HTTPNotFound
from pyramid.session import SignedCookieSessionFactory
from pyramid.view import view_config

HERE = Path(__file__).parent
DATABASE = HERE / "wiki.sqlite3"
LINK = re.compile(r"\[\[([A-Za-z0-9]+)\]\]")


def rows(query, *values):
    """Return all rows of a query."""
    with closing(sqlite3.connect(DATABASE)) as database:
        return database.execute(query, values).fetchall()


def versions(name):
    """Return all texts of a page, the newest first; raises HTTPNotFound."""
    found = rows("select text from version where page = ? order by id desc", name)
    if not found:
        raise HTTPNotFound(f"There is no page {name} yet.")
    return [text for (text,) in found]


@view_config(route_name="home", renderer="home.jinja2")
def home(request):
    """List all pages, and those that the reader has seen."""
    pages = rows("select page, count(*), max(id) from version group by page order by page")
    return {"pages": pages, "seen": request.session.get("seen", [])}


@view_config(route_name="page", renderer="page.jinja2", request_method="GET")
def page(request):
    """Show a page, with its links."""
    name = request.matchdict["name"]
    text = versions(name)[0]
    seen = [*request.session.get("seen", []), name]
    request.session["seen"] = seen[-5:]
    paragraphs = [
        LINK.sub(r'<a href="/page/\1">\1</a>', escape(part)) for part in text.split("\n\n")
    ]
    return {"name": name, "paragraphs": paragraphs}


@view_config(route_name="page", request_method="POST")
def save(request):
    """Keep a new version of a page."""
    name = request.matchdict["name"]
    with closing(sqlite3.connect(DATABASE)) as database, database:
        row = (name, request.POST["text"])
        database.execute("insert into version (page, text) values (?, ?)", row)
    return HTTPFound(request.route_path("page", name=name))


@view_config(route_name="history", renderer="history.jinja2")
def history(request):
    """Show what the last change of a page was."""
    name = request.matchdict["name"]
    newest, *older = versions(name)
    before = older[0] if older else ""
    lines = difflib.unified_diff(before.splitlines(), newest.splitlines(), lineterm="")
    return {"name": name, "lines": list(lines), "versions": len(older) + 1}


def main():
    """Return the application."""
    secret = "of a benchmark, and of no other use"  # noqa: S105
    with Configurator(session_factory=SignedCookieSessionFactory(secret)) as config:
        config.include("pyramid_jinja2")
        config.add_jinja2_search_path(str(HERE / "templates"))
        config.add_route("home", "/")
        config.add_route("page", "/page/{name}")
        config.add_route("history", "/history/{name}")
        config.scan(__name__)
        return config.make_wsgi_app()


application = main()


def prepare():
    """Make the database, with 60 pages of three versions."""
    with closing(sqlite3.connect(DATABASE)) as database, database:
        database.execute("create table version (id integer primary key, page text, text text)")
        database.execute("create index version_page on version (page)")
        for number in range(60):
            for version in range(3):
                text = f"Of bridges, see [[Page{(number + 1) % 60}]].\n\n" * 5
                row = (f"Page{number}", f"{text}Version {version}, number {number}.")
                database.execute("insert into version (page, text) values (?, ?)", row)


if __name__ == "__main__":
    prepare()
