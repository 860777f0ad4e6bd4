"""A page from a template, a form, and where it runs."""

import os
from pathlib import Path

import config
from jinja2 import Environment, PackageLoader
from pyramid.response import Response
from pyramid.view import view_config

templates = Environment(loader=PackageLoader(__package__), autoescape=True)


@view_config(route_name="page")
def page(request):
    text = Path("name.txt").read_text()
    link = request.route_path("page")
    return Response(
        templates.get_template("page.html").render(name=config.NAME, text=text, link=link)
    )


@view_config(route_name="form", request_method="POST", renderer="json")
def form(request):
    return {"got": request.POST["word"]}


@view_config(route_name="where", renderer="json")
def where(_request):
    import late

    return {"cwd": str(Path.cwd()), "name": late.NAME, "mine": os.environ["MINE"]}


@view_config(route_name="fail")
def fail(_request):
    raise RuntimeError(f"{config.NAME} fails")
