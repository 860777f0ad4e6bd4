"""Runs that are made up, for tests of what is told about them."""

import random
from dataclasses import replace

from harness.results import Client, Event, Memory, Request, Run, Sample

BEGAN = 1_700_000_000.0
SECONDS = 30.0
CLIENTS = (
    Client("nginx", "new", "a.example"),
    Client("nginx", "keep-alive", "a.example"),
    Client("/run/kechi/main.sock", "slow", "a.example", "/slow?seconds=2"),
    Client("/run/kechi/main.sock", "upload", "b.example"),
)


def run() -> Run:
    """A run in which nothing failed: two generations, then a third, of one pool."""
    chance = random.Random(1)
    requests = []
    for client in CLIENTS:
        at = BEGAN
        while at < BEGAN + SECONDS - 1.0:
            seconds = (
                2.0 if client.kind in ("slow", "upload") else 0.004 * chance.lognormvariate(0, 0.6)
            )
            requests.append(Request(client, at, seconds, generation="1"))
            at += seconds + 0.1
    samples = tuple(
        Sample(
            BEGAN + second,
            "main",
            tuple(
                Memory(number, phase, 3, 80_000 + 1000 * number, 60_000)
                for number, phase, first, last in (
                    (1, "serving", 0, 12),
                    (2, "serving", 10, 22),
                    (3, "serving", 20, 30),
                )
                if first <= second <= last
            ),
        )
        for second in range(int(SECONDS))
    )
    return Run(
        name="default.machine.test_restarts",
        title="no request fails in restarts",
        machine={"distribution": "Debian GNU/Linux 13 (trixie)", "kernel": "Linux 6.1"},
        began=BEGAN,
        ended=BEGAN + SECONDS,
        clients=CLIENTS,
        pools=("main",),
        requests=tuple(requests),
        events=(Event(BEGAN + 10, "HUP 1"), Event(BEGAN + 20, "HUP 2")),
        samples=samples,
    )


def failed(error: str = "ConnectionResetError: reset by peer") -> Run:
    """The same, with one request that failed."""
    one = Request(CLIENTS[0], BEGAN + 10.2, 3.0, error)
    return replace(run(), requests=(*run().requests, one))
