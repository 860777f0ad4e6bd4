"""What the host says to a command line: asked before a socket is opened, and told all together.

Nothing is made or changed here. What is found can change afterwards: whoever acts on it says so.
This is loaded in a process of its own (`asking`), so that the super-daemon stays small.
"""

from __future__ import annotations

import errno
import os
import stat

from . import unixpath
from .effects import places
from .errors import Complaints, FatalError, from_os_error
from .listeners import bound_paths
from .output import log_command
from .sockets import SOCK_STREAM

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence, Set

    from .handoff import Handed
    from .settings import Settings
    from .users import Account

_SHEBANG = b"#!"
_LONGEST_SHEBANG = 256  # bytes; execve(2)


def check(
    chosen: Settings,
    variables: Mapping[str, str],
    inherited: Sequence[Handed],
    taken: Set[int],
    account: Account | None,
) -> None:
    """Raise FatalError of all problems.

    `variables` are what the program will get, `taken` are fds that are somebody's. `account` is who
    the program will be run as, and who this process is afterwards.
    """
    wrong = Complaints()
    # Each socket is moved twice: out of the way, and to its place.
    most = os.sysconf("SC_OPEN_MAX") - len(chosen.ports) - len(chosen.paths) - len(inherited) - 2
    for port in chosen.ports:
        with wrong:
            what = f"--port: fd {port.fd}"
            if port.fd in taken:
                raise FatalError(f"{what} is taken: start_server was started with it open", 1)
            if (port.fd or 0) > most:
                raise FatalError(f"{what} is too high (allowed: {most}, by `ulimit -n`)", 1)
            port.resolved()
    ours = bound_paths(inherited)
    for path in chosen.paths:
        with wrong:
            if os.path.realpath(path) not in ours:
                _check_path("path", path, chosen.status_file)
    with wrong:
        if chosen.control_socket:
            _check_path("control-socket", chosen.control_socket, None)
    log = chosen.log_file
    with wrong:
        if log and not log_command(log):
            what = f"failed to open log file:{log}"
            if os.path.isdir(log):  # but a device or a FIFO is fine
                _check_regular(what, "log-file", log)
            _check_file(what, "log-file", log)
    with wrong:
        if chosen.pid_file:
            what = f"failed to open file:{chosen.pid_file}"
            _check_regular(what, "pid-file", chosen.pid_file)
            _check_file(what, "pid-file", chosen.pid_file)
    with wrong:
        _check_distinct(chosen)
    with wrong:
        if chosen.probe:
            from . import probe  # noqa: PLC0415  few have one

            names = [port.name for port in chosen.ports if port.kind == SOCK_STREAM]
            probe.parse(chosen.probe, [*names, *chosen.paths])
    with wrong:
        if account:
            from . import users  # noqa: PLC0415  loads the user database

            users.become(account)
        _check_as_the_program(chosen, variables, wrong)
    wrong.settle()


def _check_as_the_program(
    chosen: Settings, variables: Mapping[str, str], wrong: Complaints
) -> None:
    """Take down what is wrong for the user that we and the program will be."""
    for option, file in (
        ("status-file", chosen.status_file),
        ("metrics-file", chosen.metrics_file),
    ):
        if file:
            with wrong:
                what = f"failed to write {file}"
                _check_regular(what, option, file)
                _check_parent(what, option, file)
    with wrong:
        if chosen.directory is not None:
            what = f"failed to chdir:{chosen.directory}"
            _check_directory(what, "dir", chosen.directory, os.X_OK)
        _check_program(chosen.command[0], chosen.directory or "", variables)


def _check_directory(what: str, option: str, directory: str, rights: int) -> None:
    try:
        mode = os.stat(directory).st_mode
    except OSError as error:
        refusal = from_os_error(what, error)
        raise FatalError(
            f"{refusal} (--{option}: no directory {directory})", refusal.code
        ) from None
    code = 0 if stat.S_ISDIR(mode) else errno.ENOTDIR
    if not code and not os.access(directory, rights):
        code = errno.EACCES
    if code:
        who = f", for user {os.geteuid()}" if code == errno.EACCES else ""
        raise FatalError(f"{what}: {os.strerror(code)} (--{option}: {directory}{who})", code)


