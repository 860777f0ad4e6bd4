#!/usr/bin/env python3
"""Find the container engine and what *this* machine makes it need; print that as JSON.

A systemd container needs other flags on cgroup v1 than on v2, under a supervisor without
CAP_SYS_RESOURCE, or with docker. Every such quirk is decided here and nowhere else:
``look`` collects facts (effects), ``decide`` turns them into a plan (pure).

    $ python3 -m containers.engine
    {"engine": "podman", "command": ["podman"], "run_flags": ["--privileged", ...], ...}

``KECHI_ENGINE=docker`` (or ``podman``) overrides the choice.
"""

from __future__ import annotations

import configparser
import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

ENGINES = ("podman", "docker")
CAP_SYS_RESOURCE = 24
STOP_SIGNAL = "SIGRTMIN+3"  # systemd's own "halt": from systemd(1), SIGNALS
# containers/common asks for these by default; the kernel refuses more than the hard limit
PODMAN_NOFILE = 1_048_576
# where a machine behind an inspecting proxy says which authorities it trusts, most specific first
CA_VARIABLES = ("PIP_CERT", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "CURL_CA_BUNDLE")


class EngineError(Exception):
    """No usable engine: the message is one line that says what to do."""


@dataclass(frozen=True)
class Facts:
    """What was seen on this machine; limits are numbers, or None for "unlimited"."""

    engine: str
    cgroups: str  # "v1" (also hybrid) or "v2"
    runtime: str  # the engine's default OCI runtime, such as "crun"
    remote: bool  # the engine runs in another machine (a VM on macOS, say)
    rootless: bool
    runc: str | None  # its path
    sys_resource: bool  # CAP_SYS_RESOURCE: may raise limits over the hard ones
    nofile: int | None
    nproc: int | None
    pid_max: int
    ca_bundle: str | None


@dataclass(frozen=True)
class Plan:
    """How to call the engine here."""

    engine: str
    command: tuple[str, ...]  # goes before every sub-command
    run_flags: tuple[str, ...]  # for `run`, so that systemd boots and its limits are enforced
    build_flags: tuple[str, ...]
    remove_flags: tuple[str, ...]  # for `rm`; on v1 a tidy shutdown trims other machines' cgroups
    ca_bundle: str | None  # PEM file of the authorities that this machine trusts


def choose(environ: Mapping[str, str], which: Callable[[str], str | None]) -> str:
    """Name the engine: $KECHI_ENGINE, else the first one installed. Raises EngineError."""
    wanted = environ.get("KECHI_ENGINE")  # set but empty is not set, as in a shell
    if wanted and wanted not in ENGINES:
        raise EngineError(f'KECHI_ENGINE="{wanted}" is not one of: {", ".join(ENGINES)}')
    for engine in (wanted,) if wanted else ENGINES:
        if which(engine):
            return engine
    raise EngineError(
        f"no {wanted or 'podman'} on PATH: sudo apt-get install {_package(wanted or 'podman')}"
    )


