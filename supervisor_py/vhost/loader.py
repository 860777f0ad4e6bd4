"""Import the apps of a pool into this one interpreter, each from its own import roots.

What can't be kept apart there is refused, with the app it is about: its neighbours are loaded.
"""

import importlib
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import context, directory
from .context import AppContext
from .hosts import Site
from .modules import AppFinder, ClashError
from .pool import App, Pool

WSGIApplication = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
SOURCE_LAYOUT = "src"  # an import root where there is one, as its packages would be installed


class LoadError(RuntimeError):
    """An app can't be served; the message says which, why, and what to do."""

    def __init__(self, app: str, reason: str) -> None:
        super().__init__(f"the app {app} can't be loaded: {reason}")
        self.app = app


@dataclass(frozen=True, slots=True)
class LoadedApp:
    """An app that is ready to answer."""

    context: AppContext
    sites: tuple[Site, ...]
    application: WSGIApplication
    django_settings: str | None = None  # the module, for an app that set up Django's settings


def load(pool: Pool) -> list[LoadedApp]:
    """Import every app of a pool; raises LoadError for the first that can't be served."""
    contexts = [_context(app) for app in pool.apps]
    finder = AppFinder(contexts)
    finder.install()
    start = directory.open_directory(Path())
    loaded: list[LoadedApp] = []
    try:
        for app, ctx in zip(pool.apps, contexts, strict=True):
            context.enter(ctx)
            loaded.append(_load(app, ctx, finder))
            refuse_shared_state(loaded)
    finally:
        context.leave()
        os.fchdir(start)
        os.close(start)
    for ctx, sentence in finder.clashes():
        raise LoadError(ctx.name, sentence)
    return loaded


def refuse_shared_state(loaded: Sequence[LoadedApp]) -> None:
    """Raise LoadError when the last app is, or sets up, what an earlier one is or has set up."""
    *earlier, last = loaded
    for other in earlier:
        if other.application is last.application:
            raise LoadError(
                last.context.name,
                f"its WSGI object is the app {other.context.name}'s, too, from a package of the"
                " virtualenv, whose modules all apps share; move one of them to another pool",
            )
        mine, theirs = last.django_settings, other.django_settings
        if mine and theirs:
            raise LoadError(
                last.context.name,
                f"it is a Django project ({mine}), as is the app {other.context.name} ({theirs}),"
                " and an interpreter can hold one Django settings; move one of them to another"
                " pool",
            )


def _has_django_settings() -> bool:
    conf = sys.modules.get("django.conf")
    return conf is not None and bool(conf.settings.configured)


def _context(app: App) -> AppContext:
    root = Path(os.path.realpath(app.directory))
    try:
        descriptor = directory.open_directory(root)
    except OSError as error:
        raise LoadError(app.name, f"its directory {app.directory}: {error.strerror}") from error
    roots = app.import_roots
    if roots is None:
        roots = (Path(), Path(SOURCE_LAYOUT)) if (root / SOURCE_LAYOUT).is_dir() else (Path(),)
    for place in roots:
        if not (root / place).is_dir():
            raise LoadError(app.name, f"its import root {root / place} is not a directory")
    return AppContext(
        app.name,
        root,
        descriptor,
        dict(app.environment),
        tuple(str(root / place) for place in roots),
    )


def _load(app: App, ctx: AppContext, finder: AppFinder) -> LoadedApp:
    had_settings = _has_django_settings()
    try:
        with finder.loading(ctx):
            target: object = importlib.import_module(app.module)
    except ClashError as error:
        raise LoadError(app.name, str(error)) from error
    # An app's module may raise anything, and SystemExit comes from scripts taken for modules.
    except (Exception, SystemExit) as error:
        raise LoadError(
            app.name,
            f"import of {app.module} from {', '.join(ctx.import_roots)} failed:"
            f" {type(error).__name__}: {error}\n"
            + "".join(traceback.format_exception(error)).rstrip(),
        ) from error
    place = f"{app.module}:{app.attribute}"
    for part in app.attribute.split("."):
        if not hasattr(target, part):
            raise LoadError(app.name, f"{place} is not there: {target!r} has no {part!r}")
        target = getattr(target, part)
    if not callable(target):
        raise LoadError(app.name, f"{place} is not a WSGI application: {target!r} can't be called")
    settings = ctx.variables.get("DJANGO_SETTINGS_MODULE") if _has_django_settings() else None
    if settings is None and _has_django_settings() and not had_settings:
        settings = "settings.configure()"
    return LoadedApp(ctx, app.sites, target, settings)
