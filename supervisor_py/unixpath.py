"""A listening unix socket at a path, by one rule: never delete what we did not make."""

from __future__ import annotations

import errno
import os
import stat

from .effects import say
from .errors import FatalError, from_os_error
from .sockets import AF_UNIX, NO_BLOCK_NO_EXEC, SOCK_STREAM, Socket


class UnixListener:
    """A unix stream socket that we bound, and the proof that the path is still ours."""

    def __init__(self, path: str, backlog: int, mode: int) -> None:
        """Bind and listen, after removing a stale socket (one that nobody listens on).

        Raises FatalError when a file, or another server's live socket, is at the path.
        """
        self.path = path
        _make_way(path)
        self.socket = Socket(AF_UNIX, SOCK_STREAM)
        before = os.umask(0o777 & ~mode)  # at bind, so that it never is open wider
        try:
            self.socket.bind(path)
            self.socket.listen(backlog)
            self._made = os.stat(path)
        except OSError as error:
            self.socket.close()
            raise from_os_error(f"failed to listen to file {path}", error) from error
        finally:
            os.umask(before)

    def remove(self) -> None:
        """Unlink the path, unless something else is there by now."""
        try:
            now = os.lstat(self.path)
            if (now.st_dev, now.st_ino) == (self._made.st_dev, self._made.st_ino):
                os.unlink(self.path)
        except OSError:
            pass  # it is gone, or no longer ours to touch


def _make_way(path: str) -> None:
    """Remove a stale socket; raises FatalError for anything else at the path."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
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
        say(f"removing existing socket file:{path}")  # nobody listens: its server is dead
        _unlink_stale(path)
    except FileNotFoundError:
        pass  # gone since we looked
    except BlockingIOError as error:
        raise _in_use(path) from error  # its queue is full: very much alive
    except OSError as error:
        what = f"failed to listen to file {path}: can't tell whose it is"
        raise from_os_error(what, error) from error
    else:
        raise _in_use(path)
    finally:
        probe.close()


def _unlink_stale(path: str) -> None:
    try:
        os.unlink(path)
    except OSError as error:
        raise from_os_error(f"failed to remove existing socket file:{path}", error) from error


def _in_use(path: str) -> FatalError:
    return FatalError(
        f"failed to listen to file {path}: another server listens there", errno.EADDRINUSE
    )
