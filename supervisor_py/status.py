"""The pid file and the status file, as Server::Starter 0.35 has them."""

from __future__ import annotations

import errno
import fcntl
import os
import stat

from . import effects
from .errors import FatalError, from_os_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


class PidFile:
    r"""`PID\n` in a file that is locked as long as we live.

    Raises FatalError when another server holds it (and leaves that one's file as it is).
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd = self._open()
        try:
            os.ftruncate(self._fd, 0)
            os.write(self._fd, b"%d\n" % os.getpid())
        except OSError as error:
            self.remove()  # an empty one would tell --stop nothing
            raise from_os_error(f"failed to write file:{path}", error) from error

    def _open(self) -> int:
        while True:
            try:
                fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            except OSError as error:
                raise from_os_error(f"failed to open file:{self._path}", error) from error
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                os.close(fd)  # not /dev/null, which would be unlinked at the end
                raise FatalError(f"failed to open file:{self._path}: not a file", errno.EINVAL)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                holder = os.read(fd, 32).decode("ascii", "replace").strip()
                os.close(fd)
                raise FatalError(
                    f"pid file {self._path}: held by another server (pid:{holder})",
                    error.errno or errno.EWOULDBLOCK,
                ) from error
            if _same_file(fd, self._path):
                return fd
            os.close(fd)  # its last owner removed it between our open and our lock

    @classmethod
    def resume(cls, path: str, held: int) -> PidFile:
        """Take over the fd by which our predecessor in this process holds it."""
        os.set_inheritable(held, False)
        file = cls.__new__(cls)
        file._path, file._fd = path, held
        return file

    def fileno(self) -> int:
        """Return the fd that holds the lock."""
        return self._fd

    def remove(self) -> None:
        """Unlink, then close: who waits for the lock finds no file (`--stop` depends on it)."""
        if _same_file(self._fd, self._path):
            try:
                os.unlink(self._path)
            except OSError as error:
                effects.say(f"failed to unlink file:{self._path}: {error.strerror}")
        os.close(self._fd)


def _same_file(fd: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except OSError:
        return False


class StatusFile:
    r"""`GENERATION:PID\n` for each generation alive, put in place by a rename."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._written: str | None = None

    def write(self, generations: Iterable[tuple[int, int]]) -> None:
        """Write (number, pid) pairs if they have changed; raises OSError and tries again later."""
        content = "".join(f"{number}:{pid}\n" for number, pid in generations)
        if content == (self._written or ""):
            return  # nor is a first file written before there is a generation to tell of
        effects.replace_file(self._path, content.encode())
        self._written = content

    def remove(self) -> None:
        """Unlink the file if we ever wrote it."""
        if self._written is not None:
            self._written = None
            effects.remove_file(self._path)
