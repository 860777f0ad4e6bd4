"""The running super-daemon: waits for what happens, asks the machine, does what it says."""

from __future__ import annotations

import errno
import os
import time

from . import (
    __version__,
    control,
    effects,
    events,
    handover,
    machine,
    model,
    reaper,
    report,
    signals,
)
from .children import Children, Work, clock
from .control import ControlServer
from .output import Output
from .poller import Poller
from .record import Record
from .status import StatusFile
from .upgrade import Upgrader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .environment import Environment
    from .events import Action, Event
    from .handover import Handover
    from .logger import Logger
    from .output import Log
    from .sdnotify import Notifier
    from .settings import Settings
    from .status import PidFile
    from .unixpath import UnixListener


_LAST_WORDS = 1.0  # seconds, at most, that our end waits for a slow reader of our stderr


class Caught:
    """Signals that came in. A flag and not a queue: any number of HUPs is one restart more.

    The flags are set by Python-level handlers and not read from the wake-up pipe, so that a pipe
    that is full of HUPs never loses a TERM.
    """

    _NUMBERS = (signals.HUP, signals.INT, signals.TERM, signals.USR1, signals.USR2)

    def __init__(self) -> None:
        self.stop = ""  # the first of TERM and INT
        self._flags: set[int] = set()

    def install(self) -> None:
        """Begin to catch: before there is a pid file or a socket that someone could go by."""
        for number in self._NUMBERS:
            signals.catch(number, self._catch)
        signals.ignore(signals.ALRM)  # as Perl's start_server does
        # Caught, it wakes us for the dead of others that came to us; ignored, as some runners leave
        # it, children would vanish without a wait status.
        signals.catch(signals.CHLD, _nothing)
        signals.unblock_all()

    def remove(self) -> None:
        """Ignore them from now on: Python's own exit would give HUP back its power to kill."""
        for number in self._NUMBERS:
            signals.ignore(number)

    def take(self, number: int) -> bool:
        """Tell whether a signal has come in since this was asked last."""
        if number in self._flags:
            self._flags.discard(number)
            return True
        return False

    def put_back(self) -> None:
        """Send ourselves again what nobody has taken: held back, it outlives an exec."""
        for number in self._flags:
            os.kill(os.getpid(), number)
        if self.stop:
            os.kill(os.getpid(), signals.TERM if self.stop == "TERM" else signals.INT)

    def _catch(self, number: int, _frame: object) -> None:
        if number in (signals.TERM, signals.INT):
            self.stop = self.stop or signals.name_of(number)
        else:
            self._flags.add(number)


def _nothing(_number: int, _frame: object) -> None:
    """Take a signal that only has to end a wait."""


class Held(Record):
    """What a server holds besides its listeners, and what it was started with."""

    caught: Caught
    pid_file: PidFile | None
    control: UnixListener | None
    variables: dict[str, str]


