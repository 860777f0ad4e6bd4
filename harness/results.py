"""The raw results of a run, what follows from them, and their file: JSON lines.

The first line of a file is the run; each other one is a request, an event or a sample, under a key
of that name. Times of day are in seconds since 1970, memory is in kB.
"""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

from .load import Report

SILENT_SECONDS = 2.0  # of a client that asks all the time
RARE_SILENT_SECONDS = 10.0
STARTING = "starting"  # the phase of a generation whose processes are still being made
# what the first line of a file says of a run, beside its clients
HEAD = ("name", "title", "machine", "began", "ended", "pools", "failure", "pause_seconds")


@dataclass(frozen=True)
class Client:
    """Who asks again and again: through `via`, one address, in one way."""

    via: str  # "nginx", or the path of a socket
    kind: str
    host: str
    path: str = "/"

    def __str__(self) -> str:
        return f"{self.kind} {self.host}{self.path} through {self.via}"


@dataclass(frozen=True)
class Request:
    """The fate of one request; `error` is empty where it was answered whole."""

    client: Client
    started: float
    seconds: float
    error: str = ""
    generation: str = ""

    @property
    def ended(self) -> float:
        """The time of day."""
        return self.started + self.seconds


@dataclass(frozen=True)
class Event:
    """What was done to the machine meanwhile; `hosts` are those whose process was killed.

    Which moment between `at` and `until` that was is not known.
    """

    at: float
    label: str
    until: float = 0.0
    hosts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Memory:
    """All processes of one generation of a pool."""

    number: int
    phase: str
    processes: int
    pss_kb: int
    private_kb: int
    workers_shared_percent: float | None = None  # of their RSS; None where there are none

    @property
    def shared_kb(self) -> int:
        """Its part of what it shares with others."""
        return self.pss_kb - self.private_kb


@dataclass(frozen=True)
class Sample:
    """A pool at one time; without generations where its super-daemon did not tell, by `error`."""

    at: float
    pool: str
    generations: tuple[Memory, ...] = ()
    error: str = ""


@dataclass(frozen=True)
class Silence:
    """A time in which a client, whatever the reason, had no request under way."""

    client: Client
    began: float
    ended: float

    @property
    def seconds(self) -> float:
        """How long it was."""
        return self.ended - self.began


@dataclass(frozen=True)
class Kind:
    """The requests of one kind of client."""

    name: str
    requests: int
    failures: int
    median: float
    percentile_99: float
    slowest: float


