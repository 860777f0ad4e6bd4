"""The super-daemon's decisions, pure: (state, event, now) gives (state, actions).

Times are seconds of a monotonic clock. Nothing here reads a clock, a file or a process: the loop
brings events and carries out the actions in order. docs/state-machine.md draws it.

Invariants: at most one restart at a time; never more generations alive than the policy allows; a
generation that serves is told to end only when a newer one serves, or at a stop; numbers only rise.
"""

from __future__ import annotations

from . import events, model, signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .events import Action, Event
    from .model import Generation, State

_KB_PER_MB = 1024


def _mb(kb: float) -> str:
    return f"{kb / _KB_PER_MB:.0f} MB"


def describe_exit(status: int) -> str:
    """Put a raw wait status in words: `exit status 7`, `signal KILL`."""
    if status & 0x7F:
        return f"signal {signals.name_of(status & 0x7F)}"
    return f"exit status {status >> 8}"


def step(state: State, event: Event, now: float) -> tuple[State, tuple[Action, ...]]:
    """Take in one event, and all that time has brought by `now`."""
    if state.over:
        return state, ()
    scratch = _Step(state, now)
    scratch.take(event)
    scratch.settle()
    if isinstance(event, events.Tick):
        scratch.take_leave()
    return scratch.state, tuple(scratch.actions)


