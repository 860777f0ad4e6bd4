"""Children that are no WSGI apps, a Node.js server and an ASGI app: no request is lost either."""

from __future__ import annotations

import time

from harness.load import Target

RESTARTS = 5
SETTLE_SECONDS = 2.0
POOLS = ("clock", "asgi")
SITES = {"clock": "clock.example", "asgi": "stream.example"}
SOCKETS = {
    f"/run/kechi/{pool}.sock": [
        Target("new", site),
        Target("keep-alive", site),
        Target("slow", site, "/slow?seconds=2"),
    ]
    for pool, site in SITES.items()
}
TARGETS = [target for targets in SOCKETS.values() for target in targets]


def test_no_request_to_node_or_an_asgi_app_fails_in_restarts(vps, host, proof):
    first = {pool: vps.generation(pool) for pool in POOLS}
    assert "node" in vps.commands("clock")
    with proof.load(vps, TARGETS, sockets=SOCKETS, pools=POOLS) as watch:
        for number in range(1, RESTARTS + 1):
            watch.event(f"reload {number}")
            host.check_output("systemctl reload kechi@clock.service kechi@asgi.service")
        watch.event("systemctl restart")
        host.check_output("systemctl restart kechi@clock.service kechi@asgi.service")
        time.sleep(SETTLE_SECONDS)
    for pool, site in SITES.items():
        seen = watch.reports["nginx"].generations(site)
        assert set(range(first[pool], first[pool] + RESTARTS + 1)) <= seen, (pool, seen)
