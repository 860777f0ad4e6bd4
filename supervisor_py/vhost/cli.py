"""vhost_server POOL.toml: many WSGI apps served by the processes of one."""

import argparse
import gc
import os
import sys
from collections.abc import Sequence
from typing import TextIO, cast

from .. import handoff
from . import directory, environment, errors, loader, notify, pool, threads
from .dispatcher import Dispatcher

SERVER_VARIABLES = ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES")


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve a pool until SIGTERM; returns 1, with the reason on stderr, if it can't be served."""
    options = _parser().parse_args(arguments)
    tell = notify.notifier(os.environ)
    try:
        _serve(options.pool, options.bind, tell)
    except (
        pool.PoolError,
        loader.LoadError,
        directory.DirectoryError,
        handoff.HandoffError,
        UsageError,
    ) as error:
        sys.stderr.write(f"vhost_server: {error}\n")
        tell(f"STATUS={str(error).splitlines()[0]}")
        return 1
    return 0


class UsageError(ValueError):
    """There is nothing to listen on, or too much."""


def _serve(path: str, bind: Sequence[str], tell: notify.Notify) -> None:
    settings = pool.read(path)
    descriptors = [socket.fd for socket in handoff.inherited(os.environ, os.getpid())]
    if bool(descriptors) == bool(bind):
        raise UsageError(
            "--bind is for a server without inherited sockets, and there are some"
            if bind
            else "no sockets: run it under start_server, or with --bind=ADDRESS to try it out"
        )
    for name in SERVER_VARIABLES:
        os.environ.pop(name, None)
    directory.check()
    cast(TextIO, sys.stdout).reconfigure(line_buffering=True)  # type: ignore[attr-defined]
    # Off until all is loaded and frozen: a collection would leave gaps for the workers to fill.
    gc.disable()
    from . import server  # noqa: PLC0415  # gunicorn takes part in what is loaded with gc off

    environment.install()
    threads.install()
    errors.install()
    apps = loader.load(settings)
    server.serve(settings, Dispatcher(apps), descriptors=descriptors, bind=bind, notify=tell)


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
    return parser
