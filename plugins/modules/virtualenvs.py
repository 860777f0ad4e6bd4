#!/usr/bin/python
"""Virtualenvs that are named by what is in them, so that another requirement makes another one."""

from __future__ import annotations

DOCUMENTATION = """
module: virtualenvs
short_description: Make virtualenvs for releases, each by the digest of its requirements
version_added: 0.1.0
description:
  - A virtualenv is C(FOLDER/DIGEST), and the digest is of the requirements, of the releases'
    requirement files (and those that they include) and wheels, and of the interpreter. What is in
    one that is there never changes - a running generation goes on with its own, and a rollback
    finds it.
  - What is installed may run code of strangers, as a package's build does. So an installer runs as
    the user C(kechi-build), which is made where it is not there, in a pool's sandbox, with the
    virtualenv alone and a cache of its folder to write to. Then the virtualenv is given to root.
  - Requirements that this collection pins are installed with their hashes (C(--require-hashes)),
    but from a wheel house, whose files are the administrator's.
  - Equal files of uv's virtualenvs are hard links, on the disk and in memory. Its cache keeps what
    was built here, and no wheel that can be had again.
  - The mark that it is whole is written last. What an interrupted run left is made anew.
  - In check mode, releases that have not been published yet are not looked at.
options:
  virtualenvs:
    description: The virtualenvs.
    type: list
    elements: dict
    required: true
    suboptions:
      folder:
        description: The directory that they are made in.
        type: path
        required: true
      requirements:
        description: Requirements, as pip takes them.
        type: list
        elements: str
        default: []
      releases:
        description: Releases on the target, whose C(requirements.txt) and wheel go in.
        type: list
        elements: path
        default: []
      group:
        description: >-
          The group that alone may read the folder's virtualenvs, besides root, and in which
          C(kechi-build) is while it installs; everybody may where it is not given.
        type: str
        default: ""
      hidden:
        description: What of that group C(kechi-build) gets no sight of all the same.
        type: list
        elements: path
        default: []
      keep:
        description: >-
          How many of the folder stay, those that were wanted last; all of them where it is not
          given, as with a pool's, which go with its release sets.
        type: int
  scripts:
    description: Programs for each virtualenv's C(bin), by their names, without the C(#!) line.
    type: dict
    default: {}
  installer:
    description: >-
      C(uv), or C(pip). uv is installed first where it is not there; where it can't be, pip is used.
    type: str
    choices: [uv, pip]
    default: uv
  uv:
    description: Which uv, as a requirement.
    type: str
    default: uv
  wheel_house:
    description: >-
      A directory of wheels on the target. With it nothing is asked of an index.
    type: path
  build:
    description: >-
      C(any) package, or C(wheels-only), so that no package's build runs at all. Requirement files
      with hashes, if all of them have some, are installed with C(--require-hashes).
    type: str
    choices: [any, wheels-only]
    default: any
  memory_max_mb:
    description: The memory in MB that an installer, and the builds that it starts, may take.
    type: int
    default: 512
  timeout_seconds:
    description: How long an installer may take for a virtualenv, builds and all.
    type: int
    default: 900
attributes:
  check_mode:
    support: full
    description: Says which virtualenvs would be made.
author: the kechi.vps authors (!UNKNOWN)
"""

EXAMPLES = """
- name: Make the pool's virtualenv
  kechi.vps.virtualenvs:
    virtualenvs:
      - folder: /srv/kechi/main/venvs
        requirements: [gunicorn]
        releases: [/srv/www/blog/releases/0123456789ab-cpython-311]
"""

RETURN = """
paths:
  description: The virtualenv of each folder.
  returned: always
  type: dict
filled:
  description: The virtualenvs that were made.
  returned: always
  type: list
  elements: str
restricted:
  description: The folders that others could read, and can no more.
  returned: always
  type: list
  elements: str
removed:
  description: Those that were too many.
  returned: always
  type: list
  elements: str
"""

import configparser
import hashlib
import os
import re
import shutil
import stat
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import access, bounded, building, pins, play_lock

