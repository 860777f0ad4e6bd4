#!/usr/bin/python
"""Bring each pool's units to what the files on the target say, by the gentlest step."""

from __future__ import annotations

DOCUMENTATION = """
module: pool_state
short_description: Start, restart or gracefully reload pools, only where it is needed
version_added: 0.1.0
description:
  - Each pool's units leave digests of what they were started from in C(/run/kechi-NAME).
  - A pool whose super-daemon was started from other unit files, or for other sockets of isolated
    apps, is restarted (systemd keeps the listening sockets); one whose super-daemon has other code
    is upgraded in place, and keeps its generation; one whose apps, requirements or environment
    differ gets a new generation; limits are handed to the kernel as they are, and restart nothing.
  - Nothing is restarted that its O(pools[].check) command, run as the pool's user, refuses.
  - What is compared is the state, not what this run changed, so that a run after an interrupted one
    finishes its work.
options:
  pools:
    description: The pools, and the files (a symlink counts by its target) that they are made of.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: The pool, as in C(kechi@NAME.service).
        type: str
        required: true
      sockets:
        description:
          - The units of its isolated apps' sockets, C(kechi@NAME.APP.socket). Others of that
            pattern are closed, and their files removed.
        type: list
        elements: str
        default: []
      check:
        description:
          - A command that must succeed before a running super-daemon is replaced. After that, there
            is no older generation that would go on if the new one failed.
        type: list
        elements: str
        default: []
      unit_paths:
        description: A change in these needs a new super-daemon.
        type: list
        elements: path
        required: true
      daemon_paths:
        description: A change in these needs a new version of the super-daemon, in its place.
        type: list
        elements: path
        required: true
      generation_paths:
        description: A change in these needs a new generation.
        type: list
        elements: path
        required: true
      limits_paths:
        description: A change in these only changes limits of memory, tasks and processor.
        type: list
        elements: path
        required: true
attributes:
  check_mode:
    support: full
    description: Says what would be done about the files as they are now.
author: the kechi.vps authors
"""

EXAMPLES = """
- name: Serve
  kechi.vps.pool_state:
    pools:
      - name: main
        unit_paths: [/etc/systemd/system/kechi@.service]
        daemon_paths: [/usr/local/lib/kechi/current]
        generation_paths: [/etc/kechi/pools/main.toml, /srv/www/blog/current]
        limits_paths: ["/etc/systemd/system/kechi@main.service.d/limits.conf"]
"""

RETURN = """
actions:
  description: What was done for which pool.
  returned: always
  type: dict
  sample: {main: [reload]}
"""

import hashlib
import json
import time
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

Properties = dict[str, str]

KINDS = ("unit", "daemon", "generation", "limits")
LIMITS = ("MemoryMax", "MemoryHigh", "MemorySwapMax", "TasksMax", "CPUWeight")
NOT_SET = "[not set]"  # as `systemctl show` has it, and nothing takes it
SHOWN = (
    "ActiveState",
    "SubState",
    "UnitFileState",
    "NeedDaemonReload",
    "Job",
    "StatusErrno",
    *LIMITS,
)
JOURNAL_LINES = "40"
POLL_SECONDS = 0.2
START_SERVER = "/usr/local/bin/start_server"
AS_ITS_USER = ("setpriv", "--reset-env", "--clear-groups", "--no-new-privs")
CHECK_SECONDS = 300
TIMED_OUT = 124  # the exit code of timeout(1)
UNITS = Path("/etc/systemd/system")
CONTROL = "/run/kechi-%s/control"
MISSING = "; can't load "  # in the status of a vhost server that serves the other apps


def digest(paths: list[str]) -> str:
    """One digest of files, of directories' files, and of where symlinks point."""
    sum_ = hashlib.sha256()
    for name in sorted(paths):
        path = Path(name)
        found = sorted(path.iterdir()) if path.is_dir() and not path.is_symlink() else [path]
        for item in found:
            if item.is_symlink():
                content = str(item.readlink()).encode()
            elif item.is_file():
                content = item.read_bytes()
            else:
                content = b"absent"
            sum_.update(f"{item}\0{len(content)}\0".encode())
            sum_.update(content)
    return sum_.hexdigest()


