"""The pure parts of the benchmarks: a figure is only as good as how it was read."""

import sys
from pathlib import Path

import pytest

from benchmarks import client, crawlers, density, memory, throughput
from benchmarks.density import Fit, Trial
from benchmarks.mix import DJANGOS, EIGHT, in_one_interpreter
from supervisor_py.crawlers.lines import reader

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


def a_counter(counted: int) -> crawlers.Contender:
    program = f"import sys; open(sys.argv[1], 'w').write('{{\"lines\": {counted}}}')"

    def command(_log: Path, out: Path) -> list[str]:
        return [sys.executable, "-c", program, str(out)]

    return crawlers.Contender("a counter", Path("log"), command, lambda found: found["lines"])


def test_who_does_not_count_every_line_is_not_compared(tmp_path: Path) -> None:
    assert crawlers.run(a_counter(7), 7, tmp_path).peak_mb > 1
    with pytest.raises(crawlers.WrongCountError, match="counted 6 of 7 lines"):
        crawlers.run(a_counter(6), 7, tmp_path)


def test_a_log_is_the_same_in_both_kinds(tmp_path: Path) -> None:
    combined, as_json = tmp_path / "a", tmp_path / "b"
    crawlers.generate(200, combined, as_json)
    read = reader()
    hits = [[read(line) for line in log.open()] for log in (combined, as_json)]
    assert len(hits[0]) == 200
    for one, other in zip(*hits, strict=True):
        assert one is not None
        assert other is not None
        assert one._replace(vhost="", app_seconds=0, time=int(one.time)) == other._replace(
            vhost="", app_seconds=0, time=int(other.time)
        )
