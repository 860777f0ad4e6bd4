"""The requests that run in this process, each in a thread, and those of them that do not end."""

import os
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any

from ..text import visible
from .context import AppContext
from .failures import WORKERS
from .pool import REQUEST_TIMEOUT_SECONDS

DEADLOCK_SECONDS = 5.0  # all threads busy for so long: time to see whether they wait for each other
LINE_LENGTH = 200  # of a request line in the log
STACK_FRAMES = 30  # the innermost ones
CODE_LENGTH = 150  # of a line of a stack
OUR_FILES = (os.path.dirname(__file__) + os.sep, WORKERS)
BOUNDARY = "handle_request"  # of the worker: what is outside of it is the same for all
# By these an HTTP client's connection names its host: http.client's, urllib3's, httpcore's.
HOST_ATTRIBUTES = ("host", "_dns_host")
ORIGIN_ATTRIBUTE = "_origin"


@dataclass(slots=True, eq=False)
class Running:
    """A request that runs in a thread."""

    request: Any  # gunicorn's
    began: float
    app: AppContext | None = None
    task_frames: Callable[[], Iterable[FrameType]] | None = None  # where a task does the work
    is_reported: bool = False  # as one that does not end
    is_examined: bool = False  # for whether it waits for its own pool

    @property
    def name(self) -> str:
        """The app's name, and the request line and host."""
        app = self.app.name if self.app is not None else "(none)"
        line = visible(f"{self.request.method} {self.request.uri}", LINE_LENGTH)
        hosts = [value for key, value in self.request.headers if key == "HOST"]
        return f'"{line}" for {visible(", ".join(hosts), LINE_LENGTH)} of the app {app}'

    @property
    def timeout_seconds(self) -> float:
        """For how long it may run; 0: without an end."""
        return REQUEST_TIMEOUT_SECONDS if self.app is None else self.app.request_timeout_seconds

    def is_overdue(self, now: float) -> bool:
        """Tell whether it has been running for longer than it may."""
        return 0 < self.timeout_seconds <= now - self.began


_requests: dict[int, Running] = {}  # by the thread's identifier


def begin(request: Any, now: float) -> None:
    """Note that the calling thread works on a request."""
    _requests[threading.get_ident()] = Running(request, now)


def end() -> None:
    """Note that it does so no more."""
    _requests.pop(threading.get_ident(), None)


def of_thread() -> Running | None:
    """Return the request that the calling thread works on; None for one that has none."""
    return _requests.get(threading.get_ident())


def all_running() -> dict[int, Running]:
    """Return all requests that run now, by the threads' identifiers."""
    return dict(_requests)


@dataclass(frozen=True, slots=True)
class OwnPool:
    """What an app would have to ask to be answered by this process itself."""

    addresses: Sequence[object]  # of its listening sockets, as getsockname() has them
    serves: Callable[[str], bool]  # whether a host is one of its sites


@dataclass(frozen=True, slots=True)
class Findings:
    """What is to be told of the requests, and for how long all threads have been busy, or 0.0."""

    reports: tuple[str, ...] = ()
    stuck_seconds: float = 0.0


def examine(requests: dict[int, Running], threads: int, pool: OwnPool, now: float) -> Findings:
    """Look at what runs in a process with so many threads; each thing is told once.

    `stuck_seconds`: every thread has been busy for longer than its request may take.
    """
    if not requests:
        return Findings()
    reports: list[str] = []
    busy = len(requests) >= threads
    ages = [now - one.began for one in requests.values()]
    stuck = busy and all(one.is_overdue(now) for one in requests.values())
    unreported = [ident for ident, one in requests.items() if not one.is_reported]
    if busy and min(ages) >= DEADLOCK_SECONDS:
        reports += _deadlock(requests, pool)
    if stuck and unreported:
        reports.append(
            f"all {threads} thread(s) of this worker have been busy for {min(ages):.0f} s or"
            " longer, each with a request over its request_timeout_seconds: it is replaced"
        )
    reports += overdue(requests, now, again=stuck and bool(unreported))
    return Findings(tuple(reports), min(ages) if stuck else 0.0)


