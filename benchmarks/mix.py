"""The apps that are served: eight of the usual mix, and three Django projects.

Each is a folder of apps/, with a database that its own `prepare` fills. They are copied to where
they run, so that nothing is written here, and a copy is an app of its own.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

APPS = Path(__file__).parent / "apps"


@dataclass(frozen=True)
class WebApp:
    """An app: where its WSGI object is, and which of its pages are asked for."""

    name: str
    target: str  # module:object
    pages: tuple[str, ...]
    directory: Path = APPS
    django: bool = False

    @property
    def host(self) -> str:
        """Return the name that it is asked by."""
        return f"{self.name}.test"


BLOG = WebApp("blog", "blog:application", ("/", "/post/7", "/archive", "/?page=3", "/post/101"))
SHOP = WebApp(
    "shop",
    "shop:application",
    ("/", "/search?words=tea+north", "/product/3", "/cart", "/product/77"),
)
TASKS = WebApp("tasks", "tasks:application", ("/", "/project/4", "/api/tasks", "/project/17"))
NOTES = WebApp("notes", "notes:application", ("/", "/note/12", "/find?words=umbrella", "/note/99"))
WIKI = WebApp("wiki", "wiki:application", ("/", "/page/Page7", "/history/Page9", "/page/Page31"))
FEED = WebApp("feed", "feed:application", ("/", "/feed.atom", "/day.json?place=cellar"))
LIBRARY = WebApp(
    "library",
    "library.wsgi:application",
    ("/", "/book/3/", "/authors/", "/borrow/", "/?page=5", "/admin/login/"),
    django=True,
)
EVENTS = WebApp(
    "events",
    "events.wsgi:application",
    ("/", "/place/hall-3/", "/calendar.ics", "/free.json", "/?page=9"),
    django=True,
)
CLINIC = WebApp(
    "clinic",
    "clinic.wsgi:application",
    ("/", "/doctors/", "/doctor/2/", "/new/", "/?day=2026-03-09"),
    django=True,
)
EIGHT = (BLOG, SHOP, TASKS, LIBRARY, EVENTS, NOTES, WIKI, FEED)
DJANGOS = (LIBRARY, EVENTS, CLINIC)


def in_one_interpreter(apps: Sequence[WebApp]) -> tuple[list[WebApp], list[WebApp]]:
    """Return the apps that one interpreter can hold, and the others: all Djangos but the first."""
    djangos = [app for app in apps if app.django]
    return [app for app in apps if app not in djangos[1:]], djangos[1:]


def prepared(apps: Sequence[WebApp], python: str, into: Path) -> list[WebApp]:
    """Copy apps, fill their databases, and return them as they are there."""
    return [_prepared(app, python, into / app.name) for app in apps]


def _prepared(app: WebApp, python: str, folder: Path) -> WebApp:
    shutil.copytree(
        APPS / app.name, folder, ignore=shutil.ignore_patterns("__pycache__", "*.sqlite3")
    )
    script = ["manage.py", "prepare"] if app.django else [f"{app.name}.py"]
    subprocess.run([python, "-W", "ignore", *script], cwd=folder, check=True)
    subprocess.run([python, "-m", "compileall", "-q", "."], cwd=folder, check=True)
    return replace(app, directory=folder)


def copies(app: WebApp, count: int, into: Path) -> list[WebApp]:
    """Return copies of a prepared app, each with its own directory, database and name."""
    found = []
    for number in range(count):
        name = f"{app.name}-{number}"
        if not (into / name).exists():
            shutil.copytree(app.directory, into / name)
        found.append(replace(app, name=name, directory=into / name))
    return found
