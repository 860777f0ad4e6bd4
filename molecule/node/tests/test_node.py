"""Children that are no WSGI apps, a Node.js server and an ASGI app: no request is lost either."""

from __future__ import annotations

import shutil

from harness.load import Target
from shared.inventory import REPOSITORY, Inventory

RESTARTS = 5
POOLS = ("clock", "asgi")
SITES = {"clock": "clock.example", "asgi": "stream.example"}
PATHS = {"clock": "/run/kechi/clock.sock", "asgi": "/run/kechi/asgi/stream.sock"}
SOCKETS = {
    PATHS[pool]: [
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
            watch.wait_until_met({SITES[pool]: first[pool] + number for pool in POOLS})
        watch.event("systemctl restart")
        host.check_output("systemctl restart kechi@clock.service kechi@asgi.service")
        watch.settle()
    for pool, site in SITES.items():
        seen = watch.reports["nginx"].generations(site)
        assert set(range(first[pool], first[pool] + RESTARTS + 1)) <= seen, (pool, seen)


def test_code_of_a_command_that_does_not_serve_is_refused_before_any_visitor_meets_it(
    vps, host, tmp_path
):
    inventory = Inventory(host.backend.name)
    pools = inventory.variables["vhost_app_pools"]
    folder = shutil.copytree(REPOSITORY / "examples" / "clock", tmp_path / "clock")
    pools[0]["apps"][0] |= {"source": str(folder), "environment": {"CLOCK_SECRET": "a$b"}}
    good = (folder / "server.js").read_text()

    def state():
        return vps.state("clock"), host.check_output("readlink /srv/kechi/clock/current")

    def refused(code):
        before = state()
        (folder / "server.js").write_text(code)
        said = inventory.refuse(playbook="deploy", app="clock", vhost_app_pools=pools)
        assert state() == before
        return said

    try:
        said = refused("throw new Error('the clock is broken');\n")
        assert "does not serve as it should in a trial" in said
        assert "Error: the clock is broken" in said
        sick = "response.statusCode = 500; response.end(process.env.CLOCK_SECRET)"
        said = refused(good.replace("response.end(text)", sick))
        assert "GET / for clock.example" in said
        assert "gives 500" in said
        assert "a$b" in said, "it is tried with its environment"
        pools[0]["command"] = ["/usr/bin/nod", "server.js"]
        assert "/usr/bin/nod is no program that kechi-clock may run" in refused(f"{good}// 2\n")
        pools[0]["command"] = ["/usr/bin/node", "server.js"]
        before = state()
        inventory.apply(playbook="deploy", app="clock", vhost_app_pools=pools)
        assert state() != before
        assert vps.get("clock.example").status == 200
        assert host.run("systemctl list-units --all --no-legend 'kechi-trial-*'").stdout == ""
    finally:
        inventory.restore()
