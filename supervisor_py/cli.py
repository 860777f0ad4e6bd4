"""The start_server command."""

from __future__ import annotations

import os
import sys

from . import __version__, effects, options, settings
from .errors import FatalError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .children import StartProbe

_USAGE = """\
Usage: start_server [options] -- program arguments...
       start_server --restart | --status [--json] | --upgrade --control-socket=PATH
       start_server --stop --pid-file=FILE

Opens the sockets, runs the program with them, and replaces it at each HUP: the old one is told to
end only when the new one serves. SERVER_STARTER_PORT, LISTEN_FDS and NOTIFY_SOCKET tell the
program of its sockets and take its READY=1.
"""


def main() -> None:
    """Run the command line, and exit."""
    try:
        code = _main(sys.argv[1:])
    except FatalError as error:
        effects.say(str(error))
        code = error.code
    sys.exit(code)


def _main(argv: list[str]) -> int:
    parsed = options.parse(settings.OPTIONS, argv)
    for problem in parsed.problems:
        effects.say(problem)
    if parsed.problems:
        return 1
    if parsed.flag("help"):
        sys.stdout.write(f"{_USAGE}\n{options.describe(settings.OPTIONS)}\n")
        return 0
    if parsed.flag("version"):
        sys.stdout.write(f"{__version__}\n")
        return 0
    asked = [name for name in ("restart", "stop", "status", "upgrade") if parsed.flag(name)]
    if asked:
        from . import clients  # noqa: PLC0415  a server has no use for it

        getattr(clients, asked[0])(parsed)
        return 0
    return _serve(parsed)


def _serve(parsed: options.Parsed) -> int:
    from . import handoff, listeners  # noqa: PLC0415  a client has no use for these
    from .children import Work  # noqa: PLC0415
    from .environment import Environment  # noqa: PLC0415
    from .loop import Caught, SuperDaemon  # noqa: PLC0415
    from .output import Log  # noqa: PLC0415
    from .sdnotify import Notifier  # noqa: PLC0415
    from .status import PidFile  # noqa: PLC0415

    chosen = settings.from_options(parsed)
    inherited_variables = dict(os.environ)
    environment = Environment(inherited_variables, settings.variables(parsed), chosen.policy)
    effects.say(f"start_server (pid:{os.getpid()}) starting now...")
    _fill_standard_fds()
    log = Log(chosen.log_file) if chosen.log_file else None
    caught = Caught()
    caught.install()
    try:
        inherited = handoff.decode_listen(inherited_variables, os.getpid())
    except handoff.HandoffError as error:
        raise FatalError(str(error)) from error
    opened = listeners.open_all(chosen.ports, chosen.paths, chosen.backlog, inherited)
    try:
        pid_file = PidFile(chosen.pid_file) if chosen.pid_file else None
        try:
            notifier = Notifier(inherited_variables)
            probed = _probe(chosen.probe, opened.names()) if chosen.probe else None
            program = effects.Program(chosen.command, chosen.directory)
            work = Work(program, opened, probed, log)
            if log:
                log.take_over()
            daemon = SuperDaemon(chosen, work, environment, notifier, caught)
            try:
                code = daemon.run()
                caught.remove()
                return code
            finally:
                daemon.close()
        finally:
            if pid_file:
                pid_file.remove()
    finally:
        opened.remove()


def _probe(text: str, own: tuple[str, ...]) -> StartProbe:
    from . import probe  # noqa: PLC0415  few have one, and all would pay for it

    parsed = probe.parse(text, own)

    def start(number: int, pid: int, alone: bool, limit: float, output: int) -> int:
        return probe.start(parsed, probe.Target(number, pid, alone, limit), output)

    return start


def _fill_standard_fds() -> None:
    """Open what is closed of stdin, stdout and stderr, so that no socket gets their numbers."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:  # noqa: PLR2004
        os.set_inheritable(fd, True)
    os.close(fd)
