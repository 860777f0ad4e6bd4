"""What an app changes at load that there is once in a process: its neighbours feel it.

A table of what is known by name, each with what to do instead, and a comparison of all functions of
the standard library, as somebody may have replaced any of them.
"""

import builtins
import gc
import locale
import logging
import resource
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FunctionType, ModuleType
from typing import Any

# As decimal has it before anybody changes it.
DECIMAL = (
    "Context(prec=28, rounding=ROUND_HALF_EVEN, Emin=-999999, Emax=999999, capitals=1, clamp=0,"
    " flags=[], traps=[InvalidOperation, DivisionByZero, Overflow])"
)
CSV_FIELD_CHARACTERS = 131_072
TIME_ZONE = "the time zone of the process (TZ, Django's TIME_ZONE)"
ROOT_HANDLERS = "the handlers of the root logger"
LIMITS = ("RLIMIT_NOFILE", "RLIMIT_AS", "RLIMIT_CPU", "RLIMIT_FSIZE", "RLIMIT_STACK", "RLIMIT_CORE")
# What replaces parts of the standard library for the whole process, and how it shows that it has.
PATCHERS: dict[str, Callable[[Any], bool]] = {
    "gevent.monkey": lambda module: bool(module.saved),
    "eventlet.patcher": lambda module: bool(module.already_patched),
}


@dataclass(frozen=True, slots=True)
class Row:
    """One thing that a process has: what it is, what to do instead of changing it, how to read it.

    With a `module`, which need not be imported, `read` gets that, and returns None where all is as
    it was.
    """

    what: str
    advice: str
    read: Callable[..., object]
    module: str = ""


TABLE = (
    Row(
        "the time-out of all sockets (socket.setdefaulttimeout)",
        "give a time-out to each call instead, as urlopen(url, timeout=3) takes it",
        socket.getdefaulttimeout,
    ),
    Row(
        "which warnings are errors (warnings.simplefilter)",
        "leave that to PYTHONWARNINGS of the app's tests, or to warnings.catch_warnings()",
        lambda: [one for one in warnings.filters if one[0] == "error"],
    ),
    Row(
        "which log records are dropped (logging.disable)",
        "set the level of the app's own loggers instead",
        lambda: logging.root.manager.disable,
    ),
    Row(
        ROOT_HANDLERS,
        "give handlers to the app's own loggers instead",
        lambda: list(logging.root.handlers),
    ),
    Row(
        "the limit of recursion (sys.setrecursionlimit)",
        "raise it around the call that needs it, and put it back",
        sys.getrecursionlimit,
    ),
    Row("sys.stdout", "use contextlib.redirect_stdout() around a call", lambda: sys.stdout),
    Row("sys.stderr", "use contextlib.redirect_stderr() around a call", lambda: sys.stderr),
    Row(
        "the locale (locale.setlocale)",
        "format with babel, or with the locale of each request, instead",
        lambda: locale.setlocale(locale.LC_ALL),
    ),
    Row(
        "builtins",
        "import the name where it is used; gettext.translation(…).gettext instead of install()",
        lambda: {name: id(value) for name, value in vars(builtins).items()},
    ),
    Row(
        "the trace function (sys.settrace)",
        "start the debugger or the coverage in a process of its own",
        lambda: (sys.gettrace(), threading.gettrace(), sys.getprofile(), threading.getprofile()),
    ),
    Row(
        "signal handlers (signal.signal)",
        "the server has its own for SIGTERM and the like; use atexit for what is to be done last",
        lambda: {number: signal.getsignal(number) for number in signal.valid_signals()},
    ),
    Row(
        TIME_ZONE,
        "all times would be told in the zone of the server; or give the pool's server the same TZ",
        lambda: (time.tzname, time.timezone, time.altzone),
    ),
    Row(
        "limits of the process (resource.setrlimit)",
        "set them in the unit of the pool",
        lambda: [resource.getrlimit(getattr(resource, name)) for name in LIMITS],
    ),
    Row(
        "how garbage is collected (gc.set_threshold)",
        "see pool.memory of the pool file",
        lambda: (gc.get_threshold(), gc.get_debug()),
    ),
    Row(
        "how often threads take turns (sys.setswitchinterval)",
        "leave it as it is",
        sys.getswitchinterval,
    ),
    Row(
        "how long a number's text may be (sys.set_int_max_str_digits)",
        "raise it around the call that needs it, and put it back",
        getattr(sys, "get_int_max_str_digits", int),  # not in each 3.11
    ),
    Row(
        "the stack of new threads (threading.stack_size)",
        "set it around the start of a thread, and put it back",
        threading.stack_size,
    ),
    Row(
        "how long a field of a CSV file may be (csv.field_size_limit)",
        "raise it around the call that needs it, and put it back",
        lambda module: _unless(module.field_size_limit(), CSV_FIELD_CHARACTERS),
        "_csv",
    ),
    Row(
        "how certificates are checked (ssl._create_default_https_context)",
        "give a context to the connection that needs it, as urlopen(url, context=…) takes it",
        lambda module: _unless(
            getattr(module, "_create_default_https_context", None), module.create_default_context
        ),
        "ssl",
    ),
    Row(
        "decimal.DefaultContext",
        "use decimal.localcontext(), or set decimal's context in each request",
        lambda module: _unless(repr(module.DefaultContext), DECIMAL),
        "decimal",
    ),
    Row(
        "the start method (multiprocessing.set_start_method)",
        'use multiprocessing.get_context("spawn") and its like instead',
        lambda module: getattr(module._default_context, "_actual_context", None),
        "multiprocessing.context",
    ),
    Row(
        "the policy of event loops (asyncio.set_event_loop_policy)",
        "give a loop to the runner that needs it, as asyncio.Runner(loop_factory=…) takes it",
        lambda module: getattr(module, "_event_loop_policy", None),
        "asyncio.events",
    ),
    Row(
        "tempfile.tempdir",
        "set TMPDIR in the app's environment instead",
        lambda module: module.tempdir,
        "tempfile",
    ),
    Row(
        "how urllib opens a URL (urllib.request.install_opener)",
        "keep the opener, and call its open()",
        lambda module: None if module._opener is None else _opener(module),
        "urllib.request",
    ),
)
ADVICE = {row.what: row.advice for row in TABLE}


