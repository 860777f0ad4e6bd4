"""Which of the ports that a machine listens on a firewall would close."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import IPv6Address, ip_address
from typing import Any

DHCP = {("udp", 68), ("udp", 546)}  # what the rules let in anyway


def closed(
    listening: Iterable[Mapping[str, Any]],
    ssh: Iterable[int],
    tcp: Iterable[int | str],
    udp: Iterable[int | str],
) -> list[str]:
    """What would be closed, as "tcp 5432 (postgres)", each once.

    Args:
        listening: what `kechi.vps.ssh_facts` returns.
        ssh: the ports that stay open for ssh.
        tcp: host_firewall_tcp_ports: numbers, and ranges as "6000-6010".
        udp: the same of host_firewall_udp_ports.
    """
    opened = {("tcp", port) for port in ssh} | DHCP
    opened |= {("tcp", port) for port in _each(tcp)} | {("udp", port) for port in _each(udp)}
    found: dict[tuple[str, int], set[str]] = {}
    for socket in listening:
        key = (str(socket["protocol"]), int(socket["port"]))
        if key not in opened and not _is_local(str(socket["address"])):
            found.setdefault(key, set()).update(socket["programs"])
    return [_words(*key, programs) for key, programs in sorted(found.items())]


def _each(ports: Iterable[int | str]) -> Iterable[int]:
    for port in ports:
        first, _, last = str(port).partition("-")
        yield from range(int(first), int(last or first) + 1)


def _is_local(address: str) -> bool:
    """Whether nobody else reaches it: loopback, which is never filtered."""
    bare, _, device = address.strip("[]").partition("%")
    if device == "lo" or bare == "*":
        return device == "lo"
    found = ip_address(bare)
    mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
    return (mapped or found).is_loopback


def _words(protocol: str, port: int, programs: set[str]) -> str:
    return f"{protocol} {port}" + (f" ({', '.join(sorted(programs))})" if programs else "")
