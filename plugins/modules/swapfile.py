#!/usr/bin/python
"""Make a swapfile and switch it on, from whatever state an earlier run left."""

from __future__ import annotations

DOCUMENTATION = """
module: swapfile
short_description: A swapfile of a given size, made and switched on
version_added: 0.1.0
description:
  - Makes the file, gives it swap's signature and switches it on; only those steps that are missing.
  - A file of another size is switched off, made anew and switched on again, but only where what it
    holds fits into free memory.
options:
  path:
    description: The swapfile.
    type: path
    required: true
  size_mb:
    description: Its size in MB.
    type: int
    required: true
attributes:
  check_mode:
    support: full
    description: Says which steps are missing.
author: the kechi.vps authors
"""

EXAMPLES = """
- name: Have 1 GB of swap
  kechi.vps.swapfile:
    path: /swapfile
    size_mb: 1024
"""

RETURN = """
steps:
  description: What was done, in its order.
  returned: always
  type: list
  elements: str
  sample: [allocate, sign, "on"]
"""

import os
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

MB = 1024 * 1024
SIGNATURE = b"SWAPSPACE2"
FREE_MARGIN_MB = 64  # of memory and of the disk: what must stay free for the system itself


class RefusedError(Exception):
    """The wanted state can't be reached safely."""


def plan(  # noqa: PLR0913 - these are the facts that decide
    *,
    page_size: int,
    found_size: int | None,
    signed: bool,
    used_kb: int | None,
    available_kb: int,
    room: int,
    wanted_mb: int,
) -> list[str]:
    """The missing steps.

    Args:
        page_size: in bytes, the smallest difference that counts.
        found_size: the file's size in bytes; None where there is no file.
        signed: whether it carries swap's signature.
        used_kb: what it holds in kB; None where it is not switched on.
        available_kb: the memory that could take that in.
        room: what a new file may take on the disk in bytes, the old one's part included.
        wanted_mb: the size asked for.

    Raises:
        RefusedError: switching off the old file would not fit into memory, or the new one not
            on the disk.
    """
    right_size = found_size is not None and abs(found_size - wanted_mb * MB) < page_size
    if right_size and signed:
        return [] if used_kb is not None else ["on"]
    if not right_size and room < (wanted_mb + FREE_MARGIN_MB) * MB:
        raise RefusedError(
            f"{wanted_mb} MB are too many for its disk; allowed: "
            f"{max(room // MB - FREE_MARGIN_MB, 0)} at most"
        )
    steps = []
    if used_kb is not None:
        if used_kb + FREE_MARGIN_MB * 1024 > available_kb:
            raise RefusedError(
                f"it holds {used_kb // 1024} MB and only {available_kb // 1024} MB of memory are "
                f"available: switching it off to resize it would end programs; stop some first"
            )
        steps.append("off")
    if not right_size:
        steps += ["remove"] if found_size is not None else []
        steps.append("allocate")
    return [*steps, "sign", "on"]


class Swapfile:
    """The effects."""

    def __init__(self, module: AnsibleModule, path: Path, size_mb: int) -> None:
        self.module, self.path, self.size_mb = module, path, size_mb
        self.part = path.with_name(path.name + ".part")

    def facts(self) -> dict[str, Any]:
        """What `plan` asks for."""
        found_size, signed = None, False
        if self.path.exists():
            found_size = self.path.stat().st_size
            page = os.sysconf("SC_PAGE_SIZE")
            with self.path.open("rb") as file:
                signed = file.read(page)[-len(SIGNATURE) :] == SIGNATURE
        used_kb = None
        for line in Path("/proc/swaps").read_text().splitlines()[1:]:
            name, _kind, _size, used, *_ = line.split()
            if name == str(self.path):
                used_kb = int(used)
        memory = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        return {
            "page_size": os.sysconf("SC_PAGE_SIZE"),
            "found_size": found_size,
            "signed": signed,
            "used_kb": used_kb,
            "available_kb": int(memory["MemAvailable"].split()[0]),
            "room": self._room(),
            "wanted_mb": self.size_mb,
        }

    def _room(self) -> int:
        """Bytes for a new file: what is free, and what the old one and an interrupted run hold."""
        disk = os.statvfs(self.path.parent)
        ours = [path.stat().st_blocks * 512 for path in (self.path, self.part) if path.exists()]
        return disk.f_bavail * disk.f_frsize + sum(ours)

    def act(self, step: str) -> None:
        """One step of the plan."""
        path = str(self.path)
        if step == "remove":
            self.path.unlink()
        elif step == "allocate":
            self._allocate()
        else:
            command = {"off": "swapoff", "sign": "mkswap", "on": "swapon"}[step]
            self.module.run_command([command, path], check_rc=True)

    def _allocate(self) -> None:
        """Write zeros: swapon takes no holes, and not every file system's fallocate will do."""
        self.part.unlink(missing_ok=True)
        handle = os.open(self.part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            zeros = bytes(MB)
            for _ in range(self.size_mb):
                file.write(zeros)
            file.flush()
            os.fsync(file.fileno())
        self.part.rename(self.path)


def main() -> None:
    """Plan, then act."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "size_mb": {"type": "int", "required": True},
        },
        supports_check_mode=True,
    )
    swapfile = Swapfile(module, Path(module.params["path"]), module.params["size_mb"])
    try:
        steps = plan(**swapfile.facts())
        if not module.check_mode:
            for step in steps:
                swapfile.act(step)
    except RefusedError as refusal:
        module.fail_json(msg=f"{swapfile.path}: {refusal}")
    module.exit_json(changed=bool(steps), steps=steps)


if __name__ == "__main__":
    main()
