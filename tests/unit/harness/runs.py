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


HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)>&\"'$\\frac{$_x"
LONG = "a-very-long-name-without-any-space-" * 8


def hostile() -> Run:
    """A run in which all text that may come from an app or a machine would be HTML, or math."""
    client = Client(HOSTILE, HOSTILE, HOSTILE, HOSTILE)
    return replace(
        run(),
        title=HOSTILE,
        name=HOSTILE,
        machine={HOSTILE: HOSTILE},
        failure=HOSTILE,
        clients=(client,),
        pools=(HOSTILE,),
        requests=(Request(client, BEGAN, 1.0, HOSTILE, HOSTILE),),
        events=(Event(BEGAN + 1, HOSTILE),),
        samples=tuple(Sample(one.at, HOSTILE, one.generations) for one in run().samples),
    )


def long() -> Run:
    """A failed run in which all names and reasons are far too long."""
    client = Client(f"/run/{LONG}.sock", "new", f"{LONG}.example", f"/{LONG}")
    return replace(
        run(),
        title=LONG,
        name=LONG,
        machine={LONG: LONG},
        failure=f"{LONG}\n{LONG}",
        clients=(*CLIENTS, client),
        pools=(LONG,),
        requests=(*run().requests, Request(client, BEGAN + 3.0, 2.0, LONG, LONG)),
        events=(Event(BEGAN + 10, LONG),),
        samples=tuple(Sample(one.at, LONG, one.generations) for one in run().samples),
    )


def with_a_hole() -> Run:
    """A run in which a client begins late."""
    late = tuple(
        one for one in run().requests if one.client.kind != "new" or one.started > BEGAN + 9
    )
    return replace(run(), requests=late)


def empty() -> Run:
    """A run in which nothing was asked, done or seen."""
    return replace(run(), requests=(), samples=(), events=())
