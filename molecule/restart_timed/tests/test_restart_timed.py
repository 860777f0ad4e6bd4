"""New generations by the clock (AUTO_RESTART_INTERVAL, KILL_OLD_DELAY): no request is lost."""

from __future__ import annotations

import time

from shared.targets import POOLS, SOCKETS, TARGETS

RESTARTS = 6
INTERVAL_SECONDS = 6  # both as in the inventory
DELAY_SECONDS = 2
MOST_SECONDS = 10 * INTERVAL_SECONDS  # a busy machine's delay; the clock's own is a unit test's
UNSURE_SECONDS = 0.5  # how late the journal may take down a line
TRIGGERED = f"autorestart triggered (interval={INTERVAL_SECONDS})"
SERVES = "new worker is now running, sending TERM to old workers:"
ENDS = "killing old workers"


def test_no_request_fails_in_timed_restarts_and_each_comes_in_its_time(vps, proof):
    first = {pool: vps.generation(pool) for pool in POOLS}
    began = time.time()
    with proof.load(vps, TARGETS, sockets=SOCKETS, pools=POOLS) as watch:
        for number in range(1, RESTARTS + 2):  # the last one's old generation need not be over
            for pool in POOLS:
                vps.wait_for_next_generation(pool, first[pool] + number)
            watch.event(f"restart {number} by the clock was seen")
    report = watch.reports["nginx"]
    for target in TARGETS:
        if target.kind in ("new", "keep-alive"):
            assert len(report.generations(target.host)) >= RESTARTS, target
    for pool in POOLS:
        told = [line for line in vps.timed_journal(pool) if line[0] > began]
        served, ended = _times(told, SERVES), _times(told, ENDS)
        assert len(served) >= RESTARTS
        # the old generation goes on beside the new one for this long, and has gone before the next
        overs = [min(end for end in ended if end > at) - at for at in served[:RESTARTS]]
        assert min(overs) > DELAY_SECONDS - UNSURE_SECONDS, (pool, overs)
        triggered = _times(told, TRIGGERED)
        waits = [min(at for at in triggered if at > before) - before for before in served[:-1]]
        assert all(over < wait for over, wait in zip(overs, waits, strict=False)), (overs, waits)
        assert min(waits) > INTERVAL_SECONDS - UNSURE_SECONDS, (pool, waits)
        assert max(waits) < MOST_SECONDS, (pool, waits)
        # by lot, so that many pools don't restart at once
        assert max(waits) - min(waits) > 0.01, (pool, waits)


def _times(told: list[tuple[float, str]], begin: str) -> list[float]:
    return [at for at, line in told if line.startswith(begin)]
