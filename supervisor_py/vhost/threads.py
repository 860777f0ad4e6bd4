"""A thread that an app starts goes on working for that app."""

import threading

from . import context

_start = threading.Thread.start


def _start_in_app(self: threading.Thread) -> None:
    app = context.current()
    if app is not None:
        run = self.run

        def run_in_app() -> None:
            # Also for the directory: a new thread shares its creator's, who soon has another's.
            context.enter(app)
            run()

        self.run = run_in_app  # type: ignore[method-assign]
    _start(self)


def install() -> None:
    """Let every thread started from an app's code inherit the app."""
    threading.Thread.start = _start_in_app  # type: ignore[method-assign]
