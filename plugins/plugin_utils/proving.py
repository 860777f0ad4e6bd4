"""What is proven of a real machine: whom to ask, how often, and what has to come out; pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible.module_utils.common.validation import check_type_bool

from ...harness.load import Target
from ...harness.results import Run
from . import pools as inventory_pools
from .settings import problem, problems, unknown

Pool = Mapping[str, Any]
Values = Mapping[str, Any]

PREFIX = "prove"
SPEC: Mapping[str, Mapping[str, object]] = {
    "prove_restarts": {"type": "int"},
    "prove_seconds": {"type": "int"},
    "prove_requests_per_second": {"type": "int"},
    "prove_shared_floor_percent": {"type": "int"},
    "prove_address": {"type": "str"},
    "prove_ca_file": {"type": "path"},
    "prove_reports": {"type": "path"},
    "prove_yes": {"type": "bool"},
}
DEFAULTS: Values = {
    "prove_restarts": 5,
    "prove_seconds": 300,
    "prove_requests_per_second": 20,
    "prove_shared_floor_percent": 50,
    "prove_address": "",
    "prove_ca_file": "",
    "prove_reports": "",
    "prove_yes": False,
}
RANGES = {
    "prove_restarts": (1, 1000),
    "prove_seconds": (10, 86_400),
    "prove_requests_per_second": (1, 1000),
    "prove_shared_floor_percent": (0, 100),
}
KINDS = ("new", "keep-alive")
OF_A_LIMIT = 0.5  # how much of what nginx lets one visitor ask is asked
SETTLE_SECONDS = 2  # before and after the restarts, and between them
SELF_SIGNED = "self-signed"
KB_PER_MB = 1024


class Refused(Exception):  # noqa: N818 - it is what the wish is
    """What was asked for can't be proven; the message says why, before anything was done."""


@dataclass(frozen=True)
class Site:
    """An app as a visitor finds it."""

    pool: str
    app: str
    host: str
    path: str
    statuses: tuple[int, ...]  # those of a healthy answer; none: any below 500
    port: int
    tls: bool
    verified: bool  # whether its certificate has to be one that this machine trusts

    def __str__(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.host}{self.path}"

    def address(self, instead: str) -> str:
        """HOST:PORT; `instead` of what the name leads to, with or without a port."""
        host = instead or self.host
        return host if re.fullmatch(r"([^:]+|\[.+\]):\d+", host) else f"{host}:{self.port}"

    def fault(self, status: int) -> str:
        """Why an answer is no healthy one; empty for one that is."""
        if status == 421:  # noqa: PLR2004
            return "status 421: the front end there does not know this name; run site.yml first"
        if status == 429:  # noqa: PLR2004
            return "status 429: nginx limits what this machine may ask; try again later"
        if status in self.statuses if self.statuses else status < 500:  # noqa: PLR2004
            return ""
        allowed = " or ".join(map(str, self.statuses)) or "below 500"
        return f"status {status}, expected is {allowed}"


@dataclass(frozen=True)
class Plan:
    """What is going to be done."""

    pools: tuple[Pool, ...]
    sites: tuple[Site, ...]
    unasked: tuple[str, ...]  # apps that have no health check, or sleep
    pause_seconds: float  # of each client


def wrong(values: Values, given: Values) -> list[str]:
    """Every problem of the settings; `given` are all variables, also misspelt ones."""
    found = [*unknown(PREFIX, SPEC, given), *problems(SPEC, values)]
    if not found:
        found += [
            problem(name, values[name], f"is outside {least} to {most}")
            for name, (least, most) in RANGES.items()
            if not least <= int(values[name]) <= most
        ]
    return found


def plan(
    wanted: Sequence[Pool], found: Mapping[str, Any], values: Values, *, pool: str, app: str
) -> Plan:
    """Say what to restart and whom to ask. Raises Refused.

    Args:
        wanted: the inventory's pools.
        found: what `pool_info` has found on the machine.
        values: the settings of this, of the front end and of the super-daemon.
        pool: only this one, if not empty.
        app: only this one, and its pool, if not empty.
    """
    chosen = _chosen(inventory_pools.present(wanted), pool, app)
    there = {str(one["name"]): one for one in found["pools"]}
    for one in chosen:
        _must_run(one, there)
    kinds = {str(one["name"]): str(one["wanted"]) for one in found["certificates"]}
    tls = bool(check_type_bool(values["frontend_tls"]) or values["frontend_acme_email"])
    sites, unasked, limits = [], [], []
    for one in chosen:
        for entry in one["apps"]:
            asked = inventory_pools.check(one, entry)
            if app and entry["name"] != app:
                continue
            if asked is None:
                unasked.append(str(entry["name"]))
                continue
            limits.append(int(entry.get("requests_per_second") or 0))
            sites.append(
                Site(
                    pool=str(one["name"]),
                    app=str(entry["name"]),
                    host=asked["host"],
                    path=asked["path"],
                    statuses=tuple(asked["statuses"]),
                    port=int(values["frontend_tls_port" if tls else "frontend_port"]),
                    tls=tls,
                    verified=kinds.get(str(entry["name"]), SELF_SIGNED) != SELF_SIGNED,
                )
            )
    if not sites:
        raise Refused(f"nobody can be asked: no health_path for {', '.join(unasked) or 'any app'}")
    return Plan(tuple(chosen), tuple(sites), tuple(unasked), _pause(len(sites), limits, values))


