"""Build the images localhost/kechi-debian:12 and :13, when they are not current already.

    $ python3 -m containers.build 12 13
    $ KECHI_TARGET=debian:testing python3 -m containers.build
    $ KECHI_TARGET=ubuntu:24.04 python3 -m containers.build

Of each release a bare one, and localhost/kechi-debian:12-preinstalled on top of it, which has what
the roles install on most machines. The base comes from a registry, or is made by mmdebstrap from
the distribution's package mirror, which needs root and no registry; ``KECHI_BASE_FROM=registry`` or
``=mirror`` overrides the choice. An image is current while its recipe, the host's extra authorities
and the calendar week are the same.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from . import engine
from .machines import TARGET

HERE = Path(__file__).parent
ROOT = HERE.parent
RECIPE = ("Containerfile", "setup.sh", "trust.py")
PREINSTALLED = ("Containerfile", "install.sh")  # of the directory of that name
# Debian's by their number alone
SUITES = {"12": "bookworm", "13": "trixie", "testing": "testing", "ubuntu:24.04": "noble"}
RELEASES = ("12", "13")  # that the scenarios' inventories name
DEBIAN = "debian"
OPTIONS = {
    # the index of testing is valid for a week, and a mirror may be behind; in the image it stays so
    "testing": ('--aptopt=Acquire::Check-Valid-Until "false"',),
    "ubuntu:24.04": ("--components=main,universe",),
}
KEYRINGS = {"ubuntu:24.04": Path("/usr/share/keyrings/ubuntu-archive-keyring.gpg")}
SOURCES = ("registry", "mirror")
KEY = "kechi.vps.key"  # the label that says what an image was made from


class BuildError(Exception):
    """An image could not be built; the message holds the failing command's output."""


def target(release: str) -> str:
    """A release as KECHI_TARGET has it."""
    return release if ":" in release else f"{DEBIAN}:{release}"


def image(release: str) -> str:
    """Name the image of a release."""
    return f"localhost/kechi-{target(release)}"


def preinstalled_image(release: str) -> str:
    """Name the image of a machine that has been set up before."""
    return f"{image(release)}-preinstalled"


def base_image(release: str) -> str:
    """Name the bare system that a release's image is built on."""
    return f"localhost/kechi-base:{release.replace(':', '-')}"


def source(environ: Mapping[str, str], *, root: bool, mmdebstrap: bool) -> str:
    """Say where the base comes from: "registry" or "mirror". Raises BuildError."""
    wanted = environ.get("KECHI_BASE_FROM")
    if not wanted:
        return "mirror" if root and mmdebstrap else "registry"
    if wanted not in SOURCES:
        raise BuildError(f'KECHI_BASE_FROM="{wanted}" is not one of: {", ".join(SOURCES)}')
    if wanted == "mirror" and not mmdebstrap:
        raise BuildError("no mmdebstrap on PATH: sudo apt-get install mmdebstrap")
    return wanted


def wanted_releases(environ: Mapping[str, str]) -> list[str]:
    """The releases whose images the scenarios need. Raises BuildError."""
    wanted = environ.get(TARGET)
    if not wanted:
        return list(RELEASES)
    known = {target(release): release for release in SUITES}
    if wanted not in known:
        raise BuildError(f'{TARGET}="{wanted}" is not one of: {", ".join(known)}')
    return [known[wanted]]


def content_key(parts: list[bytes]) -> str:
    """Digest everything that an image is made from."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()[:16]


def role_defaults(role: str) -> dict[str, Any]:
    """The defaults of a role's variables."""
    text = (ROOT / "roles" / role / "defaults" / "main.yml").read_text(encoding="utf-8")
    return dict(yaml.safe_load(text))


def preinstalled_requirements() -> dict[str, str]:
    """What is installed by Python's tools, as files of requirements: uv itself, and by uv."""
    pools = role_defaults("vhost_app")
    wanted = [*pools["vhost_app_server_requirements"]]
    for file in sorted(ROOT.glob("examples/*/requirements.txt")):
        wanted += file.read_text(encoding="utf-8").split()
    wanted += role_defaults("crawlers")["crawlers_requirements"]
    return {
        "uv.txt": f"{pools['vhost_app_uv_requirement']}\n",
        "requirements.txt": "".join(f"{one}\n" for one in wanted),
    }


