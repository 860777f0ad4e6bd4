"""Being the parent of all that descends from us and has lost its own: the kernel's "subreaper".

Daemons fork twice to get away from who started them. Here they come back, to be known and ended.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Set

VARIABLE = "START_SERVER_REAPER"  # our pid, once that is so: it outlives an exec, but no fork
_ASKS = ("--restart", "--stop", "--status", "--upgrade", "--help", "--version")
_PR_SET_CHILD_SUBREAPER = 36


def start_as_one() -> None:
    """Be one, in a program that starts anew: what the call takes would cost memory all the time.

    Before all else is loaded, so that it costs little time. A client has no use for it.
    """
    if is_one(os.environ) or asks(sys.argv) or not set_subreaper():
        return
    try:
        with open("/proc/self/environ", "rb") as file:  # without what Python has added to it
            given = dict(one.split(b"=", 1) for one in file.read().split(b"\0") if b"=" in one)
        given[VARIABLE.encode()] = str(os.getpid()).encode()
        os.execve(sys.executable, (sys.executable, *sys.orig_argv[1:]), given)  # noqa: S606
    except OSError:
        pass  # it costs memory, then


def asks(arguments: list[str]) -> bool:
    """Tell whether a command line is a client's; what comes after "--" is the child's own."""
    ours = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return not {*_ASKS}.isdisjoint(ours)


def is_one(variables: Mapping[str, str]) -> bool:
    """Tell whether we are one already."""
    return variables.get(VARIABLE) == str(os.getpid())


def set_subreaper() -> bool:
    """Ask the kernel; where Python has no way to, what got away is known by its mark alone."""
    try:
        import _ctypes  # noqa: PLC0415  ctypes itself would take three times as long

        prctl = _ctypes.dlsym(_ctypes.dlopen(None, 0), "prctl")  # type: ignore[arg-type]
        done: int = _ctypes.call_function(prctl, (_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))
    except (ImportError, AttributeError, OSError):
        return False
    return done == 0


def stopped() -> list[int]:
    """Return our children that have been stopped (SIGSTOP) since we asked last."""
    found: list[int] = []
    while True:
        try:
            one = os.waitid(os.P_ALL, 0, os.WSTOPPED | os.WNOHANG)
        except ChildProcessError:
            return found
        if one is None:
            return found
        found.append(one.si_pid)


def bury(ours: Set[int]) -> None:
    """Wait for the dead that came to us; our own children (`ours`) are waited for elsewhere."""
    while True:
        try:
            dead = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        # One of ours may stand before others: it is taken away at once, and we are asked again.
        if dead is None or dead.si_pid in ours:
            return
        os.waitpid(dead.si_pid, 0)
