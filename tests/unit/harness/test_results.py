"""What a run has proven, and that its file keeps all of it."""

from dataclasses import replace

import pytest

from harness import results
from harness.results import Client, Event, Request

from . import runs


def test_a_run_in_which_nothing_failed_has_passed() -> None:
    assert runs.run().problems == ()
    assert runs.run().passed


def test_a_run_without_requests_is_no_success() -> None:
    empty = replace(runs.run(), requests=())
    assert not empty.passed
    assert empty.problems == ("not one request was made, so nothing is proven",)


def test_a_client_that_never_asked_is_a_problem() -> None:
    upload = runs.CLIENTS[3]
    others = tuple(one for one in runs.run().requests if one.client != upload)
    (problem,) = replace(runs.run(), requests=others).problems
    assert problem == "never asked: upload b.example/ through /run/kechi/main.sock"


def test_memory_that_was_never_seen_is_a_problem() -> None:
    run = runs.run()
    (problem,) = replace(run, samples=(results.Sample(1.0, "main", error="gone"),)).problems
    assert problem == "the memory of main was never seen"


def test_one_failed_request_fails_the_run() -> None:
    assert runs.failed().problems == ("1 of 584 requests failed",)


@pytest.mark.parametrize(
    ("host", "started", "seconds", "lost"),
    [
        ("a.example", 9.0, 1.5, True),  # in work as it was killed
        ("a.example", 10.1, 0.1, True),  # asked while it was
        ("a.example", 9.0, 0.9, False),  # had failed before
        ("a.example", 10.3, 0.1, False),  # asked after it
        ("b.example", 9.0, 1.5, False),  # a neighbour's
    ],
)
def test_only_what_a_killed_process_had_in_work_is_lost_with_it(
    host: str, started: float, seconds: float, lost: bool
) -> None:
    kill = Event(runs.BEGAN + 10.0, "kill -9", runs.BEGAN + 10.2, ("a.example",))
    client = Client("nginx", "new", host)
    failed = Request(client, runs.BEGAN + started, seconds, "RemoteDisconnected")
    run = replace(
        runs.run(),
        clients=(*runs.CLIENTS, client),
        requests=(*runs.run().requests, failed),
        events=(kill,),
    )
    assert (run.lost, run.failures) == (((failed,), ()) if lost else ((), (failed,)))
    assert run.passed is lost
    assert sum(kind.failures for kind in run.kinds) == len(run.failures)


def test_a_second_failure_of_a_client_in_one_kill_is_no_loss() -> None:
    kill = Event(runs.BEGAN + 10.0, "kill -9", runs.BEGAN + 10.2, ("a.example",))
    first, second = (
        Request(runs.CLIENTS[0], runs.BEGAN + at, 0.01, "RemoteDisconnected")
        for at in (10.05, 10.1)
    )
    run = replace(runs.run(), requests=(first, second), events=(kill,))
    assert (run.lost, run.failures) == ((first,), (second,))


def test_what_the_test_itself_found_fails_the_run() -> None:
    assert replace(runs.run(), failure="generation 7 of 8").problems == ("generation 7 of 8",)


@pytest.mark.parametrize(("kind", "shown"), [("new", True), ("rare", False)])
def test_a_hole_in_what_a_client_asked_is_shown(kind: str, shown: bool) -> None:
    client = Client("nginx", kind, "a.example")
    asked = tuple(Request(client, at, 0.1) for at in (0.0, 1.0, 2.0, 6.0, 7.0))
    run = replace(runs.run(), began=0.0, ended=8.0, clients=(client,), requests=asked)
    holes = [(one.began, one.ended) for one in run.silences]
    assert holes == ([(2.1, 6.0)] if shown else [])
    assert replace(run, pause_seconds=2.0).silences == (), "it pauses for as long on purpose"


def test_a_hung_request_is_a_failure_and_no_hole() -> None:
    client = Client("nginx", "new", "a.example")
    hung = Request(client, 0.0, 30.0, "TimeoutError: timed out")
    run = replace(runs.run(), began=0.0, ended=30.0, clients=(client,), requests=(hung,))
    assert run.silences == ()
    assert run.failures == (hung,)


