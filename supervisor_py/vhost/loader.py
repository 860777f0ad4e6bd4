"""Import the apps of a pool into this one interpreter, each from its own import roots.

What can't be kept apart there is refused, with the app it is about: its neighbours are loaded.
"""

import importlib
import inspect
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TextIO

from . import context, directory, environment, hygiene, tracebacks, versions
from .context import AppContext
from .hosts import Site
from .modules import APART, AppFinder, ClashError
from .pool import WSGI, App, Pool
from .process_state import ADVICE, PATCHERS, State

WSGIApplication = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
SOURCE_LAYOUT = "src"  # an import root where there is one, as its packages would be installed


class LoadError(RuntimeError):
    """An app can't be served; the message says which, why, and what to do.

    `key` is the one of the pool file that it is about. `isolate`: an interpreter of its own is the
    way out.
    """

    def __init__(
        self, app: str, reason: object, key: str = "name", *, isolate: bool = False
    ) -> None:
        super().__init__(f"the app {app} can't be loaded: {reason}")
        self.app = app
        self.reason = str(reason)
        self.key = key
        self.isolate = isolate
        self.where = ""  # file:line of the pool file

    def __str__(self) -> str:
        return f"{self.where}: {super().__str__()}" if self.where else super().__str__()


@dataclass(frozen=True, slots=True, eq=False)
class LoadedApp:
    """An app that is ready to answer."""

    context: AppContext
    sites: tuple[Site, ...]
    application: Any  # a WSGI callable, or an asgi.Served
    # In each worker, for an app that has to be started there: one that speaks ASGI.
    startup: Callable[[], None] | None = None
    shutdown: Callable[[], None] | None = None
    remarks: tuple[str, ...] = ()  # for the log: what has been found of its load


@dataclass(frozen=True, slots=True)
class Loading:
    """What is asked of a load.

    `refused` takes each app that can't be served: it raises, or goes on without. `around` is
    entered while an app is loaded. `names` are the apps to load: the others of the pool live in
    other processes, and have the virtualenv in common with these. `forks` is for a process that
    workers are forked from afterwards.
    """

    refused: Callable[[LoadError], None]
    around: Callable[[App], AbstractContextManager[None]] = lambda _: nullcontext()
    names: frozenset[str] | None = None  # None: all
    forks: bool = True


def load(pool: Pool, loading: Loading) -> list[LoadedApp]:
    """Import the apps of a pool into this interpreter, and return those that can be served."""
    names = loading.names
    chosen = [app for app in pool.apps if names is None or app.name in names]
    loaded: dict[str, LoadedApp] = {}

    def refuse(error: LoadError) -> None:
        error.where = pool.where(error.app, error.key)
        loading.refused(error)

    contexts = _contexts(chosen, refuse)
    finder = AppFinder(list(contexts.values()))
    finder.install()
    django = _Django()
    start = directory.open_directory(Path())
    umask = os.umask(0o077)
    os.umask(umask)

    def give_up(error: LoadError) -> None:
        loaded.pop(error.app, None)
        finder.forget(contexts[error.app])
        refuse(error)

    clashing = versions.clashes(
        {app.name: list(versions.needs(Path(os.path.realpath(app.directory)))) for app in pool.apps}
    )
    try:
        for app in chosen:
            if app.name not in contexts:
                continue
            if app.name in clashing:
                give_up(LoadError(app.name, clashing[app.name], "directory"))
                continue
            context.enter(contexts[app.name])
            os.umask(umask)
            try:
                with loading.around(app), django.loading(app.name):
                    warm_up = app.warm_up if pool.memory.warm_up else ()
                    state = State()
                    found = _prepare(app, contexts[app.name], finder, warm_up, loading.forks)
                if len(chosen) > 1:
                    _refuse_patching(app)
                    found = replace(found, remarks=(*found.remarks, *_felt(state)))
                refuse_same_object(found, loaded.values())
                loaded[app.name] = found
                found.context.umask = os.umask(umask)
                _keep_directory(found.context)
            except LoadError as error:
                give_up(error)
    finally:
        context.leave()
        os.umask(umask)
        os.fchdir(start)
        os.close(start)
    for name, clash in {ctx.name: clash for ctx, clash in finder.clashes()}.items():
        if name in loaded:
            give_up(LoadError(name, clash, isolate=clash.isolate))
    return list(loaded.values())


