"""The repository that is elsewhere: restic's commands, and what it says when one fails."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import BackupError

TAG = "kechi"
_APP = "app="
_NO_REPOSITORY = 10  # from restic 0.17 on; before that only the words tell
_NOT_THERE = ("is there a repository at", "repository does not exist")
_CREDENTIALS = re.compile(r"//[^/@\s]+@")
# one core and little memory are what a small machine can spare, and few lines of progress
_SPARING = {"GOMAXPROCS": "1", "GOGC": "50", "RESTIC_PROGRESS_FPS": "0.02"}


@dataclass(frozen=True)
class Snapshot:
    """One backup of one app in the repository."""

    name: str
    app: str
    host: str
    time: str


class Repository:
    """What `remote` names, asked by restic; each method raises BackupError where that fails."""

    def __init__(self, remote: Mapping[str, str], host: str, state: Path) -> None:
        self._remote = remote
        self._host = host
        self._state = state

    @property
    def name(self) -> str:
        """Where it is, without a password."""
        return _masked(self._remote["RESTIC_REPOSITORY"])

    def environment(self) -> dict[str, str]:
        """What restic is run with."""
        cache = {"RESTIC_CACHE_DIR": str(self._state / "restic")}
        return {**os.environ, **_SPARING, **cache, **self._remote}

    def is_known(self) -> bool:
        """Whether this repository has been opened with this very environment before."""
        try:
            return self._mark.read_text(encoding="ascii") == self._digest()
        except FileNotFoundError:
            return False

    def prepare(self) -> bool:
        """Open it, or make it where it was never seen before; says whether it has been made.

        One that was there and is gone is not made anew: a disk may not be mounted.
        """
        made = False
        done = self._run("cat", "config")
        if done.returncode and _is_absent(done) and not self._was_seen():
            self._check("make the repository", self._run("init"))
            made = True
        else:
            self._check("open the repository", done)
        self._seen.parent.mkdir(parents=True, exist_ok=True)
        self._seen.write_text(self._repository_digest(), encoding="ascii")
        self._mark.write_text(self._digest(), encoding="ascii")
        return made

    def snapshots(self, *, own: bool) -> list[Snapshot]:
        """The backups there, the newest first: of this host, or of all."""
        of_host = [f"--host={self._host}"] if own else []
        done = self._run("snapshots", "--json", "--no-lock", f"--tag={TAG}", *of_host)
        self._check("list the repository", done)
        return read_snapshots(done.stdout)

    def clear_locks(self) -> None:
        """Remove the locks of runs that were killed; those of others that run stay."""
        self._check("unlock the repository", self._run("unlock"))

    def backup(self, app: str, directory: Path, parent: str) -> str:
        """Send a tree there, and name the snapshot."""
        # a relative path: backups of one app look alike, whatever their directory is called
        done = self._run(
            "backup", ".", "--json", f"--tag={TAG}", f"--tag={_APP}{app}", f"--host={self._host}",
            # hard links and copies differ in these, and in nothing that matters
            "--ignore-inode", "--ignore-ctime",
            *([f"--parent={parent}"] if parent else []),
            directory=directory,
        )  # fmt: skip
        self._check("send it to", done)
        return read_summary(done.stdout)

    def forget(self, keep: Mapping[str, int]) -> None:
        """Remove what the policy does not keep."""
        policy = [f"--keep-{name}={count}" for name, count in keep.items() if count]
        done = self._run(
            "forget", "--quiet", f"--tag={TAG}", f"--host={self._host}", "--group-by=host,tags",
            *policy, "--prune",
        )  # fmt: skip
        self._check("remove old backups of", done)

    def size(self, snapshot: str) -> int:
        """How many bytes a snapshot has."""
        done = self._run("stats", "--json", "--no-lock", "--mode=restore-size", snapshot)
        self._check(f"find {snapshot} in", done)
        return int(json.loads(done.stdout)["total_size"])

    def restore(self, snapshot: str, target: Path) -> None:
        """Fetch a tree from there."""
        done = self._run("restore", "--no-lock", snapshot, f"--target={target}")
        self._check(f"fetch {snapshot} from", done)

    @property
    def _mark(self) -> Path:
        return self._state / "repository.opened"

    @property
    def _seen(self) -> Path:
        return self._state / "repository.seen"

    def _digest(self) -> str:
        return hashlib.sha256(json.dumps(dict(self._remote), sort_keys=True).encode()).hexdigest()

    def _repository_digest(self) -> str:
        return hashlib.sha256(self._remote["RESTIC_REPOSITORY"].encode()).hexdigest()

    def _was_seen(self) -> bool:
        try:
            return self._seen.read_text(encoding="ascii") == self._repository_digest()
        except FileNotFoundError:
            return False

    def _run(
        self, *command: str, directory: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(
                ["restic", *command],
                cwd=directory,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
            )
        except FileNotFoundError:
            raise BackupError("restic is not installed") from None

    def _check(self, what: str, done: subprocess.CompletedProcess[str]) -> None:
        if done.returncode:
            raise BackupError(f"can't {what} {self.name}: {_reason(done)}")


def read_snapshots(text: str) -> list[Snapshot]:
    """Read what `restic snapshots --json` says, without what others have put there."""
    found = []
    for item in json.loads(text) or []:
        apps = [tag.removeprefix(_APP) for tag in item.get("tags") or [] if tag.startswith(_APP)]
        if apps:
            found.append(Snapshot(item["short_id"], apps[0], item["hostname"], item["time"]))
    return sorted(found, key=lambda snapshot: snapshot.time, reverse=True)


def read_summary(text: str) -> str:
    """Read the snapshot's name from the last line of `restic backup --json`."""
    lines: list[dict[str, Any]] = [json.loads(line) for line in text.splitlines() if line]
    return next((str(line["snapshot_id"])[:8] for line in lines if "snapshot_id" in line), "")


def _is_absent(done: subprocess.CompletedProcess[str]) -> bool:
    said = done.stderr.lower()
    return done.returncode == _NO_REPOSITORY or any(words in said for words in _NOT_THERE)


def _reason(done: subprocess.CompletedProcess[str]) -> str:
    if done.returncode == -signal.SIGKILL:
        return "restic was killed; has it reached backup_memory_max_mb?"
    lines = [_words(line) for line in done.stderr.splitlines() if line.strip()]
    said = " ".join(lines[-3:]) if lines else f"restic ended with {done.returncode}"
    return _masked(said)


def _words(line: str) -> str:
    """What a line of restic's stderr says, which some versions write as JSON where asked for it."""
    try:
        found = json.loads(line)
        return str(found.get("message") or found["error"]["message"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return line.strip()


def _masked(text: str) -> str:
    return _CREDENTIALS.sub("//***@", text)
