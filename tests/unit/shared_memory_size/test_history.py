import json
from pathlib import Path
from typing import Any

import pytest

from supervisor_py.errors import FatalError
from supervisor_py.memory import Reading
from supervisor_py.shared_memory_size import history
from supervisor_py.shared_memory_size.history import Point
from supervisor_py.shared_memory_size.sample import Process, Sample


def sample(requests: int | None, pool: str = "main", shared: int = 900) -> Sample:
    worker = Process(Reading(9, 1000, shared, 500, 100), "python3", True, "(shared)", requests)
    return Sample(1.5, pool, (worker,))


def test_each_sample_is_a_line_of_json(tmp_path: Path) -> None:
    file = tmp_path / "main.jsonl"
    history.append(file, [sample(1), sample(2, "other")])
    history.append(file, [sample(3)])
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [(line["pool"], line["requests"]) for line in lines] == [
        ("main", 1), ("other", 2), ("main", 3),
    ]  # fmt: skip


def test_a_history_does_not_grow_without_end_and_keeps_the_latest(tmp_path: Path) -> None:
    file = tmp_path / "main.jsonl"
    for count in range(1000):
        history.append(file, [sample(count)], most_bytes=10_000)
    sizes = [one.stat().st_size for one in tmp_path.iterdir()]
    assert len(sizes) == 2
    assert sum(sizes) < 21_000
    kept = [point.requests for point in history.read(file)["main"]]
    assert kept == list(range(1000 - len(kept), 1000))
    assert len(kept) > 20, "the older half counts"


def test_requests_are_counted_on_when_a_new_generation_begins_at_0(tmp_path: Path) -> None:
    file = tmp_path / "main.jsonl"
    for requests in (5, 20, 0, 7, 7, 3):
        history.append(file, [sample(requests)])
    assert [point.requests for point in history.read(file)["main"]] == [5, 20, 20, 27, 27, 30]


def test_each_pool_is_a_series_and_what_has_no_requests_is_none(tmp_path: Path) -> None:
    file = tmp_path / "all.jsonl"
    history.append(file, [sample(5), sample(None, "command"), sample(1, "other", shared=500)])
    assert history.read(file) == {"main": [Point(5, 90.0, 500)], "other": [Point(1, 50.0, 500)]}


@pytest.mark.parametrize(
    "line", ["not JSON", "[]", "3", "{}", '{"pool": 1}', '{"pool": "a", "requests": "b"}']
)
def test_what_is_no_history_is_refused_with_its_line(tmp_path: Path, line: str) -> None:
    file = tmp_path / "main.jsonl"
    history.append(file, [sample(5)])
    file.write_text(f"{file.read_text()}{line}\n")
    with pytest.raises(FatalError) as refused:
        history.read(file)
    assert str(refused.value).startswith(f"{file}:2: is not a line of a history: ")


def bytes_of(file: Path) -> None:
    file.write_bytes(b"\xff\xfe\x00")


def nothing_known(file: Path) -> None:
    history.append(file, [sample(None)])


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda file: None, "can't be read: No such file or directory"),
        (Path.mkdir, "can't be read: Is a directory"),
        (bytes_of, "is not a history: it is no text"),
        (Path.touch, "there is nothing to plot"),
        (nothing_known, "there is nothing to plot"),
    ],
)
def test_a_file_with_nothing_to_plot_is_refused(tmp_path: Path, make: Any, reason: str) -> None:
    file = tmp_path / "main.jsonl"
    make(file)
    with pytest.raises(FatalError) as refused:
        history.read(file)
    assert reason in str(refused.value)


def test_a_history_that_can_not_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(FatalError, match="the history can't be written: Is a directory"):
        history.append(tmp_path, [sample(1)], most_bytes=10**9)
