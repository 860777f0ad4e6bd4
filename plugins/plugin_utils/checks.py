"""What the roles' variables must fulfil beyond their types: one function a role.

Each takes the role's values (defaults filled in) and what is known of the machine, and returns
every problem as a sentence. Nothing here touches a host.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible.module_utils.common.validation import check_type_bool

from ...supervisor_py.vhost import hosts
from ..modules.swap import auto_file_mb, auto_zram_mb
from ..plugin_utils import memory_budget, pool_problems, site_problems
from ..plugin_utils.pools import present, source_directory
from ..plugin_utils.settings import MISSING, problem

Values = Mapping[str, Any]

SMALLEST_SWAP_MB = 16
_KB_PER_MB = 1024
HTTP_PORT = 80
EMAIL = re.compile(r"[^@\s\"'\\$,]+@[^@\s\"'\\$,]+")
SERVER = re.compile(r"https://[^\s\"'\\$]+")
SITE_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")


@dataclass(frozen=True)
class Machine:
    """What the checks may know.

    Memory in MB (None: unknown), the inventory's folder, and swap in MB that is there or will be.
    """

    memory_mb: int | None
    inventory: Path
    swap_mb: int = 0


def _at_least(values: Values, name: str, least: int, unit: str) -> Iterator[str]:
    if int(values[name]) < least:
        yield problem(name, values[name], f"is too small; allowed: {least} or more {unit}")


def _within(values: Values, name: str, least: int, most: int) -> Iterator[str]:
    if not least <= int(values[name]) <= most:
        yield problem(name, values[name], f"is outside {least} to {most}")


def _port_range(text: str) -> tuple[int, int] | None:
    """The first and the last port of "80" or "6000-6010"; None where it is neither."""
    first, dash, last = text.partition("-")
    if not (first.isascii() and first.isdigit()) or (dash and not last.isdigit()):
        return None
    ports = int(first), int(last or first)
    return ports if 1 <= ports[0] <= ports[1] <= 65535 else None  # noqa: PLR2004


def _ports(values: Values, name: str) -> Iterator[str]:
    """Each is a port or a range, and none is in two, which nft does not take."""
    seen: list[tuple[int, int]] = []
    for number, value in enumerate(values[name]):
        ports = _port_range(str(value))
        if ports is None:
            yield problem(
                f"{name}[{number}]", value, 'is not a port; allowed: 1 to 65535, or "6000-6010"'
            )
        elif any(ports[0] <= last and first <= ports[1] for first, last in seen):
            yield problem(f"{name}[{number}]", value, "is listed already, alone or in a range")
        else:
            seen.append(ports)


def host(values: Values, _machine: Machine) -> Iterator[str]:
    """The journal's limits, the hour of a reboot, the firewall's ports and rules."""
    yield from _at_least(values, "host_journal_max_mb", 16, "MB")
    yield from _at_least(values, "host_journal_runtime_max_mb", 4, "MB")
    yield from _at_least(values, "host_journal_max_days", 0, "days (0: no limit)")
    time = "host_security_updates_reboot_time"
    if not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", str(values[time]), re.ASCII):
        yield problem(
            time, values[time], 'is not a time of day; allowed: "00:00" to "23:59", quoted'
        )
    yield from _ports(values, "host_firewall_tcp_ports")
    yield from _ports(values, "host_firewall_udp_ports")
    for number, rule in enumerate(values["host_firewall_extra_rules"]):
        if not str(rule).strip() or "\n" in str(rule):
            yield problem(
                f"host_firewall_extra_rules[{number}]", rule, "is not one rule in one line"
            )
    # shorter, and a log-in over a slow line would come too late
    yield from _at_least(values, "host_firewall_confirm_seconds", 15, "seconds")


def swap(values: Values, machine: Machine) -> Iterator[str]:
    """Sizes, a path that fstab can have, and the kernel's ranges."""
    for name, hint in (
        ("swap_size_mb", "swap_file: false is no swapfile"),
        ("swap_zram_size_mb", "swap_zram: false is no zram"),
    ):
        size = str(values[name])
        if size != "auto" and not (size.isdecimal() and int(size) >= SMALLEST_SWAP_MB):
            fault = f"is no size; allowed: auto, or {SMALLEST_SWAP_MB} or more MB; {hint}"
            yield problem(name, values[name], fault)
    zram, memory = str(values["swap_zram_size_mb"]), machine.memory_mb
    if memory is not None and zram.isdecimal() and int(zram) > 2 * memory:
        fault = f"is more than twice the machine's {memory} MB of memory, and could not be filled"
        yield problem("swap_zram_size_mb", values["swap_zram_size_mb"], fault)
    path = str(values["swap_path"])
    if not re.fullmatch(r"(/[\w.@+-]+)+", path, re.ASCII) or {".", ".."} & set(path.split("/")):
        fault = "is not an absolute path of letters, digits and . _ @ + -"
        yield problem("swap_path", values["swap_path"], fault)
    yield from _within(values, "swap_swappiness", 0, 200)
    yield from _within(values, "swap_vfs_cache_pressure", 1, 1000)


