"""The play of this process: how a machine's lock names it, and whether another one still runs."""

from __future__ import annotations

import getpass
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

VARIABLE = "play_lock_take_over"

# the kernel's first process namespace has this number (PROC_PID_INIT_INO): no container has it
_FIRST_NAMESPACE = "pid:[4026531836]"

Play = Mapping[str, Any]


def identity(pid: int, playbooks: Sequence[str], root: Path = Path("/")) -> dict[str, Any]:
    """What a machine notes of the play that is run by a process.

    Its token is the same in all tasks of the play, and of no other play's.
    """
    return {
        "token": "/".join((*_place(root), str(pid), _started(pid, root) or "")),
        "user": _user(),
        "host": socket.gethostname(),
        "pid": pid,
        "playbook": " ".join(map(str, playbooks)),
    }


def is_over(holder: Play, root: Path = Path("/")) -> bool:
    """Whether another play is known to have ended: only one of this control machine can be."""
    *place, boot, pid, started = str(holder["token"]).rsplit("/", 5)
    *here, this_boot = _place(root)
    if place != here:
        return False
    if boot != this_boot:
        # the same machine has been rebooted; of what is copied, as containers are, nobody knows
        return all(here) and here[-1] == _FIRST_NAMESPACE
    now = _started(int(pid), root)
    return not _is_there(int(pid)) if now is None else now != started


def take(
    ask: Callable[[str], Play], *, forced: bool, keep: bool, check_mode: bool
) -> dict[str, Any]:
    """Ask a module to take a machine for this play, and once more where the other one has ended.

    Args:
        ask: calls the module with the token of the play to take over from; `held_by` is who has it.
        forced: whether the user says that the other one has ended.
        keep: whether the module takes it, or only looks whether somebody has it.
        check_mode: whether it is only told who does.
    """
    result = dict(ask(""))
    other = result.pop("held_by", None)
    if not other:
        return result
    over = is_over(other)
    if check_mode:
        told = f"What is said of this machine may change: it is changed by {described(other)}"
        return result if over else _with_warning(result, told)
    if not over and not forced:
        return {"failed": True, "msg": refusal(other)}
    result = dict(ask(other["token"]))
    if latest := result.pop("held_by", None):
        return {"failed": True, "msg": refusal(latest)}
    if not keep:
        return result
    told = f"The lock that a play has left behind at its end was taken over: {described(other)}"
    return _with_warning(result, told)


def _with_warning(result: dict[str, Any], text: str) -> dict[str, Any]:
    return {**result, "warnings": [*(result.get("warnings") or []), text]}


def described(holder: Play) -> str:
    """Who has a machine, for people; the times are by the machine's clock."""
    since, now = float(holder["since"]), float(holder["now"])
    return (
        f"{holder['playbook']} by {holder['user']} on {holder['host']} (pid {holder['pid']} there),"
        f" since {_clock(since)} UTC, {_span(now - since)} ago, last heard of"
        f" {_span(now - float(holder['heard']))} ago"
    )


def refusal(holder: Play) -> str:
    """Why a play can't begin, and what to do."""
    return (
        f"Another play changes this machine: {described(holder)}. Nothing was changed by this one:"
        f" run it again when that one is over. If it has died, its lock ends by itself at"
        f" {_clock(float(holder['until']))} UTC, in {_span(holder['until'] - holder['now'])}, or at"
        f" once with -e {VARIABLE}=true"
    )


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a number without a name, as in some containers
        return str(os.getuid())


def _place(root: Path) -> tuple[str, str, str, str]:
    """This machine's name, its number, the process namespace where a pid is one, and its boot."""
    name = socket.gethostname().replace("/", "_")
    try:
        namespace = str((root / "proc/self/ns/pid").readlink())
        boot = (root / "proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:  # no Linux
        return name, "", "", ""
    try:
        number = (root / "etc/machine-id").read_text().strip()
    except OSError:
        number = ""
    return name, number, namespace, boot


def _started(pid: int, root: Path) -> str | None:
    """When a process was started, as the kernel has it: its number may be used again.

    None where that can't be seen, as of other users' under hidepid; "" for a zombie, which has
    ended, and its parent has not seen it.
    """
    try:
        # the name of the program, in parentheses, may hold anything
        text = (root / "proc" / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None
    state, *rest = text.rpartition(")")[2].split()
    return "" if state == "Z" else rest[18]


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _clock(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(at))


def _span(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"  # noqa: PLR2004