PYTHON = "/usr/bin/python3"
MARK = "kechi-requirements.digest"
REQUIREMENTS = "requirements.txt"
OWN_REQUIREMENTS = "kechi-requirements.txt"
OWN_PINS = "kechi-requirements.lock"  # the same with hashes, and all that they need
WHEELS = ".wheel/*.whl"
TOOLS = Path("/var/lib/kechi/tools")  # a virtualenv of the installers
UV = TOOLS / "bin" / "uv"
CACHE = Path("/var/cache/kechi/builds")
FORMER_CACHE = Path("/var/cache/kechi/uv")  # of version 0.1: root's, and of all pools
PIP_CONFIGURATION = "/etc/pip.conf"
AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")
NAME = re.compile(r"^[0-9a-f]{12}$")
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC  # flags of open(2)
INCLUDED = re.compile(r"^\s*(?:-r|--requirement|-c|--constraint)[ =]?\s*(\S+)", re.MULTILINE)


def requirement_files(file: Path, top: Path, seen: frozenset[Path] = frozenset()) -> Iterator[Path]:
    """A requirement file and those that it includes, of one release.

    What lies elsewhere root does not open for an app: the installer does, as `kechi-build`.
    """
    if not file.is_file() or file in seen or not file.resolve().is_relative_to(top.resolve()):
        return
    yield file
    for name in INCLUDED.findall(file.read_text(encoding="utf-8", errors="replace")):
        yield from requirement_files(file.parent / name, top, seen | {file})


def ingredients(releases: list[str]) -> list[Path]:
    """The files of releases that decide what is in their virtualenv."""
    found: list[Path] = []
    for release in map(Path, releases):
        found += requirement_files(release / REQUIREMENTS, release)
        found += sorted(release.glob(WHEELS))
    return found


def digest(requirements: list[str], contents: list[bytes]) -> str:
    """What a virtualenv's content depends on."""
    sum_ = hashlib.sha256(sys.version.encode())
    for content in [*(line.encode() for line in requirements), *contents]:
        sum_.update(f"{len(content)}\0".encode())
        sum_.update(content)
    return sum_.hexdigest()[:12]


def is_whole(path: Path) -> bool:
    """Whether a virtualenv has been filled to its end, and its interpreter is still there."""
    return (path / MARK).is_file() and (path / "bin" / "python").exists()


def others(path: Path) -> list[Path]:
    """The virtualenvs beside one, whole or not; the one that was wanted last comes first."""
    beside = (one for one in path.parent.glob("*") if NAME.match(one.name) and one != path)
    return sorted(beside, key=lambda one: one.stat().st_mtime, reverse=True)


def what(wanted: dict[str, Any], own: Path) -> list[list[str]]:
    """What an installer is told to put into a virtualenv, call by call.

    Ours are installed with their hashes where there is a file of these beside theirs, and where the
    requirements of all apps have hashes, nothing else may come with them.

    Args:
        wanted: its releases, and the requirements of ours.
        own: the file that has the latter.
    """
    ours = ["--requirement", str(own)] if wanted["requirements"] else []
    pinned_ours = own.with_name(OWN_PINS)
    theirs = []
    wheels: list[str] = []
    for release in map(Path, wanted["releases"]):
        if (release / REQUIREMENTS).is_file():
            theirs += ["--requirement", str(release / REQUIREMENTS)]
        wheels += map(str, sorted(release.glob(WHEELS)))
    if pinned_ours.is_file():
        calls = [["--require-hashes", "--requirement", str(pinned_ours)]]
        if pinned(wanted["releases"]) and not wheels:
            calls += [["--require-hashes", *theirs]]
        elif theirs or wheels:  # whose requirements must not replace ours
            calls += [["--constraint", str(own), *theirs, *wheels]]
    elif pinned(wanted["releases"]) and not wheels:
        calls = [ours, ["--require-hashes", *theirs]]
    else:
        calls = [[*ours, *theirs, *wheels]]
    return [words for words in calls if words]


