#!/usr/bin/python
"""All that the roles have to know of a machine before they change it, in one look."""

from __future__ import annotations

DOCUMENTATION = """
module: machine_facts
short_description: Learn in one call what the roles of this collection ask of a machine
version_added: 0.1.0
description:
  - Looks at memory, packages, users, units and a few files, and changes nothing of them.
  - Fails on a distribution that is too old, or whose own Python is. Of one that is neither Debian
    nor Ubuntu there is a warning.
  - Fails where another play has the machine, as M(kechi.vps.play_lock) does.
  - C(site.yml) calls it once, and registers C(kechi_machine), by which the roles leave out tasks
    that would find nothing to do. A role that finds none looks itself.
  - Returns the facts C(memtotal_mb), C(swaptotal_mb) and C(virtualization_tech_guest), as
    M(ansible.builtin.setup) has them.
options:
  lock:
    description: >-
      Whether to take the machine for this play first, so that no other one changes meanwhile what
      was seen. M(kechi.vps.play_lock) gives it back.
    type: bool
    default: false
extends_documentation_fragment:
  - kechi.vps.play_lock
attributes:
  check_mode:
    support: full
    description: Looks, and takes no lock; a play that is under way is warned of.
author: the kechi.vps authors (!UNKNOWN)
"""

EXAMPLES = """
- name: Learn what there is
  kechi.vps.machine_facts:
  register: kechi_machine
"""

RETURN = """
packages:
  description: The version of each installed package.
  returned: always
  type: dict
files:
  description: >-
    The state of each file that the roles write, if everybody may read it: mode, owner, group, and
    the digest of its content.
  returned: always
  type: dict
users:
  description: Each user's name, home and shell, with colons between.
  returned: always
  type: list
  elements: str
settled:
  description: The units that are enabled and active, by files that systemd has read.
  returned: always
  type: list
  elements: str
unit_files:
  description: This collection's units in C(/etc/systemd/system).
  returned: always
  type: list
  elements: str
ipv6:
  description: Whether the machine speaks IPv6.
  returned: always
  type: bool
front_end:
  description: What C(/etc/kechi/frontend.json) holds.
  returned: always
  type: dict
pools:
  description: >-
    Of each pool that is enabled, what other roles take from it, as it was deployed: C(apps),
    C(routes) (each host's socket) and C(static) (each app's directories of static files).
  returned: always
  type: dict
nginx_connections:
  description: >-
    How many connections each of nginx's workers takes, by C(/etc/nginx/nginx.conf); 0 where that
    doesn't say.
  returned: always
  type: int
firewall:
  description: Whether anything of M(kechi.vps.firewall) is there.
  returned: always
  type: bool
crawlers:
  description: >-
    The files of the role C(kechi.vps.crawlers), in an order in which they can go.
  returned: always
  type: list
  elements: str
distribution:
  description: What C(/etc/os-release) has as its C(ID); empty where that says nothing.
  returned: always
  type: str
ufw:
  description: Whether C(ufw) filters incoming traffic, too.
  returned: always
  type: bool
page_merging:
  description: How the kernel merges equal pages, by the names of its files; empty where it can't.
  returned: always
  type: dict
"""

import json
import pwd
import re
import sys
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import distribution, dpkg, play_lock, release_sets, snapshot

UNITS = Path("/etc/systemd/system")
FRONT_END = Path("/etc/kechi/frontend.json")
IPV6 = Path("/proc/net/if_inet6")
MERGING = Path("/sys/kernel/mm/ksm")
MERGING_FILES = ("run", "pages_to_scan", "sleep_millisecs")
FIREWALL = (
    Path("/etc/kechi/firewall.nft"),
    UNITS / "kechi-firewall.service",
    Path("/run/kechi-firewall"),
)
CRAWLERS = (
    "etc/systemd/system/kechi-crawler-*.timer",
    "etc/systemd/system/kechi-crawler-*.service",
    "etc/tmpfiles.d/kechi-crawler-*.conf",
    "etc/nginx/kechi.d/*/crawlers.*",
    "etc/nginx/conf.d/kechi-crawlers.conf",
    "var/lib/kechi/robots/*.txt",
)
UFW = Path("/etc/ufw/ufw.conf")
UFW_ENABLED = re.compile(r"^\s*ENABLED\s*=\s*[\"']?yes\b", re.MULTILINE | re.IGNORECASE)
NGINX = Path("/etc/nginx/nginx.conf")
NGINX_CONNECTIONS = re.compile(r"^\s*worker_connections\s+(\d{1,9});", re.MULTILINE)
SETTLED = {"ActiveState": "active", "UnitFileState": "enabled", "NeedDaemonReload": "no"}
SHOW = ("systemctl", "show", f"--property=Id,{','.join(SETTLED)}", "*.service", "*.timer")


def memory_mb(meminfo: str, name: str) -> int:
    """One line of /proc/meminfo, in MB."""
    (line,) = (line for line in meminfo.splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) // 1024


