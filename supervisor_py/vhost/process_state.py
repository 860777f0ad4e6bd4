"""What an app changes at load that there is once in a process: its neighbours feel it."""

import builtins
import locale
import logging
import socket
import sys
import threading
import warnings
from collections.abc import Callable
from typing import Any

# As decimal has it before anybody changes it.
DECIMAL = (
    "Context(prec=28, rounding=ROUND_HALF_EVEN, Emin=-999999, Emax=999999, capitals=1, clamp=0,"
    " flags=[], traps=[InvalidOperation, DivisionByZero, Overflow])"
)
OF_PROCESS: dict[str, Callable[[], object]] = {
    "the time-out of all sockets (socket.setdefaulttimeout)": socket.getdefaulttimeout,
    "which warnings are errors (warnings.simplefilter)": lambda: [
        one for one in warnings.filters if one[0] == "error"
    ],
    "which log records are dropped (logging.disable)": lambda: logging.root.manager.disable,
    "the handlers of the root logger": lambda: list(logging.root.handlers),
    "the limit of recursion (sys.setrecursionlimit)": sys.getrecursionlimit,
    "sys.stdout": lambda: sys.stdout,
    "sys.stderr": lambda: sys.stderr,
    "the locale (locale.setlocale)": lambda: locale.setlocale(locale.LC_ALL),
    "builtins": lambda: {name: id(value) for name, value in vars(builtins).items()},
    "the trace function (sys.settrace)": lambda: (sys.gettrace(), threading.gettrace()),
}
# What a module has of it that need not be imported: None where it is as it was.
OF_MODULES: dict[str, tuple[str, Callable[[Any], object]]] = {
    "how certificates are checked (ssl._create_default_https_context)": (
        "ssl",
        lambda module: _unless(
            getattr(module, "_create_default_https_context", None), module.create_default_context
        ),
    ),
    "decimal.DefaultContext": (
        "decimal",
        lambda module: _unless(repr(module.DefaultContext), DECIMAL),
    ),
    "the start method (multiprocessing.set_start_method)": (
        "multiprocessing.context",
        lambda module: getattr(module._default_context, "_actual_context", None),
    ),
    "the policy of event loops (asyncio.set_event_loop_policy)": (
        "asyncio.events",
        lambda module: getattr(module, "_event_loop_policy", None),
    ),
    "tempfile.tempdir": ("tempfile", lambda module: module.tempdir),
}


class State:
    """How all that is at one moment."""

    def __init__(self) -> None:
        self._seen = _look()

    def changes(self) -> list[str]:
        """Return what has been changed since then."""
        return [what for what, value in _look().items() if value != self._seen[what]]


def _look() -> dict[str, object]:
    of_modules = {
        what: read(sys.modules[name]) if name in sys.modules else None
        for what, (name, read) in OF_MODULES.items()
    }
    return {what: read() for what, read in OF_PROCESS.items()} | of_modules


def _unless(value: object, default: object) -> object:
    return None if value == default else value
