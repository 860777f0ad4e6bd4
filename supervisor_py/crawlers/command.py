"""What the crawlers' commands do around their work: help, and how they end."""

import os
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from .. import effects, options
from ..errors import FatalError
from ..options import Option, Parsed


def run(usage: str, known: Sequence[Option], work: Callable[[Parsed], int]) -> NoReturn:
    """Do a command's work and exit: with its code, or 1 where it raised FatalError, and said so.

    Args:
        usage: what --help says, before the options.
        known: the options, a --help among them.
        work: gets what the command line says, its problems included.
    """
    try:
        parsed = options.parse(known, sys.argv[1:])
        if parsed.flag("help"):
            sys.stdout.write(f"{usage}\n{options.describe(known)}\n")
            code = 0
        else:
            code = work(parsed)
        sys.stdout.flush()
    except FatalError as error:
        effects.say(str(error))
        code = 1
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:  # who has read enough, as head does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    sys.exit(code)
