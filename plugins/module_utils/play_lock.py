"""Which play has a machine to itself, and whether one of its tasks is still at work there.

A play is a process of the control machine, of which the machine sees single tasks. So its lock is
a record, /run/kechi/locks/play, that it clears at its end, and that counts for nothing some time
after its last task. Each task that changes something also holds the lock `task` while it runs: no
two do, whatever became of their plays, and one that goes on after its play was interrupted is seen.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import time
from collections.abc import Mapping
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from . import locks

RECORD = "play"
LEASE_SECONDS = 600  # how long after its last task a play counts as alive
WAIT_SECONDS = 60

Play = Mapping[str, Any]
OPTIONS = {
    "play": {"type": "dict", "default": {}},
    "take_over": {"type": "str", "default": "", "no_log": False},
}


def holder(token: str, take_over: str = "") -> dict[str, Any] | None:
    """The play that has this machine; None where that is the one of this token, or of `take_over`.

    With the times, by this machine's clock, when it was last heard of, and until when it counts as
    alive.
    """
    found, play, heard = _read()
    now = time.time()
    # the clock may have been set back since, and the record must not hold until it has caught up
    if found in ("", token, take_over) or abs(now - heard) > LEASE_SECONDS:
        return None
    try:
        known = json.loads(play)
    except ValueError:  # cut off while it was written
        return None
    return {**known, "token": found, "heard": heard, "until": heard + LEASE_SECONDS, "now": now}


def take(module: AnsibleModule, *, keep: bool = True) -> dict[str, Any] | None:
    """Take this machine for the play of the module's parameters; returns who has it, if another.

    In check mode it is only seen who does; and where it is not to `keep` it, but then the record of
    a play that has ended is cleared.
    """
    play, take_over = module.params["play"], module.params["take_over"]
    token = str(play.get("token", ""))
    other = holder(token, take_over)
    if other or not (keep or take_over) or module.check_mode or os.geteuid() != 0:
        return other
    _be_the_only_task(module)
    if other := holder(token, take_over):  # meanwhile
        return other
    if not keep:
        _write("")
    elif _read()[0] != token:
        shown = {key: play[key] for key in ("user", "host", "pid", "playbook")}
        _write(f"{token}\n{json.dumps({**shown, 'since': time.time()})}")
    _stay_alive()
    return None


def at_work(module: AnsibleModule) -> None:
    """Be the one task that changes this machine, until this process ends; ends it where it can't.

    Its play counts as alive for some time after its end.
    """
    if not module.check_mode and os.geteuid() == 0:
        _be_the_only_task(module)
        _stay_alive()


def _be_the_only_task(module: AnsibleModule) -> None:
    try:
        what = f"a task of a play ({module._name.rpartition('.')[2]})"
        locks.keep(locks.TASK, what, wait_seconds=WAIT_SECONDS, tell=module.warn)
    except locks.Busy as busy:
        module.fail_json(
            msg=f"This machine is being changed: {busy} has not ended in {WAIT_SECONDS} seconds,"
            " and nothing was done. A task goes on when its play is interrupted: wait for its end,"
            " or end that process there, and run this again."
        )


def _stay_alive() -> None:
    _renew()
    atexit.register(_renew)


def _read() -> tuple[str, str, float]:
    """The token, the rest of the record, and when the play was last heard of."""
    try:
        handle = os.open(locks.DIRECTORY / RECORD, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except (FileNotFoundError, PermissionError):
        return "", "", 0.0
    try:
        token, *play = locks.read(handle).split("\n", 1)
        return token, "".join(play), os.fstat(handle).st_mtime
    finally:
        os.close(handle)


def _write(text: str) -> None:
    handle = locks.opened(RECORD)
    try:
        locks.write(handle, text)
    finally:
        os.close(handle)


def _renew() -> None:
    with contextlib.suppress(FileNotFoundError):  # no play has taken the machine
        os.utime(locks.DIRECTORY / RECORD)