@dataclass(frozen=True)
class Run:
    """One test under load."""

    name: str
    title: str
    machine: dict[str, str]
    began: float
    ended: float
    clients: tuple[Client, ...]
    pools: tuple[str, ...] = ()  # whose memory is watched
    failure: str = ""  # what the test itself found
    pause_seconds: float = 0.0  # between two requests of a client, where it is a long one
    requests: tuple[Request, ...] = field(default=(), repr=False)
    events: tuple[Event, ...] = field(default=(), repr=False)
    samples: tuple[Sample, ...] = field(default=(), repr=False)

    @cached_property
    def failures(self) -> tuple[Request, ...]:
        """The requests that were not answered as they should be, and could have been."""
        lost = set(map(id, self.lost))
        return tuple(one for one in self.requests if one.error and id(one) not in lost)

    @cached_property
    def lost(self) -> tuple[Request, ...]:
        """The requests that were in a process when it was killed: one of each client at most."""
        found: dict[tuple[Event, Client], Request] = {}
        for event in self.events:
            for one in self.requests:
                if (
                    one.error
                    and one.client.host in event.hosts
                    and one.started <= event.until
                    and one.ended >= event.at
                ):
                    found.setdefault((event, one.client), one)
        return tuple(found.values())

    @cached_property
    def problems(self) -> tuple[str, ...]:
        """Why this run is no success; empty for one that is."""
        asked = {request.client for request in self.requests}
        found = [self.failure] if self.failure else []
        if not self.requests:
            found.append("not one request was made, so nothing is proven")
        else:
            found += [f"never asked: {client}" for client in self.clients if client not in asked]
        found += [
            f"the memory of {pool} was never seen"
            for pool in self.pools
            if pool not in self.generations
        ]
        found += [
            f"nobody was asking at {event.label}, so it proves nothing"
            for event in (self.unseen if self.requests else ())
        ]
        if self.failures:
            found.append(f"{len(self.failures)} of {len(self.requests)} requests failed")
        return tuple(found)

    @property
    def passed(self) -> bool:
        """Whether all that it is for has been shown."""
        return not self.problems

    @cached_property
    def unseen(self) -> tuple[Event, ...]:
        """The events around which no client had a request under way."""
        rare = all(client.kind == "rare" for client in self.clients)
        near = (RARE_SILENT_SECONDS if rare else SILENT_SECONDS) + self.pause_seconds
        return tuple(
            event
            for event in self.events
            if not any(
                one.started <= max(event.at, event.until) + near and one.ended >= event.at - near
                for one in self.requests
            )
        )

    @cached_property
    def kinds(self) -> tuple[Kind, ...]:
        """Numbers for each kind of client, in their order."""
        names = dict.fromkeys(client.kind for client in self.clients)
        failed = Counter(one.client.kind for one in self.failures)
        return tuple(
            _kind(name, found, failed[name]) for name in names if (found := self._of(name))
        )

    @cached_property
    def silences(self) -> tuple[Silence, ...]:
        """Where a client asked nothing for long: holes in what the run can prove."""
        return tuple(silence for client in self.clients for silence in self._silences(client))

    @cached_property
    def generations(self) -> dict[str, tuple[int, ...]]:
        """The generations that were seen of each pool."""
        seen: dict[str, set[int]] = {}
        for sample in self.samples:
            if sample.generations:
                numbers = seen.setdefault(sample.pool, set())
                numbers.update(one.number for one in sample.generations)
        return {pool: tuple(sorted(numbers)) for pool, numbers in seen.items()}

    def slowest(self, count: int) -> list[Request]:
        """The slowest requests of those clients whose requests are not slow on purpose."""
        quick = [request for request in self.requests if is_quick(request.client)]
        return sorted(quick, key=lambda request: request.seconds, reverse=True)[:count]

    def _of(self, kind: str) -> list[Request]:
        return [request for request in self.requests if request.client.kind == kind]

    def _silences(self, client: Client) -> Iterator[Silence]:
        longest = RARE_SILENT_SECONDS if client.kind == "rare" else SILENT_SECONDS
        longest += self.pause_seconds
        own = sorted(
            (request.started, request.ended)
            for request in self.requests
            if request.client == client
        )
        borders = [(self.began, self.began), *own, (self.ended, self.ended)]
        for (_, before), (after, _) in pairwise(borders):
            if after - before > longest:
                yield Silence(client, before, after)


@dataclass(frozen=True)
class Life:
    """What was seen of one generation."""

    pool: str
    number: int
    first: float
    last: float
    processes: int
    pss_kb: int  # the most of it
    private_kb: int
    workers_shared_percent: float | None  # the least, since it was ready


def lives(run: Run) -> list[Life]:
    """What was seen of each generation, pool by pool."""
    seen: dict[tuple[str, int], list[tuple[float, Memory]]] = {}
    for sample in run.samples:
        for one in sample.generations:
            seen.setdefault((sample.pool, one.number), []).append((sample.at, one))
    return [
        Life(
            pool,
            number,
            first=found[0][0],
            last=found[-1][0],
            processes=max(one.processes for _, one in found),
            pss_kb=max(one.pss_kb for _, one in found),
            private_kb=max(one.private_kb for _, one in found),
            workers_shared_percent=min(
                (
                    one.workers_shared_percent
                    for _, one in found
                    if one.workers_shared_percent is not None and one.phase != STARTING
                ),
                default=None,
            ),
        )
        for (pool, number), found in sorted(seen.items())
    ]


def is_quick(client: Client) -> bool:
    """Whether how long a request takes says something about the server."""
    return client.kind not in ("slow", "upload")