def _chosen(present: Sequence[Pool], pool: str, app: str) -> list[Pool]:
    names = [str(one["name"]) for one in present]
    apps = [str(entry["name"]) for one in present for entry in one["apps"]]
    if pool and pool not in names:
        raise Refused(f'pool: "{pool}" is not in the inventory; there: {", ".join(names)}')
    if app and app not in apps:
        raise Refused(f'app: "{app}" is not in the inventory; there: {", ".join(apps)}')
    chosen = [
        one
        for one in present
        if (not pool or one["name"] == pool)
        and (not app or any(entry["name"] == app for entry in one["apps"]))
    ]
    if not chosen:
        raise Refused(
            f'app: "{app}" is not in the pool "{pool}"' if app else "vhost_app_pools has no pool"
        )
    return chosen


def _must_run(pool: Pool, there: Mapping[str, Mapping[str, Any]]) -> None:
    name = str(pool["name"])
    found = there.get(name)
    if found is None:
        raise Refused(
            f"pool {name}: is not on the machine, there: {', '.join(there) or 'none'};"
            " run site.yml first"
        )
    serving = [one for one in found["status"].get("generations") or [] if one["phase"] == "serving"]
    if not serving:
        raise Refused(f"pool {name}: does not serve, it is {found['unit']}; status.yml says more")
    apps = {str(one["name"]) for one in found["apps"]}
    missing = [str(one["name"]) for one in pool["apps"] if one["name"] not in apps]
    if missing:
        raise Refused(
            f"app {missing[0]}: is not on the machine, pool {name} there has:"
            f" {', '.join(sorted(apps))}; run site.yml first"
        )


def _pause(sites: int, limits: Sequence[int], values: Values) -> float:
    """Seconds between two requests of a client, so that nginx has no reason to refuse one."""
    rate = float(values["prove_requests_per_second"])
    if values["frontend_requests_per_second"]:
        rate = min(rate, int(values["frontend_requests_per_second"]) * OF_A_LIMIT)
    of_sites = [len(KINDS) / (limit * OF_A_LIMIT) for limit in limits if limit]
    return round(max([sites * len(KINDS) / rate, *of_sites]), 3)


def targets(sites: Mapping[Site, int]) -> list[Target]:
    """The clients of sites that answer now with these statuses, and have to go on so."""
    return [
        Target(kind, site.host, site.path, status)
        for site, status in sites.items()
        for kind in KINDS
    ]


def words(made: Plan, machine: str, values: Values) -> list[str]:
    """Say what is about to happen, to whom, and for how long."""
    names = ", ".join(str(pool["name"]) for pool in made.pools)
    rate = len(made.sites) * len(KINDS) / made.pause_seconds
    lines = [
        f"{machine}: restarts the pools {names} gracefully, {values['prove_restarts']} times each,",
        f"while this machine asks for {len(made.sites)} sites, by GET alone,"
        f" some {rate:.0f} times a second:",
        *(f"  {site}" for site in made.sites),
        f"It takes at most {values['prove_seconds']} seconds. A pool that does not hold what is"
        " promised loses requests of visitors meanwhile: no machine for production.",
    ]
    if made.unasked:
        lines.insert(-1, f"not asked, having no health_path: {', '.join(made.unasked)}")
    return lines


def clock_ahead(asked: float, began: float, ended: float, answered: float) -> float:
    """How many seconds another machine's clock is ahead of ours; 0 where it may well agree.

    Ours said `asked` before its said `began`, and `answered` after its said `ended`.
    """
    least, most = ended - answered, began - asked
    return min(max(0.0, least), most)


def faults(
    run: Run, pools: Sequence[Pool], told: Mapping[str, Any], values: Values
) -> Iterator[str]:
    """Say what was promised and is not so, beyond the requests themselves."""
    wanted = int(values["prove_restarts"]) * len(pools)
    if told["error"]:
        yield str(told["error"])
    elif len(run.events) < wanted:
        yield f"{len(run.events)} restarts were made, and {wanted} were asked for"
    for pool in pools:
        name = str(pool["name"])
        killed = int(told["oom_kills"].get(name) or 0)
        limit = pool.get("memory_max_mb")
        if killed:
            yield f"{name}: the kernel has killed {killed} of its processes for their memory"
        samples = [one.generations for one in run.samples if one.pool == name and one.generations]
        peak_kb = max((sum(one.pss_kb for one in sample) for sample in samples), default=0)
        peak_mb = peak_kb / KB_PER_MB
        if limit and peak_mb > int(limit):
            yield f"{name}: has taken {peak_mb:.0f} MB, over its memory_max_mb of {limit}"
        if pool.get("command"):
            continue  # forks nothing that could share
        floor = int(values["prove_shared_floor_percent"])
        shares = [
            one.workers_shared_percent
            for sample in samples
            for one in sample
            if one.phase == "serving" and one.workers_shared_percent is not None
        ]
        if shares and min(shares) < floor:
            yield f"{name}: its workers shared {min(shares):.0f} % of their memory, under {floor} %"
        elif not shares and floor:
            yield f"{name}: what its workers share was never seen"