def test_a_client_that_begins_late_or_ends_early_has_holes() -> None:
    client = Client("nginx", "new", "a.example")
    run = replace(
        runs.run(), began=0.0, ended=9.0, clients=(client,), requests=(Request(client, 4.0, 0.5),)
    )
    assert [one.seconds for one in run.silences] == [4.0, 4.5]


@pytest.mark.parametrize(
    ("event", "proven"),
    [
        (Event(4.0, "reload"), True),  # not 2 seconds after the last request before it
        (Event(6.0, "reload"), False),
        (Event(6.0, "kill -9", 9.0), True),  # asked in the block that killed
        (Event(12.0, "reload"), True),  # as the hung one was under way
    ],
)
def test_what_was_done_while_nobody_asked_is_not_proven(event: Event, proven: bool) -> None:
    client = Client("nginx", "new", "a.example")
    asked = [Request(client, at, 0.1) for at in (0.0, 1.0, 2.0, 9.0)]
    asked.append(Request(client, 9.5, 10.0))
    run = replace(
        runs.run(), began=0.0, ended=20.0, clients=(client,), requests=tuple(asked), events=(event,)
    )
    problem = f"nobody was asking at {event.label}, so it proves nothing"
    assert run.problems == (() if proven else (problem,))
    assert replace(run, pause_seconds=3.0).passed, "it pauses for as long on purpose"


def test_a_run_without_quick_clients_has_no_slowest_request() -> None:
    assert results.summary(runs.run()).slowest == runs.run().slowest(1)[0].seconds
    assert results.summary(runs.empty()).slowest is None


def test_a_file_that_was_cut_is_not_taken_for_a_run() -> None:
    written = [line for line in results.lines(runs.failed()) if "ConnectionResetError" not in line]
    with pytest.raises(ValueError, match="583 requests, and is to have 584: it is not whole"):
        results.read(written)


def test_what_is_slow_on_purpose_is_not_among_the_slowest() -> None:
    kinds = {one.client.kind for one in runs.run().slowest(1000)}
    assert kinds == {"new", "keep-alive"}
    slowest = runs.run().slowest(2)
    assert slowest[0].seconds >= slowest[1].seconds


def test_generations_are_told_pool_by_pool() -> None:
    assert runs.run().generations == {"main": (1, 2, 3)}
    first, *_ = results.lives(runs.run())
    assert (first.pool, first.number, first.pss_kb, first.last - first.first) == (
        "main",
        1,
        81_000,
        12,
    )


def test_the_least_that_its_workers_shared_once_it_was_ready_is_told_of_each_generation() -> None:
    run = runs.run()
    seen = iter([("starting", 38.4), ("serving", None), ("serving", 80.5), ("retiring", 90.0)])
    samples = []
    for one in run.samples:
        phase, shared_percent = next(seen, ("serving", None))
        first = replace(one.generations[0], phase=phase, workers_shared_percent=shared_percent)
        samples.append(replace(one, generations=(first,)))
    lives = results.lives(replace(run, samples=tuple(samples)))
    assert (lives[0].workers_shared_percent, lives[1].workers_shared_percent) == (80.5, None)


def test_a_runs_file_keeps_all_of_it() -> None:
    kill = Event(3.0, "kill -9", 4.0, ("a.example",))
    run = replace(
        runs.failed("line one\nline two"), failure="too slow", events=(kill,), pause_seconds=0.3
    )
    read = results.read(results.lines(run))
    assert set(read.requests) == set(run.requests)
    assert replace(read, requests=()) == replace(run, requests=())


def test_a_test_that_failed_stays_failed_though_another_of_its_name_passes() -> None:
    outcomes: dict[str, str] = {}
    for outcome in ("passed", "failed", "passed"):
        results.note(outcomes, "test_a[podman://vps]", outcome)
    assert outcomes == {"test_a[podman://vps]": "failed"}


@pytest.mark.parametrize(
    ("outcomes", "passed"),
    [({}, False), ({"a": "skipped"}, False), ({"a": "passed"}, True), ({"a": "failed"}, False)],
)
def test_a_scenario_passes_where_something_did_and_nothing_failed(
    outcomes: dict[str, str], passed: bool
) -> None:
    suite = results.Suite("tls", 0.0, outcomes, 1.0)
    assert suite.passed is passed
    assert bool(suite.problems) is not passed
    assert not replace(suite, trouble="it has not come to its end").passed
