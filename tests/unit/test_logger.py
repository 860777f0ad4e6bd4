"""When the log's command is started: at once, and again after a pause, by a clock of the test's."""

import os
from collections.abc import Callable, Iterator

import pytest

from supervisor_py import effects
from supervisor_py.logger import Logger
from supervisor_py.output import Log


class Loop:
    """Stands for the poller and the output: it remembers what is watched and said."""

    def __init__(self) -> None:
        self.watched: dict[int, Callable[[], None]] = {}
        self.said: list[str] = []

    def watch(self, fd: int, callback: Callable[[], None]) -> None:
        self.watched[fd] = callback

    def forget(self, fd: int) -> None:
        self.watched.pop(fd)

    def say(self, text: str) -> None:
        self.said.append(text)


class Rig:
    """A logger whose command ends at once, as often as it is started, at a time that is set."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        self.starts: list[float] = []
        self.fails = False
        self.loop = Loop()
        patch.setattr("time.monotonic", lambda: self.now)
        patch.setattr(effects, "spawn", self._spawn)
        self.log = Log("|true")
        self.logger = Logger(self.log, self.loop, self.loop, {})  # type: ignore[arg-type]

    def _spawn(self, *_given: object) -> int:
        self.starts.append(self.now)
        if self.fails:
            raise OSError(11, "no more processes")
        pid = os.fork()
        if pid == 0:
            os._exit(3)
        return pid

    def hear_of_its_end(self) -> None:
        os.waitid(os.P_PID, self.logger.pid, os.WEXITED | os.WNOWAIT)
        (callback,) = self.loop.watched.values()
        callback()

    def at(self, now: float) -> None:
        """Let it be a time, and do what is due by then."""
        self.now = now
        self.logger.tick()


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    one = Rig(monkeypatch)
    yield one
    if one.logger.pid:
        one.hear_of_its_end()
    for fd in (one.log.fileno(), one.log.read_end):
        os.close(fd)


def test_a_command_that_ends_is_started_again_a_second_after_its_start(rig: Rig) -> None:
    rig.logger.start()
    assert rig.logger.deadline() is None, "it runs"
    rig.now = 100.4
    rig.hear_of_its_end()
    assert rig.loop.said[-1].endswith("died, status:768, restarting")
    assert rig.logger.deadline() == 101.0
    rig.at(100.9)
    assert rig.starts == [100.0]
    rig.at(101.0)
    assert rig.starts == [100.0, 101.0]


def test_one_that_has_run_for_longer_is_started_again_at_once(rig: Rig) -> None:
    rig.logger.start()
    rig.now = 150.0
    rig.hear_of_its_end()
    rig.at(150.0)
    assert rig.starts == [100.0, 150.0]


def test_a_command_that_can_not_be_started_is_tried_again_after_the_pause(rig: Rig) -> None:
    rig.fails = True
    rig.logger.start()
    assert rig.loop.said == ["failed to start the log command: no more processes"]
    rig.at(100.9)
    rig.at(101.0)
    rig.at(101.5)
    assert rig.starts == [100.0, 101.0]
