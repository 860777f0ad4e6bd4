"""FastAPI: a page from a template, a form, and where it runs."""

import os
from pathlib import Path
from urllib.parse import parse_qs

import config
from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader
from pydantic import BaseModel

app = FastAPI()
templates = Environment(loader=FileSystemLoader("templates"), autoescape=True)


class Place(BaseModel):
    cwd: str
    name: str
    mine: str


@app.get("/")
async def page(request: Request) -> HTMLResponse:
    text = Path("name.txt").read_text()
    link = request.url_for("page").path
    return HTMLResponse(
        templates.get_template("page.html").render(name=config.NAME, text=text, link=link)
    )


@app.post("/form")
async def form(request: Request) -> dict[str, str]:
    return {"got": parse_qs((await request.body()).decode())["word"][0]}


@app.get("/where")
def where() -> Place:
    import late

    return Place(cwd=str(Path.cwd()), name=late.NAME, mine=os.environ["MINE"])


@app.get("/fail")
async def fail() -> None:
    raise RuntimeError(f"{config.NAME} fails")
