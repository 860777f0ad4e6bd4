#!/usr/bin/python
"""Restart pools gracefully, again and again, and watch their memory meanwhile."""

from __future__ import annotations

DOCUMENTATION = """
module: pool_restarts
short_description: Restart pools again and again, and tell how their memory went
version_added: 0.1.0
description:
  - Reloads each pool's unit in turn. Stops at the first reload that fails, and does not fail
    itself, as what was seen until then is wanted.
options:
  pools:
    description: The pools.
    type: list
    elements: str
    required: true
  restarts:
    description: How often each of them is restarted.
    type: int
    required: true
  settle_seconds:
    description: How long nothing is done, before, between and after the restarts.
    type: int
    required: true
  seconds:
    description: How long all of it may take.
    type: int
    required: true
  sampler:
    description: >-
      A Python program that prints a sample of each pool's memory as a line of JSON until its stdin
      is closed; called with the seconds between two samples, and the pools.
    type: str
    required: true
  facts:
    description: A shell script that prints what a report says of the machine.
    type: str
    required: true
author: the kechi.vps authors (!UNKNOWN)
"""

EXAMPLES = """
- name: Restart the pool main five times
  kechi.vps.pool_restarts:
    pools: [main]
    restarts: 5
    settle_seconds: 2
    seconds: 300
    sampler: "{{ lookup('ansible.builtin.file', 'sampler.py') }}"
    facts: "uname -a"
"""

RETURN = """
events:
  description: What was done when, in seconds since 1970.
  returned: always
  type: list
  elements: dict
samples:
  description: What the sampler has printed.
  returned: always
  type: list
  elements: dict
oom_kills:
  description: How many processes of each pool the kernel has killed for their memory meanwhile.
  returned: always
  type: dict
facts:
  description: What the script has printed.
  returned: always
  type: str
error:
  description: Why it ended early; empty where it did not.
  returned: always
  type: str
began:
  description: When it began, in seconds since 1970.
  returned: always
  type: float
ended:
  description: The same of its end.
  returned: always
  type: float
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import bounded, play_lock

CGROUPS = Path("/sys/fs/cgroup")
SAMPLE_SECONDS = "1"
SAMPLER_SECONDS = 30  # for its last sample
SHOWN_LINES = 5


def oom_kills(text: str) -> int:
    """The count in memory.events (cgroup v2) or memory.oom_control (v1)."""
    counts = dict(line.split() for line in text.splitlines() if len(line.split()) == 2)  # noqa: PLR2004
    return int(counts.get("oom_kill", 0))


class Restarts:
    """The effects: what is done, and seen."""

    def __init__(self, module: AnsibleModule) -> None:
        self._module = module
        self._pools: list[str] = module.params["pools"]
        self._deadline = time.monotonic() + module.params["seconds"]
        self.events: list[dict[str, Any]] = []

    def killed(self) -> dict[str, int]:
        """How often the kernel has killed a process of each pool."""
        return {pool: self._killed(pool) for pool in self._pools}

    def run(self) -> str:
        """Restart; returns why it ended early, or nothing."""
        restarts = self._module.params["restarts"]
        self._settle()
        for number in range(1, restarts + 1):
            for pool in self._pools:
                left = self._deadline - time.monotonic()
                if left <= 0:
                    return (
                        f"only {number - 1} of {restarts} restarts in"
                        f" {self._module.params['seconds']} seconds"
                    )
                self.events.append({"at": time.time(), "label": f"reload {number}, {pool}"})
                if error := self._reload(pool, left):
                    return f"restart {number} of {restarts}: {error}"
            self._settle()
        return ""

    def _reload(self, pool: str, seconds: float) -> str:
        unit = f"kechi@{pool}.service"
        reload = ["systemctl", "reload", unit]
        try:
            done = subprocess.run(
                reload, capture_output=True, text=True, check=False, timeout=seconds
            )
        except subprocess.TimeoutExpired:
            return f"the reload of {unit} did not end in the {seconds:.0f} seconds that were left"
        if done.returncode == 0:
            return ""
        read = ["journalctl", "--no-pager", "--output=cat", f"--lines={SHOWN_LINES}"]
        _, journal, _ = bounded.run([*read, f"--unit={unit}"])
        return f"the reload of {unit} failed: {done.stderr.strip()}\n{journal.strip()}"

    def _settle(self) -> None:
        left = self._deadline - time.monotonic()
        time.sleep(max(0.0, min(left, self._module.params["settle_seconds"])))

    def _killed(self, pool: str) -> int:
        show = ["systemctl", "show", "--property=ControlGroup", "--value"]
        _, shown, _ = self._module.run_command([*show, f"kechi@{pool}.service"])
        group = shown.strip().lstrip("/")
        for file in (
            CGROUPS / group / "memory.events",
            CGROUPS / "memory" / group / "memory.oom_control",
        ):
            if group and file.is_file():
                return oom_kills(file.read_text())
        return 0


@contextmanager
def sampled(program: str, pools: list[str]) -> Iterator[list[dict[str, Any]]]:
    """Run the sampler while the block runs; the list is full when the block has ended."""
    samples: list[dict[str, Any]] = []
    command = [sys.executable, "-c", program, SAMPLE_SECONDS, *pools]
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8") as printed,  # a pipe would be full some day
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=printed, text=True) as process,
    ):
        try:
            yield samples
        finally:
            try:
                process.communicate(timeout=SAMPLER_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
            printed.seek(0)
            samples += [json.loads(line) for line in printed if line.endswith("\n")]


def main() -> None:
    """Restart, watch, tell."""
    module = AnsibleModule(
        argument_spec={
            "pools": {"type": "list", "elements": "str", "required": True},
            "restarts": {"type": "int", "required": True},
            "settle_seconds": {"type": "int", "required": True},
            "seconds": {"type": "int", "required": True},
            "sampler": {"type": "str", "required": True},
            "facts": {"type": "str", "required": True},
        }
    )
    play_lock.at_work(module)
    began = time.time()
    _, facts, _ = module.run_command(["sh", "-c", module.params["facts"]])
    restarts = Restarts(module)
    before = restarts.killed()
    with sampled(module.params["sampler"], module.params["pools"]) as samples:
        error = restarts.run()
    after = restarts.killed()
    module.exit_json(
        changed=bool(restarts.events),
        events=restarts.events,
        samples=samples,
        oom_kills={pool: max(0, after[pool] - before[pool]) for pool in after},
        facts=facts,
        error=error,
        began=began,
        ended=time.time(),
    )


if __name__ == "__main__":
    main()
