"""Run ansible-test's sanity tests on the collection as it is published: `make sanity`.

The collection is built and unpacked where ansible-test wants it, ansible_collections/kechi/vps. The
tests have virtualenvs of their own, in the user's cache; their pip is the one that Python has, so
that nothing is needed but the package index. Python's packages beside the plugins are not of it:
ruff and mypy, strict, check them by rules of this project.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import ansible.release
from ansible_test._internal import python_requirements
from packaging.specifiers import SpecifierSet

from scripts.running import REPOSITORY

CONTENT = ("meta/", "playbooks/", "plugins/", "roles/")
IGNORED = REPOSITORY / "tests" / "sanity" / "ignore.txt"
WORK = REPOSITORY / ".cache" / "sanity"
PIP = "import ensurepip\nensurepip.bootstrap()\n"  # instead of a script from another server
REASON = " # "
FOR_RELEASES = re.compile(r"([<>=!~]=?[0-9.]+) ")


class SanityError(Exception):
    """The list of what is ignored is not as it should be."""


def ignored(lines: Iterable[str], there: Iterable[str], core: str) -> list[str]:
    """Read the list of what is ignored: a file, a test and a reason in each line.

    Raises SanityError.

    Args:
        lines: the list. A line may begin with the releases of ansible-core that it is for, as
            ``>=2.21``.
        there: the files of the collection.
        core: the release of ansible-core.
    """
    known = set(there)
    entries = []
    for number, line in enumerate(lines, 1):
        entry, _, reason = line.strip().partition(REASON)
        if not entry or entry.startswith("#"):
            continue
        if found := FOR_RELEASES.match(entry):
            if core not in SpecifierSet(found[1]):
                continue
            entry = entry[found.end() :]
        file, _, test = entry.partition(" ")
        if not test or not reason.strip():
            raise SanityError(f'line {number}, "{line.strip()}": FILE TEST{REASON}REASON is wanted')
        if file not in known:
            raise SanityError(f'line {number}: "{file}" is not in the collection')
        entries.append(f"{entry}{REASON}{reason}")
    return entries


def environment(environ: Mapping[str, str], home: Path) -> dict[str, str]:
    """The environment of the tests: a home of their own, and no settings of ours."""
    kept = {name: value for name, value in environ.items() if not name.startswith("ANSIBLE_")}
    scripts = sysconfig.get_path("scripts")
    return {**kept, "HOME": str(home), "PATH": f"{scripts}{os.pathsep}{environ.get('PATH', '')}"}


def unpack() -> Path:
    """Build the collection and unpack it; returns its directory."""
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    subprocess.run(
        ["ansible-galaxy", "collection", "build", "--output-path", WORK],
        cwd=REPOSITORY,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    (built,) = WORK.glob("*.tar.gz")
    collection = WORK / "ansible_collections" / "kechi" / "vps"
    with tarfile.open(built) as tar:
        tar.extractall(collection, filter="data")
    # without it, ansible-test asks git about the repository around, which ignores all of this
    subprocess.run(["git", "init", "--quiet"], cwd=collection, check=True)
    return collection


def main() -> int:
    """Run the tests; returns ansible-test's exit code."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    core = ".".join(ansible.release.__version__.split(".")[:2])
    collection = unpack()
    there = (str(path.relative_to(collection)) for path in collection.rglob("*"))
    try:
        entries = ignored(IGNORED.read_text(encoding="utf-8").splitlines(), there, core)
    except SanityError as error:
        print(f"{IGNORED.relative_to(REPOSITORY)}, {error}", file=sys.stderr)
        return 1
    listed = collection / "tests" / "sanity" / f"ignore-{core}.txt"
    listed.parent.mkdir(parents=True)
    listed.write_text("".join(f"{entry}\n" for entry in entries), encoding="utf-8")
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    home = caches / "kechi-sanity"  # not in the checkout: a path in a script's first line is short
    packages = python_requirements.get_venv_packages(_Python(version))
    pip = home / f".ansible/test/cache/get_pip_{packages['pip'].replace('.', '_')}.py"
    pip.parent.mkdir(parents=True, exist_ok=True)
    pip.write_text(PIP, encoding="utf-8")
    command = ["ansible-test", "sanity", "--local", f"--python={version}", *CONTENT, *sys.argv[1:]]
    environ = environment(os.environ, home)
    return subprocess.run(command, cwd=collection, env=environ, check=False).returncode


class _Python:
    """What ansible-test asks of a Python, to tell the version of pip for it."""

    def __init__(self, version: str) -> None:
        self.version = version


if __name__ == "__main__":
    sys.exit(main())
