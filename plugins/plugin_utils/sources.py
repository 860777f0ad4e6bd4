"""Where an app's code comes from, as a directory of the control machine.

The target needs neither git nor keys: whatever the kind, it gets a tree. A repository is kept in a
cache; what a version means is found out once in a run, for all machines.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import archives

KINDS = ("source", "git", "archive", "wheel")
WHEEL_FOLDER = ".wheel"  # in a release: what the virtualenv installs
GIT_SECONDS = 600
KEPT_SECONDS = 86400
# nothing that a repository, or its owner's settings, could have run on the control machine
GIT_PROTOCOLS = "file:git:http:https:ssh"
GIT_SETTINGS = (
    f"core.hooksPath={os.devnull}",
    "core.fsmonitor=false",
    "fetch.recurseSubmodules=false",
)
# precedes the repository's own .gitattributes: files are sent as they were committed
GIT_ATTRIBUTES = "* -filter -ident -text -working-tree-encoding\n"
# as a hook of another repository has them set (git rev-parse --local-env-vars)
_GIT_OF_OTHERS = frozenset(
    {
        "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_COMMON_DIR", "GIT_DIR", "GIT_GRAFT_FILE",
        "GIT_IMPLICIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_NO_REPLACE_OBJECTS",
        "GIT_OBJECT_DIRECTORY", "GIT_PREFIX", "GIT_REPLACE_REF_BASE", "GIT_SHALLOW_FILE",
        "GIT_WORK_TREE",
    }
)  # fmt: skip
COMMIT = 40  # hex digits
SHORT = 12
# Ansible loads its plugins before it forks its workers: they all have the one of their run
RUN = uuid.uuid4().hex


class SourceError(Exception):
    """A source can't be had; the message says why."""


@dataclass(frozen=True)
class Found:
    """A tree on the control machine, where it goes inside the release, and what it is of.

    Its links may lead to what is in `links_within`.
    """

    path: Path
    inside: str = ""
    origin: str = ""
    links_within: Path | None = None


@contextmanager
def found(wanted: Mapping[str, Any], cache: Path) -> Iterator[Found]:
    """Have a source as a directory while the block runs; raises SourceError.

    Args:
        wanted: one of `source`, `git` with `version`, `archive`, `wheel`; and with `source`,
            `inside` and `links_within`.
        cache: where repositories stay for the next run.
    """
    if wanted.get("git"):
        commit = _commit(str(wanted["git"]), str(wanted["version"]), cache)
        version = str(wanted["version"])
        shown = version if commit.startswith(version) else f"{version} ({commit[:SHORT]})"
        yield Found(_exported(str(wanted["git"]), commit, cache), origin=f"git {shown}")
    elif wanted.get("archive"):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(wanted["archive"])
            yield Found(unpacked(path, Path(folder)), origin=path.name)
    elif wanted.get("wheel"):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(wanted["wheel"])
            if not path.is_file():
                raise SourceError(f"wheel {path} is no file on the control machine")
            shutil.copy(path, folder)
            yield Found(Path(folder), inside=WHEEL_FOLDER, origin=path.name)
    else:
        path = Path(wanted["source"])
        if not path.is_dir():
            raise SourceError(f"source {path} is no directory on the control machine")
        within = wanted.get("links_within")
        inside = str(wanted.get("inside") or "")
        yield Found(path, inside=inside, links_within=Path(within) if within else None)


def unpacked(archive: Path, folder: Path) -> Path:
    """Unpack a tar or zip file; returns the directory that is alone at its top, or the folder.

    Raises SourceError; nothing is written outside the folder.
    """
    try:
        archives.unpack(archive, folder)
    except (OSError, archives.ArchiveError) as error:
        raise SourceError(f"archive {archive} can't be unpacked: {error}") from error
    top = list(folder.iterdir())
    alone = len(top) == 1 and top[0].is_dir() and not top[0].is_symlink()
    return top[0] if alone else folder


