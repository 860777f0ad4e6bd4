"""Work that is done in a forked process, so that nothing of it stays in this one."""

import json
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any

STDERR = 2
MOST_CHARACTERS = 16 * 1024 * 1024  # of what is told, in which an app may have a hand


def in_child(work: Callable[[], Any], lost: Any, *, mute: bool = False) -> Any:
    """Do work in a forked process and return its result, as JSON has it; `lost` if it has none.

    It has none where it dies: an app that ends its process by os._exit(0) at load dies, too.

    `mute`: what it prints goes to stderr.
    """
    reading, writing = os.pipe()
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.close(reading)
            if mute:
                os.dup2(STDERR, 1)
            with os.fdopen(writing, "w") as answer:
                json.dump(work(), answer)
            code = 0
        except BaseException:  # noqa: BLE001  # nobody else would tell of it
            sys.stderr.write(traceback.format_exc())
        finally:
            sys.stdout.flush()
            os._exit(code)  # whatever threads the apps have started
    os.close(writing)
    with os.fdopen(reading) as answer:
        text = answer.read(MOST_CHARACTERS)
    _, status = os.waitpid(pid, 0)
    try:
        return json.loads(text) if status == 0 else lost
    except ValueError:
        return lost
