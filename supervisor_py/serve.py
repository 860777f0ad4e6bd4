"""The start of a server, step by step, and what is undone at its end.

All that can be wrong is found before a socket is opened; what is made is removed again when a later
step fails.
"""

from __future__ import annotations

import os

from . import (
    control,
    effects,
    fdstore,
    handoff,
    handover,
    listeners,
    orphans,
    reaper,
    settings,
    signals,
)
from .asking import ask
from .children import Work
from .environment import Environment
from .errors import FatalError
from .loop import Caught, Held, SuperDaemon
from .output import Log
from .record import Record
from .sdnotify import Notifier
from .status import PidFile
from .unixpath import Made, UnixListener

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .children import StartProbe
    from .daemonize import Typed
    from .handoff import Handed
    from .handover import Handover
    from .listeners import Listeners
    from .options import Parsed
    from .settings import Settings
    from .users import Account, Making


class _AsWeAre:
    """Makes a file as who we are; see `users.Making`."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        return None


class _Start(Record):
    """What is known before anything is made."""

    chosen: Settings
    environment: Environment
    variables: dict[str, str]
    inherited: list[Handed]
    account: Account | None
    notifier: Notifier
    handed: Handover | None


def serve(parsed: Parsed) -> int:
    """Start a server and run it to its end; return the exit status. Raises FatalError."""
    signals.use_default(signals.CHLD)  # ignored, as some runners leave it, it hides who has ended
    variables = _given_variables()
    if not reaper.is_one(variables):
        reaper.set_subreaper()
    variables.pop(reaper.VARIABLE, None)
    try:
        handed, only_check = handover.taken(variables)
    except handover.HandoverError as error:
        raise FatalError(str(error)) from error
    _fill_standard_fds()
    inherited = _inherited(variables)
    chosen = settings.from_options(parsed)
    environment = Environment(variables, settings.variables(parsed), chosen.policy)
    account = None
    if not handed:  # else what the options name is ours already
        account = _account(chosen)
        _check_host(chosen, environment, inherited, account)
        chosen = chosen.but(ports=tuple(port.resolved() for port in chosen.ports))
    start = _Start(chosen, environment, variables, inherited, account, Notifier(variables), handed)
    if only_check:
        return _check(start)
    if not chosen.daemonize or handed:
        return _serve(start, None)
    typed = _detach(chosen, inherited)
    reaper.set_subreaper()
    try:
        return _serve(start, typed)
    except FatalError as error:
        effects.say(str(error))  # before the typed command ends, so that it is seen
        typed.answer(error.code)
        return error.code


def _check_host(
    chosen: Settings, environment: Environment, inherited: list[Handed], account: Account | None
) -> None:
    """Look for all that is wrong; raises FatalError."""
    ours = [handed.fd for handed in inherited]
    # 0 is what Perl's users give to programs that serve on stdin.
    asked = {port.fd for port in chosen.ports if port.fd}
    taken = {fd for fd in asked if fd not in ours and listeners.is_open(fd)}

    def look() -> None:
        from . import checks  # noqa: PLC0415  loaded where it is asked, and nowhere else

        checks.check(chosen, environment.variables, inherited, taken, account)

    ask(look)


def _check(start: _Start) -> int:
    """Take over all that we are handed, in a copy of our process; raises FatalError.

    Nothing is undone here: what we seem to hold is our predecessor's.
    """
    assert start.handed
    opened = listeners.resume(start.handed.sockets)
    held = Held(Caught(), _pid_file(start), _control(start), start.variables)
    try:
        _daemon(start, opened, held)
    except (OSError, handover.HandoverError) as error:
        raise FatalError(str(error)) from error
    return 0


def _serve(start: _Start, typed: Typed | None) -> int:
    if not start.handed:
        effects.say(f"start_server (pid:{os.getpid()}) starting now...")
    caught = Caught()
    caught.install()
    if start.handed:
        opened = listeners.resume(start.handed.sockets)
    else:
        opened = listeners.open_all(
            start.chosen, start.inherited, lambda: caught.stop, lambda path: _making(start, path)
        )
    pid_file = None
    try:
        pid_file = _pid_file(start)
        held = Held(caught, pid_file, _control(start), start.variables)
        return _run(start, opened, held, typed)
    finally:
        fdstore.forget(start.notifier, opened.remove(lambda path: _making(start, path)))
        if pid_file and start.chosen.pid_file:
            with _making(start, start.chosen.pid_file):
                pid_file.remove()  # last: who waits for it, as --stop does, finds nothing of us


def _pid_file(start: _Start) -> PidFile | None:
    path, handed = start.chosen.pid_file, start.handed
    if not path:
        return None
    if handed:
        return PidFile.resume(path, handed.pid_file)
    with _making(start, path):
        return PidFile(path)


def _making(start: _Start, path: str) -> _AsWeAre | Making:
    """Return how a file is made, and removed, at a path that who we will be may have a say in."""
    if start.account is None:
        return _AsWeAre()
    from . import users  # noqa: PLC0415  loads the user database

    return users.Making(start.account, path)


def _control(start: _Start) -> UnixListener | None:
    path, handed = start.chosen.control_socket, start.handed
    if not path:
        return None
    if handed:
        return UnixListener.resume(handed.control, Made(*handed.control_made))
    with _making(start, path):
        return UnixListener(path, control.BACKLOG, control.MODE)


def _log(start: _Start) -> Log | None:
    file, handed = start.chosen.log_file, start.handed
    if not file:
        return None
    if handed:
        return Log(file, handed.log, handed.log_read_end)
    with _making(start, file):
        return Log(file)


def _daemon(start: _Start, opened: Listeners, held: Held) -> SuperDaemon:
    """Return the server, ready to run; it raises OSError, and HandoverError of a handover."""
    chosen, handed = start.chosen, start.handed
    probed = _probe(chosen.probe, opened.names()) if chosen.probe else None
    program = effects.Program(chosen.command, chosen.directory)
    work = Work(program, opened, probed, _log(start))
    daemon = SuperDaemon(chosen, work, start.environment, start.notifier, held)
    if handed:
        daemon.resume(handed)
    return daemon


def _run(start: _Start, opened: Listeners, held: Held, typed: Typed | None) -> int:
    try:
        daemon = _daemon(start, opened, held)
    except BaseException:
        if held.control:
            with _making(start, held.control.made.path):
                held.control.remove()
        raise
    try:
        if start.account:
            _become(start.account, start.chosen, opened)
        daemon.begin_log()
        fdstore.forget(start.notifier, opened.forgotten)
        fdstore.keep(start.notifier, opened.to_store())
        if typed:
            typed.answer(0)
        code = daemon.run()
        held.caught.remove()
        return code
    finally:
        daemon.close()


def _given_variables() -> dict[str, str]:
    """Return the environment that we were started with."""
    variables = dict(os.environ)
    given = list(filter(None, orphans.environment(os.getpid())))
    if given and not any(item.startswith(b"LC_CTYPE=") for item in given):
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
    from . import probe, probe_helper  # noqa: PLC0415  few have one, and all would pay for them

    parsed = probe.parse(text, own)

    def start(number: int, pid: int, alone: bool, limit: float, output: int) -> int:
        return probe_helper.start(parsed, probe.Target(number, pid, alone, limit), output)

    return start


def _become(account: Account, chosen: Settings, opened: Listeners) -> None:
    """Give up root, with what we have made in the hands of who we will be."""
    from . import users  # noqa: PLC0415  loads the user database

    files = [made.path for made in opened.made()]
    for file in (chosen.pid_file, chosen.control_socket, chosen.log_to_file()):
        if file:
            files.append(file)
    for file in files:
        users.give(file, account)
    users.become(account)


def _fill_standard_fds() -> None:
    """Open what is closed of stdin, stdout and stderr, so that no socket gets their numbers."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:  # noqa: PLR2004
        os.set_inheritable(fd, True)
    os.close(fd)
