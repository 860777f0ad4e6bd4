"""What a first firewall would close is told before it does."""

from ansible_collections.kechi.vps.plugins.modules import ssh_facts
from ansible_collections.kechi.vps.plugins.plugin_utils.open_ports import closed

SOCKETS = """\
udp   UNCONN 0      0            0.0.0.0:68         0.0.0.0:*    users:(("dhclient",pid=300,fd=7))
udp   UNCONN 0      0      127.0.0.53%lo:53         0.0.0.0:*    users:(("systemd-resolve",pid=1,fd=1))
udp   UNCONN 0      0            0.0.0.0:5353       0.0.0.0:*
udp   UNCONN 0      0   [fe80::1]%eth0:546             [::]:*    users:(("systemd-network",pid=2,fd=1))
tcp   LISTEN 0      128          0.0.0.0:22         0.0.0.0:*    users:(("sshd",pid=9,fd=3))
tcp   LISTEN 0      511                *:80               *:*    users:(("nginx",pid=8,fd=6),("nginx",pid=7,fd=6))
tcp   LISTEN 0      244          0.0.0.0:5432       0.0.0.0:*    users:(("postgres",pid=5,fd=6))
tcp   LISTEN 0      244             [::]:5432          [::]:*    users:(("postgres",pid=5,fd=7))
tcp   LISTEN 0      100        127.0.0.1:25         0.0.0.0:*    users:(("master",pid=6,fd=13))
tcp   LISTEN 0      100            [::1]:25            [::]:*    users:(("master",pid=6,fd=14))
tcp   LISTEN 0      100  [::ffff:127.0.0.1]:8005          *:*    users:(("java",pid=11,fd=14))
tcp   LISTEN 0      100       10.0.0.5:6005         0.0.0.0:*    users:(("X",pid=4,fd=1))
"""  # noqa: E501 - as `ss -Hltunp` prints it


def listening():
    return ssh_facts.listening(SOCKETS)


def test_what_others_reach_and_no_rule_lets_in_is_named_once_with_its_program():
    ports = closed(listening(), ssh=[22], tcp=[80, 443], udp=[])
    assert ports == ["tcp 5432 (postgres)", "tcp 6005 (X)", "udp 5353"]


def test_ports_and_ranges_of_the_inventory_stay_open_by_their_protocol():
    assert closed(listening(), ssh=[22], tcp=["80", 5432, "6000-6010"], udp=[5353]) == []
    assert "udp 5353" in closed(listening(), ssh=[22], tcp=[5353], udp=[])


def test_a_port_of_ssh_alone_is_named_where_ssh_does_not_have_it():
    assert closed(listening(), ssh=[], tcp=["1-65535"], udp=["1-65535"]) == []
    assert "tcp 22 (sshd)" in closed(listening(), ssh=[2222], tcp=[], udp=[])
