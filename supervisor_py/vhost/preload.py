"""The modules that all groups of a pool are forked with: imported once, before any app.

A package alone says little: `import django` takes 0.1 MB of the 20 that a small project has in the
end. So for some packages PARTS has what their apps import of them sooner or later. It names only
what reads no settings: importing that before there are any is what an app would have done itself.
"""

import importlib
import os
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from . import tracebacks
from .pool import Pool

# Each with all that it imports. A part that another version of the package hasn't got, or that
# can't be imported without settings there, is left to the apps.
PARTS: Mapping[str, Sequence[str]] = {
    "django": (
        "django.conf.urls",
        "django.core.wsgi",
        "django.core.management",
        "django.contrib.admin.apps",
        "django.contrib.admin.templatetags.admin_list",
        "django.contrib.admin.templatetags.admin_modify",
        "django.contrib.admin.templatetags.log",
        "django.contrib.auth.apps",
        "django.contrib.auth.hashers",
        "django.contrib.auth.password_validation",
        "django.contrib.auth.tokens",
        "django.contrib.auth.validators",
        "django.contrib.contenttypes.apps",
        "django.contrib.messages.apps",
        "django.contrib.messages.middleware",
        "django.contrib.messages.storage.fallback",
        "django.contrib.sessions.apps",
        "django.contrib.sessions.backends.signed_cookies",
        "django.contrib.sessions.middleware",
        "django.contrib.sessions.serializers",
        "django.contrib.sites.shortcuts",
        "django.contrib.staticfiles.apps",
        "django.db.backends.sqlite3.base",
        "django.db.models.sql.compiler",
        "django.middleware.clickjacking",
        "django.middleware.common",
        "django.middleware.csrf",
        "django.middleware.security",
        "django.template.loaders.app_directories",
        "django.template.loaders.cached",
        "django.templatetags.cache",
        "django.templatetags.l10n",
        "django.templatetags.tz",
        "django.utils.translation.reloader",
    ),
    "sqlalchemy": ("sqlalchemy.orm", "sqlalchemy.dialects.sqlite"),
}


class PreloadError(RuntimeError):
    """A module can't be preloaded; the message says where it is asked for, and why."""


def load(pool: Pool) -> None:
    """Import the pool's `preload`; raises PreloadError."""
    # A relative entry is another directory for each app.
    sys.path[:] = [entry for entry in sys.path if os.path.isabs(entry)]
    for name in pool.preload:
        before = set(sys.modules)
        try:
            importlib.import_module(name)
        except (Exception, SystemExit) as error:
            raise PreloadError(
                f"{_where(pool)}import of {name} failed: {type(error).__name__}: {error}\n"
                + tracebacks.of_app(error)
            ) from error
        import_whole(name)
        _refuse_unfit(pool, name, sys.modules.keys() - before)


def import_whole(name: str) -> None:
    """Import a module, with what PARTS has of it; what fails is left out."""
    for part in (name, *PARTS.get(name, ())):
        _import_or_undo(part)


def common(sets: Sequence[frozenset[str]]) -> frozenset[str]:
    """Return the modules that at least two of several interpreters have. Pure."""
    seen: set[str] = set()
    twice: set[str] = set()
    for one in sets:
        twice |= seen & one
        seen |= one
    return frozenset(twice)


def _import_or_undo(name: str) -> None:
    """Import a module; one that fails leaves nothing behind."""
    if name in sys.modules:
        return
    before = dict(sys.modules)
    try:
        importlib.import_module(name)
    except Exception:  # noqa: BLE001  # whatever a library raises without its settings
        for new in sys.modules.keys() - before.keys():
            module = sys.modules.pop(new)
            package, _, attribute = new.rpartition(".")
            parent = before.get(package)
            if parent is not None and vars(parent).get(attribute) is module:
                delattr(parent, attribute)


def _refuse_unfit(pool: Pool, name: str, new: set[str]) -> None:
    """Raise PreloadError for what can't be in the process that all groups are forked from."""
    for module, file, app in _apps_own(pool, new):
        raise PreloadError(
            f"{_where(pool)}{name} imports the app {app}'s own module {module} ({file}), and every"
            " app would get it: preload what is installed in the virtualenv"
        )
    if threading.active_count() > 1:
        names = ", ".join(one.name for one in threading.enumerate()[1:])
        raise PreloadError(
            f"{_where(pool)}import of {name} has started a thread ({names}), which no process"
            " that is forked later would have: leave it to the apps"
        )


def _apps_own(pool: Pool, modules: set[str]) -> Iterator[tuple[str, str, str]]:
    """Yield the modules that come from an app's directory, with the file and the app.

    The virtualenv may be inside an app's directory, or the other way round: the nearest counts.
    """
    owners = dict.fromkeys(sys.path, "") | {
        os.path.realpath(Path(app.directory, root)): app.name
        for app in pool.apps
        for root in (Path(), *(app.import_roots or ()))
    }
    for module in sorted(modules):
        file = getattr(sys.modules.get(module), "__file__", None)
        if not isinstance(file, str):
            continue
        path = os.path.realpath(file)
        while path not in owners and path != os.path.dirname(path):
            path = os.path.dirname(path)
        if owners.get(path):
            yield module, file, owners[path]


def _where(pool: Pool) -> str:
    where = f"{pool.source.where('pool.preload')}: " if pool.source is not None else ""
    return f"{where}pool.preload: "
