"""Whose code the calling thread is running: the one thing that differs between apps of a process.

Its directory and umask, os.environ, its own modules and the prefix of error lines follow from it.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path

from . import directory


@dataclass(slots=True, eq=False)
class AppContext:
    """What code of an app sees of the process."""

    name: str
    root: Path  # its real path: a `current` symlink has been resolved
    descriptor: int  # of root
    variables: dict[str, str | None]  # over the process's own; None is one that the app deleted
    import_roots: tuple[str, ...] = ()  # where its own modules are
    search: list[str] = field(default_factory=list)  # its sys.path
    umask: int | None = None  # as it is after the app has been loaded
    temporary_directory: str | None = None  # as tempfile has it; None: nobody has asked yet
    request_timeout_seconds: int = 0  # then a request of it is told of; 0: never


class _OfThread(threading.local):
    """Whom the thread works for in a contextvars context that is a new one."""

    app: AppContext | None = None


_current: ContextVar[AppContext | None] = ContextVar("app", default=None)
_of_thread = _OfThread()


def current() -> AppContext | None:
    """Return the app that the calling thread is working for, None for the server itself."""
    app = _current.get()
    return _of_thread.app if app is None else app


def enter(app: AppContext) -> None:
    """Make the calling thread work for an app, until it leaves or enters another."""
    _current.set(app)
    _of_thread.app = app
    directory.change_to(app.descriptor)
    if app.umask is not None:
        os.umask(app.umask)  # the thread's own, as the directory is


def leave() -> None:
    """Work for the server again. The working directory stays: nothing of the server has one."""
    _current.set(None)
    _of_thread.app = None


@contextmanager
def aside() -> Iterator[None]:
    """Work for the server for a moment, and then for the app again."""
    before, of_thread = _current.get(), _of_thread.app
    leave()
    try:
        yield
    finally:
        _current.set(before)
        _of_thread.app = of_thread
