#!/usr/bin/python
"""Load nftables rules that are taken back by themselves unless somebody gets in under them."""

from __future__ import annotations

DOCUMENTATION = """
module: firewall
short_description: Have nftables rules that are proven to let Ansible in
version_added: 0.1.0
description:
  - Compares the table C(inet kechi) of the kernel with what the rules make of it in a network
    namespace of their own, and so finds rules that somebody has changed by hand, too.
  - New rules are loaded with a timer of systemd beside them that puts the previous ones back. Only
    when the connection, closed and made anew, has got through is the timer stopped, and the rules
    are written to C(/etc/kechi/firewall.nft), which C(kechi-firewall.service) loads at boot.
  - No other table is touched.
options:
  state:
    description: Whether there are to be rules. C(absent) takes table, unit and file away.
    type: str
    choices: [present, absent]
    default: present
  rules:
    description: >-
      The rules, as a file for C(nft -f) that replaces the table; C($ssh_ports) is defined in it.
    type: str
  unit:
    description: The content of C(kechi-firewall.service).
    type: str
  ssh_ports:
    description: The ports of ssh; 22 where none is known.
    type: list
    elements: int
    default: []
  connection:
    description: The ssh connection of now, as M(kechi.vps.ssh_facts) returns it.
    type: str
  confirm_seconds:
    description: How long the new rules wait for the new connection, in seconds.
    type: int
    default: 60
  step:
    description: >-
      What the action plugin asks for; it calls C(try) first, and then C(keep) over a new
      connection, or C(undo) when there was none.
    type: str
    choices: [try, keep, undo]
    default: try
attributes:
  check_mode:
    support: full
    description: Says whether rules or unit would change.
  diff_mode:
    support: full
    description: Shows the file of the rules before and after.
author: the kechi.vps authors (!UNKNOWN)
"""

EXAMPLES = """
- name: Filter incoming traffic
  kechi.vps.firewall:
    rules: "{{ lookup('ansible.builtin.template', 'firewall.nft.j2') }}"
    unit: "{{ lookup('ansible.builtin.template', 'kechi-firewall.service.j2') }}"
    ssh_ports: [22]
"""

RETURN = """
steps:
  description: What was done, in its order.
  returned: always
  type: list
  elements: str
  sample: [try, keep]
"""

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import locks, sandbox

NFT = "/usr/sbin/nft"
TABLE = ("inet", "kechi")
# terse: not who is connected now
LIST = ("--stateless", "--terse", "list", "table", *TABLE)
RULES = Path("/etc/kechi/firewall.nft")
UNIT = Path("/etc/systemd/system/kechi-firewall.service")
# what is on trial: the rules of before, and what the kernel made of the new ones
TRIAL = Path("/run/kechi-firewall")
UNDO = "kechi-firewall-undo"
WAIT_SECONDS = 60
SETTLED = {"ActiveState": "active", "UnitFileState": "enabled", "NeedDaemonReload": "no"}
OURS = f"table {' '.join(TABLE)}"
REPLACE = f"{OURS}\ndelete {OURS}\n"


def with_ports(rules: str, ssh_ports: list[int]) -> str:
    """The rules with the ports of ssh defined."""
    ports = ", ".join(map(str, sorted({*ssh_ports} or {22})))
    return f"define ssh_ports = {{ {ports} }}\n{rules}"


def needed(*, loaded: bool, written: bool, unit: Mapping[str, str]) -> list[str]:
    """The missing steps for rules that are wanted.

    Args:
        loaded: whether the kernel's table is what the rules make of it.
        written: whether rules and unit are on the disk as they should be.
        unit: properties of the unit, as `systemctl show` has them.
    """
    if not loaded:
        return ["try", "keep"]
    return [] if written and unit == SETTLED else ["keep"]


def revert() -> list[str]:
    """What the timer runs: a step that is under way ends first, and may have ended the trial.

    One that does not end must not keep anybody out.
    """
    previous = f"{TRIAL}/previous.nft"
    steps = f"[ ! -e {previous} ] || {{ {NFT} -f {previous} && rm -r {TRIAL}; }}"
    lock = locks.DIRECTORY / locks.FIREWALL
    return ["sh", "-c", f"{{ flock --wait={WAIT_SECONDS} 9; {steps}; }} 9>>{lock}"]


