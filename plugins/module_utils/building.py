"""Programs of strangers that make files, such as a package's build: never as root.

What is made belongs to `kechi-build` while programs write it, in a pool's sandbox with nothing else
to write to; then, when all of them have ended, to root.
"""

from __future__ import annotations

import os
import pwd
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from . import environments, sandbox

USER = "kechi-build"
TASKS = 256
STOP_SECONDS = 5
SHOWN_CHARACTERS = 8000

Run = Callable[..., tuple[int, str, str]]


class BuildError(Exception):
    """A build has failed; the message has the end of what it said."""


@dataclass(frozen=True)
class Reader:
    """What a build may read beside what everybody may: a group's files, without some of them."""

    group: str = ""
    hidden: tuple[str, ...] = ()


EVERYBODY = Reader()


@dataclass(frozen=True)
class Builder:
    """Runs programs of strangers.

    Args:
        run_command: runs a command, and bounds what it says.
        memory_mb: what all processes of one call may take.
        seconds: how long one call may take.
    """

    run_command: Run
    memory_mb: int
    seconds: int

    def make_user(self) -> None:
        """Have the user that builds. Raises BuildError."""
        try:
            pwd.getpwnam(USER)
        except KeyError:
            home = ("--no-create-home", "--home-dir=/nonexistent", "--shell=/usr/sbin/nologin")
            rc, out, err = self.run_command(["useradd", "--system", "--user-group", *home, USER])
            if rc:
                raise BuildError(f"the user {USER} can't be made: {err or out}") from None

    def own(self, folder: Path) -> None:
        """Have a directory that root has made belong to `kechi-build`, for as long as it is."""
        user = pwd.getpwnam(USER)
        os.chown(folder, user.pw_uid, user.pw_gid, follow_symlinks=False)

    def disown(self, folder: Path) -> None:
        """Have it be root's again, and with it all that is in it out of `kechi-build`'s reach."""
        os.chown(folder, 0, 0, follow_symlinks=False)

    @contextmanager
    def workshop(self, folder: Path) -> Iterator[None]:
        """Have a directory belong to `kechi-build` within the block, and to root after it."""
        user = pwd.getpwnam(USER)
        give(folder, user.pw_uid, user.pw_gid)
        try:
            yield
        finally:
            give(folder, 0, 0)

    def run(
        self,
        words: Sequence[str],
        *,
        writable: Sequence[Path],
        environment: Mapping[str, str] | None = None,
        network: bool = False,
        reader: Reader = EVERYBODY,
    ) -> None:
        """Run a program in the sandbox, and end all that it has started. Raises BuildError.

        Args:
            words: the program and its arguments.
            writable: the directories that it may write to, besides a /tmp of its own.
            environment: its variables; they may hold secrets, and are on no command line.
            network: whether there is one.
            reader: what it may read beside what everybody may.
        """
        with tempfile.NamedTemporaryFile("w", encoding="utf-8") as file:
            file.write(environments.lines(environment or {}))
            file.flush()
            rc, out, err = self.run_command(
                [*self._start(writable, file.name, reader, network=network), *words]
            )
        if rc:
            raise BuildError((err or out).strip()[-SHOWN_CHARACTERS:] or self._why(rc))

    def _start(
        self, writable: Sequence[Path], environment: str, reader: Reader, *, network: bool
    ) -> list[str]:
        properties = sandbox.properties(
            ("User", USER),
            ("Group", USER),
            ("UMask", "0022"),
            ("WorkingDirectory", "/tmp"),  # noqa: S108 - its own
            ("EnvironmentFile", environment),
            ("ReadWritePaths", " ".join(map(str, writable))),
            ("PrivateNetwork", "no" if network else "yes"),
            ("MemoryMax", f"{self.memory_mb}M"),
            ("TasksMax", TASKS),
            ("RuntimeMaxSec", self.seconds),
            ("TimeoutStopSec", STOP_SECONDS),
            *([("SupplementaryGroups", reader.group)] if reader.group else []),
            *(("InaccessiblePaths", f"-{path}") for path in reader.hidden),
        )
        return ["systemd-run", "--quiet", "--wait", "--pipe", "--collect", "--service-type=exec",
                "--description=A build for kechi", *properties, "--"]  # fmt: skip

    def _why(self, code: int) -> str:
        return (
            f"exit code {code}, and not a word: it may have taken more than {self.memory_mb} MB"
            f" or {self.seconds} s"
        )


def write(folder: Path, name: str, text: str, mode: int = 0o644) -> None:
    """Write a file of root's into a directory that strangers have filled, following no link."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    opened = os.open(folder, flags)
    try:
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=opened)
        new = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(name, new, mode, dir_fd=opened), "w", encoding="utf-8") as file:  # noqa: PTH123
            file.write(text)
    finally:
        os.close(opened)


def give(folder: Path, user: int, group: int) -> None:
    """Give a tree away: contents before the top, no link followed, and no special file left.

    Nobody else may write to it meanwhile. Files lose setuid and setgid bits, and what is neither a
    file, a directory nor a link is removed.
    """
    top = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        _give_below(top, user, group)
        os.fchown(top, user, group)
        os.fchmod(top, 0o755)
    finally:
        os.close(top)


def _give_below(top: int, user: int, group: int) -> None:
    for _, directories, files, folder in os.fwalk(".", topdown=False, dir_fd=top):
        for name in (*directories, *files):
            kind = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
            if stat.S_ISREG(kind) or stat.S_ISDIR(kind):
                # chown comes first: it drops setuid bits by itself, but not a directory's setgid
                os.chown(name, user, group, dir_fd=folder, follow_symlinks=False)
                _chmod(name, kind, folder)
            elif stat.S_ISLNK(kind):
                os.chown(name, user, group, dir_fd=folder, follow_symlinks=False)
            else:
                os.unlink(name, dir_fd=folder)


def _chmod(name: str, kind: int, folder: int) -> None:
    """0755 for directories and what its owner may run, else 0644."""
    runs = stat.S_ISDIR(kind) or kind & stat.S_IXUSR
    opened = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        os.fchmod(opened, 0o755 if runs else 0o644)
    finally:
        os.close(opened)
