"""What start_server runs in the conformance tests: records what it got, behaves as planned.

`child.py DIRECTORY` writes DIRECTORY/generation-N.record, a Python literal, and takes its orders
from DIRECTORY/plan, another one: a behaviour by generation number, under 0 for all others.
It imports built-in modules alone, because some hundred of it run at once.
"""

import _socket
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Callable
    from typing import Any
else:
    import _signal

_LISTEN_BACKLOG_AT = 28  # tcpi_sacked in struct tcp_info: of a listener, its backlog
_MOST_CONNECTIONS = 64
_LOOK_SECONDS = 1.0


def main() -> None:
    directory = sys.argv[1]
    with open(f"{directory}/plan") as file:
        plans = eval(file.read())
    number = int(os.environ.get("SERVER_STARTER_GENERATION", "0"))
    plan: dict[str, Any] = plans.get(number, plans.get(0, {}))
    if "say" in plan:
        for fd in (1, 2):
            os.write(fd, plan["say"].encode() + b" %d\n" % fd)
    for signal in plan.get("ignore", ()):
        _signal.signal(signal, _signal.SIG_IGN)
    for signal, code in plan.get("exit on", {}).items():
        _signal.signal(signal, _exit_with(code))
    sockets: list[dict[str, object]] = []
    record = {
        "arguments": sys.argv[2:],
        "directory": os.getcwd(),
        "environment": _environment(),
        "pid": os.getpid(),
        "parent": os.getppid(),
        "group": os.getpgrp(),
        "session": os.getsid(0),
        "umask": os.umask(0o22),
        "blocked": sorted(int(one) for one in _signal.pthread_sigmask(_signal.SIG_BLOCK, ())),
        "standard fds": [os.readlink(f"/proc/self/fd/{fd}") for fd in range(3)],
        "sockets": sockets,
    }
    fds = set(range(3))
    for item in os.environ["SERVER_STARTER_PORT"].split(";"):
        if item:
            name, _, its_fd = item.rpartition("=")
            fds.add(int(its_fd))
            sockets.append(_describe(name, int(its_fd), "fill" in plan))
    others = {int(fd) for fd in os.listdir("/proc/self/fd")} - fds
    record["other fds"] = sorted(filter(None, map(_target, others)))
    with open(f"{directory}/record.{os.getpid()}", "w") as file:
        file.write(repr(record))
    os.rename(file.name, f"{directory}/generation-{number}.record")
    if "exit" in plan:
        os._exit(plan["exit"])
    if "die by" in plan:
        os.kill(os.getpid(), plan["die by"])
    if "ready" in plan and "NOTIFY_SOCKET" in os.environ:
        notify = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM)
        notify.sendto(b"READY=1", "\0" + os.environ["NOTIFY_SOCKET"][1:])
    while True:  # Python hears a signal that has come just before a pause only after it
        _signal.sigtimedwait((), _LOOK_SECONDS)


def _exit_with(code: int) -> "Callable[[int, object], None]":
    def handler(_signal: int, _frame: object) -> None:
        os._exit(code)

    return handler


def _environment() -> list[str]:
    """Return what execve was given: os.environ has no doubles, and what Python itself has set."""
    with open("/proc/self/environ", "rb") as file:
        return sorted(os.fsdecode(item) for item in file.read().split(b"\0") if item)


def _target(fd: int) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except FileNotFoundError:  # it was open to list the others
        return ""


def _describe(name: str, fd: int, fill: bool) -> dict[str, object]:
    one = _socket.socket(fileno=os.dup(fd))
    listening = one.getsockopt(_socket.SOL_SOCKET, _socket.SO_ACCEPTCONN)
    seen = {
        "name": name,
        "fd": fd,
        "family": int(one.family),
        "type": int(one.type),
        "address": one.getsockname(),
        "listening": bool(listening),
        "reuse address": one.getsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR),
        "reuse port": one.getsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEPORT),
        "keep alive": one.getsockopt(_socket.SOL_SOCKET, _socket.SO_KEEPALIVE),
        "blocking": os.get_blocking(fd),
        "inheritable": os.get_inheritable(fd),
    }
    if one.family == _socket.AF_INET6:
        seen["only IPv6"] = one.getsockopt(_socket.IPPROTO_IPV6, _socket.IPV6_V6ONLY)
    if one.family == _socket.AF_UNIX:
        seen["mode"] = os.stat(name).st_mode if os.path.exists(name) else None
    elif listening:
        info = one.getsockopt(_socket.IPPROTO_TCP, _socket.TCP_INFO, 104)
        seen["backlog"] = int.from_bytes(
            info[_LISTEN_BACKLOG_AT : _LISTEN_BACKLOG_AT + 4], sys.byteorder
        )
    if fill:
        seen["backlog"] = _fill(one)
    return seen


def _fill(listener: _socket.socket) -> int:
    """Return how many connections a unix listener takes before one has to wait."""
    made = []
    for _ in range(_MOST_CONNECTIONS):
        one = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_NONBLOCK)
        try:
            one.connect(listener.getsockname())
        except BlockingIOError:
            break
        made.append(one)
    return len(made)


main()
