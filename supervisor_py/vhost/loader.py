"""Import the apps of a pool into this one interpreter, each from its own directory.

An app's directory is the first of its import roots, as it is for `python app.py`, at load as well
as for imports made later, inside a request. Modules are the interpreter's, though: where two apps
have one of the same name, the second would silently get the first's, so that is refused.
"""

import importlib
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from . import context, directory
from .context import AppContext
from .pool import App, Pool

WSGIApplication = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class LoadError(RuntimeError):
    """An app can't be served; the message says which, why, and what to do."""


class ClashError(ImportError):
    """Two apps of one interpreter each have their own module of one name."""


@dataclass(frozen=True, slots=True)
class LoadedApp:
    """An app that is ready to answer."""

    context: AppContext
    hosts: tuple[str, ...]
    application: WSGIApplication


class AppFinder(MetaPathFinder):
    """Finds a top-level module in the directory of the app that imports it, before all else."""

    def __init__(self, apps: Sequence[AppContext]) -> None:
        self._apps = apps

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find a module for the calling thread's app; raises ClashError where another has it."""
        app = context.current()
        if path is not None or app is None:
            return None
        spec = PathFinder.find_spec(fullname, [str(app.root), *sys.path], target)
        clash = find_clash(fullname, spec, self._apps) if spec else None
        if clash:
            raise ClashError(clash, name=fullname)
        return spec


def load(pool: Pool) -> list[LoadedApp]:
    """Import every app of a pool; raises LoadError for the first that can't be served."""
    contexts = [_context(app) for app in pool.apps]
    finder = AppFinder(contexts)
    sys.meta_path.insert(0, finder)
    start = directory.open_directory(Path())
    try:
        loaded = [_load(app, ctx, contexts) for app, ctx in zip(pool.apps, contexts, strict=True)]
    finally:
        context.leave()
        os.fchdir(start)
        os.close(start)
    for name, module in list(sys.modules.items()):
        spec = getattr(module, "__spec__", None)
        if "." not in name and spec is not None and (clash := find_clash(name, spec, contexts)):
            raise LoadError(clash)
    return loaded


def find_clash(name: str, spec: ModuleSpec, apps: Sequence[AppContext]) -> str | None:
    """Return the sentence about an app that has its own module of this name, or None.

    The standard library's names are left alone: hiding one is every Python program's mistake.
    """
    if name in sys.stdlib_module_names or name == "__main__":
        return None
    here = _place(spec)
    owners = {app.name: place for app in apps if (place := _offer(app, name))}
    others = {owner: place for owner, place in owners.items() if place != here}
    if here is None or not others:
        return None
    owner = next((owner for owner, place in owners.items() if place == here), None)
    whose = f"the app {owner} has" if owner else "the virtualenv has"
    other, place = next(iter(others.items()))
    return (
        f'the module "{name}" clashes: {whose} it at {here}, and the app {other} has another at'
        f" {place}; apps of one pool share their modules, so rename one of the two (or put it into"
        " a package), or move an app to another pool"
    )


def _offer(app: AppContext, name: str) -> str | None:
    """Return where an app's own directory has a module of this name, None where it has none."""
    spec = PathFinder.find_spec(name, [str(app.root)])
    if spec is None:
        return None
    place = _place(spec)
    # Any folder is a namespace package to the import system: count those that hold code.
    if spec.origin is None and place and not any(Path(place).glob("*.py")):
        return None
    return place


def _place(spec: ModuleSpec) -> str | None:
    if spec.origin is not None:
        return spec.origin
    return next(iter(spec.submodule_search_locations or ()), None)


def _context(app: App) -> AppContext:
    root = Path(os.path.realpath(app.directory))
    try:
        descriptor = directory.open_directory(root)
    except OSError as error:
        raise LoadError(
            f"the app {app.name} can't be loaded: its directory {app.directory}: {error.strerror}"
        ) from error
    return AppContext(app.name, root, descriptor, dict(app.environment))


def _load(app: App, ctx: AppContext, neighbours: Sequence[AppContext]) -> LoadedApp:
    context.enter(ctx)
    top = app.module.partition(".")[0]
    for neighbour in neighbours:
        if not _offer(ctx, top) and _offer(neighbour, top):
            raise LoadError(
                f"the app {app.name} can't be loaded: there is no module {top} in {ctx.root}"
                f" (the one of the app {neighbour.name} is not its own)"
            )
    try:
        target: object = importlib.import_module(app.module)
    # An app's module may raise anything, and SystemExit comes from scripts taken for modules.
    except (Exception, SystemExit) as error:
        raise LoadError(
            f"the app {app.name} can't be loaded: import of {app.module} from {ctx.root} failed:"
            f" {type(error).__name__}: {error}\n"
            + "".join(traceback.format_exception(error)).rstrip()
        ) from error
    place = f"{app.module}:{app.attribute}"
    for part in app.attribute.split("."):
        if not hasattr(target, part):
            raise LoadError(
                f"the app {app.name} can't be loaded: {place} is not there:"
                f" {target!r} has no {part!r}"
            )
        target = getattr(target, part)
    if not callable(target):
        raise LoadError(
            f"the app {app.name} can't be loaded: {place} is not a WSGI application:"
            f" {target!r} can't be called"
        )
    return LoadedApp(ctx, app.hosts, target)
