"""A task list: Flask blueprints, SQLAlchemy Core, JSON for a script and pages for people."""

from datetime import UTC, datetime
from pathlib import Path

from flask import Blueprint, Flask, abort, flash, jsonify, redirect, render_template, request
from sqlalchemy import (
    Boolean,
    Column,
    DateTime,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Table,
    case,
    create_engine,
    func,
    insert,
    select,
    update,
)

HERE = Path(__file__).parent

engine = create_engine(f"sqlite:///{HERE}/tasks.sqlite3")
metadata = MetaData()
project = Table(
    "project",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(80), nullable=False),
)
task = Table(
    "task",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("project_id", ForeignKey("project.id"), index=True, nullable=False),
    Column("title", String(200), nullable=False),
    Column("done", Boolean, nullable=False, default=False),
    Column("due", DateTime),
)

pages = Blueprint("pages", __name__)
api = Blueprint("api", __name__, url_prefix="/api")


@pages.get("/")
def index():
    """Show all projects, and how far each has come."""
    done = func.sum(case((task.c.done, 1), else_=0)).label("done")
    query = (
        select(project.c.id, project.c.name, func.count(task.c.id).label("tasks"), done)
        .join(task)
        .group_by(project.c.id)
        .order_by(project.c.name)
    )
    with engine.connect() as connection:
        return render_template("projects.html", projects=connection.execute(query).all())


@pages.get("/project/<int:number>")
def show(number):
    """Show the tasks of one project, by day."""
    with engine.connect() as connection:
        name = connection.scalar(select(project.c.name).where(project.c.id == number))
        query = select(task).where(task.c.project_id == number).order_by(task.c.due)
        tasks = connection.execute(query).all()
    return render_template("project.html", name=name or abort(404), tasks=tasks)


@pages.post("/project/<int:number>")
def add(number):
    """Add a task, and say so on the next page."""
    row = {"project_id": number, "title": request.form["title"], "due": datetime.now(UTC)}
    with engine.begin() as connection:
        connection.execute(insert(task), row)
    flash("Added")
    return redirect(f"/project/{number}")


@api.get("/tasks")
def open_tasks():
    """Return the next open tasks."""
    query = select(task).where(~task.c.done).order_by(task.c.due).limit(25)
    with engine.connect() as connection:
        return jsonify([dict(row) for row in connection.execute(query).mappings()])


@api.post("/tasks/<int:number>/done")
def finish(number):
    """Mark a task as done."""
    with engine.begin() as connection:
        connection.execute(update(task).where(task.c.id == number).values(done=True))
    return jsonify(done=True)


def create_app():
    """Return the application, as Flask's manual has it."""
    app = Flask(__name__)
    app.secret_key = "of a benchmark, and of no other use"  # noqa: S105
    app.register_blueprint(pages)
    app.register_blueprint(api)
    return app


application = create_app()


def prepare():
    """Make the database, with 400 tasks."""
    metadata.create_all(engine)
    with engine.begin() as connection:
        for number in range(1, 21):
            connection.execute(insert(project), {"id": number, "name": f"House {number}"})
        rows = [
            {
                "project_id": number % 20 + 1,
                "title": f"Paint the {number}th door",
                "done": number % 3 == 0,
                "due": datetime(2026, 1 + number % 12, 1 + number % 28, 9, 30, tzinfo=UTC),
            }
            for number in range(400)
        ]
        connection.execute(insert(task), rows)


if __name__ == "__main__":
    prepare()