def decide(facts: Facts) -> Plan:
    """Turn facts into the plan. Raises EngineError where no set of flags can work."""
    if facts.engine == "docker":
        return Plan(
            engine="docker",
            command=("docker",),
            run_flags=(
                "--privileged",
                "--cgroupns=private",
                f"--stop-signal={STOP_SIGNAL}",
                # what podman's --systemd=always does
                "--tmpfs=/run:exec",
                "--tmpfs=/run/lock",
                "--tmpfs=/tmp:exec",
                "--env=container=docker",
            ),
            build_flags=(),
            remove_flags=("--force", "--volumes"),
            ca_bundle=facts.ca_bundle,
        )
    command = ["podman"]
    if facts.cgroups == "v1" and facts.runtime == "crun" and not facts.remote:
        if facts.runc is None:
            raise EngineError(
                "crun cannot run systemd on this machine's cgroup v1: sudo apt-get install runc"
            )
        command.append(f"--runtime={facts.runc}")
    flags = [
        "--privileged",
        "--cgroupns=private",  # without it MemoryMax= is shown, and not enforced, on cgroup v1
        "--systemd=always",
        "--pids-limit=-1",  # of podman's 2048, systemd would give a unit 307
        f"--stop-signal={STOP_SIGNAL}",
    ]
    if not (facts.sys_resource or facts.rootless or facts.remote):
        nofile = _least(facts.nofile, PODMAN_NOFILE)
        nproc = _least(facts.nproc, facts.pid_max)
        flags += [f"--ulimit=nofile={nofile}:{nofile}", f"--ulimit=nproc={nproc}:{nproc}"]
    return Plan(
        engine="podman",
        command=tuple(command),
        run_flags=tuple(flags),
        # chroot: needs no OCI runtime, so no quirk of one
        build_flags=("--isolation=chroot",),
        remove_flags=("--force", "--volumes", "--time=0"),
        ca_bundle=facts.ca_bundle,
    )


def look(environ: Mapping[str, str]) -> Facts:
    """Collect the facts of this machine. Raises EngineError when the engine does not answer."""
    engine = choose(environ, shutil.which)
    template = "{{json .}}" if engine == "docker" else "json"
    info = json.loads(_ask([engine, "info", "--format", template]))
    podman = info.get("host", {})
    return Facts(
        engine=engine,
        cgroups=podman.get("cgroupVersion") or f"v{info.get('CgroupVersion', 2)}",
        runtime=podman.get("ociRuntime", {}).get("name") or info.get("DefaultRuntime", ""),
        remote=bool(podman.get("serviceIsRemote")),
        rootless=bool(podman.get("security", {}).get("rootless")),
        runc=shutil.which("runc", path=environ.get("PATH", "") + ":/usr/sbin:/sbin"),
        sys_resource=_has_capability(CAP_SYS_RESOURCE),
        nofile=_hard_limit(resource.RLIMIT_NOFILE),
        nproc=_hard_limit(resource.RLIMIT_NPROC),
        pid_max=_pid_max(),
        ca_bundle=ca_bundle(environ),
    )


def plan() -> Plan:
    """Look at this machine and decide. Raises EngineError."""
    return decide(look(os.environ))


def ca_bundle(environ: Mapping[str, str]) -> str | None:
    """Find the PEM file of the authorities that this machine was told to trust, if it was."""
    home = Path(environ.get("HOME", "/"))
    config_home = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    pip = configparser.RawConfigParser()
    try:
        pip.read(["/etc/pip.conf", home / ".pip/pip.conf", config_home / "pip/pip.conf"])
    except configparser.Error:
        pip.clear()  # pip will say so itself
    told = [environ.get(name) for name in CA_VARIABLES]
    told.append(pip.get("global", "cert", fallback=None))
    return next((path for path in told if path and Path(path).is_file()), None)


def _package(engine: str) -> str:
    return {"docker": "docker.io"}.get(engine, engine)


def _least(*limits: int | None) -> int:
    return min(limit for limit in limits if limit is not None)


def _ask(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise EngineError(f"`{' '.join(command[:2])}` failed: {last}")
    return done.stdout


def _has_capability(number: int) -> bool:
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return True  # no Linux: the engine is in a VM, where it is root
    effective = next(line.split()[1] for line in status.splitlines() if line.startswith("CapEff:"))
    return bool(int(effective, 16) >> number & 1)


def _hard_limit(which: int) -> int | None:
    hard = resource.getrlimit(which)[1]
    return None if hard == resource.RLIM_INFINITY else hard


def _pid_max() -> int:
    try:
        return int(Path("/proc/sys/kernel/pid_max").read_text(encoding="ascii"))
    except OSError:
        return 32768  # the kernel's own default


def main() -> int:
    """Print the plan as JSON."""
    try:
        print(json.dumps(asdict(plan())))
    except EngineError as error:
        print(f"containers.engine: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
