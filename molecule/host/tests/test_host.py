"""The journal's limit, security updates, and who sshd lets in."""

from __future__ import annotations

import re

from shared.reach import network_address

KEYS = "/root/.ssh/authorized_keys"
MB = 1024 * 1024
LINES = 600  # of 40 kB, which don't compress: three times what the journal may take


def offered(client, server):
    """The ways to log in that sshd offers."""
    options = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"
    said = client.run(f"ssh {options} -o PreferredAuthentications=none root@{server} true").stderr
    return re.search(r"Permission denied \((.*)\)", said)[1].split(",")


def test_the_journal_keeps_to_its_limit(host):
    script = f"""
import os
for _ in range({LINES}):
    print(os.urandom(20_000).hex(), flush=True)
"""
    host.check_output(f"systemd-run --quiet --wait --collect python3 -c '{script}'")
    host.check_output("journalctl --sync")
    used = host.check_output("du --summarize --bytes /run/log/journal | cut -f 1")
    assert 4 * MB < int(used) <= 8 * MB


def test_the_journals_limits_are_what_systemd_reads(host):
    read = host.check_output("systemd-analyze cat-config systemd/journald.conf")
    settings = dict(re.findall(r"^(\w+)=(.*)$", read, re.MULTILINE))
    assert settings["SystemMaxUse"] == "200M"
    assert settings["MaxRetentionSec"] == "30day"


def test_security_updates_come_from_the_security_archives_alone(host):
    said = host.run("unattended-upgrade --dry-run --debug")
    assert said.rc == 0, said.stderr
    (origins,) = re.findall(r"^Allowed origins are: (.*)$", said.stdout + said.stderr, re.M)
    release = host.check_output("lsb_release --short --codename")
    if host.system_info.distribution == "ubuntu":
        assert origins.split(", ") == [
            f"origin=Ubuntu,suite={release}-security,label=Ubuntu",
            f"origin=UbuntuESMApps,suite={release}-apps-security",
            f"origin=UbuntuESM,suite={release}-infra-security",
        ]
    else:
        assert origins == f"origin=Debian,codename={release}-security,label=Debian-Security"


def test_security_updates_run_each_day(host):
    for timer in ("apt-daily.timer", "apt-daily-upgrade.timer"):
        assert host.service(timer).is_running
        assert host.service(timer).is_enabled
    read = host.check_output("apt-config shell when APT::Periodic::Unattended-Upgrade")
    assert read == "when='1'"


def test_sshd_is_left_alone(host):
    assert host.check_output("ls /etc/ssh/sshd_config.d") == ""


def test_passwords_are_refused_where_a_key_lets_ansible_in_and_sshd_obeys(both, inventory, by_ssh):
    drop_in, main = "/etc/ssh/sshd_config.d/00-kechi.conf", "/etc/ssh/sshd_config"
    for host in both:
        host.check_output(f"mv {KEYS} {KEYS}.away")
    said = inventory.refuse(host_ssh_passwords="refused")
    assert "root, who Ansible logs in as, would be locked out" in said
    for host in both:
        assert not host.file(drop_in).exists
        host.check_output(f"mv {KEYS}.away {KEYS}")
        host.check_output(f"cp {main} {main}.whole")
        host.check_output(f"sed -i '1i PasswordAuthentication yes' {main}")
    said = inventory.refuse(host_ssh_passwords="refused")
    assert f'sshd does not take "passwordauthentication no" from {drop_in}' in said
    for host in both:
        host.check_output(f"mv {main}.whole {main}")
    inventory.apply(**by_ssh, host_ssh_passwords="refused", host_ssh_root_login="keys")
    for host, client in zip(both, reversed(both), strict=True):
        assert offered(client, network_address(host)) == ["publickey"]
    inventory.restore()
    for host, client in zip(both, reversed(both), strict=True):
        assert "password" in offered(client, network_address(host))
        assert not host.file(drop_in).exists