def index(configuration: str) -> dict[str, str]:
    """The indexes of pip's configuration, for uv, which does not read that."""
    pip = configparser.RawConfigParser()
    try:
        pip.read(configuration)
    except configparser.Error:
        return {}  # pip says so itself
    names = {"index-url": "UV_DEFAULT_INDEX", "extra-index-url": "UV_INDEX"}
    found = {to: pip.get("global", name, fallback="") for name, to in names.items()}
    return {name: " ".join(value.split()) for name, value in found.items() if value}


def pinned(releases: list[str]) -> bool:
    """Whether all requirement files of releases have hashes, so that nothing else may come."""
    files = [release / REQUIREMENTS for release in map(Path, releases)]
    texts = [file.read_text(encoding="utf-8", errors="replace") for file in files if file.is_file()]
    return bool(texts) and all("--hash=" in text for text in texts)


class Installer:
    """uv or pip, from a virtualenv of their own; made when it is first needed."""

    def __init__(self, module: AnsibleModule, builder: building.Builder) -> None:
        self._module, self.builder = module, builder
        house = module.params["wheel_house"]
        self._offline = ["--no-index", f"--find-links={house}"] if house else []
        self._options = ["--only-binary=:all:"] if module.params["build"] == "wheels-only" else []
        self._has_uv: bool | None = None

    def install(self, path: Path, words: list[str], reader: building.Reader) -> None:
        """Install into a virtualenv, compiled, by who may read the releases. Raises BuildError."""
        if self._has_uv is None:
            self._has_uv = self._prepare()
        python = f"--python={path / 'bin' / 'python'}"
        options = [*self._options, *self._offline]
        if self._has_uv:
            with self._cache(path) as cache:
                command = [str(UV), "pip", "install", "--quiet", "--compile-bytecode", python]
                self.builder.run(
                    [*command, *options, *words],
                    writable=[path, cache],
                    environment=self._uv_environment(cache),
                    network=True,
                    reader=reader,
                )
                self._prune_cache(cache)
        else:
            command = [*self._pip(), python, "install", "--quiet"]
            self.builder.run(
                [*command, *options, *words], writable=[path], network=True, reader=reader
            )

    def link(self, path: Path) -> None:
        """Have a virtualenv that is root's share its files with all others, where uv made it."""
        if not self._has_uv:
            return  # pip's compiled files tell by times whether they are current
        for other in sorted(path.parent.parent.parent.glob(f"*/{path.parent.name}/*")):
            if NAME.match(other.name) and other != path:
                link_equal_files(path, other)

    def _prepare(self) -> bool:
        """Have the tools; says whether uv is among them."""
        wanted = self._module.params["uv"]
        if not (TOOLS / "bin" / "pip").exists() or not (TOOLS / "bin" / "python").exists():
            shutil.rmtree(TOOLS, ignore_errors=True)
            TOOLS.mkdir(parents=True)
            with self.builder.workshop(TOOLS):
                self.builder.run([PYTHON, "-m", "venv", str(TOOLS)], writable=[TOOLS])
        if self._module.params["installer"] != "uv":
            return False
        mark = TOOLS / "uv.requirement"
        if mark.is_file() and mark.read_text() == wanted and UV.exists():
            return True
        command = [*self._pip(), "install", "--quiet", "--only-binary=:all:", *self._offline]
        lines = [] if self._offline else pins.locked([wanted])
        words = ["--require-hashes", "--requirement", str(TOOLS / OWN_PINS)] if lines else [wanted]
        try:
            if lines:
                building.write(TOOLS, OWN_PINS, "".join(f"{line}\n" for line in lines))
            with self.builder.workshop(TOOLS):
                self.builder.run([*command, *words], writable=[TOOLS], network=True)
        except building.BuildError as error:
            if not self._offline:  # in a wheel house it is nobody's duty to have it
                self._module.warn(f"{wanted} can't be installed, so pip is used: {error}")
            return False
        building.write(TOOLS, mark.name, wanted)
        return True

    @contextmanager
    def _cache(self, path: Path) -> Iterator[Path]:
        """The cache of a folder's virtualenvs: root's when it rests, as all builds have one user.

        So another pool's build reaches it neither to write nor to read.
        """
        cache = CACHE / hashlib.sha256(str(path.parent).encode()).hexdigest()[:12]
        cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        for one in CACHE.iterdir():  # a run that was cut off may have left another one
            self.builder.disown(one)
        self.builder.own(cache)
        try:
            yield cache
        finally:
            self.builder.disown(cache)

    def _prune_cache(self, cache: Path) -> None:
        """Keep what was built here alone; that it can't be is no failure."""
        with suppress(building.BuildError):
            self.builder.run(
                [str(UV), "cache", "prune", "--ci", "--quiet"],
                writable=[cache],
                environment=self._uv_environment(cache),
            )

    @staticmethod
    def _uv_environment(cache: Path) -> dict[str, str]:
        certificates = {"SSL_CERT_FILE": str(AUTHORITIES)} if AUTHORITIES.is_file() else {}
        return {
            "UV_CACHE_DIR": str(cache),
            "UV_PYTHON_DOWNLOADS": "never",
            # a later build could write to what is linked to its cache
            "UV_LINK_MODE": "copy",
            "PYC_INVALIDATION_MODE": "UNCHECKED_HASH",
            **certificates,
            **index(PIP_CONFIGURATION),
        }

    @staticmethod
    def _pip() -> list[str]:
        # what pip keeps for another time, it keeps for ever
        return [str(TOOLS / "bin" / "pip"), "--no-input", "--disable-pip-version-check",
                "--no-cache-dir"]  # fmt: skip


