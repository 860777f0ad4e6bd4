"""The firewall from outside; and that no change of it, however wrong, locks ssh out."""

from __future__ import annotations

import pytest

from containers import engine
from containers.machines import Machines
from shared.reach import network_address

OPEN = (22, 80, 443)
CLOSED = 8080
RULES = "/etc/kechi/firewall.nft"
LIMIT = 200  # connections of one address to the open ports
SECONDS = 2  # a dropped packet is answered by nothing


def table(host):
    return host.check_output("nft --stateless --terse list table inet kechi")


def reaches(client, server, port):
    """Whether a TCP connection is made."""
    return client.run(f"nc -z -w {SECONDS} {server} {port}").rc == 0


def listen(host):
    """Listen on each port, IPv6 and IPv4 alike, until the machine ends."""
    for port in {*OPEN, CLOSED} - {22}:
        unit, serve = f"listen-{port}", f"python3 -m http.server --bind :: {port}"
        start = f"systemd-run --quiet --collect --unit={unit} {serve}"
        host.check_output(f"systemctl is-active --quiet {unit} || {start}")
    for port in {*OPEN, CLOSED}:
        host.check_output(f"timeout 20 sh -c 'until nc -z ::1 {port}; do sleep 0.1; done'")


@pytest.fixture(autouse=True, scope="session")
def servers(both):
    for host in both:
        listen(host)


def test_only_ssh_and_the_web_are_reached_from_outside(host, peer):
    address = network_address(host)
    assert [port for port in (*OPEN, CLOSED) if reaches(peer, address, port)] == [*OPEN]


def test_this_machine_reaches_the_web_by_the_published_port(host, address):
    server, _, port = address(host).partition(":")
    assert host.backend.run_local(f"curl -sS -m 5 http://{server}:{port}/").rc == 0


def test_loopback_is_not_filtered(host):
    assert reaches(host, "127.0.0.1", CLOSED)
    assert reaches(host, "::1", CLOSED)


def test_ipv6_works_and_is_filtered_alike(host, peer):
    show = "ip -6 -o address show dev eth0 scope link"
    local = host.check_output(f"{show} | grep -o 'fe80[^/]*'")
    peer.check_output("ip -6 neigh flush dev eth0")  # or there would be nothing to find out
    assert reaches(peer, f"{local}%eth0", 22)
    assert not reaches(peer, f"{local}%eth0", CLOSED)
    peer.check_output(f"ping -6 -c 1 -W {SECONDS} {local}%eth0")


FILL = """
import pathlib, signal, socket
held, refused = [], 0
for _ in range({wanted}):
    try:
        held.append(socket.create_connection(('{server}', 80), timeout=30))
    except ConnectionRefusedError:
        refused += 1
pathlib.Path('/run/filled').write_text(str(len(held)) + ' ' + str(refused))
signal.pause()
"""


def test_one_address_has_so_many_connections_and_others_come_in_beside_it(host, peer, address):
    server, limit, more = network_address(host), LIMIT, 20
    fill = FILL.format(server=server, wanted=limit + more)
    peer.check_output("rm -f /run/filled")
    peer.check_output(f'systemd-run --quiet --collect --unit=fill python3 -c "{fill}"')
    try:
        peer.check_output("timeout 100 sh -c 'until test -s /run/filled; do sleep 0.1; done'")
        assert peer.file("/run/filled").content_string == f"{limit} {more}"
        assert not reaches(peer, server, 80)
        assert reaches(peer, server, 22)
        published = address(host)
        assert host.backend.run_local(f"curl -sS -m 20 http://{published}/").rc == 0
    finally:
        peer.check_output("systemctl stop fill")
    peer.check_output(f"timeout 60 sh -c 'until nc -z -w 2 {server} 80; do sleep 0.1; done'")


def test_a_ping_is_answered(host, peer):
    peer.check_output(f"ping -4 -c 1 -W {SECONDS} {network_address(host)}")


def test_answers_to_what_the_machine_asks_come_in(host, peer):
    assert reaches(host, network_address(peer), 80)
    resolve = f"until getent hosts {peer.backend.name}; do sleep 1; done"
    host.check_output(f"timeout 90 sh -c '{resolve}'")  # see network_address


def test_the_distributions_unit_takes_no_rules_of_ours_along(host):
    before = table(host)
    for step in ("restart", "reload"):  # each begins with `flush ruleset`
        host.check_output(f"systemctl {step} nftables.service")
        host.check_output("timeout 60 sh -c 'until nft list table inet kechi; do sleep 0.1; done'")
        assert table(host) == before, step
    host.check_output("systemctl stop nftables.service")
    host.check_output("systemctl start kechi-firewall.service")


