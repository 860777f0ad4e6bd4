"""A small blog: Flask, and posts in SQLite."""

import os

from flask import Flask, Response, render_template, request, url_for

from .posts import Posts

MAX_TITLE = 200
MAX_TEXT = 10_000


def create_app() -> Flask:
    """Make the app from BLOG_DATABASE (a path, needed) and BLOG_TITLE ("Blog" if not set)."""
    app = Flask(__name__)
    app.config["MAX_CONTENT_LENGTH"] = 64 * 1024
    posts = Posts(os.environ["BLOG_DATABASE"])
    title = os.environ.get("BLOG_TITLE", "Blog")

    @app.get("/")
    def index() -> str:
        return render_template("index.html", title=title, posts=posts.newest(20))

    @app.post("/posts")
    def add() -> tuple[str, int] | Response:
        headline = request.form.get("headline", "").strip()
        text = request.form.get("text", "").strip()
        if not (0 < len(headline) <= MAX_TITLE and 0 < len(text) <= MAX_TEXT):
            problem = f"A post has a title (up to {MAX_TITLE} characters) and a text ({MAX_TEXT})."
            page = render_template(
                "index.html", title=title, posts=posts.newest(20), problem=problem
            )
            return page, 400
        posts.add(headline, text)
        return Response(status=303, headers={"Location": url_for("index")})

    @app.get("/healthz")
    def healthz() -> tuple[str, dict[str, str]]:
        return f"ok, {posts.count()} posts\n", {"Content-Type": "text/plain"}

    @app.context_processor
    def served_by() -> dict[str, object]:
        generation = os.environ.get("SERVER_STARTER_GENERATION", "none")
        return {"generation": generation, "pid": os.getpid()}

    @app.after_request
    def name_the_server(response: Response) -> Response:
        response.headers["X-Generation"] = os.environ.get("SERVER_STARTER_GENERATION", "none")
        response.headers["X-Pid"] = str(os.getpid())
        return response

    return app
