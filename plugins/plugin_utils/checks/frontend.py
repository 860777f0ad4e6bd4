"""The role `frontend`: ports, what an ACME server needs, and sites that do not clash."""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import ip_interface, ip_network
from pathlib import Path
from typing import Any

from ....supervisor_py.vhost import hosts
from ....supervisor_py.vhost.pool import HEAD_BYTES
from .. import site_problems
from ..pools import HEAD_OPTIONS
from ..settings import problem
from .common import Machine, Values, at_least, within

HTTP_PORT = 80
EMAIL = re.compile(r"[^@\s\"'\\$,]+@[^@\s\"'\\$,]+")
SERVER = re.compile(r"https://[^\s\"'\\$]+")
SITE_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")


def frontend(values: Values, machine: Machine) -> Iterator[str]:
    """The ports, what HTTP-01 needs, files of the control machine, and that hosts have one site."""
    for name in ("frontend_port", "frontend_tls_port"):
        yield from within(values, name, 1, 65535)
    if int(values["frontend_port"]) == int(values["frontend_tls_port"]):
        yield problem("frontend_tls_port", values["frontend_tls_port"], "is frontend_port's, too")
    yield from at_least(values, "frontend_client_max_body_mb", 1, "MB")
    yield from at_least(values, "frontend_header_timeout_seconds", 1, "seconds")
    yield from at_least(values, "frontend_client_timeout_seconds", 1, "seconds")
    yield from at_least(values, "frontend_connections_per_address", 0, "requests (0: no limit)")
    yield from at_least(values, "frontend_proxy_read_timeout_seconds", 1, "seconds")
    yield from at_least(values, "frontend_hsts_max_age_seconds", 0, "seconds (0: none)")
    yield from at_least(values, "frontend_requests_per_second", 0, "(0: no limit)")
    yield from at_least(values, "frontend_burst_requests", 0, "requests")
    yield from at_least(values, "frontend_retry_after_seconds", 1, "seconds")
    yield from _proxies(values)
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


def _proxies(values: Values) -> Iterator[str]:
    """Networks, as nginx takes them, and none that lets everybody say who they are."""
    name = "frontend_trusted_proxies"
    for number, value in enumerate(values[name]):
        at = f"{name}[{number}]"
        try:
            network = ip_network(str(value), strict=False)
        except ValueError:
            fault = 'is no address and no network; allowed: "203.0.113.7", "2001:db8::/32"'
            yield problem(at, value, fault)
            continue
        if network.prefixlen == 0:
            yield problem(at, value, "would have everybody believed; allowed: the proxies' own")
        elif "/" in str(value) and ip_interface(str(value)).ip != network.network_address:
            yield problem(at, value, f'is an address within a network; allowed: "{network}"')


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
        for key in HEAD_OPTIONS:
            if site.get(key) is not None and int(site[key]) not in HEAD_BYTES:
                fault = f"is out of range; allowed: {HEAD_BYTES[0]} to {HEAD_BYTES[-1]} bytes"
                yield problem(f"{at}.{key}", site[key], fault, site)
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
