"""Falcon: a page from a template, a form, and where it runs."""

import os
from pathlib import Path

import config
import falcon
from jinja2 import Environment, FileSystemLoader

templates = Environment(loader=FileSystemLoader("templates"), autoescape=True)


class Page:
    def on_get(self, req, resp):
        text = Path("name.txt").read_text()
        resp.content_type = falcon.MEDIA_HTML
        resp.text = templates.get_template("page.html").render(
            name=config.NAME, text=text, link=f"{req.root_path}/"
        )


class Form:
    def on_post(self, req, resp):
        resp.media = {"got": req.get_media()["word"]}


class Where:
    def on_get(self, _req, resp):
        import late

        resp.media = {"cwd": str(Path.cwd()), "name": late.NAME, "mine": os.environ["MINE"]}


class Fail:
    def on_get(self, _req, _resp):
        raise RuntimeError(f"{config.NAME} fails")


app = falcon.App()
for path, resource in (("/", Page()), ("/form", Form()), ("/where", Where()), ("/fail", Fail())):
    app.add_route(path, resource)
