#!/usr/bin/python
"""Bring each pool's units to what the files on the target say, by the gentlest step."""

from __future__ import annotations

DOCUMENTATION = """
module: pool_state
short_description: Start, restart or gracefully reload pools, only where it is needed
version_added: 0.1.0
description:
  - Each pool's units leave digests of what they were started from in C(/run/kechi/notes), where
    root alone can write.
  - A pool whose super-daemon was started from other unit files, or for other sockets of isolated
    apps, is restarted (systemd keeps the listening sockets); one whose super-daemon has other code
    is upgraded in place, and keeps its generation; one whose apps, requirements or environment
    differ gets a new generation; limits are handed to the kernel as they are, and restart nothing.
  - A pool's release set (see M(kechi.vps.release_sets)) is switched to in one step - the code of
    all its apps, the virtualenv, the pool file and its units. Before that, C(vhost_server --check)
    has loaded it (or O(pools[].command) was found to be a program that the pool's user may run),
    the hooks of new releases have run, and each app has been asked in a trial, on sockets of its
    own - as the pool's user, and within its memory.
  - After a new generation is ready, each app is asked once by HTTP. When anything fails, the set
    that has last passed this gate is switched to again, the same way.
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
      state:
        description: >-
          C(absent) stops the pool and disables its units; its files stay.
        type: str
        choices: [present, absent]
        default: present
      memory_max_mb:
        description: The memory in MB that a check or a hook may take.
        type: int
        default: 300
      tasks_max:
        description: How many processes and threads a check or a hook may have.
        type: int
        default: 256
      command:
        description: The pool's own server, where it is not the vhost server.
        type: list
        elements: str
        default: []
      environment:
        description: The environment of O(pools[].command).
        type: dict
        default: {}
      checks:
        description: >-
          The requests of the health gate, each a dictionary of C(app), C(site) (its host and path
          as the front end knows it), C(host), C(path), C(statuses) and C(socket).
        type: list
        elements: dict
        default: []
      hooks:
        description: >-
          What runs once for each new release of an app, each a dictionary of C(app), C(commands)
          (lists of words) and C(environment).
        type: list
        elements: dict
        default: []
      unit_paths:
        description: A change in these needs a new super-daemon.
        type: list
        elements: path
        default: []
      daemon_paths:
        description: A change in these needs a new version of the super-daemon, in its place.
        type: list
        elements: path
        default: []
      generation_paths:
        description: A change in these needs a new generation.
        type: list
        elements: path
        default: []
      limits_paths:
        description: A change in these only changes limits of memory, tasks and processor.
        type: list
        elements: path
        default: []
  known:
    description: >-
      The pools that the inventory knows, whatever their state. Of others that are enabled there is
      a warning. Without it nobody looks.
    type: list
    elements: str
    default: []
  release_sets:
    description: The ID of the release set that each pool is to run.
    type: dict
    default: {}
  keep:
    description: How many release sets of a pool, and releases of an app, stay.
    type: int
    default: 3
  load_seconds:
    description: How long loading all apps of a pool may take, in the check and in the trial.
    type: int
    default: 120
  hook_seconds:
    description: How long each hook may take.
    type: int
    default: 600
  health_seconds:
    description: How long an app's answer to the gate may take.
    type: int
    default: 10
attributes:
  check_mode:
    support: full
    description: Says what would be done about the files as they are now.
author: the kechi.vps authors (!UNKNOWN)
"""

EXAMPLES = """
- name: Serve
  kechi.vps.pool_state:
    pools:
      - name: main
        unit_paths: [/etc/systemd/system/kechi@.service]
        daemon_paths: [/usr/local/lib/kechi/current]
        generation_paths: [/etc/kechi/env]
        limits_paths: ["/etc/systemd/system/kechi@main.service.d/limits.conf"]
    release_sets: {main: 0123456789ab}
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
import os
import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import bounded, health, hooks, journal, play_lock, release_sets, releases

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
POLL_SECONDS = 0.2
START_SERVER = "/usr/local/bin/start_server"
NOTES = Path("/etc/kechi/pools")
# of what runs. Root's alone to write, as /run/kechi-POOL is its app's to fill with links and pipes;
# a pool may be called "notes", and have the sockets of its apps here, too
RUNNING = Path("/run/kechi/notes")
MESSAGE_CHARACTERS = 2000  # of one line of a failure
BEFORE = ("check", "hooks", "rehearse")  # the steps that change nothing of what serves
UNITS = Path("/etc/systemd/system")
CONTROL = "/run/kechi-%s/control"
ENVDIR = "/etc/kechi/env"
MISSING = "; can't load "  # in the status of a vhost server that serves the other apps


class PoolError(Exception):
    """A pool can't be brought to its state; says why, and in which apps, where that is known."""

    def __init__(self, message: str, apps: Collection[str] = ()) -> None:
        super().__init__(message)
        self.apps = frozenset(apps)