def link_equal_files(new: Path, old: Path) -> None:
    """Make hard links of the files of a virtualenv that another one has, too. Both are root's."""
    with ExitStack() as opened:
        folders = [os.open(path, FOLDER) for path in (new, old)]
        for folder in folders:
            opened.callback(os.close, folder)
        _link_equal(folders[0], folders[1])


def _link_equal(new: int, old: int) -> None:
    for name in os.listdir(new):
        status = os.stat(name, dir_fd=new, follow_symlinks=False)
        try:
            other = os.stat(name, dir_fd=old, follow_symlinks=False)
        except FileNotFoundError:
            continue
        same_kind = (status.st_mode, status.st_uid) == (other.st_mode, other.st_uid)
        if same_kind and stat.S_ISDIR(status.st_mode):
            with ExitStack() as opened:
                folders = [os.open(name, FOLDER, dir_fd=folder) for folder in (new, old)]
                for folder in folders:
                    opened.callback(os.close, folder)
                _link_equal(folders[0], folders[1])
        elif (
            same_kind
            and stat.S_ISREG(status.st_mode)
            and status.st_size == other.st_size > 0
            and status.st_ino != other.st_ino
            and _content(name, new) == _content(name, old)
        ):
            with suppress(OSError):  # another file system, or too many links
                os.link(name, f".{name}.link", src_dir_fd=old, dst_dir_fd=new)
                os.rename(f".{name}.link", name, src_dir_fd=new, dst_dir_fd=new)


def _content(name: str, folder: int) -> bytes:
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    with open(descriptor, "rb") as file:  # noqa: PTH123
        return hashlib.file_digest(file, "sha256").digest()


def fill(module: AnsibleModule, installer: Installer, path: Path, wanted: dict[str, Any]) -> None:
    """Make one virtualenv; the mark comes last. A failure leaves nothing."""
    builder = installer.builder
    own = path / OWN_REQUIREMENTS
    shutil.rmtree(path, ignore_errors=True)  # what an interrupted run left
    try:
        builder.make_user()
        path.mkdir(parents=True)
        restrict(path.parent, wanted["group"])
        own.write_text("".join(f"{line}\n" for line in wanted["requirements"]), encoding="utf-8")
        # what is in a wheel house is the administrator's, and may have been built there
        if not module.params["wheel_house"] and (lines := pins.locked(wanted["requirements"])):
            own.with_name(OWN_PINS).write_text("".join(f"{line}\n" for line in lines))
        with builder.workshop(path):
            reader = building.Reader(wanted["group"], tuple(wanted["hidden"]))
            command = [PYTHON, "-m", "venv", "--without-pip", str(path)]
            builder.run(command, writable=[path], reader=reader)
            for words in what(wanted, own):
                installer.install(path, words, reader)
        installer.link(path)
        for name, text in module.params["scripts"].items():
            building.write(path / "bin", name, f"#!{path}/bin/python -I\n{text}", 0o755)
        building.write(path, MARK, f"{path.name}\n")
    except (OSError, building.BuildError, access.AccessError) as error:
        shutil.rmtree(path, ignore_errors=True)
        module.fail_json(
            msg=f"{path.parent.parent.name}: the virtualenv could not be filled, and nothing else"
            f" has changed: {error}"
        )


