"""Which group of a pool's apps listens on which socket: the file name of a socket says it."""

import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from .pool import App, Pool

SUFFIX = ".sock"
BACKLOG = 512


class ListenError(ValueError):
    """A group has no socket, or too many; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Listening:
    """A listening socket: its descriptor, and its path, "" for one that has none."""

    descriptor: int
    path: str = ""

    @property
    def app(self) -> str:
        """The name of the isolated app that it is for, if there is one of that name."""
        name = os.path.basename(self.path)
        return name.removesuffix(SUFFIX) if name.endswith(SUFFIX) else ""


def look_at(descriptor: int) -> Listening:
    """Return an inherited socket, with the path that it is bound to; raises OSError."""
    one = socket.socket(fileno=descriptor)
    try:
        address = one.getsockname() if one.family == socket.AF_UNIX else ""
    finally:
        one.detach()
    return Listening(descriptor, address if isinstance(address, str) else "")


@contextmanager
def bound(addresses: Sequence[str]) -> Iterator[list[Listening]]:
    """Listen on addresses, as gunicorn has them (host:port, unix:path), and clean up behind it.

    Raises ListenError.
    """
    made: list[Listening] = []
    maker = os.getpid()
    try:
        for address in addresses:
            made.append(_bind(address))
        yield made
    finally:
        for one in made if os.getpid() == maker else ():
            os.close(one.descriptor)
            if one.path:
                os.unlink(one.path)


def _bind(address: str) -> Listening:
    from gunicorn.util import parse_address  # noqa: PLC0415  # only to try a pool out

    try:
        place = parse_address(address)
        if isinstance(place, str):
            one = socket.socket(socket.AF_UNIX)
            one.bind(place)
            one.listen(BACKLOG)
        else:
            one = socket.create_server(place, backlog=BACKLOG)
    except (OSError, RuntimeError) as error:
        raise ListenError(f"--bind={address}: {error}") from error
    return Listening(one.detach(), place if isinstance(place, str) else "")


def assign(pool: Pool, sockets: Sequence[Listening]) -> dict[str, tuple[int, ...]]:
    """Return the descriptors of each isolated app, by its name, and of the shared ones, by "".

    Pure. Raises ListenError. A socket that nobody needs is left alone: systemd makes a pool's own
    one in any case. The only app of a pool takes all, where none is named as it is.
    """
    isolated = {app.name: app for app in pool.apps if app.own is not None}
    found: dict[str, list[Listening]] = {name: [] for name in isolated}
    others: list[Listening] = []
    for one in sockets:
        found.get(one.app, others).append(one)
    if others and len(pool.apps) == 1 and not any(found.values()):
        return {name: tuple(one.descriptor for one in others) for name in isolated or ("",)}
    problems = [*_problems(pool, isolated, found, sockets)]
    shared = [app.name for app in pool.apps if app.own is None]
    if shared and not others:
        problems.append(
            f"no socket is left for the shared apps {', '.join(shared)}: each one is named as an"
            f" isolated app; add {_option(sockets, 'shared')}, or a --port"
        )
    if problems:
        raise ListenError("\n".join(problems))
    assigned = {name: tuple(one.descriptor for one in ones) for name, ones in found.items()}
    if shared:
        assigned[""] = tuple(one.descriptor for one in others)
    return assigned


def _problems(
    pool: Pool,
    isolated: dict[str, App],
    found: dict[str, list[Listening]],
    sockets: Sequence[Listening],
) -> list[str]:
    problems = []
    for name in isolated:
        where = pool.where(name, "isolation")
        place = f"{where}: " if where else ""
        if not found[name]:
            problems.append(
                f"{place}the isolated app {name} has no socket: none is named {name}{SUFFIX};"
                f" add {_option(sockets, name)}"
            )
        elif len(found[name]) > 1:
            paths = " and ".join(one.path for one in found[name])
            problems.append(
                f"{place}the isolated app {name} has {len(found[name])} sockets, {paths}:"
                f" it can have one; rename the others"
            )
    return problems


def _option(sockets: Sequence[Listening], name: str) -> str:
    """Return the option of start_server that makes such a socket, beside those that are there."""
    folder = next((os.path.dirname(one.path) for one in sockets if one.path), "") or "DIRECTORY"
    return f"--path={folder}/{name}{SUFFIX}"