def digest(paths: list[str], instead: Mapping[Path, Path] | None = None, more: str = "") -> str:
    """One digest of files, of directories' files, and of where symlinks point.

    Args:
        paths: what is looked at.
        instead: where the content of some of them is until they are installed.
        more: what counts besides.
    """
    sum_ = hashlib.sha256(more.encode())
    for name in sorted(paths):
        path = Path(name)
        found = sorted(path.iterdir()) if path.is_dir() and not path.is_symlink() else [path]
        for item in found:
            place = (instead or {}).get(item, item)
            if place.is_symlink():
                content = str(place.readlink()).encode()
            elif place.is_file():
                content = place.read_bytes()
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


def around(steps: list[str], *, active: str, good: str, target: str, hooked: bool) -> list[str]:
    """The steps of a pool's units, with those of its release set around them.

    Args:
        steps: what `needed` says.
        active: the set in use, "" for none.
        good: the one that has last passed the health gate, "" for none.
        target: the one to use.
        hooked: whether a new release has hooks that have not run.
    """
    first = []
    tried = active != target and "start" not in steps
    if "check" in steps or tried:
        first.append("check")
    if hooked:
        first.append("hooks")
    if tried:
        first.append("rehearse")
    if active != target:
        first.append("activate")
    rest = [step for step in steps if step != "check"]
    gated = good != target or not {"start", "restart", "reload"}.isdisjoint(steps)
    return [*first, *rest, *(["gate"] if gated else [])]


def unhealthy(check: Mapping[str, Any], error: health.Unhealthy) -> str:
    """What the gate says of an app."""
    return f"the app {check['app']} does not answer as it should: {error}"


def readable(told: str) -> str:
    """A failure for a terminal: a hook, a check or an answer of an app may be quoted in it."""
    return "\n".join(
        journal.printable(line, MESSAGE_CHARACTERS) for line in told.strip().split("\n")
    )


