"""What a super-daemon hands to the new version of itself, which takes its place in the process.

Fds stay open over the exec, and what they mean is written down: plain values in a file without a
name. A newer version may know more fields, and an older one fewer: those are passed over, or have
their defaults.
"""

from __future__ import annotations

import marshal
import os

from . import model
from .record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, TypeVar

    _R = TypeVar("_R", bound=Record)

    from .model import Policy, State

VARIABLE = "START_SERVER_HANDOVER"  # the fd of that file
CHECK_VARIABLE = (
    "START_SERVER_CHECK"  # set: only say, by the exit status, whether it could be taken
)
NO_FD = -1
_FORMAT = 1
_MARSHAL_VERSION = 2  # the newest that is the same in all versions of Python
_RECORDS: dict[str, type[Record]] = {
    one.__name__: one for one in (model.Generation, model.Restart, model.Upgrade)
}


class HandoverError(ValueError):
    """What was handed over can't be read."""


class Child(Record):
    """A generation's process: its fds, and what came through them and is not passed on yet."""

    number: int
    pid: int  # 0: it has gone, and something else holds its stderr
    left: bool  # the main process has gone, and left others behind
    notify: int  # -1 when it is closed, as `pipe`
    pipe: int
    tail: bytes
    rest: bytes
    began: int = 0  # ticks since boot; 0: its predecessor did not know

    def values(self) -> dict[str, Any]:
        """Return it as marshal can write it."""
        return {name: getattr(self, name) for name in self._fields}


class Handover(Record):
    """All that a successor needs; see `model.State` for `state`."""

    version: str
    started: float
    state: dict[str, Any]
    sockets: list[dict[str, Any]]  # as `listeners.resume` takes them
    children: list[dict[str, Any]]
    clients: list[list[Any]]  # see `ControlServer.clients`
    last_client: int
    pid_file: int = NO_FD
    control: int = NO_FD
    control_made: list[Any] = []  # noqa: RUF012  path, device and inode; records are frozen
    log: int = NO_FD
    log_read_end: int = NO_FD
    log_pid: int = 0
    log_streams: list[int] = []  # noqa: RUF012
    unwritten: bytes = b""  # what our stderr has not taken yet
    lost: int = 0  # bytes that it never will
    since: int = 0  # when the first generation began, in ticks since boot

    def fds(self) -> list[int]:
        """Return the fds that must stay open, but for the listening sockets, which always do."""
        found = [self.pid_file, self.control, self.log, self.log_read_end]
        found += self.log_streams
        found += [fd for _, fd, *_ in self.clients]
        for child in self.children:
            found += [child["notify"], child["pipe"]]
        return [fd for fd in found if fd != NO_FD]


def plain(value: Any) -> Any:
    """Turn records into what marshal can write."""
    match value:
        case Record():
            fields = {name: plain(getattr(value, name)) for name in value._fields}
            return {"record": type(value).__name__, "fields": fields}
        case tuple():
            return tuple(plain(one) for one in value)
        case _:
            return value


def _record(value: Any) -> Any:
    """Turn what `plain` has made into records again."""
    match value:
        case {"record": str(name), "fields": dict(fields)} if name in _RECORDS:
            return _known(_RECORDS[name], {name: _record(one) for name, one in fields.items()})
        case tuple():
            return tuple(_record(one) for one in value)
        case _:
            return value


def state_to_plain(state: State) -> dict[str, Any]:
    """Return the state but for its policy, which the successor reads anew."""
    return {name: plain(getattr(state, name)) for name in state._fields if name != "policy"}


def state(handed: Handover, policy: Policy) -> State:
    """Return the state that was handed over; raises HandoverError."""
    values = {name: _record(one) for name, one in handed.state.items()}
    return _known(model.State, values | {"policy": policy})


def write(handover: Handover) -> int:
    """Return the fd of a file without a name that holds it; raises OSError."""
    fields = {name: getattr(handover, name) for name in handover._fields}
    data = marshal.dumps({"format": _FORMAT, **fields}, _MARSHAL_VERSION)
    fd = os.memfd_create("handover", os.MFD_CLOEXEC)
    try:
        with open(fd, "wb", closefd=False) as file:
            file.write(data)
    except OSError:
        os.close(fd)
        raise
    return fd


def read(fd: int) -> Handover:
    """Return what an fd holds; raises HandoverError."""
    try:
        data = os.pread(fd, os.fstat(fd).st_size, 0)  # its offset is shared with whoever checks
        found = marshal.loads(data)  # noqa: S302  written by our own predecessor
        made_as = found.pop("format")
    except (OSError, EOFError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise HandoverError(f"what was handed over can't be read: {error!r}") from error
    if made_as != _FORMAT:
        raise HandoverError(f"what was handed over has format {made_as}, and {_FORMAT} is known")
    return _known(Handover, found)


def children(handed: Handover) -> list[Child]:
    """Return the generations' processes; raises HandoverError."""
    return [_known(Child, values) for values in handed.children]


def _known(kind: type[_R], values: Mapping[str, Any]) -> _R:
    """Make a record of the fields that this version knows; raises HandoverError."""
    try:
        return kind(**{name: one for name, one in values.items() if name in kind._fields})
    except TypeError as error:
        raise HandoverError(f"what was handed over is not enough: {error}") from error


def taken(variables: dict[str, str]) -> tuple[Handover | None, bool]:
    """Return what we were handed, if we are a successor, and whether that is to be checked only.

    The variables that say so are removed. Raises HandoverError.
    """
    given = variables.pop(VARIABLE, None)
    only_check = variables.pop(CHECK_VARIABLE, None) is not None
    if given is None:
        return None, False
    if not given.isdecimal():
        raise HandoverError(f'{VARIABLE}: "{given}" is not a file descriptor')
    handed = read(int(given))
    os.close(int(given))
    return handed, only_check