def settled(shown: str) -> list[str]:
    """The units that need nothing, by what `SHOW` prints."""
    units = (
        dict(line.split("=", 1) for line in unit.splitlines() if "=" in line)
        for unit in shown.split("\n\n")
    )
    return sorted(
        unit["Id"]
        for unit in units
        if unit and all(unit.get(name) == value for name, value in SETTLED.items())
    )


def guest(container: str, machine: str) -> list[str]:
    """What `systemd-detect-virt` says, in the words of Ansible's facts."""
    if container not in ("", "none"):
        return ["container", container]
    return [machine] if machine not in ("", "none") else []


def page_merging(folder: Path) -> dict[str, int]:
    """The kernel's settings for merging equal pages; none where it has no such thing."""
    try:
        return {name: int((folder / name).read_text()) for name in MERGING_FILES}
    except (OSError, ValueError):
        return {}


def front_end(path: Path) -> dict[str, Any]:
    """What the role `frontend` has left for health checks."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def pools(units: Path, root: Path) -> dict[str, dict[str, Any]]:
    """What the sets in use of the enabled pools say of their apps, hosts and static files."""
    found = {}
    for unit in sorted(units.glob("multi-user.target.wants/kechi@*.service")):
        name = unit.name.removeprefix("kechi@").removesuffix(".service")
        sets = release_sets.Sets(name, root=root)
        about = sets.about(sets.active)
        found[name] = {
            "apps": sets.served,
            "routes": about.get("routes", {}),
            "static": about.get("static", {}),
        }
    return found


def nginx_connections(path: Path) -> int:
    """How many connections each of nginx's workers takes; 0 where its main file doesn't say."""
    try:
        found = NGINX_CONNECTIONS.search(path.read_text())
    except (OSError, UnicodeDecodeError):
        return 0
    return int(found[1]) if found else 0


def ufw(path: Path) -> bool:
    """Whether ufw is switched on: what it asks itself at boot."""
    try:
        return bool(UFW_ENABLED.search(path.read_text(errors="replace")))
    except OSError:
        return False


def python_version(module: AnsibleModule) -> tuple[int, ...]:
    """The version of the distribution's Python, which need not be the one that runs this."""
    own = Path(distribution.PYTHON)
    if own.exists() and own.samefile(sys.executable):
        return sys.version_info[:3]
    script = "import sys; print(*sys.version_info[:3])"
    _, out, _ = module.run_command([distribution.PYTHON, "-ISc", script])
    return tuple(map(int, out.split()))


def require_distribution(module: AnsibleModule) -> str:
    """Fail where nothing of this collection could work; warn where nobody has tried.

    Returns the distribution's ID.
    """
    path = Path(distribution.OS_RELEASE)
    found = distribution.read(path.read_text(errors="replace") if path.is_file() else "")
    fault = distribution.fault(found, python_version(module))
    if fault:
        module.fail_json(msg=f"Nothing was changed: {fault}")
    if not distribution.is_known(found):
        name = found.get("PRETTY_NAME", "a system without /etc/os-release")
        module.warn(
            f'this machine has "{name}": {distribution.ALLOWED}; on others nobody has tried'
        )
    return found.get("ID", "")


def _detect(module: AnsibleModule, kind: str) -> str:
    # it fails where there is nothing of the kind, or no systemd
    command = ["systemd-detect-virt", f"--{kind}"]
    try:
        _, out, _ = module.run_command(command, handle_exceptions=False)
    except OSError:
        return ""
    return str(out).strip()


def main() -> None:
    """Look."""
    lock = {"type": "bool", "default": False}
    module = AnsibleModule(
        argument_spec={"lock": lock, **play_lock.OPTIONS}, supports_check_mode=True
    )
    identity = require_distribution(module)
    held_by = play_lock.take(module, keep=module.params["lock"])
    if held_by and not module.check_mode:
        module.exit_json(changed=False, held_by=held_by)
    meminfo = Path("/proc/meminfo").read_text()
    _, packages, _ = module.run_command([*dpkg.QUERY], check_rc=True)
    _, shown, _ = module.run_command([*SHOW], check_rc=True)
    module.exit_json(
        changed=False,
        ansible_facts={
            "ansible_memtotal_mb": memory_mb(meminfo, "MemTotal"),
            "ansible_swaptotal_mb": memory_mb(meminfo, "SwapTotal"),
            "ansible_virtualization_tech_guest": guest(
                _detect(module, "container"), _detect(module, "vm")
            ),
        },
        packages=dpkg.installed(packages),
        files=snapshot.take(),
        users=[f"{user.pw_name}:{user.pw_dir}:{user.pw_shell}" for user in pwd.getpwall()],
        settled=settled(shown),
        unit_files=sorted(path.name for path in UNITS.glob("kechi*") if path.is_file()),
        ipv6=IPV6.exists(),
        front_end=front_end(FRONT_END),
        pools=pools(UNITS, release_sets.ROOT),
        nginx_connections=nginx_connections(NGINX),
        firewall=any(path.exists() for path in FIREWALL),
        crawlers=[str(path) for place in CRAWLERS for path in sorted(Path("/").glob(place))],
        distribution=identity,
        ufw=ufw(UFW),
        page_merging=page_merging(MERGING),
        held_by=held_by,
    )


if __name__ == "__main__":
    main()