class Pools:
    """The effects: systemctl, and the digests' files.

    `run` runs what may say anything at any length: programs of apps, and the journal.
    """

    def __init__(self, module: AnsibleModule, run: hooks.Run | None = None) -> None:
        self.module = module
        self._run_strangers: hooks.Run = run or module.run_command
        self._since: journal.Since | None = None  # the begin of the current try

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
            path = RUNNING / f"{name}.{kind}"
            found[kind] = path.read_text() if path.is_file() else ""
        return found

    def stale(self, name: str, wanted: list[str]) -> list[str]:
        """The units of sockets that isolated apps of this pool have had, and have no more."""
        found = sorted(path.name for path in UNITS.glob(f"kechi@{name}.*.socket"))
        return [unit for unit in found if unit not in wanted]

    def wanted(self, pool: dict[str, Any], target: str) -> dict[str, str]:
        """The digests of the files as they are to be with a release set."""
        units = release_sets.Sets(pool["name"]).unit_files(target)
        return {
            kind: digest(pool[f"{kind}_paths"], units, target if kind == "generation" else "")
            for kind in KINDS
        }

    def plan(self, pool: dict[str, Any], target: str) -> list[str]:
        """The steps that bring a pool to a release set."""
        name = pool["name"]
        sets = release_sets.Sets(name)
        # in check mode a new set has not been written
        sockets = sets.sockets(target if sets.about(target) else sets.active)
        steps = needed(
            self.show(f"kechi@{name}.service"),
            [self.show(unit) for unit in (f"kechi@{name}.socket", *sockets)],
            self.stale(name, sockets),
            self.running(name),
            self.wanted(pool, target),
        )
        hooked = any(True for _ in self._pending(pool, target))
        return around(steps, active=sets.active, good=sets.good, target=target, hooked=hooked)

    def bring(self, pool: dict[str, Any], target: str, steps: list[str]) -> None:
        """Do the steps; raises PoolError."""
        self._since = journal.Since(self._run_strangers)
        noted = False
        for step in steps:
            if step not in BEFORE and step != "activate" and not noted:
                self._note(pool, target)
                noted = True
            try:
                self.act(pool, step, target)
            except (OSError, releases.ReleaseError) as error:
                raise PoolError(f"{step}: {error}") from error
        if not noted:
            self._note(pool, target)

    def go_back(self, pool: dict[str, Any], failed: list[str], *, was_off: bool) -> str:
        """Use the last set that was good, if it is not the one in use; returns what to tell.

        A pool that was off is off again instead: nobody has asked for what it served once.

        Args:
            pool: the pool.
            failed: the steps of which one has failed.
            was_off: whether it was stopped and disabled before them, or not there at all.
        """
        sets = release_sets.Sets(pool["name"])
        good = sets.good
        if was_off or not good or sets.active == good:
            return self._withdraw(pool["name"], failed, was_off=was_off)
        steps = [step for step in self.plan(pool, good) if step not in (*BEFORE, "gate")]
        if {"start", "restart", "reload"}.isdisjoint(steps):
            # what has failed may be under way still, or be tried again
            steps.append("reload")
        names = ", ".join(f"{app} {name}" for app, name in sorted(sets.releases(good).items()))
        try:
            self.bring(pool, good, steps)
        except PoolError as error:
            told = f"Going back to the releases before ({names}) failed, too: {error}"
            withdrawn = self._withdraw(pool["name"], failed, was_off=was_off)
            return f"{told}\n{withdrawn}".strip()
        return f"The releases before serve again: {names}"

    def _withdraw(self, name: str, failed: list[str], *, was_off: bool) -> str:
        """Stop a pool that this run was to start, and that has never been good, or was off before.

        systemd and the super-daemon would go on trying, for ever.
        """
        sets = release_sets.Sets(name)
        if "start" not in failed or not sets.active or (sets.good and not was_off):
            return ""
        units = [f"kechi@{name}.service", f"kechi@{name}.socket", *self.stale(name, [])]
        rc, out, err = self.module.run_command(["systemctl", "disable", "--now", *units])
        self.module.run_command(["systemctl", "reset-failed", *units])
        if not sets.good:
            sets.deactivate()
        elif sets.active != sets.good and sets.activate(sets.good):
            self.module.run_command(["systemctl", "daemon-reload"])
        if rc:
            return f"It can't be stopped: {(err or out).strip()}"
        return "It did not run before: it is stopped and disabled again, until a run starts it"

    def note_failure(self, pool: dict[str, Any], target: str, error: PoolError) -> None:
        """Note which releases of a set are new, and have failed."""
        sets = release_sets.Sets(pool["name"])
        known = sets.releases(sets.good)
        for app, name in sets.releases(target).items():
            if known.get(app) != name and (not error.apps or app in error.apps):
                try:
                    releases.note(release_sets.APPS / app, name, failed=True)
                except OSError as fault:
                    self.module.warn(f"{app}: that {name} has failed can't be noted: {fault}")

    def act(self, pool: dict[str, Any], step: str, target: str) -> None:
        """One step."""
        name = pool["name"]
        service, socket = f"kechi@{name}.service", f"kechi@{name}.socket"
        sets = release_sets.Sets(name)
        own = {
            "check": self._check,
            "hooks": self._hooks,
            "rehearse": self._rehearse,
            "activate": self._activate,
            "gate": self._gate,
        }
        if step in own:
            own[step](pool, target)
        elif step == "close":
            for unit in self.stale(name, sets.sockets(target)):
                self._systemctl(name, "disable", "--now", unit)
                (UNITS / unit).unlink()
            self._systemctl(name, "daemon-reload")
        elif step == "daemon-reload":
            self._systemctl(name, "daemon-reload")
        elif step == "enable":
            self._systemctl(name, "enable", service, socket, *sets.sockets(target))
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
        elif step == "stop":
            sockets = self.stale(name, [])
            self._systemctl(name, "disable", "--now", service, socket, *sockets)
            for kind in KINDS:
                (RUNNING / f"{name}.{kind}").unlink(missing_ok=True)
        else:
            self._systemctl(name, "start", socket)
            self._systemctl(name, "restart", "--no-block", service)
            self._wait_until_up(name, service)
            self._refuse_missing_apps(name)

    def _note(self, pool: dict[str, Any], target: str) -> None:
        """Leave the digests where the units take them from when they start."""
        for kind, value in self.wanted(pool, target).items():
            path = NOTES / f"{pool['name']}.{kind}"
            try:
                if not path.is_file() or path.read_text() != value:
                    releases.write_atomically(path, value)
            except OSError as error:  # the next run takes what runs for something else
                self.module.warn(f"pool {pool['name']}: {path} can't be written: {error}")

    def _activate(self, pool: dict[str, Any], target: str) -> None:
        """Switch to a release set."""
        # from here on, whatever happens, what runs is not taken for what is wanted
        releases.write_atomically(NOTES / f"{pool['name']}.generation", "")
        if release_sets.Sets(pool["name"]).activate(target):
            self._systemctl(pool["name"], "daemon-reload")

    def _check(self, pool: dict[str, Any], target: str) -> None:
        """Refuse, before anything is stopped or switched, what can't be served."""
        if pool["command"]:
            self._check_program(pool, self._command(pool, target)[0])
            return
        folder = release_sets.Sets(pool["name"]).path(target)
        words = [f"{folder}/venv/bin/vhost_server", "--check", f"{folder}/{release_sets.POOL_FILE}"]
        fault = self._trial(pool).run(self._run_strangers, words, {}, "")
        if fault:
            raise PoolError(f"what is new can't be served, so it goes on as it is: {fault}")

    def _check_program(self, pool: dict[str, Any], program: str) -> None:
        words = ["test", "-f", program, "-a", "-x", program]
        if self._trial(pool).run(self._run_strangers, words, {}, ""):
            raise PoolError(
                f"what is new can't be served, so it goes on as it is: {program} is no program"
                f" that kechi-{pool['name']} may run"
            )

    @staticmethod
    def _command(pool: dict[str, Any], target: str) -> list[str]:
        """The words of a pool's own server, with the code of a set that is not in use yet."""
        ((app, release),) = release_sets.Sets(pool["name"]).about(target)["apps"].items()
        return hooks.in_release(pool["command"], release_sets.APPS / app, release)

    def _trial(self, pool: dict[str, Any]) -> hooks.Confined:
        return hooks.Confined(
            pool["name"],
            folder="/",
            writable=str(release_sets.APPS),
            memory_mb=pool["memory_max_mb"],
            seconds=self.module.params["load_seconds"],
            tasks=pool["tasks_max"],
        )

    def _rehearse(self, pool: dict[str, Any], target: str) -> None:
        """Ask each app on sockets of a trial's own: what is wrong is seen before any visitor is."""
        sets = release_sets.Sets(pool["name"])
        folder, unit = sets.path(target), f"kechi-trial-{pool['name']}"
        about = sets.about(target)
        sockets = {path: f"/run/{unit}/{Path(path).name}" for path in about["routes"].values()}
        service = f"{unit}.service"
        self.module.run_command(["systemctl", "stop", service])  # of a run that was cut off
        try:
            if pool["command"]:
                (release,) = about["apps"].values()
                words = [START_SERVER, f"--dir={release}", f"--envdir={ENVDIR}",
                         *(f"--path={path}" for path in sorted(sockets.values())),
                         "--", *self._command(pool, target)]  # fmt: skip
                fault = self._try_command(pool, unit, words)
            else:
                words = [f"{folder}/venv/bin/vhost_server", str(folder / release_sets.POOL_FILE),
                         *(f"--bind=unix:{path}" for path in sorted(sockets.values()))]  # fmt: skip
                rc, out, err = self.module.run_command([*self._trial(pool).serve(unit), *words])
                fault = (err or out).strip() if rc else ""
            faults = {} if fault else self._faults(pool, sockets)
        finally:
            self.module.run_command(["systemctl", "stop", service])
        if fault or faults:
            raise PoolError(
                "what is new does not serve as it should in a trial, so it goes on as it is: "
                + "\n".join([fault] if fault else faults.values())
                + self._journal(service, about["apps"], faults),
                faults,
            )

    def _try_command(self, pool: dict[str, Any], unit: str, words: list[str]) -> str:
        """Start a super-daemon with a pool's own server; returns why that does not get ready."""
        with hooks.environment_file(pool["environment"]) as file:
            start = self._trial(pool).serve(unit, EnvironmentFile=file)
            rc, out, err = self.module.run_command([start[0], "--no-block", *start[1:], *words])
            return (err or out).strip() if rc else self._started(f"{unit}.service")

    def _faults(self, pool: dict[str, Any], sockets: Mapping[str, str]) -> dict[str, str]:
        """What each app of a trial answers wrongly, by its name."""
        # a command may be alive long before it has loaded, and need not say when it has
        seconds = self.module.params["load_seconds" if pool["command"] else "health_seconds"]
        faults = {}
        for check in pool["checks"]:
            asked = {**check, "socket": sockets[check["socket"]]}
            try:
                health.check(asked, seconds, None)
            except health.Unhealthy as error:
                faults[check["app"]] = unhealthy(check, error)
        return faults

    def _pending(self, pool: dict[str, Any], target: str) -> Iterator[tuple[dict[str, Any], Path]]:
        """The hooks that have not run for the releases of a set, and those releases."""
        apps = release_sets.Sets(pool["name"]).about(target).get("apps", {})
        for hook in pool["hooks"]:
            release = Path(apps.get(hook["app"], ""))
            # in check mode a new release is not there
            record = releases.read(release.parent.parent) if release.name else {}
            if not record.get(release.name, {}).get("hooks_done"):
                yield hook, release

    def _hooks(self, pool: dict[str, Any], target: str) -> None:
        """Run what a new release asks for before it is used, once."""
        virtualenv = str(release_sets.Sets(pool["name"]).about(target)["virtualenv"])
        for hook, release in self._pending(pool, target):
            confined = hooks.Confined(
                pool["name"],
                folder=str(release),
                writable=f"{release_sets.APPS}/{hook['app']}/shared",
                memory_mb=pool["memory_max_mb"],
                seconds=self.module.params["hook_seconds"],
                tasks=pool["tasks_max"],
            )
            for words in hook["commands"]:
                fault = confined.run(self._run_strangers, words, hook["environment"], virtualenv)
                if fault:
                    raise PoolError(
                        f"a hook of the app {hook['app']} failed, so it goes on as it is: {fault}",
                        [hook["app"]],
                    )
            releases.note(release.parent.parent, release.name, hooks_done=True)

    def _gate(self, pool: dict[str, Any], target: str) -> None:
        """Ask each app once; what answers is the set that a failed deploy goes back to."""
        sets = release_sets.Sets(pool["name"])
        front = health.front_end()
        known = sets.about(sets.good).get("routes", {})
        faults = {}
        for check in pool["checks"]:
            # the front end is told of another socket or host only after this
            way = front if known.get(check["site"]) == check["socket"] else None
            try:
                health.check(check, self.module.params["health_seconds"], way)
            except health.Unhealthy as error:
                faults[check["app"]] = unhealthy(check, error)
        if faults:
            self._fail(pool["name"], "\n".join(faults.values()), faults)
        sets.confirm(target)
        self._note_success(sets, target)
        try:
            sets.prune(self.module.params["keep"])
        except OSError as error:  # it serves, and the next deploy tries again
            self.module.warn(f"pool {sets.pool}: what is old can't be removed: {error}")

    @staticmethod
    def _note_success(sets: release_sets.Sets, target: str) -> None:
        """Releases that have failed once, for a setting maybe, are good from now on."""
        for app, name in sets.releases(target).items():
            if releases.read(release_sets.APPS / app).get(name, {}).get("failed"):
                releases.note(release_sets.APPS / app, name, failed=False)

    def _wait_until_up(self, name: str, service: str) -> None:
        fault = self._started(service)
        if fault:
            self._fail(name, fault)

    def _started(self, service: str) -> str:
        """Wait for the start's end, or for its first failure: systemd itself would go on trying."""
        while True:
            found = self.show(service)
            starting = found["SubState"] == "start"
            if starting and found["StatusErrno"] != "0":
                return "its first generation does not start"
            if found.get("Job", "0") in ("", "0") and not starting:
                break
            time.sleep(POLL_SECONDS)
        if found["ActiveState"] != "active":
            return f"it is {found['ActiveState']} ({found['SubState']})"
        return ""

    def _refuse_missing_apps(self, name: str) -> None:
        """Tell of apps that can't be loaded: a first generation serves without them, as at boot."""
        out = self._run(
            name, START_SERVER, "--status", "--json", f"--control-socket={CONTROL % name}"
        )
        try:
            said = [str(one["status"] or "") for one in json.loads(out)["generations"]]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            # whoever has the control socket answers: that is the app's directory
            self._fail(name, f"start_server --status gives no status ({type(error).__name__})")
        for status in said:
            _, found, missing = status.partition(MISSING)
            if found:
                names = missing.partition(";")[0]
                apps = [app for app in release_sets.Sets(name).served if app in names.split(", ")]
                self._fail(name, f"its first generation can't load {names}", apps)

    @staticmethod
    def _made_of(name: str, kind: str) -> None:
        """Note what the running unit is made of from now on."""
        note = (NOTES / f"{name}.{kind}").read_text()
        releases.write_atomically(RUNNING / f"{name}.{kind}", note, mode=0o600)

    def _systemctl(self, name: str, *command: str) -> None:
        self._run(name, "systemctl", *command)

    def _run(self, name: str, *command: str) -> str:
        rc, out, err = self.module.run_command([*command])
        if rc:
            told = "\n".join((err or out).strip().splitlines()[-journal.SHOWN_LINES :])
            self._fail(name, f"{' '.join(command)}: {told}")
        return str(out)

    def _fail(self, name: str, why: str, failed: Collection[str] = ()) -> NoReturn:
        """End with the journal of the pool: what its apps said is the reason."""
        known = release_sets.Sets(name).served
        raise PoolError(f"{why}{self._journal(f'kechi@{name}.service', known, failed)}", failed)

    def _journal(self, unit: str, apps: Collection[str], failed: Collection[str]) -> str:
        """What the failed apps, or any, have logged in this try."""
        lines = self._since.lines(unit) if self._since else []
        shown = journal.relevant(lines, apps, failed)
        # a pool's only app may be a command, whose lines have no name before them
        told = "\n".join(shown)
        silent = [app for app in failed if app not in told and (len(apps) > 1 or not shown)]
        return "".join(
            [
                *(f"\nThe app {app} has logged nothing in this try" for app in silent),
                "\nThe last lines of its journal:\n" if shown else "",
                told,
            ]
        )

    def warn_of_forgotten(self, known: list[str]) -> None:
        """Tell of pools that are here, and that nobody has said anything of."""
        for path in sorted((UNITS / "multi-user.target.wants").glob("kechi@*.service")):
            name = path.name.removeprefix("kechi@").removesuffix(".service")
            if known and name not in known:
                self.module.warn(
                    f"the pool {name} goes on, and is not in the inventory; to end it, give it"
                    " `state: absent` there"
                )

    def removal(self, name: str) -> list[str]:
        """The steps that stop a pool for good."""
        units = [f"kechi@{name}.service", f"kechi@{name}.socket", *self.stale(name, [])]
        shown = [self.show(unit) for unit in units]
        off = all(
            unit["ActiveState"] in ("inactive", "failed") and unit["UnitFileState"] != "enabled"
            for unit in shown
        )
        return [] if off else ["stop"]


