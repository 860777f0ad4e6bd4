"""A listening unix socket at a path, by one rule: never delete what we did not make."""

from __future__ import annotations

import errno
import os
import stat

from .effects import say
from .errors import FatalError, from_os_error
from .record import Record
from .sockets import AF_UNIX, NO_BLOCK_NO_EXEC, SOCK_STREAM, Socket

LONGEST = 107  # bytes that sun_path holds
FREE, STALE, LIVE = "free", "stale", "live"


class Made(Record):
    """A path that we made, and the proof that what is there still is what we made."""

    path: str
    device: int
    inode: int

    def is_there(self) -> bool:
        """Tell whether the path still is ours."""
        try:
            now = os.lstat(self.path)
        except OSError:
            return False
        return (now.st_dev, now.st_ino) == (self.device, self.inode)

    def remove(self) -> None:
        """Unlink the path, unless something else is there by now."""
        if self.is_there():
            try:
                os.unlink(self.path)
            except OSError as error:
                say(f"{self.path} is left behind: {error.strerror}")


class UnixListener:
    """A unix stream socket that we bound and listen on."""

    def __init__(self, path: str, backlog: int, mode: int) -> None:
        """Bind and listen, after removing a stale socket (one that nobody listens on).

        Raises FatalError when a file, or another server's live socket, is at the path.
        """
        found = look(path)
        if found == LIVE:
            raise in_use(path)
        if found == STALE:
            say(f"removing existing socket file:{path}")
            _unlink_stale(path)
        self.socket = Socket(AF_UNIX, SOCK_STREAM)
        before = os.umask(0o777 & ~mode)  # at bind, so that it never is open wider
        try:
            self.socket.bind(path)
            self.socket.listen(backlog)
            now = os.stat(path)
        except OSError as error:
            self.socket.close()
            raise from_os_error(f"failed to listen to file {path}", error) from error
        finally:
            os.umask(before)
        self.made = Made(path, now.st_dev, now.st_ino)

    @classmethod
    def resume(cls, fd: int, made: Made) -> UnixListener:
        """Take over one of our predecessor in this process."""
        listener = cls.__new__(cls)
        listener.socket = Socket(fileno=fd)
        listener.made = made
        return listener

    def remove(self) -> None:
        """Unlink the path, unless something else is there by now."""
        self.made.remove()


def look(path: str) -> str:
    """Tell what is at a path: nothing (FREE), a socket of the dead (STALE), or a LIVE one.

    Raises FatalError for anything else, and when it can't be told.
    """
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return FREE
    except OSError as error:
        raise from_os_error(f"failed to listen to file {path}", error) from error
    if not stat.S_ISSOCK(mode):
        raise FatalError(
            f"failed to listen to file {path}: it exists and is not a socket; it was left as it is",
            errno.EADDRINUSE,
        )
    probe = Socket(AF_UNIX, SOCK_STREAM | NO_BLOCK_NO_EXEC)
    try:
        probe.connect(path)
    except ConnectionRefusedError:
        return STALE  # nobody listens: its server is dead
    except FileNotFoundError:
        return FREE  # gone since we looked
    except BlockingIOError:
        return LIVE  # its queue is full: very much alive
    except OSError as error:
        what = f"failed to listen to file {path}: can't tell whose it is"
        raise from_os_error(what, error) from error
    finally:
        probe.close()
    return LIVE


def in_use(path: str, by_whom: str = "") -> FatalError:
    """Return the refusal of a path at which another server listens."""
    return FatalError(
        f"failed to listen to file {path}: another server listens there{by_whom}",
        errno.EADDRINUSE,
    )


def _unlink_stale(path: str) -> None:
    try:
        os.unlink(path)
    except OSError as error:
        raise from_os_error(f"failed to remove existing socket file:{path}", error) from error
