"""The moments of the arbiter that a test of the whole server can't hit on purpose."""

from types import SimpleNamespace
from typing import Any

import pytest

from supervisor_py.vhost.arbiter import Arbiter


def arbiter(ready: Any, fork: Any) -> Arbiter:
    made: Arbiter = object.__new__(Arbiter)
    made.WORKERS = {}
    made._num_workers = 2
    made._ready = ready
    made.log = SimpleNamespace(warning=lambda *_: None)
    made.spawn_worker = fork  # type: ignore[method-assign]
    return made


def failing() -> int:
    raise OSError(11, "Resource temporarily unavailable")


def test_a_fork_that_fails_later_on_is_tried_again_and_ends_nothing() -> None:
    arbiter(None, failing).manage_workers()


def test_a_fork_that_fails_at_the_start_fails_the_generation() -> None:
    with pytest.raises(OSError, match="temporarily unavailable"):
        arbiter(lambda: None, failing).manage_workers()
