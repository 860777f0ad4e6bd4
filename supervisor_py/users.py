"""Giving root up: the user and group that the super-daemon and all its generations run as."""

from __future__ import annotations

import errno
import grp
import os
import pwd
import stat

from . import safe_paths
from .effects import say
from .errors import FatalError, from_os_error
from .record import Record

_ROOT = 0


class Account(Record):
    """A user and a group that exist."""

    user: str
    uid: int
    group: str
    gid: int

    def is_ours(self) -> bool:
        """Tell whether we run as that already, as after an upgrade of ourselves."""
        return (os.geteuid(), os.getegid()) == (self.uid, self.gid)


def find(user: str, group: str | None) -> Account:
    """Look a user up, and its group or another one; raises FatalError (exit status 1).

    Both may be given as numbers, if somebody has them.
    """
    try:
        entry = pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)
    except (KeyError, OverflowError):
        raise FatalError(
            f'--user: "{user}" is unknown (allowed: a name or number of a user that exists)', 1
        ) from None
    try:
        if group is None:
            its = grp.getgrgid(entry.pw_gid)
        else:
            its = grp.getgrgid(int(group)) if group.isdecimal() else grp.getgrnam(group)
    except (KeyError, OverflowError):
        wrong = f'--group: "{group}"' if group else f"--user: the group {entry.pw_gid} of {user}"
        raise FatalError(
            f"{wrong} is unknown (allowed: a name or number of a group that exists)", 1
        ) from None
    found = Account(entry.pw_name, entry.pw_uid, its.gr_name, its.gr_gid)
    if os.geteuid() != _ROOT and not found.is_ours():
        raise FatalError(f"--user={user}: only root can become another user", errno.EPERM)
    return found


class Making:
    """Makes a file: as root where root alone can change the way to it, else as the account itself.

    So nothing that this user may have put there, a link on the way or in its place, leads root to
    what this user could not open.
    """

    def __init__(self, account: Account, path: str) -> None:
        self._account = account
        self._apart = not account.is_ours() and not safe_paths.is_ours_alone(path)
        self._groups: list[int] = []

    def __enter__(self) -> None:
        if self._apart:
            self._groups = os.getgroups()
            try:
                os.initgroups(self._account.user, self._account.gid)
                os.setegid(self._account.gid)
                os.seteuid(self._account.uid)
            except OSError as error:
                self.__exit__()
                raise from_os_error(f"failed to act as {self._account.user}", error) from error

    def __exit__(self, *_: object) -> None:
        if self._apart:
            os.seteuid(_ROOT)
            os.setegid(_ROOT)
            os.setgroups(self._groups)


def become(account: Account) -> None:
    """Run as this account from now on, with no way back; raises FatalError."""
    if account.is_ours():
        return
    try:
        os.initgroups(account.user, account.gid)
        os.setresgid(account.gid, account.gid, account.gid)
        os.setresuid(account.uid, account.uid, account.uid)
    except OSError as error:
        raise from_os_error(f"failed to become user {account.user}", error) from error
    if account.uid != _ROOT and _may_be_root_again():
        raise FatalError(f"failed to become user {account.user}: root could come back")


def _may_be_root_again() -> bool:
    try:
        os.setuid(_ROOT)
    except OSError:
        return False
    return True


def give(path: str, account: Account) -> None:
    """Make a file that root has made the account's; what isn't clearly ours is left alone.

    In a directory where others can put a link in its place, it was made as the account: `Making`.
    """
    if account.is_ours() or not safe_paths.is_ours_alone(path):
        return
    try:
        fd = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        say(f"{path} stays root's: {error.strerror}")
        return
    try:
        found = os.fstat(fd)
        plain = stat.S_ISREG(found.st_mode) or stat.S_ISSOCK(found.st_mode)
        if plain and found.st_uid == _ROOT and found.st_nlink == 1:
            os.chown(f"/proc/self/fd/{fd}", account.uid, account.gid)
    except OSError as error:
        say(f"{path} stays root's: {error.strerror}")
    finally:
        os.close(fd)
