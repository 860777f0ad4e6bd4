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
  - uv links files from its cache, so that virtualenvs have them in common, on the disk and in
    memory. What no virtualenv has any more leaves the cache when one was made.
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
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

PYTHON = "/usr/bin/python3"
MARK = "kechi-requirements.digest"
REQUIREMENTS = "requirements.txt"
WHEELS = ".wheel/*.whl"
TOOLS = Path("/var/lib/kechi/tools")  # a virtualenv of the installers
CACHE = Path("/var/cache/kechi/uv")
ARCHIVES = "archive-v*/*"  # of the cache: each an unpacked wheel
PIP_CONFIGURATION = "/etc/pip.conf"
AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")
NAME = re.compile(r"^[0-9a-f]{12}$")
INCLUDED = re.compile(r"^\s*(?:-r|--requirement|-c|--constraint)[ =]?\s*(\S+)", re.MULTILINE)


def requirement_files(file: Path, seen: frozenset[Path] = frozenset()) -> Iterator[Path]:
    """A requirement file and those that it includes."""
    if not file.is_file() or file in seen:
        return
    yield file
    for name in INCLUDED.findall(file.read_text(encoding="utf-8", errors="replace")):
        yield from requirement_files(file.parent / name, seen | {file})


def ingredients(releases: list[str]) -> list[Path]:
    """The files of releases that decide what is in their virtualenv."""
    found: list[Path] = []
    for release in map(Path, releases):
        found += requirement_files(release / REQUIREMENTS)
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


def what(wanted: dict[str, Any]) -> list[str]:
    """What an installer is told to put into a virtualenv."""
    words = list(wanted["requirements"])
    for release in map(Path, wanted["releases"]):
        if (release / REQUIREMENTS).is_file():
            words += ["--requirement", str(release / REQUIREMENTS)]
        words += map(str, sorted(release.glob(WHEELS)))
    return words


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


def unused(cache: Path) -> list[Path]:
    """The unpacked wheels of uv's cache that no virtualenv has a file in common with.

    Between two file systems uv copies, so that it is all of them.
    """

    def is_shared(archive: Path) -> bool:
        files = (file for file in archive.rglob("*") if file.is_file())
        return any(file.stat(follow_symlinks=False).st_nlink > 1 for file in files)

    return [archive for archive in cache.glob(ARCHIVES) if not is_shared(archive)]


class Installer:
    """uv or pip, from a virtualenv of their own; made when it is first needed."""

    def __init__(self, module: AnsibleModule) -> None:
        self._module = module
        house = module.params["wheel_house"]
        self._offline = ["--no-index", f"--find-links={house}"] if house else []
        self._has_uv: bool | None = None

    def install(self, path: Path, words: list[str]) -> str:
        """Install into a virtualenv, compiled; returns what went wrong, "" for nothing."""
        if self._has_uv is None:
            self._has_uv = self._prepare()
        python = str(path / "bin" / "python")
        if self._has_uv:
            command = [str(TOOLS / "bin" / "uv"), "pip", "install", "--quiet", "--compile-bytecode",
                       f"--python={python}"]  # fmt: skip
            certificates = {"SSL_CERT_FILE": str(AUTHORITIES)} if AUTHORITIES.is_file() else {}
            own = {"UV_CACHE_DIR": str(CACHE), "UV_PYTHON_DOWNLOADS": "never", **certificates}
            environment = {**own, **index(PIP_CONFIGURATION)}
        else:
            command = [*self._pip(), f"--python={python}", "install", "--quiet"]
            environment = {}
        rc, out, err = self._module.run_command(
            [*command, *self._offline, *words], environ_update=environment
        )
        return (err or out).strip() if rc else ""

    def trim(self) -> None:
        """Remove from uv's cache what is of no use any more; that it can't be is no failure."""
        if not self._has_uv:
            return
        for archive in unused(CACHE):
            shutil.rmtree(archive, ignore_errors=True)
        command = [str(TOOLS / "bin" / "uv"), "cache", "prune", "--quiet"]
        self._module.run_command(command, environ_update={"UV_CACHE_DIR": str(CACHE)})

    def _prepare(self) -> bool:
        """Have the tools; says whether uv is among them."""
        wanted = self._module.params["uv"]
        if not (TOOLS / "bin" / "pip").exists() or not (TOOLS / "bin" / "python").exists():
            self._module.run_command([PYTHON, "-m", "venv", "--clear", str(TOOLS)], check_rc=True)
        if self._module.params["installer"] != "uv":
            return False
        mark = TOOLS / "uv.requirement"
        if mark.is_file() and mark.read_text() == wanted and (TOOLS / "bin" / "uv").exists():
            return True
        rc, out, err = self._module.run_command(
            [*self._pip(), "install", "--quiet", *self._offline, wanted]
        )
        if rc:
            if not self._offline:  # in a wheel house it is nobody's duty to have it
                self._module.warn(f"{wanted} can't be installed, so pip is used: {err or out}")
            return False
        mark.write_text(wanted)
        return True

    @staticmethod
    def _pip() -> list[str]:
        # what pip keeps for another time, it keeps for ever
        return [str(TOOLS / "bin" / "pip"), "--no-input", "--disable-pip-version-check",
                "--no-cache-dir"]  # fmt: skip