def _keep_directory(app: AppContext) -> None:
    """Keep the directory that an app's load has left: its requests are to find it."""
    left = directory.open_directory(Path())
    if os.path.sameopenfile(left, app.descriptor):
        os.close(left)
    else:
        app.descriptor = left


def report(apps: Iterable[LoadedApp], out: TextIO) -> None:
    """Write down what has been found of the apps' loads, a line each."""
    for app in apps:
        for remark in app.remarks:
            out.write(f"the app {app.context.name}: {remark}\n")


def refuse_same_object(found: LoadedApp, earlier: Iterable[LoadedApp]) -> None:
    """Raise LoadError for an app that is another one: all would be as the first has set it up."""
    for other in earlier:
        if other.application is found.application:
            raise LoadError(
                found.context.name,
                f"its object is the app {other.context.name}'s, too, from a package of the"
                f" virtualenv, whose modules all shared apps have in common; {APART}",
                isolate=True,
            )


def _felt(state: State) -> Iterator[str]:
    """Yield what neighbours feel of an app's load."""
    for what in state.changes():
        yield f"at load it has changed {what}, for its neighbours, too: {ADVICE[what]}, or {APART}"


def patched() -> Iterator[str]:
    """Yield a sentence for each library that has replaced threads and sockets for the process."""
    for name, has_patched in PATCHERS.items():
        module = sys.modules.get(name)
        if module is not None and has_patched(module):
            yield (
                f"it has replaced the standard library's threads and sockets ({name}), for its"
                " neighbours, too, which then run in each other's directories"
            )


def _refuse_patching(app: App) -> None:
    """Raise LoadError for an app that has replaced threads and sockets for the whole process."""
    for sentence in patched():
        raise LoadError(app.name, f"{sentence}; {APART}", app.interface, isolate=True)


class _Django:
    """Whose Django's settings are: of the app that has set them up, be it broken since."""

    def __init__(self) -> None:
        self._owner: str | None = None
        self._settings = ""

    @contextmanager
    def loading(self, app: str) -> Iterator[None]:
        """Notice when an app, which is entered now, sets up the settings.

        Raises LoadError for one that would run on another's, also where it has failed by that.
        """
        try:
            yield
        finally:
            conf = sys.modules.get("django.conf")
            if self._owner is None and conf is not None and conf.settings.configured:
                self._owner = app
                self._settings = _settings_module() or "settings.configure()"
            self._refuse_second(app)

    def _refuse_second(self, app: str) -> None:
        mine = _settings_module()
        if mine and self._owner not in (None, app):
            raise LoadError(
                app,
                f"it is a Django project ({mine}), as is the app {self._owner} ({self._settings}),"
                f" and an interpreter can hold one Django settings; {APART}",
                isolate=True,
            )


def _settings_module() -> str | None:
    app = context.current()
    return app.variables.get("DJANGO_SETTINGS_MODULE") if app else None


@contextmanager
def loggers_kept() -> Iterator[None]:
    """Undo what dictConfig does to others' loggers when nobody tells it not to."""
    known = [one for one in logging.Logger.manager.loggerDict.values() if _is_enabled(one)]
    try:
        yield
    finally:
        for logger in known:
            logger.disabled = False  # type: ignore[union-attr]


def _is_enabled(logger: object) -> bool:
    return isinstance(logger, logging.Logger) and not logger.disabled