def _check_parent(what: str, option: str, path: str) -> None:
    _check_directory(what, option, os.path.dirname(path) or ".", os.W_OK | os.X_OK)


def _check_path(option: str, path: str, status_file: str | None) -> None:
    """Check the path of a socket that is to be made."""
    what = f"failed to listen to file {path}"
    if not path or len(os.fsencode(path)) > unixpath.LONGEST:
        raise FatalError(f"{what} (--{option}: allowed are 1 to {unixpath.LONGEST} bytes)", 1)
    _check_parent(what, option, path)
    if unixpath.look(path) == unixpath.LIVE:
        from . import takeover  # noqa: PLC0415  seldom needed

        held = takeover.holders_of_path(path, status_file)
        if not held.orphans:
            raise unixpath.in_use(path, held.by_whom())


def _check_regular(what: str, option: str, path: str) -> None:
    """Refuse what is there and no file: a device would be replaced, or unlinked at the end."""
    if os.path.isdir(path):
        raise FatalError(f"{what}: {os.strerror(errno.EISDIR)} (--{option})", errno.EISDIR)
    if os.path.exists(path) and not os.path.isfile(path):
        raise FatalError(f"{what}: not a file (--{option})", errno.EINVAL)


def _check_file(what: str, option: str, path: str) -> None:
    """Check a file that is written in place."""
    if not os.path.exists(path):
        _check_parent(what, option, path)
    elif not os.access(path, os.W_OK):
        raise FatalError(f"{what}: {os.strerror(errno.EACCES)} (--{option})", errno.EACCES)


def _check_distinct(chosen: Settings) -> None:
    taken: dict[str, str] = {}
    for option, path in (
        *(("path", path) for path in chosen.paths),
        ("control-socket", chosen.control_socket),
        ("pid-file", chosen.pid_file),
        ("status-file", chosen.status_file),
        ("metrics-file", chosen.metrics_file),
        ("log-file", chosen.log_to_file()),
    ):
        if not path:
            continue
        real = os.path.realpath(path)
        if real in taken:
            raise FatalError(f"--{option}={path}: --{taken[real]} has the same", 1)
        taken[real] = option


def _check_program(name: str, directory: str, variables: Mapping[str, str]) -> None:
    """Look a program up as execvp(3) will, from the directory in which it will be run."""
    code, why = errno.ENOENT, os.strerror(errno.ENOENT)
    for place in places(name, variables):
        found, reason = _why_not(place, directory)
        if not found:
            return
        if reason != os.strerror(errno.ENOENT):
            code, why = found, reason
    where = f" in --dir={directory}" if directory else ""
    path = "" if "/" in name else f" (PATH={variables.get('PATH', '')})"
    raise FatalError(f"failed to exec {name}{where}: {why}{path}", code)


def _why_not(path: str, directory: str) -> tuple[int, str]:
    """Return why a file can't be executed: the errno, and what to say of it; 0 if it can be."""
    at = os.path.join(directory, path)
    try:
        mode = os.stat(at).st_mode
    except OSError as error:
        return error.errno or errno.ENOENT, error.strerror or str(error)
    if not stat.S_ISREG(mode) or not os.access(at, os.X_OK):
        return errno.EACCES, os.strerror(errno.EACCES)
    try:
        with open(at, "rb", buffering=0) as file:
            line = file.read(_LONGEST_SHEBANG).partition(b"\n")[0]
    except OSError:
        return 0, ""  # a program may be executable and not readable
    words = os.fsdecode(line.removeprefix(_SHEBANG)).split() if line.startswith(_SHEBANG) else []
    if words and not os.access(os.path.join(directory, words[0]), os.X_OK):
        return errno.ENOENT, f"{path} needs {words[0]}, which can't be executed"
    return 0, ""