def fill(module: AnsibleModule, installer: Installer, path: Path, wanted: dict[str, Any]) -> None:
    """Make one virtualenv; the mark comes last. A failure leaves nothing."""
    shutil.rmtree(path, ignore_errors=True)  # what an interrupted run left
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        rc, out, err = module.run_command([PYTHON, "-m", "venv", "--without-pip", str(path)])
        fault = f"{err or out}".strip() if rc else ""
        words = what(wanted)
        if words and not fault:
            fault = installer.install(path, words)
        if not fault:
            for name, text in module.params["scripts"].items():
                script = path / "bin" / name
                script.write_text(f"#!{path}/bin/python -I\n{text}", encoding="utf-8")
                script.chmod(0o755)
            (path / MARK).write_text(f"{path.name}\n")
    except OSError as error:
        fault = str(error)
    if fault:
        shutil.rmtree(path, ignore_errors=True)
        module.fail_json(
            msg=f"{path.parent.parent.name}: the virtualenv could not be filled, and nothing else"
            f" has changed: {fault}"
        )


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
                    "keep": {"type": "int"},
                },
            },
            "scripts": {"type": "dict", "default": {}},
            "installer": {"type": "str", "choices": ["uv", "pip"], "default": "uv"},
            "uv": {"type": "str", "default": "uv"},
            "wheel_house": {"type": "path"},
        },
        supports_check_mode=True,
    )
    os.umask(0o022)
    scripts = [f"{name}\n{text}" for name, text in sorted(module.params["scripts"].items())]
    installer = Installer(module)
    paths = {}
    filled = []
    removed: list[str] = []
    for wanted in module.params["virtualenvs"]:
        contents = [file.read_bytes() for file in ingredients(wanted["releases"])]
        name = digest([*wanted["requirements"], *scripts], contents)
        path = Path(wanted["folder"]) / name
        paths[wanted["folder"]] = str(path)
        unpublished = not all(map(os.path.isdir, wanted["releases"]))
        if not is_whole(path) and not (module.check_mode and unpublished):
            filled.append(str(path))
            if not module.check_mode:
                fill(module, installer, path, wanted)
        if wanted["keep"]:
            removed += map(str, prune(path, wanted["keep"], check=module.check_mode))
    if filled and not module.check_mode:
        installer.trim()
    changed = bool(filled or removed)
    module.exit_json(changed=changed, filled=filled, removed=removed, paths=paths)


if __name__ == "__main__":
    main()