def test_rules_that_let_ssh_in_are_kept_wherever_sshd_listens(both, inventory, by_ssh):
    moved = "mkdir -p {0} && printf '{1}' >{0}/test.conf"
    for host in both:
        host.check_output(moved.format("/etc/ssh/sshd_config.d", r"Port 2222\nPort 22\n"))
        socket = "/etc/systemd/system/ssh.socket.d"
        host.check_output(moved.format(socket, r"[Socket]\nListenStream=2223\n"))
        host.check_output("systemctl enable ssh.socket && systemctl reload ssh.service")
        host.check_output("nft insert rule inet kechi input tcp dport 8080 accept")  # a hand's
    try:
        inventory.apply()
        for host, client in zip(both, reversed(both), strict=True):
            assert "tcp dport { 22, 2222, 2223 } accept" in table(host)
            assert reaches(client, network_address(host), 2222)
            assert not reaches(client, network_address(host), CLOSED)
            host.check_output("sed -i '/Port 22$/d' /etc/ssh/sshd_config.d/test.conf")
            host.check_output("systemctl reload ssh.service")
        extra = ["tcp dport 8080 accept"]
        inventory.apply(**by_ssh, ansible_port=2222, host_firewall_extra_rules=extra)
        for host, client in zip(both, reversed(both), strict=True):
            assert reaches(client, network_address(host), 2222)
            assert reaches(client, network_address(host), CLOSED)
            assert "8080" in host.file(RULES).content_string
    finally:
        for host in both:
            host.check_output("systemctl disable ssh.socket")
            host.check_output("rm -r /etc/systemd/system/ssh.socket.d")
            host.check_output("rm /etc/ssh/sshd_config.d/test.conf")
            host.check_output("systemctl daemon-reload && systemctl reload ssh.service")


def test_rules_that_lock_ssh_out_are_taken_back_by_the_machine_itself(both, inventory, by_ssh):
    before = [(table(host), host.file(RULES).content_string) for host in both]
    changes = {**by_ssh, "host_firewall_confirm_seconds": 15}
    said = inventory.refuse(**changes, host_firewall_extra_rules=["tcp dport 22 drop"])
    assert "the new rules let nobody in for 15 seconds" in said
    assert [(table(host), host.file(RULES).content_string) for host in both] == before
    for host, client in zip(both, reversed(both), strict=True):
        assert reaches(client, network_address(host), 22)
        assert not host.file("/run/kechi-firewall").exists
        undone = host.check_output("journalctl --quiet --no-pager --unit=kechi-firewall-undo")
        assert "Put the previous firewall back" in undone


def test_a_rule_that_nft_does_not_understand_changes_nothing(both, inventory):
    before = [table(host) for host in both]
    said = inventory.refuse(host_firewall_extra_rules=["tcp dport 22 refuse"])
    assert "the rules can't be used, and none was loaded" in said
    assert [table(host) for host in both] == before


def test_a_run_that_has_died_in_a_trial_is_made_good_by_the_next(both, inventory):
    for host in both:
        host.check_output("mkdir /run/kechi-firewall")
        host.check_output("nft list ruleset >/run/kechi-firewall/previous.nft")
        host.check_output("nft insert rule inet kechi input tcp dport 8080 accept")
    inventory.apply()
    for host in both:
        assert "8080" not in table(host)
        assert not host.file("/run/kechi-firewall").exists


def test_asked_to_go_it_takes_nothing_along(both, inventory):
    for host in both:
        host.check_output("nft 'add table ip theirs; add chain ip theirs input'")
    inventory.apply(host_firewall_enabled=False)
    for host, client in zip(both, reversed(both), strict=True):
        assert host.check_output("nft list tables") == "table ip theirs"
        assert not host.file(RULES).exists
        assert not host.file("/etc/systemd/system/kechi-firewall.service").exists
        assert reaches(client, network_address(host), CLOSED)
    said = " ".join(inventory.apply().split())
    assert "will close what listens here: " in said, said
    assert "tcp 8080 (python3)" in said, said
    for host in both:
        assert "table ip theirs" in host.check_output("nft list tables")
        host.check_output("nft delete table ip theirs")


def test_the_rules_are_back_after_a_reboot(host):
    before = table(host)
    host.check_output("touch /run/before")
    Machines(engine.plan()).cut_power(host.backend.name)
    listen(host)
    assert not host.file("/run/before").exists, "it was none"
    assert table(host) == before