def is_restricted(folder: Path, group: str) -> bool:
    """Whether others than a group are kept out of a folder, if it is there, and they are to be."""
    if not group or not folder.is_dir():
        return True
    try:
        return not access.differs(folder, access.group_id(group), access.PRIVATE)
    except access.AccessError:
        return False


def restrict(folder: Path, group: str) -> None:
    """Keep others than a group out of a folder. Raises AccessError."""
    if group and folder.is_dir():
        access.give(folder, access.group_id(group), access.PRIVATE)


def prune(path: Path, keep: int, *, check: bool) -> list[Path]:
    """Remove, or only name, those beside a virtualenv that are too many."""
    beside = others(path)
    old = beside[keep - 1 :]
    if not check:
        if beside and beside[0].stat().st_mtime > path.stat().st_mtime:
            os.utime(path)  # wanted again, and not the next to go
        for one in old:
            shutil.rmtree(one)
    return old


def main() -> None:
    """Name each virtualenv by its digest; make those that are not there."""
    module = AnsibleModule(
        argument_spec={
            "virtualenvs": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "folder": {"type": "path", "required": True},
                    "requirements": {"type": "list", "elements": "str", "default": []},
                    "releases": {"type": "list", "elements": "path", "default": []},
                    "group": {"type": "str", "default": ""},
                    "hidden": {"type": "list", "elements": "path", "default": []},
                    "keep": {"type": "int"},
                },
            },
            "scripts": {"type": "dict", "default": {}},
            "installer": {"type": "str", "choices": ["uv", "pip"], "default": "uv"},
            "uv": {"type": "str", "default": "uv"},
            "wheel_house": {"type": "path"},
            "build": {"type": "str", "choices": ["any", "wheels-only"], "default": "any"},
            "memory_max_mb": {"type": "int", "default": 512},
            "timeout_seconds": {"type": "int", "default": 900},
        },
        supports_check_mode=True,
    )
    play_lock.at_work(module)
    os.umask(0o022)
    scripts = [f"{name}\n{text}" for name, text in sorted(module.params["scripts"].items())]
    limits = (module.params["memory_max_mb"], module.params["timeout_seconds"])
    installer = Installer(module, building.Builder(bounded.run, *limits))
    paths = {}
    filled = []
    removed: list[str] = []
    restricted = []
    for wanted in module.params["virtualenvs"]:
        contents = [file.read_bytes() for file in ingredients(wanted["releases"])]
        own = pins.locked(wanted["requirements"]) or wanted["requirements"]
        name = digest([*own, *scripts], contents)
        path = Path(wanted["folder"]) / name
        paths[wanted["folder"]] = str(path)
        unpublished = not all(map(os.path.isdir, wanted["releases"]))
        if not is_whole(path) and not (module.check_mode and unpublished):
            filled.append(str(path))
            if not module.check_mode:
                fill(module, installer, path, wanted)
        if not is_restricted(path.parent, wanted["group"]):
            restricted.append(wanted["folder"])
            if not module.check_mode:
                restrict(path.parent, wanted["group"])
        if wanted["keep"]:
            removed += map(str, prune(path, wanted["keep"], check=module.check_mode))
    if filled and not module.check_mode:
        shutil.rmtree(FORMER_CACHE, ignore_errors=True)
    module.exit_json(
        changed=bool(filled or removed or restricted),
        filled=filled,
        removed=removed,
        restricted=restricted,
        paths=paths,
    )


if __name__ == "__main__":
    main()