def _commit(url: str, version: str, cache: Path) -> str:
    """The commit that a version means, as of this run; the repository has it then."""
    with _repository(url, cache) as repository:
        memo = repository / "kechi-run.json"
        told = json.loads(memo.read_text()) if memo.is_file() else {}
        if told.get("run") != RUN:
            told = {"run": RUN, "commits": {}}
            refs = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")
            _git(repository, url, "fetch", "--quiet", "--prune", "--end-of-options", url, *refs)
        commit = told["commits"].get(version) or _resolved(repository, url, version)
        told["commits"][version] = commit
        memo.write_text(json.dumps(told))
    return str(commit)


def _resolved(repository: Path, url: str, version: str) -> str:
    for name in (f"refs/tags/{version}", f"refs/heads/{version}", version):
        words = ("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
        done = _run(repository, *words)
        if done.returncode == 0:
            return done.stdout.strip()
    if len(version) == COMMIT:  # a commit that no branch has any more can still be asked for
        _git(repository, url, "fetch", "--quiet", "--end-of-options", url, version)
        return version
    shown = _run(repository, "for-each-ref", "--format=%(refname:short)", "--sort=-creatordate")
    names = ", ".join(shown.stdout.split()[:10]) or "none"
    raise SourceError(
        f'git {url} has no version "{version}"; its latest branches and tags: {names}'
    )


def _exported(url: str, commit: str, cache: Path) -> Path:
    """The tree of a commit, which is kept."""
    with _repository(url, cache) as repository:
        tree = repository / "kechi-trees" / commit
        if tree.is_dir():
            return tree
        tree.parent.mkdir(exist_ok=True)
        for other in tree.parent.iterdir():
            if time.time() - other.stat().st_mtime > KEPT_SECONDS:  # no run uses it any more
                shutil.rmtree(other)
        with tempfile.TemporaryDirectory(dir=repository) as folder:
            packed, part = Path(folder) / "tree.tar", Path(folder) / "tree"
            _git(repository, url, "archive", "--format=tar", f"--output={packed}", commit)
            part.mkdir()
            try:
                archives.unpack(packed, part)
            except archives.ArchiveError as error:
                raise SourceError(f"git {url}: {commit[:SHORT]}: {error}") from error
            part.rename(tree)
        return tree


@contextmanager
def _repository(url: str, cache: Path) -> Iterator[Path]:
    """The bare repository of a URL, for one process at a time."""
    path = cache / "git" / hashlib.sha256(url.encode()).hexdigest()[:16]
    path.mkdir(parents=True, exist_ok=True)
    with (path / "kechi.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (path / "HEAD").is_file():
            _git(path, url, "init", "--quiet", "--bare", "--template=", ".")
            (path / "info").mkdir(exist_ok=True)
        (path / "info" / "attributes").write_text(GIT_ATTRIBUTES)
        yield path


def _git(repository: Path, url: str, *words: str) -> None:
    try:
        done = _run(repository, *words)
    except FileNotFoundError as error:
        raise SourceError(f"git {url}: there is no git on the control machine") from error
    except subprocess.TimeoutExpired as error:
        raise SourceError(f"git {url}: not over within {GIT_SECONDS} seconds") from error
    if done.returncode:
        raise SourceError(f"git {url}: `git {words[0]}` failed: {done.stderr.strip()}")


def _run(repository: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in _GIT_OF_OTHERS}
    environment |= {
        "GIT_ALLOW_PROTOCOL": GIT_PROTOCOLS,
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_SSH_COMMAND": os.environ.get("GIT_SSH_COMMAND", "ssh -oBatchMode=yes"),
    }
    settings = (*GIT_SETTINGS, f"safe.directory={repository}")
    options = [word for setting in settings for word in ("-c", setting)]
    return subprocess.run(
        ["git", *options, *words], cwd=repository, env=environment, capture_output=True, text=True,
        errors="replace", check=False, timeout=GIT_SECONDS, stdin=subprocess.DEVNULL,
    )  # fmt: skip
