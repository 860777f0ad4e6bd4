"""A newcomer with README and docs alone: an ordinary user, a clone, and a VPS reached by ssh."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from testinfra.host import Host

from harness import code_blocks
from harness.code_blocks import APPEND, HERE, NOT_RUN, RUN, Block
from shared import reach

REPOSITORY = Path(__file__).resolve().parents[3]
USER = "you"
CLONE = f"/home/{USER}/kechi.vps"
SECONDS = 1800  # of one block; only what hangs takes so long
# has the scripts of a virtualenv name the interpreter beside them: in their first line, or in their
# second one, where the path has a space or is long
MOVE = """
import pathlib, sys
old, new = map(str.encode, sys.argv[1:])
for file in pathlib.Path(sys.argv[2]).iterdir():
    if file.is_file() and (content := file.read_bytes()).startswith(b"#!"):
        file.write_bytes(content.replace(old, new, 1))
"""


class Newcomer:
    """Does what pages say, in the order in which they say it."""

    def __init__(self, home: Host, vps: Host) -> None:
        self.home, self.vps = home, vps

    def clone(self) -> None:
        """Put the tree as it is here into the user's home, as a clone would."""
        listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
        listed += ["--exclude=/.venv"]  # where that is a link, it is not ignored
        files = subprocess.run(listed, cwd=REPOSITORY, check=True, capture_output=True).stdout
        there = b"\0".join(
            name for name in files.split(b"\0") if name and (REPOSITORY / name.decode()).exists()
        )
        self._user(f"mkdir -p {CLONE}")
        self._unpack(CLONE, ["--null", "--files-from=-"], REPOSITORY, there)

    def lend_packages(self) -> None:
        """Spare `make setup` its downloads, where this machine's Python is that of the newcomer's.

        It finds each package that it asks for, then, and makes all else.
        """
        python = f"python{sys.version_info.major}.{sys.version_info.minor}"
        if not self._user(f"test ! -e /usr/bin/{python} || echo yes"):
            return
        venv = f"{CLONE}/.venv"
        self._user(f"mkdir -p {venv}")
        left_out = ["kechi_vps-*", "__editable__*", "bin/python*", "stamp"]
        options = [f"--exclude={pattern}" for pattern in left_out]
        self._unpack(venv, [*options, "bin", f"lib/{python}/site-packages"], Path(sys.prefix))
        self._user(shlex.join(["python3", "-c", MOVE, f"{sys.prefix}/bin/", f"{venv}/bin/"]))

    def log_in_once(self) -> None:
        """Have the VPS's host key known, as after a first log-in by hand."""
        address = reach.network_address(self.vps)
        self._user(
            "cd; until ssh -o StrictHostKeyChecking=accept-new -o ConnectTimeout=5"
            f" admin@{address} sudo true; do sleep 1; done"  # for sshd, which is just starting
        )

    def follow(self, block: Block, replacements: Mapping[str, str], used: set[str]) -> str:
        """Do what a block says; returns what was printed. Raises AssertionError where it fails."""
        text = code_blocks.substituted(block, replacements, used)
        if block.action == NOT_RUN:
            return ""
        if block.action == RUN:
            return self.run(text) if block.argument == HERE else self.run_on_the_vps(text)
        redirect = ">>" if block.action == APPEND else ">"
        return self.run(f"cat {redirect} {block.argument} <<'END_OF_BLOCK'\n{text}END_OF_BLOCK\n")

    def run(self, script: str) -> str:
        """Run a script in the clone, as the user."""
        return self._user(f"cd {CLONE} && bash -euo pipefail -c {shlex.quote(script)}")

    def run_on_the_vps(self, script: str) -> str:
        """Run a script on the VPS as root, by ssh and sudo, from the user's machine."""
        address = reach.network_address(self.vps)
        script = f"sudo bash -euo pipefail -c {shlex.quote(script)}"
        return self._user(f"ssh admin@{address} {shlex.quote(script)}")

    def _unpack(self, to: str, what: list[str], of: Path, stdin: bytes = b"") -> None:
        tar = ["tar", "--create", *what]
        packed = subprocess.run(tar, cwd=of, input=stdin, check=True, capture_output=True)
        within = reach.machines(self.home).within(reach.name(self.home))
        unpack = [*within, "runuser", "-u", USER, "--", "tar", "--extract", f"--directory={to}"]
        subprocess.run(unpack, input=packed.stdout, check=True)

    def _user(self, command: str) -> str:
        login = shlex.join(["timeout", str(SECONDS), "runuser", "-l", USER, "-c", command])
        done = self.home.run(f"{login} 2>&1 </dev/null")
        said = done.stdout_bytes.decode("utf-8", "replace")
        assert done.rc == 0, f"{command}\nexit code {done.rc}\n{said}"
        return said