def overdue(requests: dict[int, Running], now: float, *, again: bool = False) -> Iterator[str]:
    """Yield what is to be told of requests that do not end, once, or `again`."""
    for ident, one in requests.items():
        if one.is_overdue(now) and (not one.is_reported or again):
            one.is_reported = True
            doer = "thread" if one.task_frames is None else "task"
            yield (
                f"{one.name} has been running for {now - one.began:.0f} s, of"
                f" {one.timeout_seconds:.0f} s at most (request_timeout_seconds); its {doer}"
                f" is here:\n{stack(frames_of(ident, one))}"
            )


def _deadlock(requests: dict[int, Running], pool: OwnPool) -> Iterator[str]:
    """Tell of requests that wait for an answer of the very threads that they hold."""
    unseen = [(ident, one) for ident, one in requests.items() if not one.is_examined]
    for ident, one in unseen:
        one.is_examined = True
        asked = next(filter(None, (asks(frame, pool) for frame in frames_of(ident, one))), "")
        if asked:
            yield (
                f"{one.name} waits for an answer of its own pool ({visible(asked)}), and all"
                f" {len(requests)} thread(s) of this worker are busy: a request holds its thread"
                " until it is answered, so such requests can all wait for each other. Give it an"
                ' interpreter of its own (isolation = "process"), more threads, or call the'
                " function instead"
            )


def asks(frame: FrameType, pool: OwnPool) -> str:
    """Return which socket or host of its own pool a frame is connected to, "" for none.

    Nothing of an app is called for that: it could do anything.
    """
    for value in list(frame.f_locals.values()):
        attributes = _attributes(value)
        for one in (value, *attributes.values()):
            if issubclass(type(one), socket.socket) and (found := _own_address(one, pool)):
                return found
        origin = _attributes(attributes.get(ORIGIN_ATTRIBUTE))
        names = [attributes.get(name) for name in HOST_ATTRIBUTES] + [origin.get("host")]
        for name in names:
            text = name.decode("latin-1") if type(name) is bytes else name
            if type(text) is str and pool.serves(text):
                return text
    return ""


def _attributes(value: object) -> dict[str, Any]:
    try:
        found = object.__getattribute__(value, "__dict__")
    except AttributeError:
        return {}
    return dict(found) if type(found) is dict else {}


def _own_address(client: socket.socket, pool: OwnPool) -> str:
    try:
        peer = socket.socket.getpeername(client)
        here = socket.socket.getsockname(client)
    except OSError:
        return ""
    for address in pool.addresses:
        if isinstance(address, tuple) and isinstance(peer, tuple):
            # A machine that connects to itself has the same address at both ends.
            if peer[1] == address[1] and peer[0] == here[0]:
                return f"{peer[0]}:{peer[1]}"
        elif address and peer == address:
            return os.fsdecode(peer)
    return ""


def frames_of(ident: int, one: Running) -> list[FrameType]:
    """Return the frames in which a thread, or a task, works on a request, the innermost last."""
    if one.task_frames is not None:
        return list(one.task_frames())
    found = outer_frames(sys._current_frames().get(ident))
    ours = [
        index
        for index, frame in enumerate(found)
        if frame.f_code.co_filename.startswith(OUR_FILES) and frame.f_code.co_name == BOUNDARY
    ]
    return found[ours[0] + 1 :] if ours else found


def outer_frames(frame: FrameType | None) -> list[FrameType]:
    """Return a frame and those that have called it, the innermost one last."""
    found = []
    while frame is not None:
        found.append(frame)
        frame = frame.f_back
    found.reverse()
    return found


def stack(frames: Sequence[FrameType]) -> str:
    """Return a stack as it is shown in a traceback: the app's part, bounded, nothing of it acts."""
    shown = [
        traceback.FrameSummary(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name)
        for frame in frames
        if not frame.f_code.co_filename.startswith(OUR_FILES)
    ]
    left_out = len(shown) - STACK_FRAMES
    lines = [f"  ({left_out} frames are left out)"] if left_out > 0 else []
    for one in shown[-STACK_FRAMES:]:
        place = visible(f'File "{one.filename}", line {one.lineno}, in {one.name}')
        lines.append(f"  {place}")
        if one.line:
            lines.append(f"    {visible(one.line, CODE_LENGTH)}")
    return "\n".join(lines) or "  (in the server itself)"
