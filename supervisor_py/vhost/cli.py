"""vhost_server POOL.toml: many WSGI apps served by the processes of one."""

import argparse
import contextlib
import io
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace

from .. import handoff
from ..sdnotify import OURS_ALONE, Notifier
from . import callbacks, check, directory, environment, errors, loader, pool, recipe, sizing
from .dispatcher import Dispatcher
from .loader import LoadedApp, LoadError

BOOT = "SERVER_STARTER_BOOT"  # "1" where no older generation would go on serving


class UsageError(ValueError):
    """There is nothing to listen on, or too much."""


CAN_NOT_SERVE = (
    pool.PoolError,
    loader.LoadError,
    directory.DirectoryError,
    handoff.HandoffError,
    UsageError,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve a pool until SIGTERM, or check it; returns 1, with the reason, if it can't be served.

    A broken app refuses the start where an older generation goes on serving. Where none does, at
    boot, it alone is answered with 503.
    """
    options = _parser().parse_args(arguments)
    notifier = Notifier(os.environ)

    def tell(state: str) -> None:
        # A super-daemon that has gone is no reason to stop serving.
        with contextlib.suppress(OSError):
            notifier.send(state)

    try:
        settings = pool.read(options.pool)
        settings = replace(settings, shared=sizing.sized(settings.shared))
        if options.check:
            _prepare(settings.memory)
            from . import server  # noqa: F401, PLC0415  # what it costs is no app's

            code = check.check(settings, sys.stdout)
            os._exit(code)  # whatever threads the apps have started
        _serve(settings, options.bind, tell)
    except CAN_NOT_SERVE as error:
        sys.stderr.write(f"vhost_server: {error}\n")
        tell(f"STATUS={str(error).splitlines()[0]}")
        return 1
    return 0


def _serve(settings: pool.Pool, bind: Sequence[str], tell: Callable[[str], None]) -> None:
    descriptors = [socket.fd for socket in handoff.inherited(os.environ, os.getpid())]
    if bool(descriptors) == bool(bind):
        raise UsageError(
            "--bind is for a server without inherited sockets, and there are some"
            if bind
            else "no sockets: run it under start_server, or with --bind=ADDRESS to try it out"
        )
    # gunicorn would take them for its own, and say READY=1 before a worker runs.
    for name in OURS_ALONE:
        os.environ.pop(name, None)
    at_boot = os.environ.pop(BOOT, "") == "1"
    lack = _prepare(settings.memory)
    from . import server  # noqa: PLC0415  # loaded after that, as all that the workers share

    def refused(error: LoadError) -> None:
        if not at_boot:
            raise error
        sys.stderr.write(f"vhost_server: {error}\n")

    apps = loader.load(settings, loader.Loading(refused))
    if lack:
        sys.stderr.write(f"vhost_server: {lack}\n")
    names = {app.context.name for app in apps}
    missing = [app for app in settings.apps if app.name not in names]
    status = _status(settings, apps, missing)
    server.serve(
        settings,
        Dispatcher(apps, missing),
        server.Listen(descriptors, bind),
        ready=lambda: tell(f"READY=1\nSTATUS={status}"),
        tell=lambda text: tell(f"STATUS={status}; {text}"),
        at_boot=at_boot,
    )


def _prepare(steps: pool.Memory) -> str:
    """Make the process one that apps can share; raises DirectoryError.

    Returns a sentence on what the machine lacks for that, "" for nothing.
    """
    directory.check()
    lack = recipe.begin(steps)
    environment.install()
    callbacks.install()
    errors.install()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # What an app prints at load must not be in every worker's buffer, nor wait in there.
        sys.stdout.reconfigure(line_buffering=True)
    return lack


def _status(settings: pool.Pool, apps: Sequence[LoadedApp], missing: Sequence[pool.App]) -> str:
    served = ", ".join(app.context.name for app in apps) or "no app"
    size = f"{settings.shared.count} workers of {settings.shared.threads} threads"
    without = ", ".join(app.name for app in missing)
    return f"serves {served}: {size}" + (f"; can't load {without}" if missing else "")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="vhost_server",
        description="Serve the WSGI apps of a pool, each for its hosts, from one set of processes.",
        epilog="It listens on the sockets that start_server, or systemd, hands over.",
    )
    parser.add_argument("pool", metavar="POOL.toml", help="the pool file")
    parser.add_argument(
        "--bind",
        action="append",
        default=[],
        metavar="ADDRESS",
        help="for trying it out: make a socket, host:port or unix:path (may be repeated)",
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="load every app, print what each costs, and exit: 1 if one can't be served",
    )
    return parser