def main() -> None:
    """Compare, then act, one pool after the other."""
    paths = {"type": "list", "elements": "path", "default": []}
    module = AnsibleModule(
        argument_spec={
            "pools": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "name": {"type": "str", "required": True},
                    "state": {"choices": ["present", "absent"], "default": "present"},
                    "memory_max_mb": {"type": "int", "default": 300},
                    "tasks_max": {"type": "int", "default": 256},
                    "command": {"type": "list", "elements": "str", "default": []},
                    "environment": {"type": "dict", "default": {}},
                    "checks": {"type": "list", "elements": "dict", "default": []},
                    "hooks": {"type": "list", "elements": "dict", "default": []},
                    "unit_paths": paths,
                    "daemon_paths": paths,
                    "generation_paths": paths,
                    "limits_paths": paths,
                },
            },
            "known": {"type": "list", "elements": "str", "default": []},
            "release_sets": {"type": "dict", "default": {}},
            "keep": {"type": "int", "default": 3},
            "load_seconds": {"type": "int", "default": 120},
            "hook_seconds": {"type": "int", "default": 600},
            "health_seconds": {"type": "int", "default": 10},
        },
        supports_check_mode=True,
    )
    play_lock.at_work(module)
    os.umask(0o022)
    effects = Pools(module, bounded.run)
    effects.warn_of_forgotten(module.params["known"])
    actions = {}
    for pool in module.params["pools"]:
        name = pool["name"]
        target = module.params["release_sets"].get(name, "")
        absent = pool["state"] == "absent"
        steps = effects.removal(name) if absent else effects.plan(pool, target)
        if steps:
            actions[name] = steps
        if module.check_mode:
            continue
        was_off = not effects.removal(name)
        try:
            if absent:
                for step in steps:
                    effects.act(pool, step, target)
            else:
                effects.bring(pool, target, steps)
        except PoolError as error:
            if not absent:
                effects.note_failure(pool, target, error)
            told = "" if absent else effects.go_back(pool, steps, was_off=was_off)
            module.fail_json(msg=readable(f"pool {name}: {error}\n{told}"), actions=actions)
    module.exit_json(changed=bool(actions), actions=actions)


if __name__ == "__main__":
    main()
