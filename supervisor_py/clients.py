"""--restart, --stop, --status and --upgrade: what asks a running server, and waits for it."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import sys
import time

from . import control, effects, orphans, safe_paths, signals, tables, text
from .errors import FatalError, from_os_error
from .sockets import AF_UNIX, SOCK_STREAM, Socket, peer
from .status_files import open_pid, read_generations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .options import Parsed

_ROOT = 0
RESTART_TIMEOUT = 300.0  # seconds; longer than a readiness timeout and two graces
_STATUS_TIMEOUT = 30.0  # seconds; it measures memory, and may have to wait for its turn
_MOST_BYTES = 8 * 1024 * 1024  # of an answer: who gives it may be a hostile app
_MOST_LINE = 4096  # characters of a line of it, where it is shown
_POLL = 0.1  # seconds between two looks at the status file


def restart(parsed: Parsed) -> None:
    """Restart a running server and wait until the new generation alone is left.

    Raises FatalError at the first failed attempt, or when --restart-timeout is over.
    """
    timeout = _timeout(parsed)
    path = parsed.text("control-socket")
    pid_file, status_file = parsed.text("pid-file"), parsed.text("status-file")
    if path:
        done, _ = _ask(path, control.RESTART, timeout)
        effects.say(f"restarted: {text.visible(done, _MOST_LINE)}")
    elif pid_file and status_file:
        _restart_by_files(pid_file, status_file, timeout)
    else:
        raise FatalError(
            "--restart option requires --control-socket, or --pid-file and --status-file, "
            "to be set as well"
        )


def _timeout(parsed: Parsed) -> float:
    given = parsed.number("restart-timeout")
    return RESTART_TIMEOUT if given is None else given


def _ask(path: str, request: str, timeout: float) -> tuple[str, int]:
    """Send a request to a control socket, show its progress; return its outcome, and whose it is.

    Raises FatalError when it failed (exit status 1), or has not ended in time.
    """
    ends = time.monotonic() + timeout
    socket = Socket(AF_UNIX, SOCK_STREAM)
    try:
        socket.settimeout(max(timeout, 0.001))
        _connect(socket, path)
        server = _let_go_on(socket)
        socket.sendall(f"{request}\n".encode())
        received = b""
        most = _MOST_BYTES
        while True:
            left = ends - time.monotonic()
            if left <= 0:
                raise _too_long(request, timeout)
            socket.settimeout(left)
            data = socket.recv(65536)
            most -= len(data)
            if most < 0:
                raise FatalError(
                    f"{request} failed: the answer has more than {_MOST_BYTES} bytes", 1
                )
            received += data
            *lines, received = received.split(b"\n")
            for line in lines:
                word, _, told = line.decode("utf-8", "replace").partition(" ")
                if word == control.DONE:
                    return told, server
                shown = text.visible(told, _MOST_LINE)
                if word == control.FAILED:
                    raise FatalError(f"{request} failed: {shown}", 1)
                effects.say(shown)
            if not data:
                raise FatalError(f"{request} failed: the server went away", 1)
    except TimeoutError as error:
        raise _too_long(request, timeout) from error
    except OSError as error:
        raise from_os_error(f"control socket {path}", error) from error
    finally:
        socket.close()


def _connect(socket: Socket, path: str) -> None:
    """Connect to the socket that is at a path, and to no other by a link of its owner's.

    Raises OSError.
    """
    if os.geteuid() != _ROOT:  # who may connect, as whom they are, is the kernel's business
        socket.connect(path)
        return
    with safe_paths.locate(path) as place:
        fd = os.open(place.name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=place.fd)
    try:
        if not stat.S_ISSOCK(os.fstat(fd).st_mode):
            raise OSError(errno.ENOTSOCK, os.strerror(errno.ENOTSOCK))
        socket.connect(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)


def _let_go_on(socket: Socket) -> int:
    """Wake the server where somebody has stopped it (SIGSTOP): it would never answer.

    Returns its pid, as the kernel has it.
    """
    pid, uid = peer(socket)
    try:
        if orphans.is_stopped(pid) and os.stat(f"/proc/{pid}").st_uid == uid:
            effects.say(f"start_server (pid {pid}) has been stopped, sending CONT")
            os.kill(pid, signals.CONT)
    except OSError:
        pass  # it has ended since, or is somebody else's: then it answers, or it doesn't
    return pid


def _too_long(request: str, timeout: float) -> FatalError:
    return FatalError(f"the {request} was not over within {timeout:g} seconds", errno.ETIMEDOUT)


def _control_socket(parsed: Parsed, option: str) -> str:
    path = parsed.text("control-socket")
    if not path:
        raise FatalError(f"--{option} option requires --control-socket to be set as well")
    return path


def upgrade(parsed: Parsed) -> None:
    """Have a running server replaced by a new version of itself, and wait for the outcome.

    Raises FatalError when the new version would not run: then the old one stays.
    """
    done, _ = _ask(_control_socket(parsed, "upgrade"), control.UPGRADE, _timeout(parsed))
    effects.say(text.visible(done, _MOST_LINE))


def status(parsed: Parsed) -> None:
    """Print what a running server does, as a table or as JSON; raises FatalError."""
    import json  # noqa: PLC0415  the other clients have no use for it

    answer, server = _ask(_control_socket(parsed, "status"), control.STATUS, _STATUS_TIMEOUT)
    try:
        known = json.loads(answer)
        _require_its_own(known, server)
        shown = tables.of_status(text.all_visible(known))  # which knows what has to be in it
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise FatalError(f"status failed: the answer is none ({type(error).__name__})", 1) from None
    sys.stdout.write(f"{json.dumps(known) if parsed.flag('json') else shown}\n")


def _require_its_own(known: dict[str, Any], server: int) -> None:
    """Raise FatalError where an answer names processes that are not those of who has given it.

    They may get a signal from whoever reads it. The kernel says who answers, and whose child is
    whose; where it speaks of another namespace's pids, nothing can be compared.
    """
    if not server or _namespace(server) != _namespace(os.getpid()):
        return
    named = [known["pid"]] if known["pid"] != server else []
    for one in known["generations"]:
        process = orphans.look(int(one["pid"]))
        if process and process.parent != server and not one["main_process_gone"]:
            named.append(one["pid"])
    if named:
        pids = text.visible(", ".join(map(str, named)))
        raise FatalError(f"status failed: {pids}: no process of who answers (pid {server})", 1)


def _namespace(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return ""


def _restart_by_files(pid_file: str, status_file: str, timeout: float) -> None:
    """Do it Perl's way: HUP, then watch the status file, but not for ever."""
    ends = time.monotonic() + timeout
    fd, pid = _server_of(pid_file)
    os.close(fd)
    before = read_generations(status_file)
    if not before:
        raise FatalError("no active process found in the status file")
    _send(pid, signals.HUP)
    while True:
        now = read_generations(status_file)
        if len(now) == 1 and now[0] > before[-1]:
            return
        if time.monotonic() >= ends:
            raise _too_long(control.RESTART, timeout)
        time.sleep(_POLL)


def stop(parsed: Parsed) -> None:
    """Send TERM to the server of a pid file, and wait until it has let go of that file.

    Raises FatalError when there is no such server.
    """
    path = parsed.text("pid-file")
    if not path:
        raise FatalError("--stop option requires --pid-file to be set as well")
    fd, pid = _server_of(path)
    effects.say(f"stop_server (pid:{os.getpid()}) stopping now (pid:{pid})...")
    _send(pid, signals.TERM)
    fcntl.flock(fd, fcntl.LOCK_EX)  # it lets go when it ends; its grace bounds that
    os.close(fd)


def _server_of(path: str) -> tuple[int, int]:
    """Return an fd of the pid file, and the pid of the server that holds it.

    Raises FatalError when nobody does: that pid may be anyone's by now.
    """
    fd, pid = open_pid(path)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return fd, pid
    os.close(fd)
    raise FatalError(f"pid file {path}: no server holds it (pid:{pid})", errno.ESRCH)


def _send(pid: int, signal: int) -> None:
    try:
        os.kill(pid, signal)
    except OSError as error:
        name = signals.name_of(signal)
        raise from_os_error(f"failed to send SIG{name} to the server process", error) from error