def needed(service: Properties, sockets: list[Properties], stale: list[str],
           running: dict[str, str], wanted: dict[str, str]) -> list[str]:  # fmt: skip
    """The steps for one pool, in their order.

    Args:
        service: properties of the service, as `systemctl show` has them.
        sockets: the same of each socket, the pool's own first.
        stale: the units of sockets that no app has any more.
        running: the digests that the running units were started from, by kind.
        wanted: the digests of the files as they are.
    """
    steps = []
    units = [service, *sockets]
    if "yes" in [unit["NeedDaemonReload"] for unit in units]:
        steps.append("daemon-reload")
    if {unit["UnitFileState"] for unit in units} != {"enabled"}:
        steps.append("enable")
    if stale:
        steps.append("close")
    is_open = [socket["ActiveState"] == "active" for socket in sockets]
    if not is_open[0] or service["ActiveState"] not in ("active", "reloading"):
        return [*steps, "start"]
    # systemd opens no further socket for a service that runs
    if not all(is_open) or running["unit"] != wanted["unit"]:
        return ["check", *steps, "restart"]
    if running["daemon"] != wanted["daemon"]:
        steps.append("upgrade")
    if running["limits"] != wanted["limits"]:
        steps.append("limits")
    if running["generation"] != wanted["generation"]:
        steps.append("reload")
    return steps


class Pools:
    """The effects: systemctl, and the digests' files."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module

    def show(self, unit: str) -> Properties:
        """The unit's properties that matter here."""
        _, out, _ = self.module.run_command(
            ["systemctl", "show", f"--property={','.join(SHOWN)}", unit], check_rc=True
        )
        return dict(line.split("=", 1) for line in out.splitlines() if "=" in line)

    def running(self, name: str) -> dict[str, str]:
        """What the running units were started from; "" where they are not running."""
        found = {}
        for kind in KINDS:
            path = Path(f"/run/kechi-{name}/{name}.{kind}")
            found[kind] = path.read_text() if path.is_file() else ""
        return found

    def stale(self, name: str, wanted: list[str]) -> list[str]:
        """The units of sockets that isolated apps of this pool have had, and have no more."""
        found = sorted(path.name for path in UNITS.glob(f"kechi@{name}.*.socket"))
        return [unit for unit in found if unit not in wanted]

    def act(self, pool: dict[str, Any], step: str) -> None:
        """One step."""
        name = pool["name"]
        service, socket = f"kechi@{name}.service", f"kechi@{name}.socket"
        if step == "close":
            for unit in self.stale(name, pool["sockets"]):
                self._systemctl(name, "disable", "--now", unit)
                (UNITS / unit).unlink()
            self._systemctl(name, "daemon-reload")
        elif step == "daemon-reload":
            self._systemctl(name, "daemon-reload")
        elif step == "enable":
            self._systemctl(name, "enable", service, socket, *pool["sockets"])
        elif step == "check":
            self._check(name, pool["check"])
        elif step == "reload":
            self._systemctl(name, "reload", service)
        elif step == "upgrade":
            self._run(name, START_SERVER, "--upgrade", f"--control-socket={CONTROL % name}")
            self._made_of(name, "daemon")
        elif step == "limits":
            # systemd 257 leaves a running unit's cgroup alone in a daemon-reload
            shown = self.show(service)
            limits = [f"{limit}={shown[limit].replace(NOT_SET, '')}" for limit in LIMITS]
            self._systemctl(name, "set-property", "--runtime", service, *limits)
            self._made_of(name, "limits")
        else:
            self._systemctl(name, "start", socket)
            self._systemctl(name, "restart", "--no-block", service)
            self._wait_until_up(name, service)
            self._refuse_missing_apps(name)

    def _check(self, name: str, command: list[str]) -> None:
        """Refuse, before anything is stopped, what could not be started again."""
        if not command:
            return
        user = (f"--reuid=kechi-{name}", f"--regid=kechi-{name}")
        bounded = ("timeout", "--kill-after=5", str(CHECK_SECONDS))
        rc, out, err = self.module.run_command([*bounded, *AS_ITS_USER, *user, *command])
        if rc == TIMED_OUT:
            err += f"it has not been found out within {CHECK_SECONDS} seconds\n"
        if rc:
            self.module.fail_json(
                msg=f"pool {name}: it would not start again, so it goes on as it is:\n{out}{err}"
            )

    def _wait_until_up(self, name: str, service: str) -> None:
        """Wait for the start's end, or for its first failure: systemd itself would go on trying."""
        while True:
            found = self.show(service)
            starting = found["SubState"] == "start"
            if starting and found["StatusErrno"] != "0":
                self._fail(name, "its first generation does not start")
            if found.get("Job", "0") in ("", "0") and not starting:
                break
            time.sleep(POLL_SECONDS)
        if found["ActiveState"] != "active":
            self._fail(name, f"it is {found['ActiveState']} ({found['SubState']})")

    def _refuse_missing_apps(self, name: str) -> None:
        """Tell of apps that can't be loaded: a first generation serves without them, as at boot."""
        out = self._run(
            name, START_SERVER, "--status", "--json", f"--control-socket={CONTROL % name}"
        )
        for generation in json.loads(out)["generations"]:
            _, found, missing = (generation["status"] or "").partition(MISSING)
            if found:
                self._fail(name, f"its first generation can't load {missing.partition(';')[0]}")

    @staticmethod
    def _made_of(name: str, kind: str) -> None:
        """Note what the running unit is made of from now on."""
        digest_ = Path(f"/etc/kechi/pools/{name}.{kind}").read_text()
        Path(f"/run/kechi-{name}/{name}.{kind}").write_text(digest_)

    def _systemctl(self, name: str, *command: str) -> None:
        self._run(name, "systemctl", *command)

    def _run(self, name: str, *command: str) -> str:
        rc, out, err = self.module.run_command([*command])
        if rc:
            self._fail(name, f"{' '.join(command)}: {(err or out).strip()}")
        return str(out)

    def _fail(self, name: str, why: str) -> None:
        """End with the journal of the pool: what its apps said is the reason."""
        _, journal, _ = self.module.run_command(
            ["journalctl", "--no-pager", "--output=cat", f"--lines={JOURNAL_LINES}",
             f"--unit=kechi@{name}.service"]
        )  # fmt: skip
        self.module.fail_json(msg=f"pool {name}: {why}\nThe last lines of its journal:\n{journal}")


