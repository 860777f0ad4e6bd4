"""Taking an address over from the dead: workers that have outlived their start_server.

They are ended if they, and nobody else, hold the address. What can't be proved is left alone.
"""

from __future__ import annotations

import errno
import os
import time

from . import handoff, orphans, signals, sockets
from .effects import say
from .errors import FatalError
from .record import Record
from .sockets import AF_INET, SOCK_STREAM

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .model import Policy
    from .ports import Port

_POLL = 0.05  # seconds between two looks at whether they have ended
_LAST_WAIT = 5.0  # seconds for the kernel to bury what got SIGKILL
_LONGEST_COMMAND = 60  # characters of it in a message
_START_SERVER = b"start_server"
_LISTENING = b"0A"  # of /proc/net/tcp
_LISTENS = 0x10000  # of /proc/net/unix: __SO_ACCEPTCON
_UNIX_FIELDS = 7  # before the path
_ANY_IP4, _ANY_IP6 = "0" * 8, "0" * 32


class Held(Record):
    """Who holds an address: orphans alone, or (then `orphans` is empty) others too."""

    taken: bool
    orphans: tuple[int, ...] = ()
    others: tuple[int, ...] = ()  # as far as we may see them

    def by_whom(self) -> str:
        """Return ` (pid 12: command)` of one of the others, or nothing when none can be seen."""
        for pid in self.others:
            command = _command(pid).replace(b"\0", b" ").decode("utf-8", "replace").strip()
            return f" (pid {pid}: {command[:_LONGEST_COMMAND]})" if command else f" (pid {pid})"
        return ""


def holders_of_path(path: str) -> Held:
    """Find out who listens at a unix path."""
    return _judge(_inodes_at_path(path), lambda name: name == path)


def holders_of_port(port: Port) -> Held:
    """Find out who has what keeps us from binding to a port."""
    return _judge(_inodes_at_port(port), lambda name: name.rpartition(":")[2] == str(port.number))


def clear(
    what: str, find: Callable[[], Held], policy: Policy, stop_asked: Callable[[], str]
) -> Held:
    """End the orphans that hold an address, if it is orphans alone; return who holds it now.

    They get the policy's signal, and SIGKILL when its grace is over. Raises FatalError when that
    doesn't help, or when we are told to stop meanwhile.
    """
    held = find()
    if not held.orphans:
        return held
    pids = ",".join(map(str, held.orphans))
    say(f"{what} is held by workers of a start_server that is dead, ending them:{pids}")
    told: set[int] = set()
    ends = time.monotonic() + policy.grace
    while held.taken:
        if stop_asked():
            raise FatalError(f"received {stop_asked()}, exiting", 0)
        now = time.monotonic()
        if now >= ends + _LAST_WAIT:
            raise FatalError(f"{what} is still held by them", errno.EADDRINUSE)
        for pid in held.orphans:
            if now >= ends:
                _send(pid, signals.KILL)
            # Their own main process first: it knows how to end its workers.
            elif pid not in told and _parent(pid) not in held.orphans:
                told.add(pid)
                _send(pid, policy.signal_on_term.number)
        time.sleep(_POLL)
        held = find()
    return held


def _send(pid: int, number: int) -> None:
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return  # gone
    try:
        # The pid was somebody else's before this fd, perhaps; it can't be any more.
        if _mark(pid) is not None:
            signals.send(pidfd, number)
    except PermissionError:
        pass  # it is waited for, and named, like one that ignores the signal
    finally:
        os.close(pidfd)


def _judge(inodes: frozenset[int], is_name: Callable[[str], bool]) -> Held:
    """Sort the holders of sockets: workers that were given this address, and all others.

    Workers are orphans if nobody of the others, and nobody we can't look into, may be the
    start_server that goes with them.
    """
    marked: list[int] = []
    others: list[int] = []
    seen: set[int] = set()
    for pid in orphans.processes():
        held = inodes.intersection(orphans.held_by(pid).values())
        if not held:
            continue
        seen |= held
        names = _mark(pid)
        is_worker = names is not None and any(map(is_name, names))
        (marked if is_worker and not _is_start_server(pid) else others).append(pid)
    if others or seen != inodes or any(_may_be_guarded(pid, marked) for pid in marked):
        return Held(bool(inodes), others=(*others, *marked))
    return Held(bool(inodes), orphans=tuple(marked))


def _mark(pid: int) -> list[str] | None:
    """Return the names of the sockets that a worker was given; None for any other process."""
    variables = dict(item.partition(b"=")[::2] for item in orphans.environment(pid))
    if handoff.GENERATION_VARIABLE.encode() not in variables:
        return None
    try:
        value = os.fsdecode(variables.get(handoff.PORT_VARIABLE.encode(), b""))
        return [one.name for one in handoff.decode_ports(value)]
    except handoff.HandoffError:
        return None


def _is_start_server(pid: int) -> bool:
    return any(word.endswith(_START_SERVER) for word in _command(pid).split(b"\0")[:4])


def _may_be_guarded(pid: int, workers: list[int]) -> bool:
    """Tell whether a worker's next ancestor that is none may be a start_server that is alive.

    One that we may look into doesn't hold the sockets, or it would have been found.
    """
    at = pid
    while (parent := _parent(at)) in workers:
        at = parent
    try:
        os.listdir(f"/proc/{parent}/fd")
    except FileNotFoundError:
        return False
    except OSError:
        return parent != 1 or _is_start_server(parent)
    return False


def _inodes_at_path(path: str) -> frozenset[int]:
    name = os.fsencode(path)
    found = set()
    for line in _lines("unix"):
        fields = line.split(None, _UNIX_FIELDS)
        if fields[_UNIX_FIELDS:] == [name] and int(fields[3], 16) & _LISTENS:
            found.add(int(fields[6]))
    return frozenset(found)


def _inodes_at_port(port: Port) -> frozenset[int]:
    stream = port.kind == SOCK_STREAM
    ours = sockets.as_in_proc(port.address)
    everywhere = {_ANY_IP4, _ANY_IP6}
    found = set()
    for table in ("tcp", "tcp6") if stream else ("udp", "udp6"):
        if port.family() != AF_INET and not table.endswith("6"):
            continue  # ours takes IPv6 alone
        for line in _lines(table):
            fields = line.split()
            address, _, number = fields[1].decode().partition(":")
            in_the_way = ours == address or ours in everywhere or address in everywhere
            listens = fields[3] == _LISTENING or not stream
            if int(number, 16) == port.number and in_the_way and listens:
                found.add(int(fields[9]))
    return frozenset(found)


def _lines(table: str) -> list[bytes]:
    """Return the rows of a table of sockets; none where the kernel has no such protocol."""
    try:
        with open(f"/proc/net/{table}", "rb") as file:
            return file.read().split(b"\n")[1:-1]
    except OSError:
        return []


def _command(pid: int) -> bytes:
    return orphans.read(pid, "cmdline")


def _parent(pid: int) -> int:
    fields = orphans.read(pid, "stat").rpartition(b")")[2].split()
    return int(fields[1]) if fields else 0
