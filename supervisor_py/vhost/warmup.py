"""Asks an app for its `warm_up` paths when it has been loaded, before workers are forked from it.

What a first request imports, compiles and caches is then there once, in pages that workers share,
instead of once in each of them. But what it opens must not be: a database connection in the parent
would be every worker's. So a child tries it out first.
"""

import importlib
import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any

import gunicorn.config
import gunicorn.http
import gunicorn.http.wsgi

from . import hygiene, tracebacks
from .hosts import ALL, Site

SECONDS = 30  # for all paths of an app
CHUNK = 65536
END = b"\n"  # of what the child tells; JSON has none inside
FAILED = 400  # statuses from here on are told: hardly what the path was chosen for
WSGIApplication = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class WarmUpError(RuntimeError):
    """The app has raised an exception; the message is its traceback."""


@dataclass(frozen=True, slots=True)
class Served:
    """An app that can be asked: between startup and shutdown, where it has those."""

    site: Site
    application: WSGIApplication
    startup: Callable[[], None] | None = None
    shutdown: Callable[[], None] | None = None
    ask: Callable[[Any, str], int] | None = None  # for one that is no WSGI application


@dataclass(slots=True)
class Trial:
    """What a child has seen of a warm-up."""

    failure: str = ""  # a traceback, or that there was no answer in time
    in_time: bool = True
    remarks: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    imported: list[str] = field(default_factory=list)


def warm(app: Served, paths: Sequence[str], *, forks: bool) -> list[str]:
    """Ask an app, which the calling thread has entered; returns remarks for the log.

    With `forks`, workers are going to be forked from this process: it does itself only what a child
    has shown to leave nothing open. Else it gets at least the modules that the child has imported.
    Raises WarmUpError.
    """
    if not forks and app.startup is None:
        return _ask(app, paths)
    trial = _try(app, paths)
    if trial.failure and trial.in_time:
        raise WarmUpError(trial.failure)
    if trial.failure:
        return [trial.failure]
    if app.startup is None and not trial.left:
        return _ask(app, paths)
    for name in trial.imported:
        with suppress(Exception):  # as the app does it, it has worked
            importlib.import_module(name)
    told = [
        f"a request for {', '.join(paths)} has {what}, so that is not done before the fork"
        for what in (trial.left if app.startup is None else ())
    ]
    return [*trial.remarks, *told]


def request(site: Site, path: str) -> bytes:
    """Return the request for a path of an app as the front end would send it. Pure."""
    host = "localhost" if site.host == ALL else site.host.replace("*", "www", 1)
    return (
        f"GET {site.prefix}{path} HTTP/1.1\r\n"
        f"Connection: close\r\nHost: {host}\r\n"
        f"X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Host: {host}\r\n"
        "X-Forwarded-Proto: https\r\nX-Real-IP: 127.0.0.1\r\n"
        "User-Agent: vhost_server (warm-up)\r\nAccept: */*\r\n\r\n"
    ).encode("ascii")


def _ask(app: Served, paths: Sequence[str]) -> list[str]:
    """Ask for each path, take the whole answer; returns what went wrong without an exception."""
    config = gunicorn.config.Config()
    config.set("forwarder_headers", "")
    config.set("header_map", "refuse")
    remarks = []
    for path in paths:
        (parsed,) = gunicorn.http.RequestParser(config, iter([request(app.site, path)]), "")
        try:
            status = _status(app, parsed, config)
        except BaseException as error:
            raise WarmUpError(tracebacks.of_app(error)) from error
        if int(status.partition(" ")[0]) >= FAILED:
            remarks.append(f"its warm-up path {path} answers {status}")
    return remarks


def _status(app: Served, parsed: gunicorn.http.Request, config: gunicorn.config.Config) -> str:
    """Have an app answer a request to the end; raises whatever it does."""
    if app.ask is not None:
        return str(app.ask(parsed, app.site.prefix))
    response, environ = gunicorn.http.wsgi.create(parsed, None, "", "", config)
    environ["wsgi.multithread"] = environ["wsgi.multiprocess"] = True
    environ["SCRIPT_NAME"] = app.site.prefix
    environ["PATH_INFO"] = environ["PATH_INFO"].removeprefix(app.site.prefix)
    answer = app.application(environ, response.start_response)
    try:
        for _ in answer:
            pass
    finally:
        if hasattr(answer, "close"):
            answer.close()
    return response.status or "500 and no status"


def _try(app: Served, paths: Sequence[str]) -> Trial:
    """Ask in a child, which tells what it has left open."""
    reader, writer = os.pipe()
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        try:
            signal.alarm(2 * SECONDS)  # for the case that the parent is killed
            os.close(reader)
            line = json.dumps(asdict(_in_child(app, paths))).encode() + END
            sys.stdout.flush()
            sys.stderr.flush()
            while line:
                line = line[os.write(writer, line) :]
        finally:
            os._exit(0)
    os.close(writer)
    told = _read_line(reader, time.monotonic() + SECONDS)
    os.close(reader)
    if told is None or told.endswith(END):
        os.kill(child, signal.SIGKILL)  # it has nothing left to do, whatever its threads think
    _, status = os.waitpid(child, 0)
    asked = ", ".join(paths)
    if told is None:
        return Trial(f"no answer to {asked} in {SECONDS} s: not warmed up", in_time=False)
    if not told.endswith(END):
        code = os.waitstatus_to_exitcode(status)
        why = f"by {signal.Signals(-code).name}" if code < 0 else f"itself, with status {code}"
        return Trial(f"the process that asked for {asked} was ended {why}")
    return Trial(**json.loads(told))


def _in_child(app: Served, paths: Sequence[str]) -> Trial:
    before = set(map(str, sys.modules))
    watch = hygiene.Watch()
    try:
        if app.startup is not None:
            app.startup()
        remarks = _ask(app, paths)
    except WarmUpError as error:
        return Trial(str(error))
    except BaseException as error:  # noqa: BLE001  # an app's own startup
        return Trial(tracebacks.of_app(error))
    imported = [str(name) for name in sys.modules if str(name) not in before]
    trial = Trial(remarks=remarks, left=watch.left(), imported=imported)
    if app.shutdown is not None:
        app.shutdown()
    for child in watch.children():
        os.kill(child, signal.SIGKILL)
    return trial


def _read_line(reader: int, deadline: float) -> bytes | None:
    """Return what comes until END, or until nobody is left to write; None if not in time."""
    line = b""
    while (left := deadline - time.monotonic()) > 0:
        if select.select([reader], [], [], left)[0]:
            part = os.read(reader, CHUNK)
            line += part
            if not part or line.endswith(END):
                return line
    return None
