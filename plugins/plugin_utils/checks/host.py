"""The role `host`: limits, an hour, ports and rules."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ..settings import problem
from .common import Machine, Values, at_least


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
    yield from at_least(values, "host_journal_max_mb", 16, "MB")
    yield from at_least(values, "host_journal_runtime_max_mb", 4, "MB")
    yield from at_least(values, "host_journal_max_days", 0, "days (0: no limit)")
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
    limit = "host_firewall_connections_per_address"
    yield from at_least(values, limit, 0, "connections (0: no limit)")
    yield from at_least(values, "host_firewall_confirm_seconds", 15, "seconds")
