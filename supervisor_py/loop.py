"""The running super-daemon: waits for what happens, asks the machine, does what it says."""

from __future__ import annotations

import errno
import os
import select
import time

from . import control, effects, machine, signals
from .control import ControlServer
from .handoff import GENERATION_VARIABLE
from .readiness import Readiness
from .sdnotify import NOTIFY_SOCKET, Notifier
from .status import StatusFile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .environment import Environment
    from .listeners import Listeners
    from .machine import Action, Event
    from .settings import Settings


class _Child:
    """What the loop holds for a generation: its process, and where it says that it is ready."""

    def __init__(self, pid: int, pidfd: int, readiness: Readiness) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self.readiness = readiness


class Caught:
    """Signals that came in. A flag and not a queue: any number of HUPs is one restart more.

    The flags are set by Python-level handlers and not read from the wake-up pipe, so that a pipe
    that is full of HUPs never loses a TERM.
    """

    _NUMBERS = (signals.HUP, signals.INT, signals.TERM)

    def __init__(self) -> None:
        self.stop = ""  # the first of TERM and INT
        self.hup = False

    def install(self) -> None:
        """Begin to catch: before there is a pid file or a socket that someone could go by."""
        for number in self._NUMBERS:
            signals.catch(number, self._catch)
        # Were it ignored, as some runners leave it, children would vanish without a wait status.
        signals.use_default(signals.CHLD)
        signals.unblock_all()

    def remove(self) -> None:
        """Ignore them from now on: Python's own exit would give HUP back its power to kill."""
        for number in self._NUMBERS:
            signals.ignore(number)

    def _catch(self, number: int, _frame: object) -> None:
        if number == signals.HUP:
            self.hup = True
        elif not self.stop:
            self.stop = signals.name_of(number)


