"""Bottle: a page from a template, a form, and where it runs."""

import os
from pathlib import Path

import bottle
import config

app = bottle.Bottle()


@app.get("/", name="page")
def page():
    return bottle.template(
        "page", name=config.NAME, text=Path("name.txt").read_text(), link=app.get_url("page")
    )


@app.post("/form")
def form():
    return {"got": bottle.request.forms.getunicode("word")}


@app.get("/where")
def where():
    import late

    return {"cwd": str(Path.cwd()), "name": late.NAME, "mine": os.environ["MINE"]}


@app.get("/fail")
def fail():
    raise RuntimeError(f"{config.NAME} fails")