def _kind(name: str, requests: list[Request], failures: int) -> Kind:
    seconds = sorted(request.seconds for request in requests)
    return Kind(
        name,
        requests=len(requests),
        failures=failures,
        median=statistics.median(seconds),
        percentile_99=seconds[min(len(seconds) - 1, len(seconds) * 99 // 100)],
        slowest=seconds[-1],
    )


@dataclass(frozen=True)
class Summary:
    """What the index says of a run."""

    name: str
    title: str
    machine: str
    began: float
    seconds: float
    problems: tuple[str, ...]
    requests: int
    failures: int
    slowest: float | None  # None where no quick client has asked
    restarts: int

    @property
    def passed(self) -> bool:
        """Whether all that the run is for has been shown."""
        return not self.problems


@dataclass(frozen=True)
class Suite:
    """All tests of a scenario, also those without a load; an outcome as pytest calls it."""

    scenario: str
    ended: float
    outcomes: dict[str, str]
    seconds: float
    trouble: str = ""  # why it has not come to its tests, or to all of them

    @property
    def problems(self) -> list[str]:
        """Why this scenario is no success; empty for one that is."""
        found = [self.trouble] if self.trouble else []
        found += self.failed
        if not found and not self.count("passed"):
            found.append("not one test passed, so nothing is proven")
        return found

    @property
    def passed(self) -> bool:
        """Whether something was tested, and none of it failed."""
        return not self.problems

    @property
    def failed(self) -> list[str]:
        """The tests that did."""
        return sorted(name for name, outcome in self.outcomes.items() if outcome == "failed")

    def count(self, outcome: str) -> int:
        """How many tests ended so."""
        return list(self.outcomes.values()).count(outcome)


def note(outcomes: dict[str, str], name: str, outcome: str) -> None:
    """Note how a test has ended: once failed it stays so, whoever has its name as well."""
    if outcomes.get(name) != "failed":
        outcomes[name] = outcome


def summary(run: Run) -> Summary:
    """Count a run."""
    slowest = run.slowest(1)
    return Summary(
        name=run.name,
        title=run.title,
        machine=run.machine.get("distribution", ""),
        began=run.began,
        seconds=run.ended - run.began,
        problems=run.problems,
        requests=len(run.requests),
        failures=len(run.failures),
        slowest=slowest[0].seconds if slowest else None,
        restarts=len(run.events),
    )


def lines(run: Run) -> Iterator[str]:
    """Spell the lines of a run's file."""
    head: dict[str, Any] = {key: value for key, value in vars(run).items() if key in HEAD}
    head["clients"] = [asdict(client) for client in run.clients]
    yield json.dumps({"run": head, "summary": asdict(summary(run))})
    numbers = {client: number for number, client in enumerate(run.clients)}
    for request in sorted(run.requests, key=lambda one: one.started):
        yield json.dumps({"request": {**vars(request), "client": numbers[request.client]}})
    for event in run.events:
        yield json.dumps({"event": asdict(event)})
    for sample in run.samples:
        yield json.dumps({"sample": asdict(sample)})


def read(written: Iterable[str]) -> Run:
    """Read a run's file. Raises ValueError where it is not whole."""
    keys = ("run", "summary", "request", "event", "sample")
    found: dict[str, list[Any]] = {key: [] for key in keys}
    for line in written:
        for key, value in json.loads(line).items():
            found[key].append(value)
    (head,), (counted,) = found["run"], found["summary"]
    if len(found["request"]) != counted["requests"]:
        raise ValueError(
            f"the file of {head['name']} has {len(found['request'])} requests,"
            f" and is to have {counted['requests']}: it is not whole"
        )
    clients = tuple(Client(**client) for client in head.pop("clients"))
    return Run(
        **{**head, "pools": tuple(head["pools"])},
        clients=clients,
        requests=tuple(
            Request(**{**request, "client": clients[request["client"]]})
            for request in found["request"]
        ),
        events=tuple(Event(**{**one, "hosts": tuple(one["hosts"])}) for one in found["event"]),
        samples=tuple(read_sample(sample) for sample in found["sample"]),
    )


def requests(report: Report, via: str) -> Iterator[Request]:
    """What a load has asked through one address."""
    for one in report.outcomes:
        yield Request(
            Client(via, one.target.kind, one.target.host, one.target.path),
            report.epoch + one.started,
            one.seconds,
            one.error,
            one.generation,
        )


def read_sample(told: dict[str, Any]) -> Sample:
    """Read a sample, from the file or from the machine that made it."""
    generations = tuple(Memory(**one) for one in told.get("generations", ()))
    return Sample(told["at"], told["pool"], generations, told.get("error", ""))


def read_summary(file: Path) -> Summary:
    """Read what the index needs of a run's file: its first line."""
    with file.open(encoding="utf-8") as opened:
        told = json.loads(opened.readline())["summary"]
    return Summary(**{**told, "problems": tuple(told["problems"])})