def revert_unit(confirm_seconds: int) -> list[str]:
    """The command that starts the timer."""
    directives = (*sandbox.FIREWALL, ("ReadWritePaths", "/run"))
    return [
        "systemd-run", f"--unit={UNDO}", "--collect", "--quiet",
        "--description=Put the previous firewall back, as nobody has come in under the new one",
        f"--on-active={confirm_seconds}",
        "--timer-property=AccuracySec=100ms",
        *(f"--property={name}={value}" for name, value in directives),
        *revert(),
    ]  # fmt: skip


class Firewall:
    """The effects; whoever calls them holds the lock that `revert` waits for."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.rules = with_ports(module.params["rules"] or "", module.params["ssh_ports"])

    def loaded(self) -> str | None:
        """The kernel's table; None where there is none."""
        tables, why_not = self._tables()
        if why_not:
            self._fail(
                "this machine's kernel has no nftables for us, and no rule was loaded: set "
                f"host_firewall_enabled to false, or filter elsewhere (nft: {why_not})"
            )
        return self._run(NFT, *LIST) if OURS in tables else None

    def _tables(self) -> tuple[list[str], str]:
        """The kernel's tables, and why there can be none; neither where nft is not installed."""
        if not Path(NFT).exists():
            return [], ""
        rc, out, err = self.module.run_command([NFT, "list", "tables"])
        return out.splitlines(), err.strip() if rc else ""

    def wanted(self, path: str) -> str:
        """What the kernel makes of the rules, found out in a network namespace of their own."""
        script = f'{NFT} -f "$1" && {NFT} {" ".join(LIST)}'
        rc, out, err = self.module.run_command(["unshare", "--net", "sh", "-c", script, "sh", path])
        if rc:
            self._fail(f"the rules can't be used, and none was loaded: {err.strip()}")
        return str(out)

    def is_wanted(self) -> bool:
        """Whether the kernel's table is what the rules make of it."""
        if not Path(NFT).exists():
            return False
        with tempfile.NamedTemporaryFile("w", dir=self.module.tmpdir) as file:
            file.write(self.rules)
            file.flush()
            return self.loaded() == self.wanted(file.name)

    def written(self) -> bool:
        """Whether a boot would load these rules."""
        return _text(RULES) == self.rules and _text(UNIT) == self.module.params["unit"]

    def unit(self) -> dict[str, str]:
        """The unit's properties that matter here."""
        out = self._run("systemctl", "show", f"--property={','.join(SETTLED)}", UNIT.name)
        return dict(line.split("=", 1) for line in out.splitlines())

    def attempt(self) -> None:
        """Load the rules, with the timer beside them that takes them back."""
        previous = self.loaded() or ""
        self._stop_timer()  # of a trial that it has ended itself: its name may be taken still
        TRIAL.mkdir(mode=0o700)
        self._write(TRIAL / "previous.nft", REPLACE + previous, 0o600)
        self._write(TRIAL / "new.nft", self.rules, 0o600)
        new = self.wanted(str(TRIAL / "new.nft"))
        self._write(TRIAL / "new.listing", new, 0o600)
        for name in ("previous.nft", "new.nft"):
            self._run(NFT, "--check", "-f", str(TRIAL / name))
        self._run(*revert_unit(self.module.params["confirm_seconds"]))
        self._run(NFT, "-f", str(TRIAL / "new.nft"))

    def undo(self) -> None:
        """Put the rules back that a trial has replaced, and end it."""
        if (TRIAL / "previous.nft").exists():
            self._run(NFT, "-f", str(TRIAL / "previous.nft"))
        self._end_trial()

    def keep(self, *, tried: bool) -> None:
        """Have the rules at boot too, and end their trial."""
        if tried:
            self._stop_timer()
            if not TRIAL.exists() or self.loaded() != _text(TRIAL / "new.listing"):
                self._fail("the new rules have been taken back already: they waited for too long")
        self._write(RULES, self.rules, 0o644)
        self._write(UNIT, self.module.params["unit"], 0o644)
        self._run("systemctl", "daemon-reload")
        self._run("systemctl", "enable", "--now", "--quiet", UNIT.name)
        if tried:
            self._end_trial()

    def _stop_timer(self) -> None:
        """Stop it, and what it may just have started; it is gone where it has done its work."""
        self.module.run_command(["systemctl", "stop", f"{UNDO}.timer", f"{UNDO}.service"])

    def _end_trial(self) -> None:
        self._stop_timer()
        shutil.rmtree(TRIAL, ignore_errors=True)

    def remove(self) -> list[str]:
        """Take away what is ours, and nothing else; name the steps."""
        steps = []
        if TRIAL.exists():
            steps.append("undo")
            if not self.module.check_mode:
                self.undo()
        # a kernel that can have no tables needs none taken away
        if UNIT.exists() or RULES.exists() or OURS in self._tables()[0]:
            steps.append("remove")
            if not self.module.check_mode:
                self._remove()
        return steps

    def _remove(self) -> None:
        if UNIT.exists():
            self._run("systemctl", "disable", "--now", "--quiet", UNIT.name)
            UNIT.unlink()
            self._run("systemctl", "daemon-reload")
        if OURS in self._tables()[0]:
            self._run(NFT, "delete", "table", *TABLE)
        RULES.unlink(missing_ok=True)

    def _write(self, path: Path, content: str, mode: int) -> None:
        path.parent.mkdir(exist_ok=True)
        handle, name = tempfile.mkstemp(dir=self.module.tmpdir)
        with os.fdopen(handle, "w") as file:
            file.write(content)
        Path(name).chmod(mode)
        self.module.atomic_move(name, str(path))

    def _run(self, *command: str) -> str:
        rc, out, err = self.module.run_command([*command])
        if rc:
            self._fail(f"{' '.join(command)}: {(err or out).strip()}")
        return str(out)

    def _fail(self, why: str) -> None:
        self.module.fail_json(msg=f"firewall: {why}")


