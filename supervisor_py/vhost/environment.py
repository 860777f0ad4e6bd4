"""os.environ as each app has it: the process's variables with the app's own over them.

What an app sets or deletes stays its own, too, and its subprocesses get it. The C library's
environment (os.system, os.environb) is the process's alone, and thread-safe by that.
"""

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from typing import Any

from . import context
from .context import AppContext


class AppEnviron(os._Environ[str]):
    """os.environ's own class, looking first into the variables of the calling thread's app."""

    def __getitem__(self, key: str) -> str:
        app = context.current()
        if app is None or key not in app.variables:
            return super().__getitem__(key)
        value = app.variables[key]
        if value is None:
            raise KeyError(key)
        return value

    def __setitem__(self, key: str, value: str) -> None:
        app = context.current()
        if app is None:
            super().__setitem__(key, value)
            return
        self.encodekey(key)  # raises TypeError for what is no string, as os.environ does
        self.encodevalue(value)
        app.variables[key] = value

    def __delitem__(self, key: str) -> None:
        app = context.current()
        if app is None:
            super().__delitem__(key)
            return
        self[key]
        app.variables[key] = None

    def __iter__(self) -> Iterator[str]:
        app = context.current()
        own = {} if app is None else dict(app.variables)
        for key in super().__iter__():
            if key not in own:
                yield key
        yield from (key for key, value in own.items() if value is not None)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return f"environ({dict(self)!r})"


_start_subprocess = subprocess.Popen.__init__
ENV_POSITION = 10  # of `env` among the positional arguments, where hardly anybody gives it


def _start_subprocess_in_app(self: "subprocess.Popen[Any]", *args: Any, **kwargs: Any) -> None:
    if context.current() is not None and len(args) <= ENV_POSITION and kwargs.get("env") is None:
        kwargs["env"] = dict(os.environ)
    _start_subprocess(self, *args, **kwargs)


def _temporary_directory() -> str:
    """Return the app's, by its TMPDIR; tempfile itself keeps the first one's for all."""
    if tempfile.tempdir is not None:  # somebody has set it, which is for all
        return str(tempfile.tempdir)
    app = context.current()
    if app is None:
        return _default_temporary_directory()
    if app.temporary_directory is None:
        app.temporary_directory = _default_temporary_directory()
    return app.temporary_directory


def _default_temporary_directory() -> str:
    return str(tempfile._get_default_tempdir())  # type: ignore[attr-defined]


def give_to(app: AppContext) -> None:
    """Make the environment of the process that of its one app: C code sees it, and TZ counts."""
    os.environ.__class__ = os._Environ
    os.environ.update({key: value for key, value in app.variables.items() if value is not None})
    app.variables.clear()
    time.tzset()


def install() -> None:
    """Make os.environ follow the calling thread's app, also where it was imported by name."""
    os.environ.__class__ = AppEnviron
    tempfile._gettempdir = _temporary_directory  # type: ignore[attr-defined]
    tempfile.tempdir = None
    subprocess.Popen.__init__ = _start_subprocess_in_app  # type: ignore[method-assign]
