import os
from pathlib import Path

import pytest

from supervisor_py import memory
from supervisor_py.errors import FatalError
from supervisor_py.shared_memory_size import sample

NOBODY = 4194305  # no process id: above the kernel's limit


def test_a_process_that_ends_while_its_tree_is_measured_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "children", lambda: {os.getpid(): [NOBODY]})
    measured = sample.of_tree([os.getpid()])
    assert [one.memory.pid for one in measured.processes] == [os.getpid()]


def test_a_root_that_is_not_there_is_an_error() -> None:
    with pytest.raises(FatalError, match="no such process"):
        sample.of_tree([NOBODY])


def test_a_tree_is_measured_once_where_a_root_is_below_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mine, parent = os.getpid(), os.getppid()
    monkeypatch.setattr(memory, "children", lambda: {parent: [mine]})
    measured = sample.of_tree([mine, parent])
    assert [one.memory.pid for one in measured.processes] == [mine, parent]


def test_pools_are_found_by_their_runtime_directories(tmp_path: Path) -> None:
    for name in ("kechi-two", "kechi-one", "kechi-stopped", "other"):
        (tmp_path / name).mkdir()
    for name in ("kechi-two", "kechi-one", "other"):
        (tmp_path / name / "pid").touch()
    assert sample.pools(tmp_path) == ["one", "two"]