def _text(path: Path) -> str | None:
    return path.read_text() if path.is_file() else None


def present(module: AnsibleModule, firewall: Firewall) -> dict[str, Any]:
    """The first call: what is missing, and of that what can be done over this connection."""
    before = _text(RULES)
    unfinished = TRIAL.exists()  # an earlier run has not come back
    if unfinished and not module.check_mode:
        firewall.undo()
    loaded = firewall.is_wanted()
    steps = needed(loaded=loaded, written=firewall.written(), unit=firewall.unit())
    if not module.check_mode:
        if "try" in steps:
            firewall.attempt()
        elif steps:
            firewall.keep(tried=False)
    diff = {"before": before or "", "after": firewall.rules}
    header = {"before_header": str(RULES), "after_header": str(RULES)}
    return {
        "changed": bool(steps) or unfinished,
        "steps": (["undo"] if unfinished else []) + steps,
        "diff": {**diff, **header},
    }


def main() -> None:
    """One step."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "rules": {"type": "str"},
            "unit": {"type": "str"},
            "ssh_ports": {"type": "list", "elements": "int", "default": []},
            "confirm_seconds": {"type": "int", "default": 60},
            "step": {"type": "str", "choices": ["try", "keep", "undo"], "default": "try"},
        },
        required_if=[("state", "present", ("rules", "unit"))],
        supports_check_mode=True,
    )
    if module.check_mode:
        module.exit_json(**result(module))
    try:
        with locks.held(locks.FIREWALL, "a play", wait_seconds=WAIT_SECONDS, tell=module.warn):
            module.exit_json(**result(module))
    except locks.Busy as busy:
        module.fail_json(msg=f"firewall: {busy} has not ended in {WAIT_SECONDS} seconds")


def result(module: AnsibleModule) -> dict[str, Any]:
    """Do the step."""
    firewall = Firewall(module)
    step = module.params["step"]
    if module.params["state"] == "absent":
        steps = firewall.remove()
        return {"changed": bool(steps), "steps": steps}
    if step == "keep":
        firewall.keep(tried=True)
        return {"changed": True, "steps": ["keep"]}
    if step == "undo":
        if TRIAL.exists():  # else the timer was there first
            firewall.undo()
        return {"changed": True, "steps": ["undo"]}
    return present(module, firewall)


if __name__ == "__main__":
    main()
