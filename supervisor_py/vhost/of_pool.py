"""The command vhost_server on a machine of pools: a pool's own, from its virtualenv, as its user.

    vhost_server --check main

What it loads is the apps' code, so it never runs as root: it gets a unit of its own, confined as
the pool is, and its memory at most.
"""

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from .pool import NAME

POOL_FILES = Path("/etc/kechi/pools")
SERVER = "/srv/kechi/%s/venv/bin/vhost_server"
# as kechi@.service has them; what stands twice adds to itself
CONFINED = (
    ("UMask", "0027"),
    ("NoNewPrivileges", "yes"),
    ("CapabilityBoundingSet", ""),
    ("ProtectSystem", "strict"),
    ("ProtectHome", "yes"),
    ("PrivateTmp", "yes"),
    ("PrivateDevices", "yes"),
    ("ProtectControlGroups", "yes"),
    ("ProtectKernelTunables", "yes"),
    ("ProtectKernelModules", "yes"),
    ("ProtectKernelLogs", "yes"),
    ("ProtectClock", "yes"),
    ("ProtectHostname", "yes"),
    ("ProtectProc", "invisible"),
    ("PrivateMounts", "yes"),
    ("RemoveIPC", "yes"),
    ("RestrictNamespaces", "yes"),
    ("RestrictRealtime", "yes"),
    ("RestrictSUIDSGID", "yes"),
    ("RestrictAddressFamilies", "AF_UNIX AF_INET AF_INET6"),
    ("LockPersonality", "yes"),
    ("SystemCallArchitectures", "native"),
    ("SystemCallFilter", "@system-service"),
    ("SystemCallFilter", "~@privileged @resources"),
    ("SystemCallFilter", "~io_uring_enter io_uring_register io_uring_setup"),
    ("SystemCallErrorNumber", "EPERM"),
    ("WorkingDirectory", "/"),
    ("ReadWritePaths", "-/srv/www"),
)
TASKS = 256
FILE = re.compile(re.escape(str(POOL_FILES)) + r"/([^/]+)\.toml")


def pool_of(argument: str) -> str:
    """The pool that is meant, by its name or its pool file; "" for none."""
    found = FILE.fullmatch(argument)
    name = found[1] if found else argument
    return name if NAME.fullmatch(name) else ""


def command(options: Sequence[str], pool: str, memory_max: str, *, root: bool) -> list[str]:
    """What is run for a pool; its own user runs it as it is."""
    own = [SERVER % pool, *options, f"{POOL_FILES}/{pool}.toml"]
    if not root:
        return own
    user = f"kechi-{pool}"
    properties = (
        ("User", user),
        ("Group", user),
        ("MemoryMax", memory_max),
        ("TasksMax", TASKS),
        *CONFINED,
    )
    return [
        "systemd-run",
        "--quiet",
        "--pipe",
        "--wait",
        "--collect",
        "--service-type=exec",
        *(f"--property={name}={value}" for name, value in properties),
        *own,
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the vhost server of the pool that is named last."""
    *options, last = arguments or sys.argv[1:] or [""]
    there = sorted(path.stem for path in POOL_FILES.glob("*.toml"))
    pool = pool_of(last)
    if pool not in there:
        sys.stderr.write(
            f'vhost_server: "{last}" is no pool of Python apps here; there:'
            f" {', '.join(there) or 'none'} (as in: vhost_server --check main)\n"
        )
        return 1
    show = ["systemctl", "show", "--property=MemoryMax", "--value", f"kechi@{pool}.service"]
    shown = subprocess.run(show, capture_output=True, text=True, check=False).stdout.strip()
    words = command(options, pool, shown or "infinity", root=os.geteuid() == 0)
    return subprocess.run(words, check=False).returncode
