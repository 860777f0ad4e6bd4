"""Output on its way: lines stay whole, nobody waits, and what is lost is counted."""

import os
import select
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor_py.errors import FatalError
from supervisor_py.output import Log, Output, Relay


class Written:
    """Stands for Output, and remembers what it was given."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.pieces.append(data)


def _relayed(pieces: list[bytes], relay: Relay | None = None) -> tuple[Relay, list[bytes]]:
    """Send pieces through a relay, and close the pipe."""
    read_end, write_end = os.pipe()
    relay = Relay(read_end) if relay is None else Relay(read_end, relay.tail, relay.rest)
    out = Written()
    for piece in pieces:
        os.write(write_end, piece)
        relay.pump(out, most=20)  # type: ignore[arg-type]
    assert relay.open
    os.close(write_end)
    relay.pump(out)  # type: ignore[arg-type]
    assert not relay.open
    relay.close()
    return relay, out.pieces


@given(st.lists(st.binary(min_size=1, max_size=40).map(lambda b: b.replace(b"a", b"\n"))))
def test_a_relay_passes_on_whole_lines_and_all_of_them(pieces: list[bytes]) -> None:
    _, passed = _relayed(pieces)
    assert all(one.endswith(b"\n") for one in passed)
    whole = b"".join(pieces)
    assert b"".join(passed) == (whole if whole.endswith(b"\n") or not whole else whole + b"\n")


def test_a_line_without_end_is_passed_on_in_parts() -> None:
    _, passed = _relayed([b"x" * 8000, b"x" * 8000, b"x" * 10])
    assert passed == [b"x" * 16000 + b"\n", b"x" * 10 + b"\n"]


def test_the_last_lines_are_kept_and_no_part_of_one() -> None:
    relay, _ = _relayed([b"".join(b"line %03d\n" % at for at in range(100))])
    assert relay.last_lines() == [f"line {at:03d}" for at in range(80, 100)]
    relay, _ = _relayed([b"%s\n" % (b"y" * 390) for _ in range(30)])
    assert relay.last_lines() == ["y" * 390] * 10
    relay, _ = _relayed([b"caf\xe9\nno end"])
    assert relay.last_lines() == ["caf\ufffd", "no end"]
    assert _relayed([])[0].last_lines() == []


def test_a_relay_goes_on_in_the_middle_of_a_line_of_another() -> None:
    read_end, write_end = os.pipe()
    before, out = Relay(read_end), Written()
    os.write(write_end, b"first\nsec")
    before.pump(out)  # type: ignore[arg-type]
    os.close(write_end)
    before.close()
    relay, passed = _relayed([b"ond\n"], before)
    assert out.pieces + passed == [b"first\n", b"second\n"]
    assert relay.last_lines() == ["first", "second"]


def test_a_relay_reads_no_more_than_asked_in_one_go() -> None:
    read_end, write_end = os.pipe()
    relay, out = Relay(read_end), Written()
    os.set_blocking(write_end, False)
    sent = os.write(write_end, b"z\n" * 60_000)
    assert sent == 65536
    relay.pump(out)  # type: ignore[arg-type]
    assert sum(map(len, out.pieces)) == 65536
    relay.pump(out)  # type: ignore[arg-type]
    os.write(write_end, b"more\n")
    other = relay.writer()
    os.close(write_end)
    os.write(other, b"of another\n")
    os.close(other)
    relay.pump(out, most=5)  # type: ignore[arg-type]
    assert out.pieces[1:] == [b"more\nof another\n"]
    assert not relay.open
    relay.close()


class Stderr:
    """Our fd 2, in the hands of a test: a pipe that nobody reads until it is asked to."""

    def __init__(self) -> None:
        self.read_end, self._write_end = os.pipe()
        os.set_blocking(self.read_end, False)
        self._kept = -1
        self.waiting: Callable[[], None] | None = None
        self.can_wait = True

    def output(self) -> Output:
        """Begin: not in the fixture, as pytest takes fd 2 back between that and the test."""
        if self._kept < 0:
            self._kept = os.dup(2)
            os.dup2(self._write_end, 2)
            os.close(self._write_end)
        return Output(self._watch_writable)

    def _watch_writable(self, fd: int, callback: Callable[[], None] | None) -> bool:
        assert fd == 2
        self.waiting = callback
        return self.can_wait

    def read(self) -> bytes:
        """Read all, as often as more is written for that."""
        found = b""
        while True:
            try:
                data = os.read(self.read_end, 1 << 20)
            except BlockingIOError:
                if self.waiting is None or not select.select([], [2], [], 0)[1]:
                    return found
                self.waiting()
                continue
            assert data, "fd 2 is no longer ours"
            found += data

    def leave(self) -> None:
        """Be a reader who has gone."""
        os.close(self.read_end)
        self.read_end = -1

    def close(self) -> None:
        os.dup2(self._kept, 2)
        os.close(self._kept)
        if self.read_end >= 0:
            self.leave()


@pytest.fixture
def stderr() -> Iterator[Stderr]:
    one = Stderr()
    yield one
    one.close()


LINE = b"%s\n" % (b"x" * 1023)


def test_what_is_read_is_written_at_once(stderr: Stderr) -> None:
    out = stderr.output()
    out.say("h\udce9llo")
    out.write(b"you\n")
    assert stderr.read() == b"h\xe9llo\nyou\n"
    assert stderr.waiting is None


def test_what_is_not_read_waits_and_comes_in_order(stderr: Stderr) -> None:
    out = stderr.output()
    sent = b""
    for at in range(200):
        line = b"%04d %s" % (at, LINE)
        sent += line
        out.write(line)
    assert stderr.waiting is not None
    assert len(out.unwritten()[0]) > 100_000
    assert stderr.read() == sent
    assert stderr.waiting is None
    assert out.unwritten() == (b"", 0)


def test_what_is_too_much_is_counted_and_said_where_it_is_missing(stderr: Stderr) -> None:
    out = stderr.output()
    for _ in range(1000):
        out.write(LINE)
    lost = out.unwritten()[1]
    assert lost > 600_000
    os.read(stderr.read_end, 1 << 20)
    assert stderr.waiting is not None
    stderr.waiting()  # there is some room again
    out.say("after the gap")
    rest = stderr.read().decode()
    notice = f"{lost} bytes of output were lost: it was not read\n"
    assert rest.endswith(f"xx\n{notice}after the gap\n")
    assert rest.count("were lost") == 1


def test_our_own_lines_are_kept_where_a_child_has_filled_all_room(stderr: Stderr) -> None:
    out = stderr.output()
    for _ in range(1000):
        out.write(LINE)
    for _ in range(1024):
        out.write(b"\n")
    for number in range(100):
        out.say(f"we say {number}")
    ours = "".join(f"we say {number}\n" for number in range(100))
    assert stderr.read().decode().endswith(f"it was not read\n{ours}")
    for _ in range(1000):
        out.write(LINE)
    for _ in range(100):
        out.say("x" * 1000)
    assert len(out.unwritten()[0]) < (256 + 16) * 1024, "they have a limit, too"


def test_a_loss_is_said_even_if_nothing_follows(stderr: Stderr) -> None:
    out = stderr.output()
    out.write(LINE * 500)
    assert out.unwritten() == (b"", 0)
    assert stderr.read() == b"512000 bytes of output were lost: it was not read\n"


def test_output_goes_on_after_a_full_disk(stderr: Stderr, tmp_path: Path) -> None:
    out = stderr.output()
    pipe = os.dup(2)
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, 2)
    out.write(b"one\n")
    out.write(b"two\n")
    assert out.unwritten() == (b"", 8)
    os.dup2(pipe, 2)
    out.write(b"three\n")
    said = b"8 bytes of output were lost: No space left on device\n"
    assert stderr.read() == said + b"three\n"
    os.close(pipe)
    os.close(full)


def test_nobody_waits_for_a_reader_who_has_gone(stderr: Stderr) -> None:
    out = stderr.output()
    stderr.leave()
    out.write(b"one\n")
    assert out.unwritten() == (b"", 4)
    out.drain(10)


def test_a_child_that_fills_our_stderr_just_before_us_makes_us_wait_for_nothing(
    stderr: Stderr, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = stderr.output()
    try:
        os.pwritev(2, [b"now\n"], -1, os.RWF_NOWAIT)
    except OSError as error:
        pytest.skip(f"this kernel can't write to a pipe without waiting: {error.strerror}")
    assert stderr.read() == b"now\n"
    other = os.open("/proc/self/fd/2", os.O_WRONLY | os.O_NONBLOCK)
    real = os.pwritev

    def late(*given: Any) -> int:
        monkeypatch.setattr(os, "pwritev", real)
        os.write(other, b"c" * 65536)
        return real(*given)

    monkeypatch.setattr(os, "pwritev", late)
    out.write(b"ours\n")  # would hang
    assert out.unwritten() == (b"ours\n", 0)
    assert stderr.waiting is not None
    assert stderr.read() == b"c" * 65536 + b"ours\n"
    os.close(other)


def test_where_it_can_not_be_waited_for_it_is_tried_at_the_next_line(stderr: Stderr) -> None:
    out = stderr.output()
    stderr.can_wait = False
    for _ in range(100):
        out.write(LINE)
    stderr.waiting = None
    got = len(stderr.read())
    assert 0 < got < 100 * len(LINE)
    out.write(LINE)
    got += len(stderr.read())
    while out.unwritten()[0]:
        out.write(b"")
        stderr.waiting = None
        got += len(stderr.read())
    assert got == 101 * len(LINE)


def test_the_end_waits_for_a_reader_but_not_for_ever(stderr: Stderr) -> None:
    out = stderr.output()
    for _ in range(100):
        out.write(LINE)
    began = time.monotonic()
    out.drain(0.05)
    assert time.monotonic() - began >= 0.05
    reader = os.fork()
    if reader == 0:
        os.close(2)
        os.set_blocking(stderr.read_end, True)
        total = 0
        while total < 100 * len(LINE):
            total += len(os.read(stderr.read_end, 4096))
        os._exit(0)
    out.drain(10)
    assert out.unwritten() == (b"", 0)
    assert os.waitpid(reader, 0)[1] == 0


def test_a_successor_writes_what_was_left_before_its_own(stderr: Stderr) -> None:
    out = stderr.output()
    for at in range(100):
        out.write(b"%04d %s" % (at, LINE))
    out.write(LINE * 300)
    unwritten, lost = out.unwritten()
    assert lost == 300 * len(LINE)
    stderr.waiting = None
    other = stderr.output()
    other.resume(unwritten, lost)
    other.say("new")
    lines = stderr.read().decode().splitlines()
    assert [int(line[:4]) for line in lines[:100]] == list(range(100))
    assert lines[100:] == [f"{lost} bytes of output were lost: it was not read", "new"]


@pytest.mark.parametrize(
    ("name", "command"),
    [("|cat", "cat"), (" | cat -n >>x ", "cat -n >>x"), ("||x", "|x"), ("x|cat", ""), ("x", "")],
)
def test_a_log_whose_name_begins_with_a_bar_is_a_command(
    name: str, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    log = Log(name)
    assert log.command == command
    assert (tmp_path / name).exists() == (not command)
    os.close(log.fileno())
    if command:
        os.close(log.read_end)


@pytest.mark.parametrize("name", ["|", " |  "])
def test_a_bar_without_a_command_is_refused(name: str) -> None:
    with pytest.raises(FatalError, match="has no command after the") as refused:
        Log(name)
    assert refused.value.code == 1


def test_a_log_that_can_not_be_opened_is_an_error_with_its_number(tmp_path: Path) -> None:
    with pytest.raises(FatalError, match=r"failed to open log file:.*No such file") as refused:
        Log(str(tmp_path / "none" / "log"))
    assert refused.value.code == 2
