"""Build the disks that virtual machines start from, when they are not current already.

    $ python3 -m vms.build 12 13

A disk is a Debian by mmdebstrap, in an ext4 file system; beside it are its kernel, and the key that
opens all machines. It is current while its recipe, the key, this machine's extra authorities and
the calendar week are the same. All is kept in the user's cache, for all checkouts.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from containers import engine
from containers.build import RELEASES, SUITES, content_key

HERE = Path(__file__).parent
SETUP = HERE / "setup.sh"
TRUST = HERE.parent / "containers" / "trust.py"
# what a Debian of standard make has, and Debian's images for clouds beyond that
VARIANT = "important"
PACKAGES = (
    "btrfs-progs",  # this and xfsprogs: what providers install on other file systems
    "ca-certificates",
    "dbus",
    "libnss-myhostname",
    "linux-image-cloud-amd64",
    "openssh-server",
    "python3",
    "python3-apt",
    "sudo",
    "xfsprogs",
)
UNREAD = ("man", "locale", "doc", "info")
DISK_MB = 8192  # on this machine it takes what is written
TOOLS = {"mmdebstrap": "mmdebstrap", "mke2fs": "e2fsprogs", "ssh-keygen": "openssh-client"}


class BuildError(Exception):
    """An image could not be built; the message holds the failing command's output."""


def cache() -> Path:
    """Name the directory that images and machines are kept in."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "kechi-vms"


def private_key() -> Path:
    """Make the key that opens all machines, unless it is there. Raises BuildError."""
    path = cache() / "key"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with _alone():
            if not path.exists():
                _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "kechi", "-f", path)
    return path


def current(release: str) -> Path:
    """Name the directory of the image that there should be today. Raises BuildError."""
    if release not in RELEASES:
        raise BuildError(f'Debian "{release}" is not one of: {", ".join(RELEASES)}')
    recipe = [path.read_bytes() for path in (SETUP, TRUST, private_key().with_suffix(".pub"))]
    told = repr((VARIANT, PACKAGES, UNREAD, DISK_MB, time.strftime("%G-W%V")))
    key = content_key([*recipe, _authorities(), told.encode()])
    return cache() / "images" / f"debian-{release}-{key}"


def build(release: str) -> None:
    """Build a release's image unless it is current. Raises BuildError."""
    began = time.monotonic()
    image = current(release)
    with nullcontext() if image.exists() else _alone():
        if image.exists():
            _say(f"{image.name} is current")
            return
        _refuse_what_it_needs()
        _say(f"{image.name}: building")
        # the system's own place for large files that may be lost
        with tempfile.TemporaryDirectory(prefix="kechi-vm-", dir="/var/tmp") as directory:
            _make(release, image, Path(directory))
        _remove_old(release, image)
    _say(f"{image.name}: built in {time.monotonic() - began:.0f} s")


def _make(release: str, image: Path, directory: Path) -> None:
    setup, root, made = (directory / name for name in ("setup", "root", "made"))
    for folder in (setup, made):
        folder.mkdir()
    for source in (SETUP, TRUST):
        shutil.copy(source, setup)
    shutil.copy(private_key().with_suffix(".pub"), setup / "authorized_keys")
    (setup / "host-ca.pem").write_bytes(_authorities())
    _run(
        *("mmdebstrap", "--quiet", "--format=directory", f"--variant={VARIANT}"),
        *("--architectures=amd64", f"--include={','.join(PACKAGES)}"),
        *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in UNREAD),
        f"--customize-hook=cp -r {setup} $1/tmp/setup",
        "--customize-hook=chroot $1 sh /tmp/setup/setup.sh",
        *(SUITES[release], root),
    )
    for name, found in (("vmlinuz", "vmlinuz-*"), ("initrd", "initrd.img-*")):
        (file,) = (root / "boot").glob(found)
        shutil.copy(file, made / name)
    with (made / "disk").open("wb") as disk:
        disk.truncate(DISK_MB * 1024 * 1024)
    _run("mke2fs", "-q", "-t", "ext4", "-L", "root", "-d", root, made / "disk")
    image.parent.mkdir(exist_ok=True)
    part = image.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    _run("cp", "--recursive", "--sparse=always", made, part)
    part.rename(image)


def _refuse_what_it_needs() -> None:
    for tool, package in TOOLS.items():
        if not shutil.which(tool, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"):
            raise BuildError(f"no {tool} on PATH: sudo apt-get install {package}")
    if os.geteuid() != 0:
        raise BuildError("only root can build the disk of a virtual machine: sudo make vms")


def _remove_old(release: str, image: Path) -> None:
    """Remove the images of this release that no machine starts from."""
    used = {path.read_text() for path in (cache() / "machines").glob("*/image")}
    for folder in image.parent.glob(f"debian-{release}-*"):
        if folder != image and str(folder) not in used:
            shutil.rmtree(folder)


def _authorities() -> bytes:
    bundle = engine.ca_bundle(os.environ)
    return Path(bundle).read_bytes() if bundle else b""


@contextmanager
def _alone() -> Iterator[None]:
    """Hold off others that build."""
    cache().mkdir(parents=True, exist_ok=True)
    with (cache() / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # stdout is for what machines.py has to say


def _run(*command: str | Path) -> None:
    done = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        umask=0o022,  # what is private here must not be so inside
    )
    if done.returncode:
        raise BuildError(f"{done.stdout}\n`{' '.join(map(str, command))}` failed")


def main() -> int:
    """Run as a command: the arguments are Debian releases."""
    try:
        for release in sys.argv[1:] or RELEASES:
            build(release)
    except BuildError as error:
        print(f"vms.build: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
