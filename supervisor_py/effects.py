"""What the super-daemon does to the world around it: messages, forks."""

from __future__ import annotations

import errno
import os

from . import orphans, signals
from .record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import NoReturn

_STDERR = 2
_EXEC_FAILED = 255
_FDS = 65536  # more than a listening socket is ever at
_DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin"


def say(text: str) -> None:
    """Write a line to stderr; a full disk or a closed pipe there is no reason to die."""
    try:  # noqa: SIM105  contextlib would cost memory
        os.write(_STDERR, f"{text}\n".encode("utf-8", "surrogateescape"))
    except OSError:
        pass


def replace_file(path: str, content: bytes) -> None:
    """Put a file in place by a rename, so that nobody ever reads a part of it; raises OSError."""
    temporary = f"{path}.{os.getpid()}"  # beside it: a rename can't cross file systems
    try:
        with open(temporary, "wb") as file:
            file.write(content)
        os.rename(temporary, path)
    except OSError:
        remove_file(temporary)
        raise


def remove_file(path: str) -> None:
    """Unlink a file that may be gone."""
    try:  # noqa: SIM105  contextlib would cost memory
        os.unlink(path)
    except OSError:
        pass


class Program(Record):
    """What a generation runs, and in which directory (None: our own)."""

    command: tuple[str, ...]
    directory: str | None


class Streams(Record):
    """Fds that become a child's standard streams; None leaves it ours.

    `alone`: it gets no other fds, not even the listening sockets.
    """

    stdout: int | None = None
    stderr: int | None = None
    stdin: int | None = None
    alone: bool = False


def spawn(program: Program, environment: Mapping[str, str], streams: Streams) -> int:
    """Fork and exec; return the child's pid. Raises OSError when the fork fails.

    Signals are held back until the child has none of our handlers left, so that one sent right
    after the fork does what it does to any process, and none of ours is lost.
    """
    signals.block_all()
    try:
        pid = os.fork()
        if pid == 0:
            _become(program, environment, streams)
        return pid
    finally:
        signals.unblock_all()


def _become(program: Program, environment: Mapping[str, str], streams: Streams) -> NoReturn:
    """Turn the forked child into the program; nothing of the parent's clean-up may ever run."""
    doing = f"exec {program.command[0]}"
    try:
        for fd, number in ((streams.stdin, 0), (streams.stdout, 1), (streams.stderr, _STDERR)):
            if fd is not None:
                os.dup2(fd, number)
        if streams.alone:
            os.closerange(_STDERR + 1, _FDS)
        signals.reset_for_child()
        orphans.set_mark()
        variables = dict(environment)
        if "LISTEN_FDS" in variables:
            variables["LISTEN_PID"] = str(os.getpid())
        if program.directory is not None:
            doing = f"chdir:{program.directory}"
            os.chdir(program.directory)
            doing = f"exec {program.command[0]}"
        _execute(program.command, variables)
    except BaseException as error:  # noqa: BLE001  it must not get out of the child
        reason = getattr(error, "strerror", None) or repr(error)
        say(f"failed to {doing}: {reason}")
    finally:
        os._exit(_EXEC_FAILED)


def places(name: str, environment: Mapping[str, str]) -> list[str]:
    """Return where execvp(3) looks for a program, in an environment."""
    path = environment.get("PATH", _DEFAULT_PATH)
    return [name] if "/" in name else [f"{at or '.'}/{name}" for at in path.split(":")]


def _execute(command: tuple[str, ...], environment: Mapping[str, str]) -> None:
    """Do what execvp(3) does, which Python's own only does after loading `warnings`.

    Raises OSError: the one that says most of all the places tried.
    """
    worst = OSError(errno.ENOENT, os.strerror(errno.ENOENT))
    for place in places(command[0], environment):
        try:
            os.execve(place, command, environment)  # noqa: S606
        except OSError as error:
            if error.errno == errno.ENOEXEC:  # a script without #!
                os.execve("/bin/sh", ["/bin/sh", place, *command[1:]], environment)  # noqa: S606
            if error.errno not in (errno.ENOENT, errno.ENOTDIR):
                worst = error
    raise worst