class State:
    """How all that is at one moment."""

    def __init__(self) -> None:
        self._seen = _look()

    def changes(self) -> list[str]:
        """Return what has been changed since then."""
        return [what for what, value in _look().items() if value != self._seen[what]]


class Functions:
    """The public functions and classes of the standard library, and their methods, at one moment.

    What begins with "_" is for the library itself: typing_extensions replaces some.
    """

    def __init__(self) -> None:
        self._seen = dict(_functions())

    def replaced(self) -> list[str]:
        """Return the names of those that are others by now."""
        now = dict(_functions())
        return [name for name, value in self._seen.items() if now.get(name, value) is not value]


def replaced_in_libraries(own: Iterator[ModuleType]) -> dict[str, list[str]]:
    """Return what functions of an app's own modules stand in for, by the library that has it.

    A name of a module, or of a class of it, that belongs to no app: what an app replaces there, all
    that use the library get.
    """
    spaces = {id(vars(module)) for module in own}
    found: dict[str, list[str]] = {}
    for name, value in _members(lambda module: id(vars(module)) not in spaces):
        function: Any = value
        if type(value) in (staticmethod, classmethod):
            function = function.__func__
        # by its type alone: a proxy of an app would be anything
        if type(function) is FunctionType and id(function.__globals__) in spaces:
            found.setdefault(name.partition(".")[0], []).append(name)
    return found


def _functions() -> Iterator[tuple[str, object]]:
    standard = sys.stdlib_module_names
    for name, value in _members(lambda module: module.__name__.partition(".")[0] in standard):
        if _is_private(name.rpartition(".")[2]):
            continue
        if callable(value) or isinstance(value, staticmethod | classmethod | property):
            yield name, value


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


def _members(wanted: Callable[[ModuleType], bool]) -> Iterator[tuple[str, object]]:
    """Yield what modules have, and the classes that are their own, by their whole names."""
    for key, module in list(sys.modules.items()):
        # a lazy one would be loaded by a look at it
        if type(key) is not str or type(module) is not ModuleType or not wanted(module):
            continue
        for name, value in list(vars(module).items()):
            yield f"{key}.{name}", value
            if issubclass(type(value), type) and vars(value).get("__module__") == key:
                for attribute, member in list(vars(value).items()):
                    yield f"{key}.{name}.{attribute}", member


def _look() -> dict[str, object]:
    return {row.what: _value(row) for row in TABLE}


def _value(row: Row) -> object:
    if not row.module:
        return row.read()
    return row.read(sys.modules[row.module]) if row.module in sys.modules else None


def _unless(value: object, default: object) -> object:
    return None if value == default else value


def _opener(module: Any) -> object | None:
    """Return the classes that the opener works with, None for those that it has by itself."""
    used = {type(one) for one in module._opener.handlers}
    return _unless(used, {type(one) for one in module.build_opener().handlers})
