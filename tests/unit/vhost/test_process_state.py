"""What an app's load changes for its neighbours is seen; what it does to itself is not."""

import asyncio
import builtins
import csv
import decimal
import gc
import json
import logging
import multiprocessing.context
import signal
import socket
import ssl
import sys
import tempfile
import threading
import urllib.request
import warnings
from collections.abc import Callable, Iterator
from types import ModuleType

import pytest

from supervisor_py.vhost import process_state
from supervisor_py.vhost.process_state import Functions, State, replaced_in_libraries


@pytest.fixture(autouse=True)
def kept(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    limit, timeout = sys.getrecursionlimit(), socket.getdefaulttimeout()
    handlers, disabled = list(logging.root.handlers), logging.root.manager.disable
    trace = threading.gettrace()
    usr2, interval = signal.getsignal(signal.SIGUSR2), sys.getswitchinterval()
    digits, stack, field = (
        sys.get_int_max_str_digits(),
        threading.stack_size(),
        csv.field_size_limit(),
    )
    thresholds = gc.get_threshold()
    with warnings.catch_warnings():
        yield monkeypatch
    signal.signal(signal.SIGUSR2, usr2)
    sys.setswitchinterval(interval)
    sys.set_int_max_str_digits(digits)
    threading.stack_size(stack)
    csv.field_size_limit(field)
    gc.set_threshold(*thresholds)
    sys.setrecursionlimit(limit)
    socket.setdefaulttimeout(timeout)
    logging.root.handlers[:] = handlers
    logging.disable(disabled)
    threading.settrace(trace)


def of(kept: pytest.MonkeyPatch, owner: object, name: str, value: object) -> Callable[[], None]:
    return lambda: kept.setattr(owner, name, value, raising=False)


CHANGES: dict[str, Callable[[pytest.MonkeyPatch], Callable[[], object]]] = {
    "socket.setdefaulttimeout": lambda _: lambda: socket.setdefaulttimeout(3),
    "warnings.simplefilter": lambda _: lambda: warnings.simplefilter("error", ResourceWarning),
    "logging.disable": lambda _: lambda: logging.disable(logging.CRITICAL),
    "root logger": lambda _: lambda: logging.root.addHandler(logging.NullHandler()),
    "sys.setrecursionlimit": lambda _: lambda: sys.setrecursionlimit(4321),
    "sys.stdout": lambda kept: of(kept, sys, "stdout", object()),
    "sys.stderr": lambda kept: of(kept, sys, "stderr", object()),
    "builtins": lambda kept: of(kept, builtins, "_", str),
    "sys.settrace": lambda _: lambda: threading.settrace(lambda *_: None),
    "ssl._create": lambda kept: of(
        kept, ssl, "_create_default_https_context", ssl._create_unverified_context
    ),
    "decimal": lambda kept: of(kept, decimal, "DefaultContext", decimal.Context(prec=4)),
    "multiprocessing": lambda kept: of(
        kept, multiprocessing.context._default_context, "_actual_context", object()
    ),
    "asyncio": lambda kept: of(kept, asyncio.events, "_event_loop_policy", object()),
    "signal.signal": lambda _: lambda: signal.signal(signal.SIGUSR2, signal.SIG_IGN),
    "gc.set_threshold": lambda _: lambda: gc.set_threshold(701),
    "sys.setswitchinterval": lambda _: lambda: sys.setswitchinterval(0.006),
    "sys.set_int_max_str_digits": lambda _: lambda: sys.set_int_max_str_digits(5000),
    "threading.stack_size": lambda _: lambda: threading.stack_size(262_144),
    "csv.field_size_limit": lambda _: lambda: csv.field_size_limit(9),
    "install_opener": lambda kept: of(
        kept,
        urllib.request,
        "_opener",
        urllib.request.build_opener(urllib.request.HTTPCookieProcessor()),
    ),
    "tempfile": lambda kept: of(kept, tempfile, "tempdir", "/elsewhere"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_is_told_by_its_name(kept: pytest.MonkeyPatch, what: str) -> None:
    state = State()
    assert state.changes() == []
    CHANGES[what](kept)()
    (told,) = state.changes()
    assert what in told


def test_each_thing_that_is_looked_at_has_a_case_and_says_what_to_do() -> None:
    names = [row.what for row in process_state.TABLE]
    untried = [name for name in names if not any(what in name for what in CHANGES)]
    assert untried == [
        "the locale (locale.setlocale)",  # no second one is everywhere
        "the time zone of the process (TZ, Django's TIME_ZONE)",  # nor are all zones
        "limits of the process (resource.setrlimit)",  # which can't be put back
    ]
    assert all(row.advice for row in process_state.TABLE)


def test_what_comes_with_an_import_is_no_change_and_what_is_done_to_it_is(
    kept: pytest.MonkeyPatch,
) -> None:
    kept.setattr(tempfile, "tempdir", None)
    kept.delitem(sys.modules, "tempfile")
    state = State()
    kept.setitem(sys.modules, "tempfile", tempfile)
    assert state.changes() == []
    kept.setattr(tempfile, "tempdir", "/elsewhere")
    assert state.changes() == ["tempfile.tempdir"]


def test_a_function_of_the_standard_library_that_is_another_one_is_named(
    kept: pytest.MonkeyPatch,
) -> None:
    functions = Functions()
    assert functions.replaced() == []
    kept.setattr(json, "dumps", lambda *_: "")
    kept.setattr(json.JSONEncoder, "default", lambda *_: "")
    kept.setattr(json, "_default_encoder", None)
    assert sorted(functions.replaced()) == [
        "json.dumps",
        "json.encoder.JSONEncoder.default",
    ]


def test_an_apps_function_in_a_library_is_found_and_nothing_lazy_is_woken(
    kept: pytest.MonkeyPatch,
) -> None:
    class Lazy:
        def __getattribute__(self, name: str) -> object:
            raise RuntimeError(name)

    app, library = ModuleType("app"), ModuleType("library")
    exec("def mine(): pass\nclass Own:\n    def method(self): pass", vars(app))
    exec("class Shelf:\n    def get(self): pass\ndef kept(): pass", vars(library))
    for name, module in (("library", library), ("app", app)):
        kept.setitem(sys.modules, name, module)
    vars(library)["lazy"] = Lazy()
    assert replaced_in_libraries(iter([app])) == {}
    vars(library)["kept"] = vars(app)["mine"]
    vars(library)["Shelf"].get = vars(app)["mine"]
    vars(library)["Shelf"].made = staticmethod(vars(app)["mine"])
    assert replaced_in_libraries(iter([app])) == {
        "library": ["library.Shelf.get", "library.Shelf.made", "library.kept"]
    }
