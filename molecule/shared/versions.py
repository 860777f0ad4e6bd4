"""Releases of the app `versioned`, made for a test, and where they come from."""

from __future__ import annotations

import base64
import hashlib
import shutil
import subprocess
import tarfile
import zipfile
from pathlib import Path
from typing import Any

APP = Path(__file__).parent / "apps" / "versioned"
PARTS = ("versioned.py", "late.py")


class Versioned:
    """An app's directory on this machine, of one version at a time."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.folder = folder / name
        shutil.copytree(APP, self.folder)
        self.options: dict[str, Any] = {"source": str(self.folder)}

    def write(self, version: int, more: str = "", **files: str) -> None:
        """Make it this version; `more` is code at its end, `files` are further ones."""
        for path in self.folder.iterdir():
            if path.is_file():  # a repository stays
                path.unlink()
        shutil.copytree(APP, self.folder, dirs_exist_ok=True)
        for part in PARTS:
            text = (APP / part).read_text(encoding="utf-8")
            (self.folder / part).write_text(
                text.replace("VERSION = 1", f"VERSION = {version}")
                + (more if part == PARTS[0] else ""),
                encoding="utf-8",
            )
        (self.folder / "page.txt").write_text(f"{version}\n")
        for name, text in files.items():
            (self.folder / name.replace("_", ".")).write_text(text)

    @property
    def entry(self) -> dict[str, Any]:
        """The app in the inventory."""
        return {
            "name": self.name,
            "hosts": [f"{self.name}.example"],
            "wsgi": "versioned:application",
            **self.options,
        }


def commit(folder: Path, *tags: str) -> str:
    """Commit what a directory holds, in a repository of its own; returns the commit."""

    def git(*words: str) -> str:
        identity = ("-c", "user.name=test", "-c", "user.email=test@example.org")
        command = ["git", "-C", str(folder), *identity, *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    if not (folder / ".git").exists():
        git("init", "--quiet", "--initial-branch=main")
    git("add", "--all")
    git("commit", "--quiet", "--message=a version")
    for tag in tags:
        git("tag", tag)
    return git("rev-parse", "HEAD")


def archive(folder: Path, path: Path) -> None:
    """Pack a directory as archives of repositories are: in one directory at the top."""
    with tarfile.open(path, "w:gz") as tar:
        tar.add(folder, arcname="versioned-1.0")


def wheel(folder: Path, name: str, version: str, modules: dict[str, str]) -> Path:
    """Make a wheel of some modules."""
    about = f"{name}-{version}.dist-info"
    files = {
        **modules,
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\n"
        "Tag: py3-none-any\n",
    }
    lines = [f"{about}/RECORD,,"]
    for path, text in files.items():
        sum_ = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=")
        lines.append(f"{path},sha256={sum_.decode()},{len(text.encode())}")
    files[f"{about}/RECORD"] = "\n".join(lines) + "\n"
    made = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(made, "w") as packed:
        for path, text in files.items():
            packed.writestr(path, text)
    return made
