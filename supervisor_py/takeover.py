"""Taking an address over from the dead: workers that have outlived their start_server.

They are ended if they, and nobody else, hold the address. What can't be proved is left alone.
"""

from __future__ import annotations

import errno
import os
import time

from . import handoff, orphans, safe_paths, signals, sockets
from .effects import say
from .errors import FatalError
from .record import Record
from .sockets import AF_INET, SOCK_STREAM

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Set

    from .model import Policy
    from .ports import Port

_POLL = 0.05  # seconds between two looks at whether they have ended
_LAST_WAIT = 5.0  # seconds for the kernel to bury what got SIGKILL
_LONGEST_COMMAND = 60  # characters of it in a message
_START_SERVER = b"start_server"
_LISTENING = b"0A"  # of /proc/net/tcp
_MOST_BYTES = 65536  # of a status file
_LISTENS = 0x10000  # of /proc/net/unix: __SO_ACCEPTCON
_UNIX_FIELDS = 7  # before the path
_START_TIME = 19  # of /proc/PID/stat, counted from behind the command
_ANY_IP4, _ANY_IP6 = "0" * 8, "0" * 32


class Held(Record):
    """Who holds an address: orphans alone, or (then `orphans` is empty) others too."""

    taken: bool
    orphans: tuple[int, ...] = ()
    others: tuple[int, ...] = ()  # as far as we may see them

    def by_whom(self) -> str:
        """Return ` (pid 12: command)` of one of the others, or nothing when none can be seen."""
        for pid in self.others:
            command = _in_a_line(_command(pid))
            return f" (pid {pid}: {command[:_LONGEST_COMMAND]})" if command else f" (pid {pid})"
        return ""


def holders_of_path(path: str, status_file: str | None) -> Held:
    """Find out who listens at a unix path."""
    return _judge(_inodes_at_path(path), lambda name: name == path, status_file)


def holders_of_port(port: Port, status_file: str | None) -> Held:
    """Find out who has what keeps us from binding to a port."""
    number = str(port.number)
    inodes = _inodes_at_port(port)
    return _judge(inodes, lambda name: name.rpartition(":")[2] == number, status_file)


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
    known = set(held.orphans)
    told: set[int] = set()
    ends = time.monotonic() + policy.grace
    while held.taken:
        if stop_asked():
            raise FatalError(f"received {stop_asked()}, exiting", 0)
        now = time.monotonic()
        if now >= ends + _LAST_WAIT:
            raise FatalError(f"{what} is still held by them", errno.EADDRINUSE)
        known.update(held.orphans)
        # Without its main process, which ends first, a worker may not be known for an orphan.
        left = known.intersection(held.orphans + held.others)
        if now >= ends:
            _send(left, signals.KILL, find)
        else:
            # Their own main process first: it knows how to end its workers.
            first = {pid for pid in left if _parent(pid) not in left}
            _send(first - told, policy.signal_on_term.number, find)
            told |= first
        time.sleep(_POLL)
        held = find()
    return held


def _send(pids: Set[int], number: int, find: Callable[[], Held]) -> None:
    """Signal processes that still hold the address when nobody else can have their pids."""
    pidfds: dict[int, int] = {}
    for pid in pids:
        try:  # noqa: SIM105  contextlib would cost memory
            pidfds[pid] = os.pidfd_open(pid)
        except OSError:
            pass  # gone
    held = find() if pidfds else Held(False)
    for pid, pidfd in pidfds.items():
        try:
            if pid in held.orphans + held.others:
                signals.send(pidfd, number)
        except PermissionError:
            pass  # it is waited for, and named, like one that ignores the signal
        finally:
            os.close(pidfd)


def _judge(inodes: frozenset[int], is_name: Callable[[str], bool], status_file: str | None) -> Held:
    """Sort the holders of sockets: workers that were given this address, and all others.

    Workers are orphans if nobody of the others, and nobody we can't look into, may be the
    start_server that goes with them.
    """
    workers: list[int] = []
    others: list[int] = []
    seen: set[int] = set()
    listed = _listed(status_file) if status_file and inodes else set()
    for pid in orphans.processes():
        held = inodes.intersection(orphans.held_by(pid).values())
        if not held:
            continue
        seen |= held
        is_worker = any(map(is_name, _names_given(pid))) or not listed.isdisjoint(_line(pid))
        (workers if is_worker and not _is_start_server(pid) else others).append(pid)
    if others or seen != inodes or any(_may_be_guarded(pid, workers) for pid in workers):
        return Held(bool(inodes), others=(*others, *workers))
    return Held(bool(inodes), orphans=tuple(workers))


def _names_given(pid: int) -> list[str]:
    """Return the names of the sockets that a worker was given; none for any other process."""
    variables = dict(item.partition(b"=")[::2] for item in orphans.environment(pid))
    if handoff.GENERATION_VARIABLE.encode() not in variables:
        return []
    try:
        value = os.fsdecode(variables.get(handoff.PORT_VARIABLE.encode(), b""))
        return [one.name for one in handoff.decode_ports(value)]
    except handoff.HandoffError:
        return []


def _listed(status_file: str) -> set[int]:
    """Return the main processes of generations that a start_server has left in its status file.

    What sets the title of a process wipes its environment out, and only this tells of it then. A
    process that was started later than the file was written has its pid by chance.
    """
    try:
        with os.fdopen(safe_paths.open_file(status_file, os.O_RDONLY), "rb") as file:
            written = os.fstat(file.fileno()).st_mtime
            lines = file.read(_MOST_BYTES).split(b"\n")
    except OSError:
        return set()
    words = [line.strip().partition(b":")[2] for line in lines]
    return {pid for pid in map(int, filter(bytes.isdigit, words)) if _began(pid) <= written}


def _began(pid: int) -> float:
    """Return when a process was started, in seconds of the clock; infinity when it is gone."""
    fields = orphans.read(pid, "stat").rpartition(b")")[2].split()
    if not fields:
        return float("inf")
    since_boot = int(fields[_START_TIME]) / os.sysconf("SC_CLK_TCK")
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + since_boot


def _line(pid: int) -> set[int]:
    """Return a process and its ancestors."""
    line: set[int] = set()
    while pid and pid not in line:
        line.add(pid)
        pid = _parent(pid)
    return line


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


def _in_a_line(command: bytes) -> str:
    """Return a command's words for a message, whatever they hold."""
    text = " ".join(command.replace(b"\0", b" ").decode("utf-8", "replace").split())
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _command(pid: int) -> bytes:
    return orphans.read(pid, "cmdline")


def _parent(pid: int) -> int:
    fields = orphans.read(pid, "stat").rpartition(b")")[2].split()
    return int(fields[1]) if fields else 0
