"""What an app hands over to be called later goes on working for that app."""

import _thread
import atexit
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

from . import context
from .context import AppContext

_start = threading.Thread.start
_start_new_thread = _thread.start_new_thread
_submit = ThreadPoolExecutor.submit
_register_at_exit = atexit.register
_register_at_fork = os.register_at_fork


class InApp:
    """A function that enters its app when it is called; equal to the function, for unregister."""

    __slots__ = ("_app", "_function")

    def __init__(self, app: AppContext, function: Callable[..., Any]) -> None:
        self._app = app
        self._function = function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function for the app, and go on for whom the thread worked before."""
        before = context.current()
        context.enter(self._app)
        try:
            return self._function(*args, **kwargs)
        finally:
            if before is None:
                context.leave()
            else:
                context.enter(before)

    def __eq__(self, other: object) -> bool:
        return bool(self._function == (other._function if isinstance(other, InApp) else other))

    def __hash__(self) -> int:
        return hash(self._function)


def in_app(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function bound to the app that the calling thread works for, if any."""
    app = context.current()
    return function if app is None else InApp(app, function)


def _start_in_app(self: threading.Thread) -> None:
    # Also for the directory: a new thread shares its creator's, who soon has another's.
    app = context.current()
    if app is not None:
        self.run = partial(_run_thread, app, self.run)  # type: ignore[method-assign]
    _start(self)


def _run_thread(app: AppContext, run: Callable[..., object], *args: Any, **kwargs: Any) -> None:
    """Run a thread that is an app's to its end, with the traceback of what ends it."""
    context.enter(app)
    run(*args, **kwargs)


def _start_new_thread_in_app(
    function: Callable[..., object], /, args: tuple[Any, ...], *kwargs: dict[str, Any]
) -> int:
    app = context.current()
    if app is not None:
        function = partial(_run_thread, app, function)
    return _start_new_thread(function, args, *kwargs)


def _submit_in_app(
    self: ThreadPoolExecutor, fn: Callable[..., Any], /, *args: Any, **kwargs: Any
) -> "Future[Any]":
    # The pool may be a library's, with threads that another app has started.
    return _submit(self, in_app(fn), *args, **kwargs)


def _register_at_exit_in_app(func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    _register_at_exit(in_app(func), *args, **kwargs)
    return func


def _register_at_fork_in_app(**hooks: Callable[[], Any]) -> None:
    _register_at_fork(**{moment: in_app(hook) for moment, hook in hooks.items()})


def install() -> None:
    """Let threads, tasks of thread pools, and functions for exit and fork inherit the app."""
    threading.Thread.start = _start_in_app  # type: ignore[method-assign]
    _thread.start_new_thread = _thread.start_new = _start_new_thread_in_app
    ThreadPoolExecutor.submit = _submit_in_app  # type: ignore[assignment,method-assign]
    atexit.register = _register_at_exit_in_app
    os.register_at_fork = _register_at_fork_in_app  # type: ignore[assignment]
