"""A blog: Flask, SQLAlchemy, Jinja2, comments, and a session that remembers the reader's name."""

from datetime import date, timedelta
from pathlib import Path

from flask import Flask, abort, g, redirect, render_template, request, session, url_for
from sqlalchemy import ForeignKey, create_engine, func, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

PER_PAGE = 10
HERE = Path(__file__).parent

application = Flask(__name__)
application.secret_key = "of a benchmark, and of no other use"  # noqa: S105
engine = create_engine(f"sqlite:///{HERE}/blog.sqlite3")


class Base(DeclarativeBase):
    """All tables."""


class Post(Base):
    """What is read."""

    __tablename__ = "post"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    text: Mapped[str]
    day: Mapped[date] = mapped_column(index=True)
    comments: Mapped[list["Comment"]] = relationship(back_populates="post")


class Comment(Base):
    """What a reader says of it."""

    __tablename__ = "comment"
    id: Mapped[int] = mapped_column(primary_key=True)
    post_id: Mapped[int] = mapped_column(ForeignKey("post.id"), index=True)
    author: Mapped[str]
    text: Mapped[str]
    post: Mapped[Post] = relationship(back_populates="comments")


@application.before_request
def connect():
    """Open the request's session of the database."""
    g.database = Session(engine)


@application.teardown_request
def disconnect(_error):
    """Give the connection back."""
    g.database.close()


@application.get("/")
def index():
    """List the newest posts, with the number of their comments."""
    page = max(1, request.args.get("page", 1, int))
    session["pages"] = session.get("pages", 0) + 1
    query = (
        select(Post, func.count(Comment.id))
        .outerjoin(Post.comments)
        .group_by(Post.id)
        .order_by(Post.day.desc(), Post.id)
    )
    rows = g.database.execute(query.limit(PER_PAGE).offset(PER_PAGE * (page - 1))).all()
    return render_template("index.html", rows=rows, page=page)


@application.get("/post/<int:number>")
def post(number):
    """Show one post with its comments."""
    found = g.database.get(Post, number) or abort(404)
    return render_template("post.html", post=found, reader=session.get("reader", ""))


@application.post("/post/<int:number>")
def comment(number):
    """Take a comment, and go back to the post."""
    found = g.database.get(Post, number) or abort(404)
    session["reader"] = request.form["author"]
    found.comments.append(Comment(author=request.form["author"], text=request.form["text"]))
    g.database.commit()
    return redirect(url_for("post", number=number))


@application.get("/archive")
def archive():
    """Count the posts of each month."""
    month = func.strftime("%Y-%m", Post.day)
    rows = g.database.execute(select(month, func.count()).group_by(month).order_by(month)).all()
    return render_template("archive.html", rows=rows)


def prepare():
    """Make the database, with two hundred posts."""
    Base.metadata.create_all(engine)
    with Session(engine) as database:
        for number in range(200):
            one = Post(
                title=f"On the {number}th morning",
                text=f"It rained, and the {number}th kettle sang.\n\n" * 8,
                day=date(2024, 1, 1) + timedelta(days=number * 2),
            )
            one.comments = [Comment(author="Ada", text="So did mine.") for _ in range(number % 5)]
            database.add(one)
        database.commit()


if __name__ == "__main__":
    prepare()