class _Step:
    """The scratch paper of one step: nothing of it outlives the call."""

    def __init__(self, state: State, now: float) -> None:
        self.state = state
        self.now = now
        self.actions: list[Action] = []

    # Events

    def take(self, event: Event) -> None:
        match event:
            case events.Boot():
                self._set(restart=model.Restart(model.BOOT, planned=False))
            case events.PolicyRead():
                self._set(policy=event.policy)
            case events.RestartAsked():
                self._restart_asked(event)
            case events.StopAsked():
                self._stop(event.signal)
            case events.Measured():
                self._measured(event)
            case events.UpgradeAsked():
                self._upgrade_asked(event.client)
            case events.UpgradeChecked():
                self._upgrade_checked(event.trouble)
            case events.Resumed():
                self._resumed(event.text)
            case events.Tick():
                pass
            case _:
                self._take_of_generation(event)

    def _take_of_generation(self, event: Event) -> None:
        match event:
            case events.Spawned():
                self._spawned(event)
            case events.SpawnFailed():
                self._spawn_failed(event)
            case events.Ready():
                self._told_ready(event.number)
            case events.Reported():
                self._reported(event)
            case events.Died():
                self._died(event)
            case events.Vanished():
                self._vanished(event.number)
            case _:
                raise TypeError(f"the machine has no rule for {event!r}")

    def _spawned(self, event: events.Spawned) -> None:
        one = self._find(event.number)
        if one is None:
            return
        self._replace(one.but(pid=event.pid, jitter=event.jitter))
        self._say(f"starting new worker {event.pid}")
        self._tell(f"generation {one.number} starts (pid {event.pid})")
        if one.phase == model.DRAINING:  # stopped between the fork and its report
            self._send(one, self.state.policy.signal_on_term.number)

    def _spawn_failed(self, event: events.SpawnFailed) -> None:
        one = self._find(event.number)
        if one is None:
            return
        self._drop(one)
        self._say(f"failed to start generation {one.number}: {event.error}")
        if not self.state.stopping:
            self._attempt_failed(one, f"generation {one.number} can't be started: {event.error}")

    def _told_ready(self, number: int) -> None:
        one = self._find(number)
        if one is None or self.state.policy.readiness == model.INTERVAL:
            return
        self._set(speaks=True)
        one = self._replace(one.but(told=True))
        if one.phase == model.STARTING:
            self._accept(one)

    def _reported(self, event: events.Reported) -> None:
        one = self._find(event.number)
        if one is None or event.text == one.status:
            return
        self._replace(one.but(status=event.text))
        if one.phase == model.STARTING:
            self._tell(f"generation {one.number}: {event.text}")

    def _died(self, event: events.Died) -> None:
        one = self._find(event.number)
        if one is None:
            return
        if event.left:
            self._left_behind(one, event.left)
        else:
            self._drop(one)
        status = event.status
        how = f"generation {one.number} (pid {one.pid}) ended with {describe_exit(status)}"
        if self.state.stopping or (one.phase == model.DRAINING and one.ready is None):
            self._say(f"worker {one.pid} died, status:{status}")
        elif one.phase in (model.DRAINING, model.RETIRING):
            self._say(f"old worker {one.pid} died, status:{status}")
        elif one.phase == model.STARTING:
            self._say(f"new worker {one.pid} seems to have failed to start, exit status:{status}")
            self._attempt_failed(one, f"{how} before it was ready")
        else:
            self._say(f"worker {one.pid} died unexpectedly with status:{status}, restarting")
            self._serving_died(one, how)

    def _left_behind(self, one: Generation, left: tuple[int, ...]) -> None:
        """End what a dead generation has left: it would serve old code, or add up over restarts."""
        signal = signals.KILL if one.killed else self.state.policy.signal_on_term.number
        pids = ",".join(map(str, left))
        self._say(
            f"worker {one.pid} left processes behind, "
            f"sending {signals.name_of(signal)} to them:{pids}"
        )
        if one.phase == model.DRAINING:
            self._replace(one.but(since=self.now, left=True))
        else:
            self._replace(self._move(one, model.DRAINING).but(left=True))
        self._send(one, signal)

    def _vanished(self, number: int) -> None:
        one = self._find(number)
        if one is None:
            return
        self._drop(one)
        self._say(f"what worker {one.pid} left behind is gone")

    def _serving_died(self, one: Generation, how: str) -> None:
        retiring = model.in_phase(self.state, model.RETIRING)
        if retiring:
            self._move(retiring[-1], model.SERVING)
            self._say(f"worker {retiring[-1].pid} serves again")
        restart = self.state.restart
        if restart and not restart.candidate:
            self._set(restart=restart.but(retry_at=None), trouble=how)
        elif restart and restart.candidate != one.number:
            self._set(trouble=how)  # the next one is starting already
        else:
            if restart is None or not retiring:
                clients = restart.clients if restart else ()
                self._set(restart=model.Restart(model.DEATH, planned=False, clients=clients))
                if one.ready is not None and self.now - one.ready >= model.STEADY:
                    self._set(failures=0)
            self._attempt_failed(one, how)

    def _restart_asked(self, event: events.RestartAsked) -> None:
        clients = (event.client,) if event.client else ()
        if self.state.stopping:
            self._answer(clients, False, "the server is stopping")
            return
        restart, queued = self.state.restart, self.state.queued
        if restart is None or not restart.candidate:
            self._say_asked(event.reason)
            known = restart.clients if restart else ()
            wish = model.Restart(event.reason, True, known + clients)
            if restart:  # one that waits for memory has had workers given up for it
                wish = wish.but(measuring=restart.measuring, shrunk=restart.shrunk)
            self._set(restart=wish, failures=0)
        else:
            if queued is None:
                self._say(f"restart asked by {event.reason} during a restart: one more will follow")
            waiting = queued.clients if queued else ()
            self._set(queued=model.Restart(event.reason, True, waiting + clients))
            for client in clients:
                self._do(events.Tell(client, "a restart is under way, one more will follow"))

    def _say_asked(self, reason: str) -> None:
        how = "received HUP" if reason == "HUP" else f"restart asked by {reason}"
        self._say(f"{how}, spawning a new worker")

    def _upgrade_asked(self, client: int) -> None:
        clients = (client,) if client else ()
        if self.state.stopping:
            self._answer(clients, False, "the server is stopping")
            return
        upgrade = self.state.upgrade or model.Upgrade()
        if self.state.upgrade is None:
            self._say("upgrade of start_server asked, checking the new version")
        self._set(upgrade=upgrade.but(clients=upgrade.clients + clients))

    def _upgrade_checked(self, trouble: str) -> None:
        upgrade = self.state.upgrade
        if upgrade is None:
            return
        if not trouble:
            self._set(upgrade=upgrade.but(stage="checked"))
            return
        self._say(f"start_server stays as it is: {trouble}")
        self._answer(upgrade.clients, False, f"start_server stays as it is: {trouble}")
        self._set(upgrade=None)

    def _resumed(self, text: str) -> None:
        upgrade = self.state.upgrade
        self._say(text)
        self._answer(upgrade.clients if upgrade else (), True, text)
        self._set(upgrade=None)

    def _measured(self, event: events.Measured) -> None:
        restart = self.state.restart
        weighing = restart is not None and restart.measuring
        if restart and weighing:
            self._set(restart=restart.but(measuring=False))
        one = self._find(event.number)
        if one is None:
            return
        one = self._replace(
            one.but(
                fresh_kb=one.fresh_kb or event.pss_kb,
                pss_kb=event.pss_kb,
                shared_percent=event.shared_percent,
                processes=event.processes,
                measured=self.now,
            )
        )
        if weighing and one.phase == model.SERVING:
            self._weigh(one, event)
        elif reason := model.need_of_memory(self.state, self.now):
            self._say(f"restart triggered: {self._excess(one, reason)}")
            self._set(restart=model.Restart(reason, planned=True), failures=0)

    def _excess(self, one: Generation, reason: str) -> str:
        policy = self.state.policy
        if reason == model.MEMORY:
            budget = _mb(policy.memory_budget_kb)
            return f"{_mb(one.pss_kb)} of memory are over the budget of {budget}"
        return (
            f"the workers share {one.shared_percent:.0f} % of their memory, under the floor of "
            f"{policy.shared_floor_percent:g} %"
        )

    def _weigh(self, one: Generation, event: events.Measured) -> None:
        """Let a restart go on, or make it wait until one more generation fits into memory."""
        restart, policy = self.state.restart, self.state.policy
        assert restart is not None
        # One that can't say when it is ready may not have been loaded when it was first measured.
        needed = one.fresh_kb if one.told else event.pss_kb
        if needed <= event.room_kb:
            self._set(restart=restart.but(fits=True))
            return
        short = (
            f"a second generation needs {_mb(needed)} of memory, and {_mb(event.room_kb)} are left"
            f" ({event.where})"
        )
        if restart.waiting is None:
            self._say(f"restart waits: {short}")
            self._tell(f"waiting: {short}")
            restart = restart.but(waiting=self.now)
        assert restart.waiting is not None
        over = restart.waiting + policy.memory_wait <= self.now
        if over and not restart.put_off:
            self._say(f"restart put off: {short}")
            self._answer(restart.clients, False, f"put off until there is room: {short}")
            restart = self._grow_back(restart).but(clients=(), put_off=True)
        elif not over and policy.signal_on_shrink and event.processes > 1 + model.MIN_WORKERS:
            name = policy.signal_on_shrink.name
            self._say(f"asking worker {one.pid} to shrink, sending {name}")
            self._tell(f"asking generation {one.number} to shrink")
            self._send(one, policy.signal_on_shrink.number)
            restart = restart.but(shrunk=restart.shrunk + 1)
        again = model.PUT_OFF_CHECK if restart.put_off else model.ROOM_CHECK
        self._set(restart=restart.but(retry_at=self.now + again))

    def _grow_back(self, restart: model.Restart) -> model.Restart:
        """Give the serving generation the workers back that it has given up for nothing."""
        one, signal = model.serving(self.state), self.state.policy.signal_on_grow
        if one and signal:
            for _ in range(restart.shrunk):
                self._send(one, signal.number)
        return restart.but(shrunk=0)

    def _stop(self, signal: str) -> None:
        if self.state.stopping:
            return  # a second TERM or INT changes nothing: the grace bounds the stop
        policy = self.state.policy
        sent = policy.signal_on_term if signal == "TERM" else signals.Signal("TERM", signals.TERM)
        pids = ",".join(str(one.pid) for one in self.state.generations if one.pid)
        self._say(f"received {signal}, sending {sent.name} to all workers:{pids}")
        self._do(events.Notify("STOPPING=1"))
        for wish in (self.state.restart, self.state.queued, self.state.upgrade):
            if wish:
                self._answer(wish.clients, False, "the server is stopping")
        self._set(stopping=True, restart=None, queued=None, upgrade=None)
        for one in self.state.generations:
            if one.phase != model.DRAINING:
                self._move(one, model.DRAINING)
            if one.pid and not one.killed:
                self._send(one, sent.number)

    # What time and circumstances bring

    def settle(self) -> None:
        """Move on until nothing is due any more."""
        while self._advance():
            pass

    def _advance(self) -> bool:
        state, now = self.state, self.now
        for one in state.generations:
            ends = model.phase_ends(state, one)
            if ends is not None and ends <= now:
                self._phase_over(one)
                return True
        if state.stopping:
            if state.generations or state.over:
                return False
            self._say("exiting")
            self._do(events.Exit())
            self._set(over=True)
            return True
        return self._advance_restart() or self._advance_upgrade()

    def _advance_upgrade(self) -> bool:
        """Upgrade between restarts: a generation that is starting is not handed over."""
        upgrade = self.state.upgrade
        if upgrade is None or self._is_starting():
            return False
        if upgrade.stage == "asked":
            self._set(upgrade=upgrade.but(stage="checking"))
            self._do(events.CheckUpgrade())
            return True
        return False

    def take_leave(self) -> None:
        """Become the new version, at the end of all that has happened: the rest would be lost."""
        upgrade = self.state.upgrade
        if upgrade and upgrade.stage == "checked" and not self._is_starting():
            self._set(upgrade=upgrade.but(stage="replacing"))
            self._do(events.Replace())

    def _is_starting(self) -> bool:
        """Tell whether a restart is at a point that is not handed over."""
        restart = self.state.restart
        return restart is not None and (bool(restart.candidate) or restart.measuring)

    def _phase_over(self, one: Generation) -> None:
        policy = self.state.policy
        if one.phase == model.STARTING and model.ready_by_interval(self.state):
            self._accept(one)
        elif one.phase == model.STARTING:
            limit = f"{policy.readiness_timeout:g}"
            self._say(
                f"new worker {one.pid} was not ready within {limit} secs, "
                f"sending {policy.signal_on_term.name}"
            )
            self._move(one, model.DRAINING)
            self._send(one, policy.signal_on_term.number)
            why = f"generation {one.number} (pid {one.pid}) was not ready within {limit} seconds"
            self._attempt_failed(one, why)
        elif one.phase == model.RETIRING:
            self._say("killing old workers")
            self._tell(f"generation {one.number} ends (pid {one.pid})")
            self._move(one, model.DRAINING)
            self._send(one, policy.signal_on_hup.number)
        else:
            self._say(f"worker {one.pid} did not end within {policy.grace:g} secs, sending KILL")
            self._replace(one.but(killed=True))
            self._send(one, signals.KILL)

    def _advance_restart(self) -> bool:
        state = self.state
        restart = state.restart
        if restart and restart.candidate:
            one = self._find(restart.candidate)
            if one is None or one.phase != model.SERVING or not model.has_room(state):
                return False
            self._answer(restart.clients, True, f"generation {one.number} serves (pid {one.pid})")
            self._set(restart=None)
            return True
        if restart is None and state.queued:
            self._say_asked(state.queued.reason)
            self._set(restart=state.queued, queued=None, failures=0)
            return True
        if restart is None:
            return self._advance_by_need()
        attempt = model.attempt_at(state)
        if attempt is None or attempt > self.now:
            return False
        one = model.serving(state)
        if one and not restart.fits and state.policy.memory_wait:
            self._set(restart=restart.but(measuring=True))
            self._do(events.Measure(one.number))
        else:
            self._attempt()
        return True

    def _advance_by_need(self) -> bool:
        """Begin a restart for the time or the memory that the serving generation has taken."""
        state, policy = self.state, self.state.policy
        one = model.serving(state)
        if one is None:
            return False
        due = model.auto_restart_at(state)
        if due is not None and due <= self.now:
            self._say(f"autorestart triggered (interval={policy.auto_restart_interval:g})")
            self._set(restart=model.Restart(model.TIMED, planned=True), failures=0)
            return True
        look = model.measure_at(state)
        if look is not None and look <= self.now:
            self._replace(one.but(measured=self.now))
            self._do(events.Measure(one.number))
            return True
        return False

    def _attempt(self) -> None:
        restart = self.state.restart
        assert restart is not None
        number = self.state.last_number + 1
        one = model.Generation(number, started=self.now, since=self.now)
        self._set(
            last_number=number,
            generations=(*self.state.generations, one),
            restart=restart.but(candidate=number, retry_at=None),
        )
        self._do(events.Spawn(number, alone=not model.in_phase(self.state, model.SERVING)))

    def _accept(self, one: Generation) -> None:
        old = model.serving(self.state)
        one = self._move(one, model.SERVING)
        one = self._replace(one.but(ready=self.now))
        self._set(trouble="")
        restart = self.state.restart
        self._count(restart.reason if restart else model.BOOT)
        self._tell(f"generation {one.number} serves (pid {one.pid})")
        if not self.state.announced:
            self._set(announced=True)
            self._do(events.Notify("READY=1"))
        if old:
            self._move(old, model.RETIRING)
        if restart and restart.planned:
            name = self.state.policy.signal_on_hup.name
            self._say(
                f"new worker is now running, sending {name} to old workers:"
                f"{old.pid if old else 'none'}"
            )
        delay = model.kill_delay(self.state.policy, one)
        if old and delay > 0:
            self._say(f"sleeping {delay:g} secs before killing old workers")
            self._tell(f"waiting {delay:g} seconds before generation {old.number} is ended")
        self._do(events.Measure(one.number))  # last: it takes some milliseconds

    def _attempt_failed(self, one: Generation, why: str) -> None:
        """Let the restart begin again after a back-off; those who wait for it learn why."""
        restart = self.state.restart
        assert restart is not None
        for client in restart.clients:
            self._do(events.Quote(client, one.number))
        self._answer(restart.clients, False, why)
        self._set(
            failures=self.state.failures + 1,
            failed_attempts=self.state.failed_attempts + 1,
            trouble=why,
        )
        retry_at: float | None = max(self.now, one.started + model.backoff(self.state))
        restart = self._grow_back(restart).but(clients=(), candidate=0, fits=False, waiting=None)
        queued = self.state.queued
        if queued:  # asked for since that attempt began: worth a new one at once
            restart, retry_at = queued, None
        elif retry_at is not None and retry_at > self.now:
            self._say(f"trying again in {retry_at - self.now:.1f} secs")
        self._set(restart=restart.but(retry_at=retry_at), queued=None)

    def _count(self, reason: str) -> None:
        counts = dict(self.state.restarts)
        counts[reason] = counts.get(reason, 0) + 1
        self._set(restarts=tuple(counts.items()), last_reason=reason)

    # The state

    def _set(self, **changes: object) -> None:
        self.state = self.state.but(**changes)

    def _find(self, number: int) -> Generation | None:
        for one in self.state.generations:
            if one.number == number:
                return one
        return None

    def _replace(self, one: Generation) -> Generation:
        self._set(
            generations=tuple(
                one if other.number == one.number else other for other in self.state.generations
            )
        )
        return one

    def _move(self, one: Generation, phase: str) -> Generation:
        assert (one.phase, phase) in model.TRANSITIONS, (one, phase)
        return self._replace(one.but(phase=phase, since=self.now))

    def _drop(self, one: Generation) -> None:
        kept = tuple(other for other in self.state.generations if other.number != one.number)
        self._set(generations=kept)

    # The actions

    def _do(self, action: Action) -> None:
        self.actions.append(action)

    def _say(self, text: str) -> None:
        self._do(events.Say(text))

    def _send(self, one: Generation, signal: int) -> None:
        self._do(events.Send(one.number, signal))

    def _tell(self, text: str) -> None:
        restart = self.state.restart
        for client in restart.clients if restart else ():
            self._do(events.Tell(client, text))

    def _answer(self, clients: tuple[int, ...], done: bool, text: str) -> None:
        for client in clients:
            self._do(events.Answer(client, done, text))
