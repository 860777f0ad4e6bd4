"""start_server in a service of one's own, with no .socket unit: systemd keeps its sockets."""

from __future__ import annotations

import time

import pytest

from harness.load import Target, load_within

UNIT = "stored.service"
SOCKET = "/run/stored.sock"
TARGETS = [
    Target("new", "motd.example"),
    Target("keep-alive", "blog.example"),
    Target("slow", "motd.example", "/slow?seconds=2"),
]
KILLS = 3
SERVICE = f"""[Service]
Type=notify
ExecStart=/usr/local/bin/start_server --readiness=notify \\
    --path={SOCKET} --path=/run/notes.sock --path=/run/team.sock -- \\
    /srv/kechi/main/venv/bin/vhost_server /etc/kechi/pools/main.toml
Restart=always
RestartSec=100ms
FileDescriptorStoreMax=16
"""


@pytest.fixture
def service(host):
    path = f"/run/systemd/system/{UNIT}"
    host.check_output(f"cat > {path} <<'END'\n{SERVICE}\nEND")
    host.check_output(f"systemctl daemon-reload && systemctl start {UNIT}")
    yield UNIT
    host.run(f"systemctl stop {UNIT}; rm {path}; systemctl daemon-reload")


def _show(host, unit, name):
    return host.check_output(f"systemctl show --property={name} --value {unit}")


def test_sockets_in_the_fd_store_outlive_a_kill_9_and_end_with_a_stop(vps, host, service):
    assert _show(host, service, "NFileDescriptorStore") == "3"
    with load_within(vps.within, SOCKET, TARGETS) as report:
        for kills in range(1, KILLS + 1):
            time.sleep(1)  # for the load, which runs in there and tells of requests at its end
            host.check_output(f"kill -9 {_show(host, service, 'MainPID')}")
            deadline = time.monotonic() + 30
            while (_show(host, service, "NRestarts"), _show(host, service, "ActiveState")) != (
                str(kills),
                "active",
            ):
                assert time.monotonic() < deadline, host.check_output(f"journalctl -u {service}")
                time.sleep(0.1)  # between two looks: systemd tells nobody
    assert report.failures == [], str(report)
    host.check_output(f"systemctl stop {service}")
    assert not host.file(SOCKET).exists
    assert _show(host, service, "NFileDescriptorStore") == "0"
