"""The pure parts of the benchmarks: a figure is only as good as how it was read."""

import pytest

from benchmarks import client, density, memory, throughput
from benchmarks.density import Fit, Trial
from benchmarks.mix import DJANGOS, EIGHT, in_one_interpreter

WRK = """\
Running 3s test @ http://127.0.0.1:8000/
  1 threads and 8 connections
  Latency Distribution
     50%    1.20ms
     99%  {p99}
  9000 requests in 3.00s, 1.20MB read
{errors}Requests/sec:   3000.25
Transfer/sec:    409.60KB
"""


@pytest.mark.parametrize(
    ("p99", "milliseconds"), [("850.00us", 0.85), ("4.50ms", 4.5), ("1.20s", 1200.0)]
)
def test_wrks_units_become_milliseconds(p99: str, milliseconds: float) -> None:
    found = throughput.parse(WRK.format(p99=p99, errors=""))
    assert found.p99_ms == pytest.approx(milliseconds)
    assert found.per_second == 3000.25
    assert found.failed == 0


def test_answers_that_failed_are_counted() -> None:
    errors = (
        "  Socket errors: connect 1, read 2, write 0, timeout 4\n  Non-2xx or 3xx responses: 10\n"
    )
    assert throughput.parse(WRK.format(p99="1.00ms", errors=errors)).failed == 15


def test_what_is_no_report_is_an_error() -> None:
    with pytest.raises(throughput.WrkError, match="unable to connect"):
        throughput.parse("unable to connect to 127.0.0.1:1 Connection refused")


def test_an_answer_is_read_with_its_cookies() -> None:
    answer = (
        b"HTTP/1.1 200 OK\r\nset-cookie: session=abc=; Path=/\r\nSet-Cookie: a=1\r\n"
        b"Content-Length: 5\r\n\r\nhello"
    )
    assert client.parse(answer) == (200, {"session": "abc=", "a": "1"}, 5)


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\n", b"SSH-2.0-x\r\n\r\n"])
def test_what_is_no_answer_is_an_error(answer: bytes) -> None:
    with pytest.raises(client.BadAnswerError):
        client.parse(answer)


@pytest.mark.parametrize(
    ("parents", "workers"),
    [
        ({1: 0}, [1]),
        ({1: 0, 2: 1, 3: 2}, [3]),
        ({1: 0, 2: 1, 3: 2, 4: 2, 5: 1}, [3, 4]),  # 5 is an isolated app's
        ({1: 0, 2: 1, 3: 0, 4: 3}, [2, 4]),  # a server for each app
    ],
)
def test_workers_are_told_from_their_parents(parents: dict[int, int], workers: list[int]) -> None:
    assert memory.workers_of(parents) == workers


def test_each_step_is_measured_alone_and_left_out() -> None:
    found = memory.combinations(immortal=False)
    assert [memory.named(one) for one in found] == [
        "no step",
        "gc off at load",
        "warm up",
        "freeze",
        "merge pages",
        "gc off at load, warm up, freeze, merge pages",
        "warm up, freeze, merge pages",
        "gc off at load, freeze, merge pages",
        "gc off at load, warm up, merge pages",
        "gc off at load, warm up, freeze",
    ]
    assert not any(one["immortal"] for one in found)
    assert len(memory.combinations(immortal=True)) == len(found) + 2


def test_all_django_projects_but_one_are_served_apart() -> None:
    together, apart = in_one_interpreter(EIGHT)
    assert [app.name for app in apart] == ["events"]
    assert len(together) == 7
    assert [len(apps) for apps in in_one_interpreter(DJANGOS)] == [1, 2]


def test_a_number_of_copies_is_estimated_from_two_runs() -> None:
    assert density.estimate([(20, 89.0), (100, 163.0)], 1024) == 1030
    assert density.estimate([(4, 100.0)], 1024) == 8


def test_what_fits_is_the_largest_number_that_did() -> None:
    fit = Fit("x", [Trial(4, 200, 190, 9), Trial(19, 980, 970, 9), Trial(20, 0, 0, 0, "killed")])
    assert fit.most() == 19
    assert fit.fewest_failed() == fit.trials[-1]
    assert fit.per_copy_mb() == pytest.approx(52)
