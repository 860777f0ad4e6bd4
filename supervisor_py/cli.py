"""The start_server command."""

from __future__ import annotations

import sys

from . import reaper

_USAGE = """\
Usage: start_server [options] -- program arguments...
       start_server --restart | --status [--json] | --upgrade --control-socket=PATH
       start_server --stop --pid-file=FILE

Opens the sockets, runs the program with them, and replaces it at each HUP: the old one is told to
end only when the new one serves. SERVER_STARTER_PORT, LISTEN_FDS and NOTIFY_SOCKET tell the
program of its sockets and take its READY=1.
"""

_INTERRUPTED = 130  # 128 + SIGINT, as a shell has it


def main() -> None:
    """Run the command line, and exit."""
    reaper.start_as_one()  # before all else is loaded: it begins anew
    from . import effects  # noqa: PLC0415
    from .errors import FatalError  # noqa: PLC0415

    try:
        code = _main(sys.argv[1:])
    except FatalError as error:
        effects.say(str(error))
        code = error.code
    except KeyboardInterrupt:
        code = _INTERRUPTED
    sys.exit(code)


def _main(argv: list[str]) -> int:
    from . import __version__, effects, options, settings  # noqa: PLC0415
    from .errors import FatalError  # noqa: PLC0415

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
    if parsed.flag("json"):
        raise FatalError("--json: needs --status", 1)
    if parsed.flag("daemonize") and not parsed.text("log-file"):
        # Perl's words, with its slip of the pen: somebody may look for them.
        effects.say("Usage: --log-file option must be specified together with --deamonize")
        return 255
    from .serve import serve  # noqa: PLC0415  a client has no use for it

    return serve(parsed)