def _contexts(apps: Sequence[App], refuse: Callable[[LoadError], None]) -> dict[str, AppContext]:
    """Return the apps' contexts, by name; one that is alone gets the process's environment."""
    contexts: dict[str, AppContext] = {}
    for app in apps:
        try:
            contexts[app.name] = _context(app)
        except LoadError as error:
            refuse(error)
    if len(apps) == 1:
        for alone in contexts.values():
            environment.give_to(alone)
    return contexts


def _context(app: App) -> AppContext:
    root = Path(os.path.realpath(app.directory))
    try:
        descriptor = directory.open_directory(root)
    except OSError as error:
        raise LoadError(
            app.name, f"its directory {app.directory}: {error.strerror}", "directory"
        ) from error
    roots = app.import_roots
    if roots is None:
        roots = (Path(), Path(SOURCE_LAYOUT)) if (root / SOURCE_LAYOUT).is_dir() else (Path(),)
    for place in roots:
        if not (root / place).is_dir():
            raise LoadError(
                app.name, f"its import root {root / place} is not a directory", "import_roots"
            )
    return AppContext(
        app.name,
        root,
        descriptor,
        dict(app.environment),
        tuple(str(root / place) for place in roots),
        request_timeout_seconds=app.request_timeout_seconds,
    )


def _prepare(
    app: App, ctx: AppContext, finder: AppFinder, paths: Sequence[str], forks: bool
) -> LoadedApp:
    """Load an app, warm it up, and look at what it leaves to the workers."""
    watch = hygiene.Watch()
    found = _load(app, ctx, finder)
    remarks = _warm_up(found, paths, forks) if paths else []
    if forks:
        remarks += [f"at load it has {what}" for what in watch.left()]
    return replace(found, remarks=tuple(remarks))


def _warm_up(found: LoadedApp, paths: Sequence[str], forks: bool) -> list[str]:
    from . import warmup  # noqa: PLC0415  # for pools that do it

    ask = None if found.startup is None else found.application.ask
    app = warmup.Served(found.sites[0], found.application, found.startup, found.shutdown, ask)
    try:
        return warmup.warm(app, paths, forks=forks)
    except warmup.WarmUpError as error:
        raise LoadError(
            found.context.name, f"a request for {', '.join(paths)} failed:\n{error}", "warm_up"
        ) from error


def _load(app: App, ctx: AppContext, finder: AppFinder) -> LoadedApp:
    try:
        with loggers_kept(), finder.loading(ctx):
            target: object = importlib.import_module(app.module)
    except ClashError as error:
        raise LoadError(app.name, error, app.interface, isolate=error.isolate) from error
    # An app's module may raise anything, and SystemExit comes from scripts taken for modules.
    except BaseException as error:
        raise LoadError(
            app.name,
            f"import of {app.module} from {', '.join(ctx.import_roots)} failed:"
            f" {type(error).__name__}: {error}\n" + tracebacks.of_app(error),
            app.interface,
        ) from error
    place = f"{app.module}:{app.attribute}"
    for part in app.attribute.split("."):
        if not hasattr(target, part):
            raise LoadError(
                app.name, f"{place} is not there: {target!r} has no {part!r}", app.interface
            )
        target = getattr(target, part)
    kind = app.interface.upper()
    if not callable(target):
        raise LoadError(
            app.name,
            f"{place} is not a {kind} application: {target!r} can't be called",
            app.interface,
        )
    if app.interface == WSGI and _is_asynchronous(target):
        raise LoadError(
            app.name,
            f'{place} is not a WSGI application: it is asynchronous (asgi = "{place}")',
            app.interface,
        )
    if app.interface == WSGI:
        return LoadedApp(ctx, app.sites, target)
    from .asgi import Served  # noqa: PLC0415  # asyncio's memory is for pools that need it

    served = Served(target)
    return LoadedApp(ctx, app.sites, served, served.startup, served.shutdown)


def _is_asynchronous(target: object) -> bool:
    functions = (target, getattr(target, "__call__", None))  # noqa: B004  # to look at, not call
    return any(inspect.iscoroutinefunction(function) for function in functions)