class SuperDaemon:
    """One server: its listeners, its generations, and those who ask about them."""

    def __init__(
        self,
        chosen: Settings,
        listeners: Listeners,
        environment: Environment,
        notifier: Notifier,
        caught: Caught,
    ) -> None:
        self._program = effects.Program(chosen.command, chosen.directory)
        self._listeners = listeners
        self._environment = environment
        self._notifier = notifier
        self._caught = caught
        self._state = machine.State(environment.policy)
        self._status = StatusFile(chosen.status_file) if chosen.status_file else None
        self._children: dict[int, _Child] = {}
        self._watched: dict[int, Callable[[], None]] = {}
        self._deaths: list[Event] = []
        self._events: list[Event] = []
        self._summary = ""
        self._status_complaint = ""
        self._over = False
        self._epoll = select.epoll()
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._watch(self._wake_read, self._drain_wakeups)
        self._control: ControlServer | None = None
        if chosen.control_socket:
            self._control = ControlServer(
                chosen.control_socket, self._watch, self._forget, self._requested
            )

    # Waiting

    def run(self) -> int:
        """Serve until a stop was asked and all generations are gone; return the exit status."""
        signals.wake(self._wake_write)
        self._feed(machine.Boot())
        while True:
            self._take_in()  # first: a signal may have come in before the wake-up fd was set
            if self._over:
                return 0
            self._wait()

    def close(self) -> None:
        """Remove the control socket and the status file."""
        if self._control:
            self._control.close()
        if self._status:
            self._status.remove()

    def _wait(self) -> None:
        """Wait for anything; without a deadline there is no wake-up at all."""
        due = machine.deadline(self._state)
        timeout = None if due is None else max(0.0, due - time.monotonic())
        for fd, _mask in self._epoll.poll(timeout):
            callback = self._watched.get(fd)
            if callback:
                callback()

    def _watch(self, fd: int, callback: Callable[[], None]) -> None:
        self._epoll.register(fd, select.EPOLLIN)
        self._watched[fd] = callback

    def _forget(self, fd: int) -> None:
        del self._watched[fd]
        self._epoll.unregister(fd)

    def _drain_wakeups(self) -> None:
        try:
            while os.read(self._wake_read, 512):
                pass
        except BlockingIOError:
            pass

    # What comes in

    def _take_in(self) -> None:
        """Give the machine all that has happened.

        A stop goes first. Deaths go before all that could make a dead generation the serving one.
        """
        if self._caught.stop and not self._state.stopping:
            self._feed(machine.StopAsked(self._caught.stop))
        while self._deaths:
            self._feed(self._deaths.pop(0))
        complaint = self._environment.refresh()
        if complaint:
            effects.say(f"the environment stays as it was: {complaint}")
        if self._environment.policy != self._state.policy:
            self._feed(machine.PolicyRead(self._environment.policy))
        while self._events:
            self._feed(self._events.pop(0))
        if self._caught.hup:
            self._caught.hup = False
            self._feed(machine.RestartAsked("HUP"))
        self._feed(machine.Tick())

    def _heard(self, number: int) -> None:
        child = self._children.get(number)
        if child and child.readiness.said_ready():
            self._events.append(machine.Ready(number))

    def _died(self, number: int) -> None:
        child = self._children.get(number)
        if child is None:
            return
        pid, status = os.waitpid(child.pid, os.WNOHANG)
        if pid == 0:
            return
        self._release(number)
        self._deaths.append(machine.Died(number, status))

    def _release(self, number: int) -> None:
        child = self._children.pop(number)
        for fd in (child.pidfd, child.readiness.fileno()):
            self._forget(fd)
        os.close(child.pidfd)
        child.readiness.close()

    def _requested(self, client: int, words: list[str]) -> None:
        if words == [control.RESTART]:
            self._events.append(machine.RestartAsked("control", client))
        elif self._control:
            self._control.answer(client, False, f"unknown request: {' '.join(words)}")

    # What goes out

    def _feed(self, event: Event) -> None:
        """Give the machine an event, and the events that follow from what it wants done."""
        following: list[Event] = [event]
        while following:
            self._state, actions = machine.step(self._state, following.pop(0), time.monotonic())
            self._write_status()  # before anybody is told, so that it is true when they look
            for action in actions:
                result = self._perform(action)
                if result is not None:
                    following.append(result)
        summary = machine.summary(self._state)
        if summary != self._summary:
            self._summary = summary
            # systemd's StatusErrno tells scripts what the text tells people: the last start failed
            self._notify(f"STATUS={summary}\nERRNO={errno.ECHILD if self._state.trouble else 0}")

    def _perform(self, action: Action) -> Event | None:
        match action:
            case machine.Spawn():
                return self._start(action.number)
            case machine.Send():
                child = self._children.get(action.number)
                if child:
                    signals.send(child.pidfd, action.signal)
            case machine.Say():
                effects.say(action.text)
            case machine.Tell() if self._control:
                self._control.tell(action.client, action.text)
            case machine.Answer() if self._control:
                self._control.answer(action.client, action.done, action.text)
            case machine.Notify():
                self._notify(action.text)
            case machine.Exit():
                self._over = True
        return None

    def _start(self, number: int) -> Event:
        """Fork a generation; whatever is short (processes, fds, memory), it is one attempt lost."""
        try:
            readiness = Readiness()
        except OSError as error:
            return machine.SpawnFailed(number, f"no notify socket: {error.strerror}")
        variables = {
            **self._environment.variables,
            **self._listeners.variables(),
            GENERATION_VARIABLE: str(number),
            NOTIFY_SOCKET: readiness.address,
        }
        try:
            pid = effects.spawn(self._program, variables)
        except OSError as error:
            readiness.close()
            return machine.SpawnFailed(number, f"fork failed: {error.strerror}")
        try:
            pidfd = os.pidfd_open(pid)
        except OSError as error:
            readiness.close()
            os.kill(pid, signals.KILL)  # no process that can't be watched may live
            os.waitpid(pid, 0)
            return machine.SpawnFailed(number, f"pidfd_open failed: {error.strerror}")
        self._children[number] = _Child(pid, pidfd, readiness)
        self._watch(readiness.fileno(), lambda: self._heard(number))
        self._watch(pidfd, lambda: self._died(number))
        return machine.Spawned(number, pid, _random())

    def _write_status(self) -> None:
        """Bring the status file up to date; a failure is said once, and tried again each time."""
        if not self._status:
            return
        accepted = [
            (one.number, one.pid) for one in self._state.generations if one.ready is not None
        ]
        complaint = ""
        try:
            self._status.write(accepted)
        except OSError as error:
            complaint = f"failed to write the status file: {error}"
        if complaint and complaint != self._status_complaint:
            effects.say(complaint)
        self._status_complaint = complaint

    def _notify(self, text: str) -> None:
        try:
            self._notifier.send(text)
        except OSError as error:
            effects.say(f"failed to tell systemd {text}: {error.strerror}")


def _random() -> float:
    """Return a number from 0 to 1; the `random` module would cost memory."""
    return int.from_bytes(os.urandom(4), "big") / 0xFFFFFFFF
