"""The start of a server, step by step, and what is undone at its end.

All that can be wrong is found before a socket is opened; what is made is removed again when a later
step fails.
"""

from __future__ import annotations

import os

from . import checks, effects, fdstore, handoff, listeners, orphans, settings
from .children import Work
from .environment import Environment
from .errors import FatalError
from .loop import Caught, SuperDaemon
from .output import Log
from .record import Record
from .sdnotify import Notifier
from .status import PidFile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .children import StartProbe
    from .daemonize import Typed
    from .handoff import Handed
    from .listeners import Listeners
    from .options import Parsed
    from .settings import Settings
    from .users import Account


class _Start(Record):
    """What is known before anything is made."""

    chosen: Settings
    environment: Environment
    inherited: list[Handed]
    account: Account | None
    notifier: Notifier


def serve(parsed: Parsed) -> int:
    """Start a server and run it to its end; return the exit status. Raises FatalError."""
    variables = _given_variables()
    _fill_standard_fds()
    inherited = _inherited(variables)
    chosen = settings.from_options(parsed)
    environment = Environment(variables, settings.variables(parsed), chosen.policy)
    account = _account(chosen)
    chosen = checks.settle(chosen, environment.variables, inherited, account)
    start = _Start(chosen, environment, inherited, account, Notifier(variables))
    if not chosen.daemonize:
        return _serve(start, None)
    typed = _detach(chosen, inherited)
    try:
        return _serve(start, typed)
    except FatalError as error:
        typed.answer(error.code)
        raise


def _serve(start: _Start, typed: Typed | None) -> int:
    effects.say(f"start_server (pid:{os.getpid()}) starting now...")
    caught = Caught()
    caught.install()
    opened = listeners.open_all(start.chosen, start.inherited, lambda: caught.stop)
    try:
        file = start.chosen.pid_file
        pid_file = PidFile(file) if file else None
        try:
            return _run(start, opened, caught, typed)
        finally:
            if pid_file:
                _remove(pid_file)
    finally:
        fdstore.forget(start.notifier, opened.remove())


def _run(start: _Start, opened: Listeners, caught: Caught, typed: Typed | None) -> int:
    chosen, notifier = start.chosen, start.notifier
    log = Log(chosen.log_file) if chosen.log_file else None
    probed = _probe(chosen.probe, opened.names()) if chosen.probe else None
    program = effects.Program(chosen.command, chosen.directory)
    work = Work(program, opened, probed, log)
    daemon = SuperDaemon(chosen, work, start.environment, notifier, caught)
    try:
        if start.account:
            _become(start.account, chosen, opened)
        if log:
            log.take_over()
        fdstore.forget(notifier, opened.forgotten)
        fdstore.keep(notifier, opened.to_store())
        if typed:
            typed.answer(0)
        code = daemon.run()
        caught.remove()
        return code
    finally:
        daemon.close()


def _given_variables() -> dict[str, str]:
    """Return the environment that we were started with."""
    variables = dict(os.environ)
    given = orphans.environment(os.getpid())
    if not any(item.startswith(b"LC_CTYPE=") for item in given):
        variables.pop("LC_CTYPE", None)  # Python's own, where the locale is C (PEP 538)
    return variables


def _inherited(variables: dict[str, str]) -> list[Handed]:
    try:
        return handoff.decode_listen(variables, os.getpid())
    except handoff.HandoffError as error:
        raise FatalError(str(error)) from error


def _account(chosen: Settings) -> Account | None:
    if chosen.user is None:
        return None
    from . import users  # noqa: PLC0415  loads the user database

    return users.find(chosen.user, chosen.group)


def _detach(chosen: Settings, inherited: list[Handed]) -> Typed:
    from . import daemonize  # noqa: PLC0415  seldom needed

    return daemonize.detach(listeners.above(chosen.ports, len(chosen.paths) + len(inherited)))


def _probe(text: str, own: tuple[str, ...]) -> StartProbe:
    from . import probe  # noqa: PLC0415  few have one, and all would pay for it

    parsed = probe.parse(text, own)

    def start(number: int, pid: int, alone: bool, limit: float, output: int) -> int:
        return probe.start(parsed, probe.Target(number, pid, alone, limit), output)

    return start


def _become(account: Account, chosen: Settings, opened: Listeners) -> None:
    """Give up root, with what we have made in the hands of who we will be."""
    from . import users  # noqa: PLC0415  loads the user database

    files = [made.path for made in opened.made()]
    for file in (chosen.pid_file, chosen.control_socket, checks.log_file(chosen)):
        if file:
            files.append(file)
    for file in files:
        users.give(file, account)
    users.become(account)


def _remove(pid_file: PidFile) -> None:
    try:
        pid_file.remove()
    except OSError as error:  # it is in a directory of root, who we are no more
        effects.say(f"the pid file is left behind: {error.strerror}")


def _fill_standard_fds() -> None:
    """Open what is closed of stdin, stdout and stderr, so that no socket gets their numbers."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:  # noqa: PLR2004
        os.set_inheritable(fd, True)
    os.close(fd)