def main() -> None:
    """Compare, then act."""
    module = AnsibleModule(
        argument_spec={
            "pools": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "name": {"type": "str", "required": True},
                    "sockets": {"type": "list", "elements": "str", "default": []},
                    "check": {"type": "list", "elements": "str", "default": []},
                    "unit_paths": {"type": "list", "elements": "path", "required": True},
                    "daemon_paths": {"type": "list", "elements": "path", "required": True},
                    "generation_paths": {"type": "list", "elements": "path", "required": True},
                    "limits_paths": {"type": "list", "elements": "path", "required": True},
                },
            }
        },
        supports_check_mode=True,
    )
    effects = Pools(module)
    actions = {}
    for pool in module.params["pools"]:
        name = pool["name"]
        wanted = {kind: digest(pool[f"{kind}_paths"]) for kind in KINDS}
        steps = needed(
            effects.show(f"kechi@{name}.service"),
            [effects.show(unit) for unit in (f"kechi@{name}.socket", *pool["sockets"])],
            effects.stale(name, pool["sockets"]),
            effects.running(name),
            wanted,
        )
        if steps:
            actions[name] = steps
        if module.check_mode:
            continue
        for kind, value in wanted.items():
            path = Path(f"/etc/kechi/pools/{name}.{kind}")
            if not path.is_file() or path.read_text() != value:
                path.write_text(value)
                path.chmod(0o644)
        for step in steps:
            effects.act(pool, step)
    module.exit_json(changed=bool(actions), actions=actions)


if __name__ == "__main__":
    main()
