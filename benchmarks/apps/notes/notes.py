"""Notes: Bottle, its own templates, sqlite3 with a full-text index, and a signed cookie."""

import sqlite3
from contextlib import closing
from pathlib import Path

from bottle import Bottle, abort, redirect, request, response, template

HERE = Path(__file__).parent
DATABASE = HERE / "notes.sqlite3"
SECRET = "of a benchmark, and of no other use"  # noqa: S105
VIEWS = [str(HERE / "views")]

application = Bottle()


def rows(query, *values):
    """Return all rows of a query."""
    with closing(sqlite3.connect(DATABASE)) as database:
        database.row_factory = sqlite3.Row
        return database.execute(query, values).fetchall()


@application.get("/")
def index():
    """Show the newest notes, and how often the reader has been here."""
    visits = int(request.get_cookie("visits", default=0, secret=SECRET)) + 1
    response.set_cookie("visits", visits, secret=SECRET)
    newest = rows("select id, title, text, written from note order by written desc limit 15")
    return template("index", template_lookup=VIEWS, notes=newest, visits=visits)


@application.get("/note/<number:int>")
def show(number):
    """Show one note."""
    found = rows("select id, title, text, written from note where id = ?", number)
    if not found:
        abort(404, "There is no such note.")
    return template("note", template_lookup=VIEWS, note=found[0])


@application.get("/find")
def find():
    """Search all notes."""
    words = request.query.getunicode("words", "")
    query = (
        "select note.id, note.title, snippet(words, 1, '<b>', '</b>', '…', 8) as part from words"
        " join note on note.id = words.rowid where words match ? order by rank limit 10"
    )
    quoted = '"{}"'.format(words.replace('"', '""'))
    return template("find", template_lookup=VIEWS, words=words, found=rows(query, quoted))


@application.post("/")
def write():
    """Keep a new note."""
    with closing(sqlite3.connect(DATABASE)) as database, database:
        title, text = request.forms.getunicode("title"), request.forms.getunicode("text")
        insert = "insert into note (title, text) values (?, ?) returning id"
        ((number,),) = database.execute(insert, (title, text)).fetchall()
        database.execute(
            "insert into words (rowid, title, text) values (?, ?, ?)", (number, title, text)
        )
    redirect(f"/note/{number}")


def prepare():
    """Make the database, with 150 notes."""
    with closing(sqlite3.connect(DATABASE)) as database, database:
        database.executescript(
            "create table note (id integer primary key, title text not null, text not null,"
            " written text not null default current_timestamp);"
            "create virtual table words using fts5 (title, text);"
        )
        for number in range(1, 151):
            row = (
                number,
                f"Note {number}",
                f"Remember the {number}th umbrella, and the lamp. " * 6,
            )
            database.execute("insert into note (id, title, text) values (?, ?, ?)", row)
            database.execute("insert into words (rowid, title, text) values (?, ?, ?)", row)


if __name__ == "__main__":
    prepare()
