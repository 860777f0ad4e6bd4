"""Flask: a page from a template, a form, and where it runs."""

import os
from pathlib import Path

import config
from flask import Flask, render_template, request, url_for

app = Flask(__name__)
app.config.from_object("config")


@app.get("/")
def page():
    text = Path("name.txt").read_text()
    return render_template("page.html", name=app.config["NAME"], text=text, link=url_for("page"))


@app.post("/form")
def form():
    return {"got": request.form["word"]}


@app.get("/where")
def where():
    import late

    return {"cwd": str(Path.cwd()), "name": late.NAME, "mine": os.environ["MINE"]}


@app.get("/fail")
def fail():
    raise RuntimeError(f"{config.NAME} fails")
