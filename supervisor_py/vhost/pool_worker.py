"""What every worker of a pool does, whichever way it answers requests.

It tells the arbiter where it is in its life, loses no signal, and can fall asleep.
"""

import os
import signal
import sys
import time
from typing import Any

from gunicorn.workers import base

from .ledger import SHARED, Ledger
from .pool import Timeouts
from .recycling import Limits

FIRST_BYTE_SECONDS = 5.0  # for a client that connects and says nothing
LINGER_SECONDS = 2.0  # for a client to take the end of its answer (RFC 9112 section 9.6)
DRAIN_SECONDS = 25  # then it gives up what still runs, and says so
EXAMINE_SECONDS = 1.0  # between two looks at the requests that run
REPORT_SECONDS = 60.0  # between two log lines about slow clients

STARTING, ACCEPTING, LEAVING = range(3)
# Those that end it, or put it to sleep.
ENDING_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGABRT, signal.SIGTTOU)
ASLEEP = 9  # the exit status of a worker that has left because nobody asked for it


class PoolWorker(base.Worker):  # type: ignore[misc]  # gunicorn is untyped
    """A worker that accounts for itself in a page that the arbiter reads.

    Before the fork it may be given the `group` of apps that it works for, `limits`, of which it
    tells the arbiter when it has served its requests, `idle_seconds` without a connection, after
    which it leaves (0: it stays), and `timeouts` for slow clients.
    """

    group = SHARED
    limits = Limits()
    idle_seconds = 0.0
    timeouts = Timeouts()
    alive: bool
    nr_conns: int

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.began = time.monotonic()
        self._ledger = Ledger()  # shared with the arbiter, who makes workers before forking
        self._falls_asleep = False
        self._slow = 0  # clients given up since that was logged
        self._next_report = 0.0

    @property
    def stage(self) -> int:
        """STARTING, ACCEPTING or LEAVING."""
        return self._ledger.stage

    @property
    def requests(self) -> int:
        """How many requests it has served."""
        return self._ledger.requests

    @property
    def idle_since(self) -> float:
        """Since when, of time.monotonic(), it has had no connection open; 0.0 while it has one."""
        return self._ledger.idle_since

    @property
    def stuck_seconds(self) -> float:
        """For how long all its threads have been busy that should not be; 0.0 if not all are."""
        return self._ledger.stuck_seconds

    def _enter_stage(self, stage: int) -> None:
        if self.stage == stage:
            return
        self._ledger.stage = stage
        self._call_arbiter()

    def _call_arbiter(self) -> None:
        """Have the arbiter look at its workers at once."""
        if os.getppid() == self.ppid:
            os.kill(self.ppid, signal.SIGCHLD)

    def init_process(self) -> None:
        """Sign the ledger, then start as a worker does."""
        self._ledger.sign(self.group)
        super().init_process()

    def init_signals(self) -> None:
        """Take signals as a worker does, those included that came since the fork."""
        super().init_signals()
        signal.signal(signal.SIGTTOU, self._handle_ttou)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING_SIGNALS)
        os.register_at_fork(after_in_child=self._give_signals_back)

    def _give_signals_back(self) -> None:
        """Let a child that an app has forked be ended by signals: the handlers are the worker's."""
        signal.set_wakeup_fd(-1)
        for number in ENDING_SIGNALS:
            if getattr(signal.getsignal(number), "__self__", None) is self:
                signal.signal(number, signal.SIG_DFL)

    def _handle_ttou(self, _signal: int, _frame: object) -> None:
        """Sleep at once where nobody is connected, if it may sleep at all."""
        if self.idle_seconds and not self.nr_conns:
            self._falls_asleep = True
            self.handle_exit(_signal, _frame)

    def run(self) -> None:
        """Serve until told to leave; leaves with ASLEEP to sleep."""
        self._note_idleness()
        self._serve()
        if self._falls_asleep:
            sys.exit(ASLEEP)

    def _serve(self) -> None:
        """Serve until told to leave, then finish what runs."""
        raise NotImplementedError

    def _note_idleness(self) -> None:
        if self.nr_conns:
            self._ledger.idle_since = 0.0
            return
        now = time.monotonic()
        if not self.idle_since:
            self._ledger.idle_since = now
        elif self.alive and 0 < self.idle_seconds <= now - self.idle_since:
            self._falls_asleep = True
            self.alive = False

    def _report_slow_clients(self) -> None:
        """Log how many were given up, rarely: they must not fill a log."""
        now = time.monotonic()
        if self._slow and now >= self._next_report:
            self.log.warning("gave up %d client(s) that were too slow", self._slow)
            self._slow = 0
            self._next_report = now + REPORT_SECONDS

    def _count(self) -> None:
        """Note in the ledger that one more request has been served."""
        before, self._ledger.requests = self.requests, self.nr
        if before < self.limits.requests <= self.nr:
            self._call_arbiter()
