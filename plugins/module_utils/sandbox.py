"""What a program of a pool may do: its unit's directives, and those of all that is run beside it.

`kechi@.service` is rendered from these, and checks, trials, hooks and builds are started with them,
so that an app finds no wider door beside its own.
"""

from __future__ import annotations

from collections.abc import Iterator

# a directive that stands twice adds to itself
DIRECTIVES: tuple[tuple[str, str], ...] = (
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
    # processes of other users are not seen; what reads of one's own is left
    ("ProtectProc", "invisible"),
    ("PrivateMounts", "yes"),
    # of a user with several units only when the last of them ends
    ("RemoveIPC", "yes"),
    ("RestrictNamespaces", "yes"),
    ("RestrictRealtime", "yes"),
    ("RestrictSUIDSGID", "yes"),
    ("RestrictAddressFamilies", "AF_UNIX AF_INET AF_INET6"),
    ("LockPersonality", "yes"),
    ("SystemCallArchitectures", "native"),
    # what an ordinary service calls, less what takes a privilege, and less io_uring, whose requests
    # no filter sees; a refused call is an error, and no end
    ("SystemCallFilter", "@system-service"),
    ("SystemCallFilter", "~@privileged @resources"),
    ("SystemCallFilter", "~io_uring_enter io_uring_register io_uring_setup"),
    ("SystemCallErrorNumber", "EPERM"),
)
# what a firewall's program needs otherwise: at boot, maybe before there is a /tmp, as root
_OF_POOLS = ("UMask", "CapabilityBoundingSet", "PrivateTmp", "RemoveIPC", "RestrictAddressFamilies")
FIREWALL: tuple[tuple[str, str], ...] = (
    *(one for one in DIRECTIVES if one[0] not in _OF_POOLS),
    ("UMask", "0077"),
    ("CapabilityBoundingSet", "CAP_NET_ADMIN"),
    ("RestrictAddressFamilies", "AF_NETLINK"),
    ("IPAddressDeny", "any"),
    ("ProcSubset", "pid"),
    ("MemoryDenyWriteExecute", "yes"),
)


def unit_lines(directives: tuple[tuple[str, str], ...] = DIRECTIVES) -> str:
    """The directives as a unit file has them."""
    return "\n".join(f"{name}={value}" for name, value in directives)


def properties(*more: tuple[str, object]) -> Iterator[str]:
    """The directives, and more that replace those of their names, as `systemd-run` takes them."""
    replaced = {name for name, _ in more}
    for name, value in (*(one for one in DIRECTIVES if one[0] not in replaced), *more):
        yield f"--property={name}={value}"
