"""What is on a machine of the files that roles write: `machine_facts` takes it, `files` compares.

Only what everybody may read is looked at, as the snapshot goes through logs. A path that is not
covered, or not in it, has to be asked for on the machine.
"""

from __future__ import annotations

import grp
import hashlib
import pwd
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

# folders, and what is looked at in them
COVERED = (
    ("/etc/kechi", "*"),
    ("/etc/kechi", "env/*"),
    ("/etc/kechi", "tls/copies"),
    ("/etc/systemd/system", "kechi*"),
    ("/etc/systemd/system", "kechi*/*"),
    ("/etc/systemd/system", "certbot.service.d"),
    ("/etc/systemd/system", "certbot.service.d/*"),
    ("/etc/needrestart", "conf.d/kechi.conf"),
    ("/etc/nginx", "conf.d/kechi.conf"),
    ("/etc/nginx", "modules-enabled/00-kechi.conf"),
    ("/etc/nginx", "sites-enabled/default"),
    ("/etc/tmpfiles.d", "kechi-nginx.conf"),
    ("/usr/local", "bin/start_server"),
    ("/usr/local", "bin/shared_memory_size"),
    ("/usr/local", "bin/vhost_server"),
    ("/usr/local", "sbin/kechi-certificates"),
    ("/usr/local", "lib/kechi-certificates/kechi_certificates"),
    ("/usr/local", "lib/kechi-certificates/kechi_certificates/*.py"),
    ("/var/lib/kechi", "acme/.well-known/acme-challenge"),
    ("/var/lib/kechi", "pages"),
    ("/var/lib/kechi", "pages/*"),
    ("/srv/www", "*/shared"),
    ("/etc", "kechi"),
)
DIRECTORY = "directory"

Snapshot = Mapping[str, str]


def state(kind: str, mode: int, owner: str, group: str) -> str:
    """One path's state in a line; the kind of a file is its content's digest."""
    return f"{mode:04o} {owner} {group} {kind}"


def digest(content: bytes) -> str:
    """What stands for a file's content."""
    return hashlib.sha256(content).hexdigest()


def take(covered: Iterable[tuple[str, str]] = COVERED) -> dict[str, str]:
    """The state of all covered paths that are there."""
    paths = [path for folder, pattern in covered for path in Path(folder).glob(pattern)]
    return {str(path): _seen(path) for path in paths}


def _seen(path: Path) -> str:
    status = path.lstat()
    mode = stat.S_IMODE(status.st_mode)
    if stat.S_ISDIR(status.st_mode):
        kind = DIRECTORY
    elif stat.S_ISREG(status.st_mode) and mode & stat.S_IROTH:
        kind = digest(path.read_bytes())
    elif stat.S_ISREG(status.st_mode):
        kind = "private"
    else:
        kind = "other"
    return state(kind, mode, _user(status.st_uid), _group(status.st_gid))


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def _group(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)


def shows(taken: Snapshot, directories: Iterable[Mapping[str, Any]],
          files: Iterable[Mapping[str, Any]], absent: Iterable[str]) -> bool:  # fmt: skip
    """Whether all of these are there, or not there, as wanted."""
    return (
        all(_is(taken, wanted, DIRECTORY, "0755") for wanted in directories)
        # a template of a number alone gives one
        and all(
            _is(taken, wanted, digest(str(wanted["content"]).encode()), "0644") for wanted in files
        )
        and all(path not in taken and _is_covered(path) for path in absent)
    )


def _is(taken: Snapshot, wanted: Mapping[str, Any], kind: str, mode: str) -> bool:
    try:
        bits = int(str(wanted.get("mode") or mode), 8)
    except ValueError:  # a symbolic one
        return False
    owner, group = (str(wanted.get(name) or "root") for name in ("owner", "group"))
    return taken.get(str(wanted["path"])) == state(kind, bits, owner, group)


def _is_covered(path: str) -> bool:
    """Whether it would be in a snapshot if it were there."""
    return any(PurePosixPath(path).match(f"{folder}/{pattern}") for folder, pattern in COVERED)
