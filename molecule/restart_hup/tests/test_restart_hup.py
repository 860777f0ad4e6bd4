"""New generations by HUP, again and again, under load from all sides: no request is lost."""

from __future__ import annotations

from shared.targets import POOLS, SOCKETS, TARGETS, pool_of

RESTARTS = 20
PATHS = {f"/run/kechi/{pool}.sock": pool for pool in POOLS}


def overlaps(outcomes, old):
    """Whether the next generation has answered somebody before this one was last asked.

    Of connections that are new: an old generation goes on with those that it has.
    """
    new = [one for one in outcomes if one.target.kind == "new" and not one.error]
    asked = [one.started for one in new if int(one.generation) == old]
    answered = [one.started + one.seconds for one in new if int(one.generation) == old + 1]
    return bool(asked and answered) and min(answered) < max(asked)


def test_no_request_fails_in_restarts_by_hup(vps, proof):
    first = {pool: vps.generation(pool) for pool in POOLS}
    with proof.load(vps, TARGETS, sockets=SOCKETS, pools=POOLS) as watch:
        watch.settle()
        for number in range(1, RESTARTS + 1):
            watch.event(f"HUP {number}")
            for pool in POOLS:
                vps.hup(pool)
            for pool in POOLS:
                vps.wait_for_generation(pool, first[pool] + number)
            watch.wait_until_met({one.host: first[pool_of(one)] + number for one in TARGETS})
        watch.settle()
    for path, pool in PATHS.items():
        outcomes = watch.reports[path].outcomes
        waited = [n for n in range(RESTARTS) if not overlaps(outcomes, first[pool] + n)]
        assert len(waited) < RESTARTS / 2, (
            f"{pool} has ended old generations before new ones served"
        )
    report = watch.reports["nginx"]
    assert report.reopened == 0, "a restart must not close what the front end keeps"
    assert {pool: vps.generation(pool) - first[pool] for pool in POOLS} == dict.fromkeys(
        POOLS, RESTARTS
    )
    for target in TARGETS:
        began = first[pool_of(target)]
        seen = report.generations(target.host)
        assert seen <= set(range(began, began + RESTARTS + 1))
        if target.kind in ("new", "keep-alive"):
            assert seen == set(range(began, began + RESTARTS + 1)), target
