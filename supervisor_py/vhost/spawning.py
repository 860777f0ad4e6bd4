"""Processes that multiprocessing spawns, or has a server fork, have the app's environment."""

import os
from typing import Any

# Whoever imports one of these is about to start such a process.
IMPORTED = frozenset({"multiprocessing.popen_spawn_posix", "multiprocessing.popen_forkserver"})


class WithEnvironment:
    """A value that brings the app's variables along, and is itself again in the new process."""

    def __init__(self, value: object, variables: dict[str, str]) -> None:
        self._all = value, variables

    def __reduce__(self) -> tuple[Any, ...]:
        return unpack, self._all


def unpack(value: object, variables: dict[str, str]) -> object:
    """Take the variables for the process's own."""
    os.environ.clear()
    os.environ.update(variables)
    return value


def install() -> None:
    """Have what multiprocessing tells a new process of itself bring the variables along."""
    from multiprocessing import spawn  # noqa: PLC0415  # for apps that use it

    from . import context  # noqa: PLC0415  # the new process needs none

    tell = spawn.get_preparation_data

    def tell_all(name: str) -> dict[str, Any]:
        told: dict[str, Any] = dict(tell(name))
        if context.current() is not None:
            told["name"] = WithEnvironment(told["name"], dict(os.environ))
        return told

    spawn.get_preparation_data = tell_all
