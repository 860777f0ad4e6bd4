"""What an app's load changes for its neighbours is seen; what it does to itself is not."""

import asyncio
import builtins
import decimal
import logging
import multiprocessing.context
import socket
import ssl
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator

import pytest

from supervisor_py.vhost import process_state
from supervisor_py.vhost.process_state import State


@pytest.fixture(autouse=True)
def kept(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    limit, timeout = sys.getrecursionlimit(), socket.getdefaulttimeout()
    handlers, disabled = list(logging.root.handlers), logging.root.manager.disable
    trace = threading.gettrace()
    with warnings.catch_warnings():
        yield monkeypatch
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
    "tempfile": lambda kept: of(kept, tempfile, "tempdir", "/elsewhere"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_is_told_by_its_name(kept: pytest.MonkeyPatch, what: str) -> None:
    state = State()
    assert state.changes() == []
    CHANGES[what](kept)()
    (told,) = state.changes()
    assert what in told


def test_each_thing_that_is_looked_at_has_a_case() -> None:
    names = [*process_state.OF_PROCESS, *process_state.OF_MODULES]
    untried = [name for name in names if not any(what in name for what in CHANGES)]
    assert untried == ["the locale (locale.setlocale)"], "no second one is everywhere"


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
