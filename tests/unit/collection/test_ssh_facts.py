"""How ssh reaches a machine, by the output of the tools that know."""

import os

import pytest

from ansible_collections.kechi.vps.plugins.modules import ssh_facts

SETTINGS = """\
port 22
pubkeyauthentication yes
listenaddress [::]:2222
listenaddress 0.0.0.0:2222
listenaddress [2001:db8::1]:22022
trustedusercakeys none
authorizedkeyscommand none
authorizedkeysfile .ssh/authorized_keys /etc/ssh/keys/%u %h/100%%
"""
CONNECTION = "192.0.2.1 50000 192.0.2.2 2222"
SOCKETS = """\
tcp LISTEN 0 128 0.0.0.0:2022 0.0.0.0:* users:(("sshd",pid=526,fd=6))
tcp LISTEN 0 128    [::]:2023    [::]:* users:(("systemd",pid=1,fd=9),("sshd",pid=526,fd=7))
tcp LISTEN 0 511 0.0.0.0:80   0.0.0.0:* users:(("nginx",pid=9,fd=7))
"""
UNITS = """\
Listen=[::]:2222 (Stream)
Listen=0.0.0.0:2223 (Stream)
Listen=/run/ssh.sock (Stream)
Id=ssh.socket
ActiveState={active}
UnitFileState={file}

Id=sshd.socket
ActiveState=inactive
UnitFileState=
"""


def test_the_ports_are_those_of_the_addresses_that_sshd_would_listen_on():
    assert ssh_facts.configured_ports(SETTINGS) == {2222, 22022}
    assert ssh_facts.configured_ports("") == set()


def test_the_ports_that_an_sshd_listens_on_count_whatever_its_files_say_by_now():
    assert ssh_facts.listening_ports(ssh_facts.listening(SOCKETS)) == {2022, 2023}


@pytest.mark.parametrize(
    ("active", "file", "ports"),
    [
        ("active", "disabled", {2222, 2223}),
        ("inactive", "enabled", {2222, 2223}),
        ("inactive", "disabled", set()),
    ],
)
def test_a_socket_of_systemd_counts_where_it_is_in_use_now_or_at_boot(active, file, ports):
    assert ssh_facts.socket_unit_ports(UNITS.format(active=active, file=file)) == ports


def test_keys_are_looked_for_where_sshd_looks():
    files = ssh_facts.key_files(SETTINGS, "admin", "/home/admin")
    expected = ["/home/admin/.ssh/authorized_keys", "/etc/ssh/keys/admin", "/home/admin/100%"]
    assert files == expected
    assert ssh_facts.key_files("authorizedkeysfile none\n", "admin", "/home/admin") == []


def test_a_certificates_authority_may_let_in_too():
    assert not ssh_facts.has_other_keys(SETTINGS)
    assert ssh_facts.has_other_keys("trustedusercakeys /etc/ssh/ca.pub\n")


@pytest.mark.parametrize("kept", [{}, {"SSH_CONNECTION": CONNECTION}])
def test_the_login_is_found_behind_sudo(tmp_path, kept):
    uid = os.getuid() or 12345
    processes = {
        30: (0, 20, kept),  # sudo's env_keep
        20: (uid, 10, {"SSH_CONNECTION": CONNECTION}),
        10: (0, 0, {}),
    }
    for pid, (user, parent, environment) in processes.items():
        folder = tmp_path / str(pid)
        folder.mkdir()
        (folder / "status").write_text(f"Name:\tx\nPPid:\t{parent}\nUid:\t{user}\t0\t0\t0\n")
        entries = "".join(f"{name}={value}\0" for name, value in environment.items())
        (folder / "environ").write_text(entries)
    found = ssh_facts.session(ssh_facts.ancestors(30, tmp_path))
    assert found is not None
    assert (found.connection, found.port) == (CONNECTION, 2222)
    assert found.login == ssh_facts._name(uid)
    assert ssh_facts.session(ssh_facts.ancestors(10, tmp_path)) is None
