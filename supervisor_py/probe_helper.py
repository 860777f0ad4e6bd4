"""The helper process of a probe, as the super-daemon sees it.

It is forked without exec and loads what it needs by itself (`probe_attempts`): the super-daemon
only waits for its end, and stays small. It exits 0 when an attempt has succeeded.
"""

from __future__ import annotations

import os

from . import effects, signals
from .probe import Probe, Target

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

_STDERR = 2


def start(probe: Probe, target: Target, output: int = _STDERR) -> int:
    """Fork the helper that probes a generation; return its process id. Raises OSError.

    It exits 0 once the generation has answered, and 1 when the limit is over, with the last reason
    written to `output` (an fd), or silently when its parent has gone.
    """
    parent = os.getpid()
    signals.block_all()
    try:
        helper = os.fork()
        if helper == 0:
            _become(probe.filled(target), target, parent, output)
        return helper
    finally:
        signals.unblock_all()


def _become(probe: Probe, target: Target, parent: int, output: int) -> NoReturn:
    """Be the helper; nothing of the parent's clean-up may ever run."""
    code = 1
    try:
        signals.reset_for_child()
        os.dup2(output, _STDERR)
        os.closerange(_STDERR + 1, os.sysconf("SC_OPEN_MAX"))  # not to hold listeners for anybody
        from . import probe_attempts  # noqa: PLC0415  heavy, and for the helper alone

        code = probe_attempts.run(probe, target, parent)
    except BaseException as error:  # noqa: BLE001  it must not get out of the child
        effects.say(f"probe {probe.text} failed: {error!r}")
    finally:
        os._exit(code)
