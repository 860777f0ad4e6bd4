"""Waiting for fds and signals."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor_py.poller import Poller


@pytest.fixture
def ends() -> Iterator[tuple[int, int]]:
    read_end, write_end = os.pipe2(os.O_NONBLOCK)
    yield read_end, write_end
    os.close(read_end)
    os.close(write_end)


def test_who_watches_an_fd_is_called_as_long_as_there_is_something_to_read(
    ends: tuple[int, int],
) -> None:
    poller, calls = Poller(), []
    poller.watch(ends[0], lambda: calls.append("readable"))
    poller.wait(0)
    assert calls == []
    os.write(ends[1], b"x")
    poller.wait(None)
    poller.wait(None)
    assert calls == ["readable"] * 2
    poller.forget(ends[0])
    poller.wait(0)
    assert len(calls) == 2


def test_what_is_not_watched_can_be_forgotten(ends: tuple[int, int]) -> None:
    poller = Poller()
    calls: list[str] = []
    poller.forget(ends[0])
    poller.watch(ends[0], lambda: calls.append("of the first"))
    os.write(ends[1], b"x")
    poller.forget(ends[0])
    poller.forget(ends[0])
    poller.wait(0)
    assert calls == []
    poller.watch(ends[0], lambda: calls.append("again"))
    poller.wait(0)
    assert calls == ["again"]


def test_one_callback_may_forget_the_fd_of_the_next(ends: tuple[int, int]) -> None:
    poller, calls = Poller(), []
    other = os.dup(ends[0])

    def first(mine: int, its: int) -> None:
        calls.append(mine)
        poller.forget(its)

    poller.watch(ends[0], lambda: first(ends[0], other))
    poller.watch(other, lambda: first(other, ends[0]))
    os.write(ends[1], b"x")
    poller.wait(0)
    assert len(calls) == 1
    os.close(other)


def test_who_waits_to_write_is_called_when_there_is_room(ends: tuple[int, int]) -> None:
    poller, calls = Poller(), []
    os.write(ends[1], b"x" * 65536)
    assert poller.watch_writable(ends[1], lambda: calls.append("writable"))
    assert poller.watch_writable(ends[1], lambda: calls.append("again")), "once is enough"
    poller.wait(0)
    assert calls == []
    os.read(ends[0], 65536)
    poller.wait(0)
    assert calls == ["writable"]
    assert not poller.watch_writable(ends[1], None)
    poller.wait(0)
    assert calls == ["writable"]


def test_a_file_can_not_be_waited_for(tmp_path: Path) -> None:
    fd = os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT)
    poller = Poller()
    assert not poller.watch_writable(fd, lambda: None)
    poller.forget(fd)
    with pytest.raises(PermissionError):
        poller.watch(fd, lambda: None)
    os.close(fd)


def test_a_wait_for_one_fd_is_over_in_time(ends: tuple[int, int]) -> None:
    began = time.monotonic()
    Poller.wait_for(ends[0], 0.02)
    assert time.monotonic() - began >= 0.015
    os.write(ends[1], b"x")
    Poller.wait_for(ends[0], 1e6)  # is over at once, or the test never is