def supervisor(values: Values, _machine: Machine) -> Iterator[str]:
    """The delays; the unit's own time-outs are derived from them."""
    yield from _at_least(values, "supervisor_kill_old_delay_seconds", 0, "seconds")
    yield from _at_least(values, "supervisor_auto_restart_interval_seconds", 1, "seconds")
    yield from _at_least(values, "supervisor_readiness_timeout_seconds", 1, "seconds")
    yield from _at_least(values, "supervisor_min_restart_interval_seconds", 0, "seconds")
    yield from _at_least(values, "supervisor_memory_wait_seconds", 0, "seconds (0: don't look)")
    if not 0 <= int(values["supervisor_shared_floor_percent"]) <= 99:  # noqa: PLR2004
        name = "supervisor_shared_floor_percent"
        yield problem(name, values[name], "is outside 0 to 99")
    yield from _at_least(values, "supervisor_grace_seconds", 1, "seconds")


def vhost_app(values: Values, machine: Machine) -> Iterator[str]:
    """Pools and apps, each alone and all together, and the memory that they share."""
    pools = values["vhost_app_pools"]
    yield from _at_least(values, "vhost_app_reserve_mb", 0, "MB")
    yield from _deployed(values, machine)
    yield from pool_problems.problems(
        pools, memory_mb=machine.memory_mb, inventory=machine.inventory
    )
    budget = pools_budget(values, machine)
    if budget and not budget.fits:
        yield problem(
            "vhost_app_pools",
            budget.pools_mb,
            "MB are more than the pools may take together (memory_max_mb of each); allowed: "
            f"{budget.allowed_mb} (memory {budget.memory_mb} + swap {budget.swap_mb} - "
            f"vhost_app_reserve_mb {budget.reserve_mb})",
            pools,
        )


def _deployed(values: Values, machine: Machine) -> Iterator[str]:
    """What is to be deployed of the apps, and from which wheels."""
    for name in ("load", "hook", "health"):
        yield from _at_least(values, f"vhost_app_{name}_timeout_seconds", 1, "seconds")
    yield from _at_least(values, "vhost_app_keep_releases", 1, "releases")
    only, house = str(values["vhost_app_only"]), str(values["vhost_app_wheel_house"])
    apps = [app["name"] for pool in present(values["vhost_app_pools"]) for app in pool["apps"]]
    if only and only not in apps:
        yield problem("vhost_app_only", only, f"is no app here; allowed: {', '.join(apps)}")
    if values["vhost_app_release"] and not only:
        name = "vhost_app_release"
        yield problem(name, values[name], "is of no app; allowed with `vhost_app_only`")
    folder = source_directory(house, machine.inventory)
    if house and not folder.is_dir():
        fault = f"is no directory on the control machine ({folder})"
        yield problem("vhost_app_wheel_house", house, fault)


