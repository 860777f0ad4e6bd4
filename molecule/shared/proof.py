"""A machine under load from all sides, watched: what was asked, done and seen becomes a report."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import harness.sampler
from harness import machine, store
from harness.load import Report, Target, load, load_within
from harness.results import Client, Event, Run, Sample, read_sample, requests
from shared import reach
from shared.vps import Vps

NGINX = "nginx"
SAMPLE_SECONDS = 1.0
SAMPLER_SECONDS = 30.0  # for the last sample
SETTLE_SECONDS = 2.0


class Watch:
    """A load that goes on: notes what is done meanwhile, and has all reports when it is over."""

    def __init__(self, targets: Sequence[Target]) -> None:
        self.targets = targets
        self.began = time.time()
        self.events: list[Event] = []
        self.samples: list[Sample] = []
        self.reports: dict[str, Report] = {}

    def event(self, label: str) -> None:
        """Mark this moment."""
        self.events.append(Event(time.time(), label))

    def wait_until_met(self, generations: Mapping[str, int]) -> None:
        """Wait until all who ask a host through nginx all the time have met its generation.

        Args:
            generations: the number by host; of clients that rest, or wait for long, none is asked.
        """
        outcomes = self.reports[NGINX].outcomes
        asking = {
            (one.kind, one.host)
            for one in self.targets
            if one.kind in ("new", "keep-alive") and one.host in generations
        }

        def met() -> bool:
            """Whether each has been answered by it, or by a later one."""
            found = {
                (one.target.kind, one.target.host)
                for one in list(outcomes)
                if not one.error and int(one.generation) >= generations.get(one.target.host, 0)
            }
            return asking <= found

        Vps.wait_until(met, f"every client has been answered by {generations}")

    @staticmethod
    def settle() -> None:
        """Leave the machine to the load alone for a while."""
        time.sleep(SETTLE_SECONDS)  # for the report, which shows how it is before, and after

    @contextmanager
    def kill(self, label: str, hosts: Iterable[str]) -> Iterator[None]:
        """Mark that the block kills a process: what it has in work of these hosts is lost."""
        began = time.time()
        try:
            yield
        finally:
            self.events.append(Event(began, label, time.time(), tuple(hosts)))


class Proof:
    """One test's load and report; `name` is that of the report's directory."""

    def __init__(self, name: str, title: str, reports: Path) -> None:
        self._name = name
        self._title = title
        self._reports = reports
        self._run: Run | None = None

    @contextmanager
    def load(
        self,
        vps: Vps,
        targets: Sequence[Target],
        *,
        sockets: Mapping[str, Sequence[Target]] | None = None,
        pools: Sequence[str] = (),
        front_end_reloads: bool = False,
    ) -> Iterator[Watch]:
        """Load nginx, and `sockets` of the machine directly, while the block runs; watch `pools`.

        Raises AssertionError at the end of a block that raises nothing, where a request failed, or
        a client had none.
        """
        assert self._run is None, f"{self._name} loads twice, and has one report"
        watch = Watch(targets)
        direct = sockets or {}
        clients = [Client(NGINX, one.kind, one.host, one.path) for one in targets]
        for path, asked in direct.items():
            clients += [Client(path, one.kind, one.host, one.path) for one in asked]
        about = facts(vps)
        watch.began = time.time()
        try:
            with ExitStack() as stack:
                stack.enter_context(_sampled(vps, pools, watch.samples))
                watch.reports[NGINX] = stack.enter_context(
                    load(vps.address, list(targets), front_end_reloads=front_end_reloads)
                )
                for path, asked in direct.items():
                    watch.reports[path] = stack.enter_context(
                        load_within(vps.within, path, list(asked))
                    )
                yield watch
        finally:
            self._run = Run(
                name=self._name,
                title=self._title,
                machine=about,
                began=watch.began,
                ended=time.time(),
                clients=tuple(clients),
                pools=tuple(pools),
                requests=tuple(
                    request
                    for through, report in watch.reports.items()
                    for request in requests(report, through)
                ),
                events=tuple(watch.events),
                samples=tuple(watch.samples),
            )
        for through, report in watch.reports.items():
            print(f"{through}\n{report}")
        assert self._run.passed, "\n".join([*self._run.problems, *map(str, watch.reports.values())])

    def write(self, failure: str) -> Path:
        """Write the report of a test that has ended, with what it has found where it failed.

        Raises AssertionError where the test has loaded nothing.
        """
        assert self._run is not None, f"{self._name} asks for a proof and loads nothing"
        told = failure.startswith(tuple(self._run.problems) or "\0")
        return store.write(self._reports, replace(self._run, failure="" if told else failure))


def facts(vps: Vps) -> dict[str, str]:
    """What the machine is, and runs."""
    found = machine.read(str(vps.host.check_output(machine.FACTS)))
    return {"name": reach.name(vps.host), **found, "engine": reach.engine(vps.host)}


@contextmanager
def _sampled(vps: Vps, pools: Sequence[str], samples: list[Sample]) -> Iterator[None]:
    """Sample the pools' memory, in the machine, while the block runs."""
    if not pools:
        yield
        return
    program = Path(harness.sampler.__file__).read_text(encoding="utf-8")
    command = [*vps.within, "python3", "-c", program, str(SAMPLE_SECONDS), *pools]
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8") as printed,  # a pipe would be full some day
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=printed, text=True) as process,
    ):
        try:
            yield
        finally:
            try:
                process.communicate(timeout=SAMPLER_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
            printed.seek(0)
            samples += [read_sample(json.loads(line)) for line in printed]
        assert process.returncode == 0, f"the sampler ended with {process.returncode}"
