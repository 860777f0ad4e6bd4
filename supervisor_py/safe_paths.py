"""Paths that lead through directories which somebody else can change, for what runs as root.

Any part of such a path may become a link between two looks at it, so none is looked at by its name
twice: each directory is opened in the one before. Links are followed where root (or who we are)
alone can have made them, and nowhere below a directory that belongs to others or that they may
write to. Hard links to directories there are none of; for files, see `read_regular`.

Needs little of the standard library: start_server loads it, too. `plugins/module_utils` and
`backup_py` have this same file, because they are shipped without this package.
"""

from __future__ import annotations

import errno
import os
import stat

_ROOT = 0
_MOST_LINKS = 40  # the kernel's limit
_WALK = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CHUNK = 65536


class Place:
    """A directory that is open, and a name in it.

    `trusted`: others can't change what is in it; `sticky`: they can't change what there is ours.
    """

    def __init__(self) -> None:
        self.fd = -1
        self.name = "."
        self.trusted = self.sticky = True
        self.enter(os.open("/", _WALK))

    def enter(self, fd: int) -> None:
        """Go on in a directory that was opened in this one."""
        if self.fd >= 0:
            os.close(self.fd)
        self.fd = fd
        found = os.fstat(fd)
        ours = (self.trusted or self.sticky) and found.st_uid in (_ROOT, os.geteuid())
        closed = not found.st_mode & stat.S_IWOTH and (
            not found.st_mode & stat.S_IWGRP or found.st_gid in (_ROOT, os.getegid())
        )
        self.trusted = ours and closed
        self.sticky = ours and bool(found.st_mode & stat.S_ISVTX)

    def __enter__(self) -> Place:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)


def locate(path: str, *, make: bool = False) -> Place:
    """Open the directory that has the last part of a path; a link that it is has been followed.

    Args:
        path: absolute, or relative to the working directory. What it names need not be there.
        make: whether directories on the way are made where they are missing.

    Raises:
        OSError: as `open` does; ELOOP for a link that may be somebody else's.
    """
    pending = _parts(path if path.startswith("/") else f"{os.getcwd()}/{path}")
    at = Place()
    links = 0
    try:
        while pending:
            at.name = pending.pop()
            target = _link(at, path)
            if target is not None:
                links += 1
                if links > _MOST_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
                pending += _parts(target)
                if target.startswith("/"):
                    at.enter(os.open("/", _WALK))
                at.name = "."
            elif pending:
                at.enter(_open_directory(at.fd, at.name, path, make=make))
    except BaseException:
        os.close(at.fd)
        raise
    return at


def open_file(path: str, flags: int, mode: int = 0o666) -> int:
    """Do what os.open does, where no link of somebody else's is followed; never waits for a pipe.

    Where others can change the directory, only a regular file with one name will do, or a new one.
    """
    with locate(path) as place:
        more = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        # what is there is looked at before it is emptied
        fd = os.open(place.name, (flags | more) & ~os.O_TRUNC, mode, dir_fd=place.fd)
        try:
            found = os.fstat(fd)
            if not place.trusted and not (stat.S_ISREG(found.st_mode) and found.st_nlink == 1):
                raise OSError(errno.EPERM, "not a file with one name, in others' directory", path)
            if flags & os.O_TRUNC:
                os.ftruncate(fd, 0)
        except BaseException:
            os.close(fd)
            raise
    return fd


def open_directory(path: str, *, make: bool = False) -> int:
    """Open a directory, to be read or for fchown and fchmod; with `make`, see `locate`."""
    with locate(path, make=make) as place:
        fd = _open_directory(place.fd, place.name, path, make=make)
    try:
        return os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=fd)
    finally:
        os.close(fd)


def open_below(top: int, parts: tuple[str, ...], flags: int) -> int:
    """Open what is below a directory that is open; no link is followed, and nothing waited for."""
    at = os.open(".", _WALK, dir_fd=top)
    try:
        for part in parts[:-1]:
            below = os.open(part, _WALK, dir_fd=at)
            os.close(at)
            at = below
        more = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        return os.open(parts[-1] if parts else ".", flags | more, dir_fd=at)
    finally:
        os.close(at)


def read_regular(path: str, most: int) -> bytes:
    """Return a regular file's content; raises OSError: EFBIG for more than `most` bytes.

    Whoever may write to the directory can have hard links there only to what is theirs, or what
    they may write to (fs.protected_hardlinks); what is read is believed no more than they are.
    """
    with locate(path) as place:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        fd = os.open(place.name, flags, dir_fd=place.fd)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", path)
        content = b""
        while len(content) <= most:
            read = os.read(fd, min(_CHUNK, most + 1 - len(content)))
            if not read:
                return content
            content += read
        raise OSError(errno.EFBIG, f"more than {most} bytes", path)
    finally:
        os.close(fd)


def is_ours_alone(path: str) -> bool:
    """Tell whether nobody but root (and who we are) can change what a path leads to.

    A part that is missing is as safe as the directory that it is missing in.
    """
    try:
        with locate(path) as place:
            return place.trusted
    except FileNotFoundError:
        parent = os.path.dirname(path.rstrip("/"))
        return bool(parent) and is_ours_alone(parent)
    except OSError:
        return False


def _parts(path: str) -> list[str]:
    """Return the names in a path, the first one last."""
    return [part for part in reversed(path.split("/")) if part not in ("", ".")]


def _link(at: Place, path: str) -> str | None:
    """Return what a link leads to; None for what is no link, or not there."""
    if at.name == ".." and not (at.trusted or at.sticky):
        raise OSError(errno.ELOOP, 'a ".." below a directory that others can change', path)
    try:
        found = os.stat(at.name, dir_fd=at.fd, follow_symlinks=False)
    except FileNotFoundError:
        return None
    if not stat.S_ISLNK(found.st_mode):
        return None
    if not (at.trusted or at.sticky) or found.st_uid not in (_ROOT, os.geteuid()):
        raise OSError(errno.ELOOP, f"{at.name} is a link that somebody else may have made", path)
    return os.readlink(at.name, dir_fd=at.fd)


def _open_directory(fd: int, name: str, path: str, *, make: bool) -> int:
    if make:
        try:
            os.mkdir(name, 0o755, dir_fd=fd)
        except FileExistsError:
            pass
    try:
        return os.open(name, _WALK, dir_fd=fd)
    except NotADirectoryError:
        raise NotADirectoryError(errno.ENOTDIR, f"{name} is not a directory", path) from None
    except FileNotFoundError:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from None