def pools_budget(values: Values, machine: Machine) -> memory_budget.Budget | None:
    """The budget of the machine's memory; None where its memory is not known."""
    if machine.memory_mb is None:
        return None
    return memory_budget.budget(
        values["vhost_app_pools"],
        reserve_mb=int(values["vhost_app_reserve_mb"]),
        memory_mb=machine.memory_mb,
        swap_mb=machine.swap_mb,
    )


def planned_swap_mb(values: Values, memory_mb: int) -> int:
    """The swap in MB that the role `swap` will have made, less the memory that zram takes."""
    if values["swap_state"] != "present":
        return 0
    file_mb, zram_mb = (
        auto(memory_mb * _KB_PER_MB) if str(size) == "auto" else int(size)
        for size, auto in (
            (values["swap_size_mb"], auto_file_mb),
            (values["swap_zram_size_mb"], auto_zram_mb),
        )
    )
    has_file, has_zram = (check_type_bool(values[name]) for name in ("swap_file", "swap_zram"))
    return (file_mb if has_file else 0) + (zram_mb * 2 // 3 if has_zram else 0)


def frontend(values: Values, machine: Machine) -> Iterator[str]:
    """The ports, what HTTP-01 needs, files of the control machine, and that hosts have one site."""
    for name in ("frontend_port", "frontend_tls_port"):
        if not 1 <= int(values[name]) <= 65535:  # noqa: PLR2004
            yield problem(name, values[name], "is outside 1 to 65535")
    if int(values["frontend_port"]) == int(values["frontend_tls_port"]):
        yield problem("frontend_tls_port", values["frontend_tls_port"], "is frontend_port's, too")
    yield from _at_least(values, "frontend_client_max_body_mb", 1, "MB")
    yield from _at_least(values, "frontend_client_timeout_seconds", 1, "seconds")
    yield from _at_least(values, "frontend_proxy_read_timeout_seconds", 1, "seconds")
    yield from _at_least(values, "frontend_hsts_max_age_seconds", 0, "seconds (0: none)")
    yield from _at_least(values, "frontend_requests_per_second", 0, "(0: no limit)")
    yield from _at_least(values, "frontend_burst_requests", 0, "requests")
    yield from _at_least(values, "frontend_retry_after_seconds", 1, "seconds")
    yield from _acme(values)
    for name in ("frontend_acme_ca_file", "frontend_down_page_file"):
        file = site_problems.file_on_the_control_machine(str(values[name]), machine.inventory)
        if values[name] and not file.is_file():
            yield problem(name, values[name], f"is no file on the control machine ({file})")
    clashes = list(_sites(values["frontend_sites"], machine.inventory))
    yield from clashes
    if not clashes:
        for number, place, whose in site_problems.shadowed(values["frontend_sites"]):
            url = values["frontend_sites"][number]["static"][place]["url"]
            path = f"frontend_sites[{number}].static[{place}].url"
            yield problem(path, url, f"covers {whose}")


def _acme(values: Values) -> Iterator[str]:
    email = str(values["frontend_acme_email"])
    if email and not EMAIL.fullmatch(email):
        yield problem("frontend_acme_email", email, "is no address; allowed: name@example.org")
    if email and int(values["frontend_port"]) != HTTP_PORT:
        yield problem(
            "frontend_port",
            values["frontend_port"],
            f"keeps the ACME server out, which asks at port {HTTP_PORT}; allowed: {HTTP_PORT}, or "
            "no frontend_acme_email",
        )
    server = str(values["frontend_acme_server"])
    if not SERVER.fullmatch(server):
        yield problem(
            "frontend_acme_server", server, "is no directory of an ACME server; allowed: https://…"
        )


def _sites(sites: Any, inventory: Path) -> Iterator[str]:
    names: set[str] = set()
    seen: dict[str, str] = {}
    for number, site in enumerate(sites):
        at = f"frontend_sites[{number}]"
        name = str(site["name"])
        if not SITE_NAME.fullmatch(name):
            yield problem(
                f"{at}.name", name, 'is no name; allowed: small letters, digits and "-"', site
            )
        if name in names:
            yield problem(f"{at}.name", name, "is another site's, too", site)
        names.add(name)
        yield from site_problems.problems(at, site, inventory, absolute=True)
        for place, host in enumerate(site["hosts"]):
            path = f"{at}.hosts[{place}]"
            known = hosts.site(str(host))
            if known is None:
                yield problem(
                    path, host, 'is not a host; allowed: "name", "*.name", "*", each with a "/path"'
                )
            elif str(known) in seen:
                yield problem(path, host, f"is already the host of {seen[str(known)]}")
            else:
                seen[str(known)] = name


# what stands in a unit's line as it is
PLAIN_PATH = re.compile(r"/[^\s\"'\\%:]*")
BACKUP_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
OWN_VARIABLES = {
    "RESTIC_REPOSITORY": "backup_restic_repository",
    "RESTIC_PASSWORD": "backup_restic_password",
}


def backup(values: Values, _machine: Machine) -> Iterator[str]:
    """Numbers and paths, and a repository that restic can be asked for."""
    yield from _at_least(values, "backup_keep", 1, "backups")
    yield from _at_least(values, "backup_min_free_mb", 0, "MB")
    yield from _at_least(values, "backup_random_delay_seconds", 0, "seconds")
    yield from _at_least(values, "backup_timeout_seconds", 60, "seconds")
    yield from _at_least(values, "backup_memory_max_mb", 64, "MB")
    yield from _backup_paths(values)
    yield from _backup_restic(values)


def _backup_paths(values: Values) -> Iterator[str]:
    plain = "is not an absolute path without spaces, quotes, \\, % and :"
    into = str(values["backup_directory"])
    if not PLAIN_PATH.fullmatch(into):
        yield problem("backup_directory", values["backup_directory"], plain)
    seen: set[str] = set()
    for number, app in enumerate(values["backup_apps"]):
        path, name = f"backup_apps[{number}]", str(app["name"])
        if not BACKUP_NAME.fullmatch(name):
            allowed = 'is not a name; allowed: small letters, digits and "-"'
            yield problem(f"{path}.name", app["name"], allowed, app)
        if name in seen:
            yield problem(f"{path}.name", app["name"], "is taken by an app before it", app)
        seen.add(name)
        if not PLAIN_PATH.fullmatch(str(app["directory"])):
            yield problem(f"{path}.directory", app["directory"], plain, app)
        elif Path(into).is_relative_to(str(app["directory"])):
            fault = f"holds backup_directory ({into}); allowed: one outside of the other"
            yield problem(f"{path}.directory", app["directory"], fault, app)


def _backup_restic(values: Values) -> Iterator[str]:
    """No sentence here shows a value that may hold a password."""
    repository = str(values["backup_restic_repository"])
    password = str(values["backup_restic_password"])
    if repository and not (":" in repository or PLAIN_PATH.fullmatch(repository)):
        fault = "is neither an absolute path nor SCHEME:PLACE, as sftp:user@host:/path"
        yield problem("backup_restic_repository", repository, fault)
    if repository and not password:
        yield problem(
            "backup_restic_password", MISSING, "a repository (backup_restic_repository) needs one"
        )
    for name in values["backup_restic_environment"]:
        if name in OWN_VARIABLES:
            fault = f"is not for here; allowed: {OWN_VARIABLES[name]}"
            yield problem("backup_restic_environment", name, fault)
        elif not VARIABLE.fullmatch(str(name)):
            yield problem("backup_restic_environment", name, "is not the name of a variable")
    keep = values["backup_restic_keep"]
    for name, count in keep.items():
        if int(count) < 0:
            yield problem(f"backup_restic_keep.{name}", count, "is negative", keep)
    if not any(int(count) for count in keep.values()):
        yield problem("backup_restic_keep", keep, "keeps nothing; allowed: one of them above 0")


BY_ROLE: Mapping[str, Callable[[Values, Machine], Iterator[str]]] = {
    "host": host,
    "swap": swap,
    "supervisor": supervisor,
    "vhost_app": vhost_app,
    "frontend": frontend,
    "backup": backup,
}