class SuperDaemon:
    """One server: its listeners, its generations, and those who ask about them."""

    def __init__(
        self,
        chosen: Settings,
        work: Work,
        environment: Environment,
        notifier: Notifier,
        held: Held,
    ) -> None:
        self._environment = environment
        self._notifier = notifier
        self._held = held
        self._caught = held.caught
        self._listeners = work.listeners
        self._log = log = work.log
        self._state = model.State(environment.policy)
        self._status = StatusFile(chosen.status_file) if chosen.status_file else None
        self._metrics_file = chosen.metrics_file
        self._first: Event = events.Boot()
        self._deaths: list[Event] = []
        self._events: list[Event] = []
        self._summary = ""
        self._metrics = ""
        self._complaints: dict[str, str] = {}
        self._over = False
        now = time.monotonic()
        self._about = report.About(
            version=__version__,
            pid=os.getpid(),
            started=now,
            epoch=time.time() - now,
            sockets=work.listeners.names(),
            name=report.name_of_file(chosen.metrics_file or ""),
        )
        self._poller = Poller()
        self._output = Output(self._poller.watch_writable)
        self._children = Children(
            work, self._poller, self._output, self._deaths.append, self._events.append
        )
        self._children.helpers = self._helpers
        self._logger = _logger(log, self._poller, self._output, held.variables)
        self._upgrader = Upgrader(self._poller, self._output, held.variables, self._events.append)
        self._control: ControlServer | None = None
        if held.control:
            self._control = ControlServer(held.control, self._poller, self._requested)

    def _helpers(self) -> set[int]:
        """Return the pids of the processes that work for us, and are no generation's."""
        helpers = (self._logger, self._upgrader)
        return {one.pid for one in helpers if one and one.pid}

    # Waiting

    def begin_log(self) -> None:
        """Let all output go to the log, if there is one."""
        if self._log:
            self._log.take_over()

    def run(self) -> int:
        """Serve until a stop was asked and all generations are gone; return the exit status."""
        self._poller.catch_signals()
        if self._logger:
            self._logger.start()
        self._feed(self._first)
        while True:
            self._take_in()  # first: a signal may have come in before the wake-up fd was set
            if self._over:
                return 0
            times = (
                model.deadline(self._state),
                self._logger.deadline() if self._logger else None,
                self._upgrader.deadline(),
                self._control.deadline() if self._control else None,
                self._children.deadline(),
                self._notifier.deadline(),
            )
            due = min((one for one in times if one is not None), default=None)
            if self._deaths:  # what was done has had an end
                due = 0.0
            self._poller.wait(None if due is None else max(0.0, due - time.monotonic()))

    def close(self) -> None:
        """Pass on what is still to be said, and remove the control socket and the files."""
        self._upgrader.close()
        self._children.close()
        self._output.drain(_LAST_WORDS)
        if self._logger:
            self._logger.finish(self._poller.wait_for)
        if self._control:
            self._control.close()
        if self._status:
            self._status.remove()
        if self._metrics:
            effects.remove_file(self._metrics_file or "")

    # The new version of ourselves

    def _hand_over(self) -> Handover:
        """Write down what a successor needs."""
        log = self._log
        self._output.flush()
        unwritten, lost = self._output.unwritten()
        return handover.Handover(
            version=self._about.version,
            started=self._about.started,
            state=handover.state_to_plain(self._state),
            sockets=self._listeners.handed(),
            children=self._children.handed(),
            clients=self._control.clients() if self._control else [],
            last_client=self._control.last if self._control else 0,
            pid_file=self._held.pid_file.fileno() if self._held.pid_file else handover.NO_FD,
            control=self._control.fileno() if self._control else handover.NO_FD,
            control_made=self._control.made() if self._control else [],
            log=log.fileno() if log else handover.NO_FD,
            log_read_end=log.read_end if log else handover.NO_FD,
            log_pid=self._logger.pid if self._logger else 0,
            log_streams=log.streams if log else [],
            since=self._children.since,
            unwritten=unwritten,
            lost=lost,
        )

    def resume(self, handed: Handover) -> None:
        """Go on where our predecessor in this process has stopped; raises HandoverError, OSError.

        Nothing is changed yet: this is also how it is found out whether it can be done.
        """
        self._about = self._about.but(started=handed.started)
        self._state = handover.state(handed, self._environment.policy)
        if self._control:
            self._control.adopt(handed.clients, handed.last_client)
        if self._logger:
            self._logger.resume(handed.log_pid, handed.log_streams)
        # Last: it tells what others have forked from what a generation has left behind.
        self._children.resume(handover.children(handed), handed.since)
        self._output.resume(handed.unwritten, handed.lost)
        self._first = events.Resumed(
            f"upgraded start_server from {handed.version} to {__version__}"
        )

    # What comes in

    def _take_in(self) -> None:
        """Give the machine all that has happened.

        A stop goes first. Deaths go before all that could make a dead generation the serving one.
        """
        reaper.bury(self._children.ours())
        if self._caught.stop and not self._state.stopping:
            self._feed(events.StopAsked(self._caught.stop))
        # Before the envdir is read: what was written into it before a HUP counts for that.
        wishes = (signals.USR1, signals.USR2, signals.HUP)
        asked = [number for number in wishes if self._caught.take(number)]
        complaint = self._environment.refresh()
        if complaint:
            self._output.say(f"the environment stays as it was: {complaint}")
        while self._deaths:
            self._feed(self._deaths.pop(0))
        if self._environment.policy != self._state.policy:
            self._feed(events.PolicyRead(self._environment.policy))
        while self._events:
            self._feed(self._events.pop(0))
        if signals.USR1 in asked:
            self._reopen_log()
        if signals.HUP in asked:
            self._feed(events.RestartAsked("HUP"))
        if signals.USR2 in asked:
            self._feed(events.UpgradeAsked())
        for timed in (self._upgrader, self._control, self._logger, self._children):
            if timed:
                timed.tick()
        self._feed(events.Tick())
        try:
            self._notifier.tick()  # last: whoever hangs in what comes before is not fed
        except OSError as error:
            self._output.say(f"failed to tell systemd that we are alive: {error.strerror}")

    def _reopen_log(self) -> None:
        self._output.flush()
        self._output.pause()
        complaint = self._log.reopen() if self._log else ""
        self._output.say(complaint or "received USR1, reopening the log")

    def _requested(self, client: int, words: list[str]) -> None:
        if words == [control.RESTART]:
            self._events.append(events.RestartAsked("control", client))
        elif words == [control.UPGRADE]:
            self._events.append(events.UpgradeAsked(client))
        elif words == [control.STATUS]:
            self._report(client)
        elif self._control:
            self._control.answer(client, False, f"unknown request: {' '.join(words)}")

    def _report(self, client: int) -> None:
        """Tell all there is to know, with the memory as it is now."""
        for one in self._state.generations:
            self._feed(self._children.measure(one.number))
        known = report.snapshot(self._state, self._about, time.monotonic())
        if self._control:
            self._control.answer(client, True, report.encode(known))

    # What goes out

    def _feed(self, event: Event) -> None:
        """Give the machine an event, and the events that follow from what it wants done."""
        following: list[Event] = [event]
        while following:
            self._state, actions = machine.step(self._state, following.pop(0), time.monotonic())
            # Before anybody is told, so that they are true when who was told looks.
            self._write_status()
            self._write_metrics()
            for action in actions:
                result = self._perform(action)
                if result is not None:
                    following.append(result)
        summary = report.summary(self._state, clock)
        if summary != self._summary:
            self._summary = summary
            # systemd's StatusErrno tells scripts what the text tells people: the last start failed
            self._notify(f"STATUS={summary}\nERRNO={errno.ECHILD if self._state.trouble else 0}")

    def _perform(self, action: Action) -> Event | None:
        match action:
            case events.Spawn():
                variables = self._environment.variables
                policy = self._state.policy
                return self._children.start(action.number, action.alone, variables, policy)
            case events.Send():
                self._children.send(action.number, action.signal)
            case events.Measure():
                return self._children.measure(action.number)
            case events.Say():
                self._output.say(action.text)
            case events.Notify():
                self._notify(action.text)
            case events.CheckUpgrade():
                return self._upgrader.check(self._hand_over())
            case events.Replace():
                trouble = self._upgrader.replace(self._hand_over(), self._caught.put_back)
                return events.UpgradeChecked(trouble)
            case events.Exit():
                self._over = True
            case _ if self._control:
                self._perform_for_client(action, self._control)
        return None

    def _perform_for_client(self, action: Action, server: ControlServer) -> None:
        match action:
            case events.Tell():
                server.tell(action.client, action.text)
            case events.Quote():
                for line in self._children.last_lines(action.number):
                    server.tell(action.client, f"  | {line}")
            case events.Answer():
                server.answer(action.client, action.done, action.text)

    def _write_status(self) -> None:
        """Bring the status file up to date."""
        if not self._status:
            return
        accepted = [
            (one.number, one.pid) for one in self._state.generations if one.ready is not None
        ]
        try:
            self._status.write(accepted)
        except OSError as error:
            self._complain("status", f"failed to write the status file: {error.strerror}")
        else:
            self._complain("status", "")

    def _write_metrics(self) -> None:
        if not self._metrics_file:
            return
        text = report.metrics(self._state, self._about)
        if text == self._metrics:
            return
        try:
            effects.replace_file(self._metrics_file, text.encode())
        except OSError as error:
            self._complain("metrics", f"failed to write the metrics file: {error.strerror}")
        else:
            self._metrics = text
            self._complain("metrics", "")

    def _complain(self, about: str, text: str) -> None:
        """Say what is wrong, once: what failed is tried again each time."""
        if text and self._complaints.get(about) != text:
            self._output.say(text)
        self._complaints[about] = text

    def _notify(self, text: str) -> None:
        try:
            self._notifier.send(text)
        except OSError as error:
            self._output.say(f"failed to tell systemd {text}: {error.strerror}")


def _logger(
    log: Log | None, poller: Poller, output: Output, variables: dict[str, str]
) -> Logger | None:
    if log is None or not log.command:
        return None
    from .logger import Logger  # noqa: PLC0415  few have one, and all would pay for it

    return Logger(log, poller, output, variables)