class Builder:
    """Builds images with one plan, one choice of source and one week."""

    def __init__(self, plan: engine.Plan, base_from: str, week: str) -> None:
        self.plan = plan
        self.base_from = base_from
        self.week = week
        self.authorities = Path(plan.ca_bundle).read_bytes() if plan.ca_bundle else b""

    def build(self, release: str, *, preinstalled: bool) -> None:
        """Build one release's images unless they are current. Raises BuildError."""
        recipe = {name: (HERE / name).read_bytes() for name in RECIPE}
        recipe["host-ca.pem"] = self.authorities
        about = [self.base_from.encode(), self.week.encode()]
        key = content_key([*recipe.values(), *about])
        if self._key_of(image(release)) == key:
            _say(f"{image(release)} is current")
        else:
            _say(f"{image(release)}: building, base from a {self.base_from}")
            if self.base_from == "registry":
                self._pull_base(release)
            elif self._key_of(base_image(release)) != self.week:
                self._make_base(release)
            self._build_image(image(release), base_image(release), recipe, key)
        if not preinstalled:
            return
        more = {name: (HERE / "preinstalled" / name).read_bytes() for name in PREINSTALLED}
        more |= {name: text.encode() for name, text in preinstalled_requirements().items()}
        key = content_key([key.encode(), *more.values()])
        if self._key_of(preinstalled_image(release)) == key:
            _say(f"{preinstalled_image(release)} is current")
        else:
            _say(f"{preinstalled_image(release)}: building")
            self._build_image(preinstalled_image(release), image(release), more, key)

    def _build_image(self, name: str, base: str, files: Mapping[str, bytes], key: str) -> None:
        """Build an image of a Containerfile and what that copies."""
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="kechi-build-") as context:
            for file, content in files.items():
                Path(context, file).write_bytes(content)
            command = [*self.plan.command, "build", *self.plan.build_flags]
            command += [f"--build-arg=BASE={base}", f"--label={KEY}={key}", f"--tag={name}"]
            _run([*command, context])
        _say(f"{name}: built in {time.monotonic() - began:.0f} s")

    def _pull_base(self, release: str) -> None:
        pulled = f"docker.io/library/{target(release)}"
        ours = self._key_of(pulled) is None
        try:
            _run([*self.plan.command, "pull", pulled])
        except BuildError as error:
            raise BuildError(
                f"{error}\nto do without a registry, be root and set KECHI_BASE_FROM=mirror"
            ) from error
        _run([*self.plan.command, "tag", pulled, base_image(release)])
        if ours:
            # removes a name only: what was not here before goes away with base_image()
            _run([*self.plan.command, "rmi", pulled])

    def _make_base(self, release: str) -> None:
        keyring = KEYRINGS.get(release)
        if keyring and not keyring.is_file():
            raise BuildError(
                f"no {keyring}, by which mmdebstrap knows the archive of {target(release)}: Ubuntu"
                " has it in ubuntu-keyring; or, with a registry, set KECHI_BASE_FROM=registry"
            )
        with tempfile.TemporaryDirectory(prefix="kechi-base-", dir="/var/tmp") as directory:
            tar = f"{directory}/base.tar"
            unread = ("man", "locale", "doc", "info")
            try:
                _run(
                    ["mmdebstrap", "--quiet", "--format=tar", "--variant=minbase"]
                    + [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in unread]
                    + ["--dpkgopt=force-unsafe-io", *OPTIONS.get(release, ()), SUITES[release], tar]
                )
            except BuildError as error:
                raise BuildError(
                    f"{error}\nno {target(release)} could be made from its mirror; with a registry,"
                    " set KECHI_BASE_FROM=registry"
                ) from error
            change = f"--change=LABEL {KEY}={self.week}"
            _run([*self.plan.command, "import", change, tar, base_image(release)])

    def _key_of(self, name: str) -> str | None:
        template = f'{{{{ index .Config.Labels "{KEY}" }}}}'
        command = [*self.plan.command, "image", "inspect", name, "--format", template]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else None


def _say(line: str) -> None:
    print(line + "\n", end="", flush=True)  # one write, as two threads print


def _run(command: list[str]) -> None:
    done = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        umask=0o022,  # what is private here must not be so inside
    )
    if done.returncode:
        raise BuildError(f"{done.stdout}\n`{' '.join(command)}` failed")


def build(releases: list[str], *, preinstalled: bool = False) -> None:
    """Build the images of these releases, side by side. Raises BuildError, EngineError.

    Args:
        releases: of Debian by their number, of others as KECHI_TARGET has them.
        preinstalled: the machines that have been set up before as well.
    """
    unknown = [release for release in releases if release not in SUITES]
    if unknown:
        raise BuildError(f'release "{unknown[0]}" is not one of: {", ".join(SUITES)}')
    base_from = source(
        os.environ, root=os.geteuid() == 0, mmdebstrap=shutil.which("mmdebstrap") is not None
    )
    builder = Builder(engine.plan(), base_from, time.strftime("%G-W%V"))
    with ThreadPoolExecutor(len(releases)) as pool:
        list(pool.map(partial(builder.build, preinstalled=preinstalled), releases))


def remove(plan: engine.Plan) -> list[str]:
    """Remove all that was built here, and name the images that a container still uses."""
    template = "{{.ID}} {{.Repository}}:{{.Tag}}"
    labelled = [*plan.command, "images", f"--filter=label={KEY}", f"--format={template}"]
    listed = subprocess.run(labelled, capture_output=True, text=True, check=True)
    kept = []
    for line in dict.fromkeys(listed.stdout.splitlines()):
        identity, _, name = line.partition(" ")
        shown = identity if "<none>" in name else name
        command = [*plan.command, "rmi", shown]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            kept.append(shown)
    for base in map(base_image, SUITES):  # one from a registry has no label
        subprocess.run([*plan.command, "rmi", base], capture_output=True, check=False)
    return kept


def main() -> int:
    """Run as a command: the arguments are releases."""
    try:
        build(sys.argv[1:] or wanted_releases(os.environ), preinstalled=True)
    except (BuildError, engine.EngineError) as error:
        print(f"containers.build: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
