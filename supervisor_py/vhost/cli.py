"""vhost_server POOL.toml: many WSGI apps served by the processes of one."""

import argparse
import contextlib
import io
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from .. import handoff
from ..sdnotify import OURS_ALONE, Notifier
from . import (
    callbacks,
    check,
    directory,
    environment,
    errors,
    hygiene,
    isolation,
    leaving,
    listening,
    loader,
    pool,
    preload,
    recipe,
    sizing,
)
from .dispatcher import Dispatcher, Unavailable
from .listening import Listening

BOOT = "SERVER_STARTER_BOOT"  # "1" where no older generation would go on serving


class UsageError(ValueError):
    """There is nothing to listen on, or too much."""


class RefusedError(RuntimeError):
    """A group can't serve; the message is its own."""


CAN_NOT_SERVE = (
    RefusedError,
    listening.ListenError,
    preload.PreloadError,
    pool.PoolError,
    loader.LoadError,
    directory.DirectoryError,
    handoff.HandoffError,
    UsageError,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve a pool until SIGTERM, or check it; returns 1, with the reason, if it can't be served.

    A broken app refuses the start where an older generation goes on serving. Where none does, at
    boot, it alone is answered with 503, and all are where the pool as a whole can't be served.
    """
    options = _parser().parse_args(arguments)
    notifier = Notifier(os.environ)
    handed = dict(os.environ)
    at_boot = handed.get(BOOT) == "1"

    def tell(state: str) -> None:
        # A super-daemon that has gone is no reason to stop serving.
        with contextlib.suppress(OSError):
            notifier.send(state)

    try:
        try:
            settings = _read(options.pool, arguments)
            known: isolation.Plan | None = None
            if not options.plan:
                known = isolation.read(options.pool)
            if options.check or options.plan:
                _prepare(settings.memory)
                from . import parent  # noqa: F401, PLC0415  # what it costs is no app's

                preload.load(settings)
                if known is None:
                    from . import planning  # noqa: PLC0415  # a server that serves needs it not

                    known, failed = planning.plan(settings)
                    if options.plan:
                        sys.stdout.write(isolation.text(known, failed))
                        return 0
                return check.check(_sized(isolation.apply(settings, known)), sys.stdout)
            settings = _sized(isolation.apply(settings, known or {}))
            _serve(settings, options.bind, tell, at_boot=at_boot)
        except CAN_NOT_SERVE as error:
            sys.stderr.write(f"vhost_server: {error}\n")
            reason = str(error).splitlines()[0]
            if at_boot and not (options.check or options.plan):
                _serve_nothing(handed, reason, tell)
            tell(f"STATUS={reason}")
            return 1
    except SystemExit as ended:  # of each process that has served
        leaving.leave(ended.code)
    return 0


def _read(path: str, arguments: Sequence[str] | None) -> pool.Pool:
    """Read a pool file, with its apps' directories as they are in the same moment.

    A deploy switches the pool file, the virtualenv and the apps' directories by one symlink. Where
    a restart by the clock meets that, it begins anew with all that is new, and never with some.
    """
    while True:
        file = os.path.realpath(path)
        settings = pool.read(path)
        apps = [
            replace(app, directory=Path(os.path.realpath(app.directory))) for app in settings.apps
        ]
        if os.path.realpath(path) == file:
            break
    virtualenv = os.path.join(os.path.dirname(file), "venv")
    if os.path.isdir(virtualenv) and not os.path.samefile(virtualenv, sys.prefix):
        program = os.path.join(virtualenv, "bin", "vhost_server")
        given = sys.argv[1:] if arguments is None else arguments
        os.execv(program, [program, *given])  # noqa: S606  # this very one, of the set that is now
    return replace(settings, apps=tuple(apps))


def _serve_nothing(handed: Mapping[str, str], reason: str, tell: Callable[[str], None]) -> None:
    """Answer 503 on all sockets: without anybody there, clients would wait for ever.

    Returns where there is no socket.
    """
    from . import server  # noqa: PLC0415
    from .arbiter import Terms  # noqa: PLC0415

    try:
        inherited = handoff.inherited(handed, os.getpid())
    except handoff.HandoffError:
        return
    if not inherited:
        return
    _forget_handoff()
    listen = server.Listen([one.fd for one in inherited])
    terms = Terms(
        pool.Workers(count=1, threads=1),
        pool.Timeouts(),
        settle=lambda: None,
        ready=lambda: tell(f"READY=1\nSTATUS=answers 503 to all: {reason}"),
        tell=lambda _: None,
    )
    server.serve(Unavailable(), listen, terms, all_must_start=False)


def _forget_handoff() -> None:
    """Forget what gunicorn would take for its own: it would say READY=1 before a worker runs."""
    for name in (*OURS_ALONE, BOOT):
        os.environ.pop(name, None)


def _serve(
    settings: pool.Pool, bind: Sequence[str], tell: Callable[[str], None], *, at_boot: bool
) -> None:
    inherited = [listening.look_at(one.fd) for one in handoff.inherited(os.environ, os.getpid())]
    if bool(inherited) == bool(bind):
        raise UsageError(
            "--bind is for a server without inherited sockets, and there are some"
            if bind
            else "no sockets: run it under start_server, or with --bind=ADDRESS to try it out"
        )
    _forget_handoff()
    lack = _prepare(settings.memory)
    preload.load(settings)

    def tell_all(state: str) -> None:
        # What is missing is no reason to fail, and told after those.
        if lack and state.startswith("READY=1"):
            sys.stderr.write(f"vhost_server: {lack}\n")
        tell(state)

    if any(app.own is not None for app in settings.apps):
        _serve_groups(settings, inherited, bind, at_boot=at_boot, tell=tell_all)
    else:
        _serve_one_group(settings, inherited, bind, at_boot=at_boot, tell=tell_all)


def _serve_one_group(
    settings: pool.Pool,
    inherited: Sequence[Listening],
    bind: Sequence[str],
    *,
    at_boot: bool,
    tell: Callable[[str], None],
) -> None:
    """Serve apps that all share one interpreter: this one."""
    from . import member, server  # noqa: PLC0415  # loaded with gc off, as all that is shared
    from .arbiter import Terms  # noqa: PLC0415

    descriptors = tuple(one.descriptor for one in inherited)
    group = member.Member("", settings, settings.apps, settings.shared, descriptors)
    member.name_process(group.name)
    apps, missing = member.load(group, strict=not at_boot)
    status = f"STATUS={member.status(group, apps)}{member.without(app.name for app in missing)}"
    terms = Terms(
        settings.shared,
        settings.timeouts,
        settle=partial(recipe.settle, settings.memory),
        ready=lambda: tell(f"READY=1\n{status}"),
        tell=lambda text: tell(f"{status}; {text}"),
    )
    listen = server.Listen(descriptors, bind)
    server.serve(Dispatcher(apps, missing), listen, terms, all_must_start=not at_boot)


def _serve_groups(
    settings: pool.Pool,
    inherited: Sequence[Listening],
    bind: Sequence[str],
    *,
    at_boot: bool,
    tell: Callable[[str], None],
) -> None:
    """Serve apps of which some are isolated: this process is the parent of all groups.

    Raises LoadError for the app that refuses the start, ListenError without its socket.
    """
    from . import member, parent  # noqa: PLC0415  # loaded with gc off, as all that is shared

    with listening.bound(bind) as made:
        members = member.groups_of(settings, listening.assign(settings, [*inherited, *made]))
        member.name_process("parent")
        recipe.settle(settings.memory)
        reason = parent.Parent(members, at_boot=at_boot, tell=tell).run()
    if reason:
        raise RefusedError(reason)
    sys.exit(0)


def _sized(settings: pool.Pool) -> pool.Pool:
    apps = tuple(
        app if app.own is None else replace(app, own=sizing.sized(app.own)) for app in settings.apps
    )
    return replace(settings, shared=sizing.sized(settings.shared), apps=apps)


def _prepare(steps: pool.Memory) -> str:
    """Make the process one that apps can share; raises DirectoryError.

    Returns a sentence on what the machine lacks for that, "" for nothing.
    """
    directory.check()
    lack = recipe.begin(steps)
    environment.install()
    callbacks.install()
    errors.install()
    hygiene.install()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # What an app prints at load must not be in every worker's buffer, nor wait in there.
        sys.stdout.reconfigure(line_buffering=True)
    return lack


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
    parser.add_argument(
        "--plan",
        action="store_true",
        help="load every app alone, print which ones need a process of their own (isolation ="
        ' "auto"), and exit: for the file POOL.isolation.json, where a start reads it',
    )
    return parser
