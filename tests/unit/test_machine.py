"""The machine's promises, driven by tables of events at given times."""

import itertools
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor_py import events as e
from supervisor_py import machine as m
from supervisor_py import model as k
from supervisor_py.signals import Signal

TERM, USR1, KILL = 15, 10, 9
EXIT_7 = 7 << 8

POLICY = k.Policy(
    interval=1,
    readiness=k.AUTO,
    readiness_timeout=60,
    grace=30,
    signal_on_hup=Signal("USR1", USR1),
    signal_on_term=Signal("TERM", TERM),
)


class Rig:
    """Feeds the machine and answers its forks: generation N has pid 100 + N."""

    def __init__(self, **policy: object) -> None:
        self.state = k.State(POLICY.but(**policy))
        self.now = 0.0
        self.actions: list[e.Action] = []
        self.all: list[e.Action] = []
        self.forks_fail = False
        self.pss, self.shared, self.processes = 1000.0, 90.0, 3
        self.room = 1e9
        self.jitter = 0.0

    def at(self, now: float, *events: e.Event) -> list[e.Action]:
        """Bring events in at a time; return all that the machine wanted done."""
        assert now >= self.now
        self.now = now
        self.actions = []
        queue = list(events) or [e.Tick()]
        while queue:
            self.state, actions = m.step(self.state, queue.pop(0), now)
            for action in actions:
                if isinstance(action, e.Measure):
                    queue.insert(0, self.measured(action.number))
                    continue
                self.actions.append(action)
                self.all.append(action)
                if isinstance(action, e.Spawn):
                    queue.insert(
                        0,
                        e.SpawnFailed(action.number, "no more processes")
                        if self.forks_fail
                        else e.Spawned(action.number, 100 + action.number, self.jitter),
                    )
        return self.actions

    def measured(self, number: int) -> e.Measured:
        return e.Measured(number, self.pss, self.shared, self.processes, self.room, "the machine")

    def run_until(self, end: float) -> None:
        """Let time go by: tick whenever the machine asks for it."""
        while (due := k.deadline(self.state)) is not None and due <= end:
            assert due > self.now, "a deadline in the past would spin"
            self.at(due)
        self.now = max(self.now, end)

    def phases(self) -> dict[int, str]:
        return {one.number: one.phase for one in self.state.generations}

    def spawned(self) -> list[int]:
        return [action.number for action in self.all if isinstance(action, e.Spawn)]

    def sent(self) -> list[tuple[int, int]]:
        return [(one.number, one.signal) for one in self.all if isinstance(one, e.Send)]

    def said(self) -> list[str]:
        return [one.text for one in self.all if isinstance(one, e.Say)]

    def answers(self) -> dict[int, tuple[bool, str]]:
        found = (one for one in self.all if isinstance(one, e.Answer))
        return {one.client: (one.done, one.text) for one in found}


def serving(**policy: object) -> Rig:
    """Return a rig whose generation 1 serves, at time 1."""
    rig = Rig(**policy)
    rig.at(0, e.Boot())
    rig.run_until(1)
    assert rig.phases() == {1: k.SERVING}
    return rig


def test_the_first_generation_serves_after_the_interval_and_systemd_is_told_once() -> None:
    rig = Rig()
    rig.at(0, e.Boot())
    assert rig.phases() == {1: k.STARTING}
    rig.run_until(0.9)
    assert rig.phases() == {1: k.STARTING}
    rig.run_until(1)
    assert rig.phases() == {1: k.SERVING}
    rig.at(5, e.RestartAsked("HUP"))
    rig.run_until(7)
    assert [one for one in rig.all if isinstance(one, e.Notify)] == [e.Notify("READY=1")]


def test_ready_makes_a_generation_serve_before_the_interval() -> None:
    rig = Rig()
    rig.at(0, e.Boot())
    rig.at(0.1, e.Ready(1))
    assert rig.phases() == {1: k.SERVING}


def test_an_old_generation_is_signalled_only_when_the_new_one_serves() -> None:
    rig = serving()
    rig.at(5, e.RestartAsked("HUP"))
    rig.at(5.9)
    assert rig.phases() == {1: k.SERVING, 2: k.STARTING}
    assert rig.sent() == []
    rig.at(6)
    assert rig.phases() == {1: k.DRAINING, 2: k.SERVING}
    assert rig.sent() == [(1, USR1)]
    rig.at(7, e.Died(1, 0))
    assert rig.phases() == {2: k.SERVING}
    assert k.deadline(rig.state) is None


def test_once_ready_was_said_later_generations_are_waited_for() -> None:
    rig = Rig()
    rig.at(0, e.Boot())
    rig.at(0.1, e.Ready(1))
    rig.at(5, e.RestartAsked("HUP"))
    rig.at(50)
    assert rig.phases() == {1: k.SERVING, 2: k.STARTING}
    rig.at(51, e.Ready(2))
    assert rig.phases() == {1: k.DRAINING, 2: k.SERVING}


def test_with_readiness_notify_being_alive_is_not_enough() -> None:
    rig = Rig(readiness=k.NOTIFY)
    rig.at(0, e.Boot())
    rig.at(59)
    assert rig.phases() == {1: k.STARTING}
    rig.at(59, e.Ready(1))
    assert rig.phases() == {1: k.SERVING}


def test_with_readiness_interval_ready_is_not_listened_to() -> None:
    rig = Rig(readiness=k.INTERVAL)
    rig.at(0, e.Boot())
    rig.at(0.1, e.Ready(1))
    assert rig.phases() == {1: k.STARTING}
    rig.at(1)
    assert rig.phases() == {1: k.SERVING}


def test_a_failed_generation_leaves_the_old_one_serving_and_is_retried_with_back_off() -> None:
    rig = serving()
    rig.at(10, e.RestartAsked("HUP"))
    starts = [10.0]
    for _ in range(12):
        number = rig.state.last_number
        rig.at(rig.now + 0.01, e.Died(number, EXIT_7))
        assert rig.phases() == {1: k.SERVING}
        due = k.deadline(rig.state)
        assert due is not None
        rig.at(due)
        starts.append(due)
    gaps = [round(b - a, 3) for a, b in itertools.pairwise(starts)]
    assert gaps[:3] == [1, 1.5, 2.25]
    assert gaps == sorted(gaps)
    assert gaps[-1] == k.BACKOFF_CAP
    assert rig.sent() == []
    assert "new worker 102 seems to have failed to start, exit status:1792" in rig.said()


def test_a_generation_that_is_not_ready_in_time_is_ended_and_the_old_one_stays() -> None:
    rig = serving(readiness_timeout=5)
    rig.at(2, e.Ready(1))
    rig.at(10, e.RestartAsked("control", 7))
    rig.run_until(15)
    assert rig.phases() == {1: k.SERVING, 2: k.DRAINING}
    assert rig.sent() == [(2, TERM)]
    assert rig.answers() == {7: (False, "generation 2 (pid 102) was not ready within 5 seconds")}
    assert rig.spawned() == [1, 2], "the failed one is still alive: no third one beside it"
    rig.run_until(45)
    assert rig.sent() == [(2, TERM), (2, KILL)]
    rig.at(46, e.Died(2, KILL))
    assert rig.spawned() == [1, 2, 3]


def test_there_never_are_more_than_two_generations_even_with_none_serving() -> None:
    rig = serving(readiness_timeout=5)
    rig.at(2, e.Ready(1))
    rig.at(20, e.RestartAsked("HUP"))
    rig.at(20.1, e.Ready(2))
    rig.at(20.2, e.Died(2, EXIT_7))
    rig.run_until(26.2)
    assert rig.phases() == {1: k.DRAINING, 3: k.DRAINING}, "the old one, and one never ready"
    rig.run_until(45)
    assert rig.spawned() == [1, 2, 3]
    rig.at(45, e.Died(1, 0))
    assert rig.phases() == {3: k.DRAINING, 4: k.STARTING}


def test_a_fork_that_fails_is_a_failed_attempt() -> None:
    rig = serving()
    rig.forks_fail = True
    rig.at(10, e.RestartAsked("control", 7))
    assert rig.phases() == {1: k.SERVING}
    assert rig.answers()[7][0] is False
    assert "no more processes" in rig.answers()[7][1]
    rig.forks_fail = False
    rig.run_until(13)
    assert rig.phases() == {1: k.DRAINING, 3: k.SERVING}


def test_a_boot_that_fails_is_tried_again_until_it_serves() -> None:
    rig = Rig()
    rig.at(0, e.Boot())
    rig.at(0.1, e.Died(1, EXIT_7))
    assert rig.phases() == {}
    rig.run_until(2)
    assert rig.phases() == {2: k.SERVING}


def test_hups_during_a_restart_fold_into_one_more() -> None:
    rig = serving()
    rig.at(5, e.RestartAsked("HUP"))
    for _ in range(100):
        rig.at(5.5, e.RestartAsked("HUP"))
    rig.run_until(6)
    rig.at(6.5, e.RestartAsked("HUP"))
    rig.at(7, e.Died(1, 0))
    rig.run_until(8)
    rig.at(9, e.Died(2, 0))
    rig.run_until(100)
    assert rig.spawned() == [1, 2, 3]
    assert rig.phases() == {3: k.SERVING}


def test_a_restart_waits_until_the_older_generation_has_gone() -> None:
    rig = serving(grace=4)
    rig.at(5, e.RestartAsked("HUP"))
    rig.run_until(6)
    rig.at(6.5, e.RestartAsked("HUP"))
    rig.run_until(9.9)
    assert rig.phases() == {1: k.DRAINING, 2: k.SERVING}
    rig.run_until(10)
    assert rig.sent() == [(1, USR1), (1, KILL)], "the grace bounds the wait"
    rig.at(10, e.Died(1, KILL))
    assert rig.phases() == {2: k.SERVING, 3: k.STARTING}


def test_a_hup_during_back_off_retries_at_once() -> None:
    rig = serving()
    rig.at(10, e.RestartAsked("HUP"))
    rig.at(10.1, e.Died(2, EXIT_7))
    assert rig.spawned() == [1, 2]
    rig.at(10.2, e.RestartAsked("HUP"))
    assert rig.spawned() == [1, 2, 3]


def test_a_hup_during_an_attempt_that_fails_makes_the_next_one_start_at_once() -> None:
    rig = serving()
    rig.at(10, e.RestartAsked("HUP"))
    rig.at(10.1, e.RestartAsked("HUP"))
    rig.at(10.2, e.Died(2, EXIT_7))
    assert rig.spawned() == [1, 2, 3]
    rig.run_until(12)
    rig.at(12, e.Died(1, 0))
    rig.run_until(50)
    assert rig.spawned() == [1, 2, 3], "both wishes are fulfilled by generation 3"


def test_the_death_of_the_serving_worker_starts_a_new_one_at_once() -> None:
    rig = serving()
    rig.at(50, e.Died(1, EXIT_7))
    assert rig.phases() == {2: k.STARTING}
    assert "worker 101 died unexpectedly with status:1792, restarting" in rig.said()


def test_a_worker_that_keeps_dying_is_started_less_and_less_often() -> None:
    rig = Rig(interval=0)
    rig.at(0, e.Boot())
    starts = [0.0]
    while len(starts) < 30:
        rig.at(rig.now, e.Died(rig.state.last_number, EXIT_7))
        if not rig.phases():
            rig.at(k.deadline(rig.state) or 0)
        starts.append(rig.now)
    gaps = [round(b - a, 3) for a, b in itertools.pairwise(starts)]
    assert gaps == sorted(gaps)
    assert gaps[0] <= 0.1
    assert gaps[-1] == pytest.approx(k.BACKOFF_CAP)


def test_a_death_after_long_service_counts_as_the_first() -> None:
    rig = Rig()
    rig.at(0, e.Boot())
    for number in range(1, 9):
        rig.at(rig.now + 0.1, e.Died(number, EXIT_7))
        rig.at(k.deadline(rig.state) or 0)
    rig.run_until(rig.now + 1 + k.STEADY)
    assert rig.phases() == {9: k.SERVING}
    rig.at(rig.now, e.Died(9, EXIT_7))
    assert rig.phases() == {10: k.STARTING}


def test_the_serving_worker_dying_during_back_off_ends_the_back_off() -> None:
    rig = serving()
    rig.at(20, e.RestartAsked("HUP"))
    rig.at(20.1, e.Died(2, EXIT_7))
    rig.at(20.2, e.Died(1, EXIT_7))
    assert rig.phases() == {3: k.STARTING}


def test_the_serving_worker_dying_during_a_start_needs_no_third_one() -> None:
    rig = serving()
    rig.at(20, e.RestartAsked("HUP"))
    rig.at(20.2, e.Died(1, EXIT_7))
    assert rig.phases() == {2: k.STARTING}
    rig.run_until(21)
    assert rig.phases() == {2: k.SERVING}
    assert rig.spawned() == [1, 2]


def test_a_new_worker_that_dies_in_the_kill_old_delay_gives_the_old_one_its_place_back() -> None:
    rig = serving(kill_old_delay=5)
    rig.at(20, e.RestartAsked("control", 7))
    rig.run_until(21)
    assert rig.phases() == {1: k.RETIRING, 2: k.SERVING}
    rig.at(22, e.Died(2, EXIT_7))
    assert rig.phases()[1] == k.SERVING
    assert rig.answers()[7] == (False, "generation 2 (pid 102) ended with exit status 7")
    assert rig.sent() == []


def test_an_old_one_takes_over_again_also_when_its_restart_has_been_over() -> None:
    rig = serving(kill_old_delay=5, max_generations=3)
    rig.at(10, e.RestartAsked("control", 7))
    rig.run_until(11)
    assert rig.answers()[7][0], "there is room for a third one: nothing waits for the old one"
    rig.at(12, e.Died(2, EXIT_7))
    assert rig.phases() == {1: k.SERVING, 3: k.STARTING}
    rig.run_until(14)
    assert rig.phases() == {1: k.RETIRING, 3: k.SERVING}


def test_an_old_one_that_takes_over_again_does_not_disturb_the_next_start() -> None:
    rig = serving(kill_old_delay=5, max_generations=3)
    rig.at(10, e.RestartAsked("HUP"))
    rig.run_until(11)
    rig.at(11.5, e.RestartAsked("control", 7))
    rig.at(12, e.Died(2, EXIT_7))
    assert rig.phases() == {1: k.SERVING, 3: k.STARTING}
    assert 7 not in rig.answers()
    rig.run_until(13)
    assert rig.answers()[7][0]
    assert rig.spawned() == [1, 2, 3]


def test_the_new_worker_dying_while_the_old_one_drains_is_replaced_beside_it() -> None:
    rig = serving()
    rig.at(20, e.RestartAsked("control", 7))
    rig.run_until(35)
    rig.at(35, e.Died(2, EXIT_7))
    assert rig.phases() == {1: k.DRAINING, 3: k.STARTING}
    assert rig.answers()[7][0] is False


def test_kill_old_delay_lets_the_old_generation_live_on() -> None:
    rig = serving(kill_old_delay=5)
    rig.at(20, e.RestartAsked("HUP"))
    rig.run_until(25.9)
    assert rig.phases() == {1: k.RETIRING, 2: k.SERVING}
    rig.run_until(26)
    assert rig.phases() == {1: k.DRAINING, 2: k.SERVING}
    assert rig.said()[-4:] == [
        "starting new worker 102",
        "new worker is now running, sending USR1 to old workers:101",
        "sleeping 5 secs before killing old workers",
        "killing old workers",
    ]


@pytest.mark.parametrize(
    ("told", "delay"), [(False, 5.0), (True, 0.0)], ids=["can not tell", "says READY=1"]
)
def test_the_default_delay_of_auto_restart_is_for_children_that_can_not_tell(
    told: bool, delay: float
) -> None:
    rig = serving(auto_restart=True, auto_restart_interval=1000)
    rig.at(20, e.RestartAsked("HUP"))
    if told:
        rig.at(21, e.Ready(2))
    rig.at(21)
    assert (rig.phases()[1] == k.RETIRING) == bool(delay)


def test_a_default_delay_of_ones_own_is_for_children_that_can_not_tell() -> None:
    rig = serving(default_kill_old_delay=15)
    rig.at(20, e.RestartAsked("HUP"))
    rig.run_until(35.9)
    assert rig.phases() == {1: k.RETIRING, 2: k.SERVING}
    rig.run_until(36)
    assert rig.phases() == {1: k.DRAINING, 2: k.SERVING}
    telling = serving(default_kill_old_delay=15)
    telling.at(20, e.RestartAsked("HUP"))
    telling.at(20.5, e.Ready(2))
    assert telling.phases() == {1: k.DRAINING, 2: k.SERVING}


@pytest.mark.parametrize(
    ("signal", "sent"), [("TERM", USR1), ("INT", TERM)], ids=["TERM", "INT sends TERM"]
)
def test_a_stop_signals_every_generation_at_once_whatever_is_going_on(
    signal: str, sent: int
) -> None:
    stages: dict[str, list[tuple[float, e.Event]]] = {
        "serving": [],
        "starting": [(20, e.RestartAsked("HUP"))],
        "kill-old-delay": [(20, e.RestartAsked("HUP")), (21, e.Tick())],
        "draining": [(20, e.RestartAsked("HUP")), (21, e.Tick()), (26, e.Tick())],
        "back-off": [(20, e.RestartAsked("HUP")), (20.1, e.Died(2, EXIT_7))],
    }
    for name, events in stages.items():
        rig = serving(kill_old_delay=5, signal_on_term=Signal("USR1", USR1))
        for now, event in events:
            rig.at(now, event)
        alive = list(rig.phases())
        rig.at(30, e.StopAsked(signal))
        sends = [one for one in rig.actions if isinstance(one, e.Send)]
        assert [(one.number, one.signal) for one in sends] == [(n, sent) for n in alive], name
        assert set(rig.phases().values()) == {k.DRAINING}, name
        assert e.Notify("STOPPING=1") in rig.actions
        for number in alive:
            rig.at(31, e.Died(number, 0))
        assert rig.all[-1] == e.Exit(), name
        assert rig.said()[-1] == "exiting", name


def test_a_stop_with_nothing_alive_ends_at_once() -> None:
    rig = Rig()
    rig.at(0, e.Boot())
    rig.at(0.1, e.Died(1, EXIT_7))
    rig.at(0.2, e.StopAsked("TERM"))
    assert rig.actions[-1] == e.Exit()


def test_a_second_term_is_harmless_and_the_grace_still_ends_in_a_kill() -> None:
    rig = serving(grace=10)
    rig.at(20, e.StopAsked("TERM"))
    assert rig.at(25, e.StopAsked("INT"), e.StopAsked("TERM"), e.RestartAsked("HUP")) == []
    rig.run_until(30)
    assert rig.sent() == [(1, TERM), (1, KILL)]
    rig.run_until(1000)
    rig.at(1000, e.Died(1, KILL))
    assert rig.all[-1] == e.Exit()


def test_a_stop_between_a_fork_and_its_report_reaches_the_new_process() -> None:
    state, actions = m.step(k.State(POLICY), e.Boot(), 0)
    assert actions == (e.Spawn(1, alone=True),)
    state, _ = m.step(state, e.StopAsked("TERM"), 0)
    state, actions = m.step(state, e.Spawned(1, 101), 0)
    assert e.Send(1, TERM) in actions


def test_a_restart_is_answered_when_the_new_one_serves_and_the_old_one_is_gone() -> None:
    rig = serving()
    rig.at(20, e.RestartAsked("control", 7))
    rig.run_until(25)
    assert rig.answers() == {}
    rig.at(26, e.Died(1, TERM))
    assert rig.answers() == {7: (True, "generation 2 serves (pid 102)")}


def test_a_client_who_asks_during_a_restart_waits_for_the_one_after_it() -> None:
    rig = serving()
    rig.at(20, e.RestartAsked("control", 7))
    rig.at(20.5, e.RestartAsked("control", 8), e.RestartAsked("control", 9))
    rig.run_until(21)
    rig.at(22, e.Died(1, 0))
    assert list(rig.answers()) == [7]
    rig.run_until(23)
    rig.at(24, e.Died(2, 0))
    assert rig.answers()[8] == rig.answers()[9] == (True, "generation 3 serves (pid 103)")


def test_those_who_wait_for_a_restart_learn_of_a_stop() -> None:
    rig = serving()
    rig.at(20, e.RestartAsked("control", 7))
    rig.at(20.1, e.RestartAsked("control", 8))
    rig.at(20.2, e.StopAsked("TERM"), e.RestartAsked("control", 9))
    assert {client: done for client, (done, _) in rig.answers().items()} == {
        7: False,
        8: False,
        9: False,
    }


def test_timed_restarts_come_after_the_interval_and_its_jitter() -> None:
    rig = Rig(auto_restart=True, auto_restart_interval=100)
    rig.jitter = 0.5
    rig.at(0, e.Boot())
    rig.run_until(1)
    assert k.deadline(rig.state) == pytest.approx(1 + 105)
    rig.run_until(105.9)
    assert rig.spawned() == [1]
    rig.run_until(106)
    assert rig.spawned() == [1, 2]
    assert "autorestart triggered (interval=100)" in rig.said()


def test_a_change_of_policy_is_used_at_once() -> None:
    rig = serving()
    assert k.deadline(rig.state) is None
    rig.at(50, e.PolicyRead(rig.state.policy.but(auto_restart=True, auto_restart_interval=10.0)))
    assert rig.spawned() == [1, 2]


def test_nothing_is_timed_when_a_generation_just_serves() -> None:
    assert k.deadline(serving().state) is None


def test_an_unknown_event_is_an_error_and_not_passed_over() -> None:
    with pytest.raises(TypeError):
        m.step(k.State(POLICY), e.Event(), 0)


@pytest.mark.parametrize(
    ("status", "words"), [(0, "exit status 0"), (EXIT_7, "exit status 7"), (139, "signal SEGV")]
)
def test_a_wait_status_is_put_in_words(status: int, words: str) -> None:
    assert m.describe_exit(status) == words


# What is left behind


def test_what_a_dead_generation_left_behind_is_ended_and_counted_until_it_is_gone() -> None:
    rig = serving()
    rig.at(5, e.Died(1, 0, left=(7, 8)))
    assert rig.phases() == {1: k.DRAINING, 2: k.STARTING}
    assert rig.sent() == [(1, TERM)]
    rig.run_until(6)
    assert rig.phases() == {1: k.DRAINING, 2: k.SERVING}, "a new one does not wait for it"
    rig.at(6, e.RestartAsked("HUP"))
    rig.run_until(34.9)
    assert rig.spawned() == [1, 2], "a third one does"
    rig.run_until(35)
    assert rig.sent()[-1] == (1, KILL), "5 and the grace"
    rig.at(36, e.Vanished(1))
    assert rig.spawned() == [1, 2, 3]


def test_what_a_killed_generation_left_behind_is_killed_too() -> None:
    rig = serving(grace=3)
    rig.at(5, e.RestartAsked("HUP"))
    rig.run_until(9)
    assert rig.sent()[-1] == (1, KILL)
    rig.at(9, e.Died(1, KILL, left=(7,)))
    assert rig.sent()[-2:] == [(1, KILL), (1, KILL)]


def test_a_program_that_goes_into_the_background_never_piles_up() -> None:
    rig = Rig()
    rig.at(0, e.Boot())
    for number in range(1, 4):
        rig.run_until(rig.now + 40)
        alive = [one.number for one in rig.state.generations if not one.left]
        rig.at(rig.now, e.Died(alive[-1], 0, left=(1000 + number,)))
        assert len(rig.phases()) <= 2
        assert (alive[-1], TERM) in rig.sent()
        rig.at(rig.now + 1, e.Vanished(rig.state.generations[0].number))


def test_a_stop_waits_for_what_was_left_behind() -> None:
    rig = serving()
    rig.at(5, e.StopAsked("TERM"))
    rig.at(6, e.Died(1, 0, left=(7,)))
    assert not rig.state.over
    rig.at(7, e.Vanished(1))
    assert rig.state.over


# Memory


def test_a_generation_over_its_budget_is_replaced_but_not_before_the_minimum_interval() -> None:
    rig = Rig(memory_budget_kb=2000.0, min_restart_interval=100.0, memory_interval=10.0)
    rig.pss = 2001
    rig.at(0, e.Boot())
    rig.run_until(100)
    assert rig.spawned() == [1], "1 + 100 is the earliest"
    rig.run_until(101)
    assert rig.spawned() == [1, 2]
    assert "restart triggered: 2 MB of memory are over the budget of 2 MB" in rig.said()
    rig.run_until(102)
    assert dict(rig.state.restarts) == {k.BOOT: 1, k.MEMORY: 1}


def test_memory_is_looked_at_only_as_often_as_asked_and_not_before_it_matters() -> None:
    rig = Rig(memory_budget_kb=2000.0, min_restart_interval=100.0, memory_interval=10.0)
    rig.at(0, e.Boot())
    rig.run_until(1)
    times = []
    while rig.now < 140:
        due = k.deadline(rig.state)
        assert due is not None
        times.append(due)
        rig.at(due)
    assert times == [101, 111, 121, 131, 141]


def test_workers_that_share_too_little_are_replaced() -> None:
    rig = Rig(shared_floor_percent=60.0, min_restart_interval=100.0)
    rig.shared = 59.9
    rig.at(0, e.Boot())
    rig.run_until(101)
    assert rig.spawned() == [1, 2]
    assert any("share 60 % of their memory, under the floor of 60 %" in it for it in rig.said())


def test_a_generation_without_workers_shares_with_nobody_and_stays() -> None:
    rig = Rig(shared_floor_percent=60.0, min_restart_interval=100.0)
    rig.shared, rig.processes = 0.0, 1
    rig.at(0, e.Boot())
    rig.run_until(1000)
    assert rig.spawned() == [1]


def test_without_a_budget_or_a_floor_memory_is_nobodys_reason_to_wake_up() -> None:
    rig = serving()
    rig.pss, rig.shared = 1e9, 0.0
    assert k.deadline(rig.state) is None


def short_of_memory(**policy: object) -> Rig:
    rig = serving(signal_on_shrink=TTOU, signal_on_grow=TTIN, **policy)
    rig.room = 999
    return rig


TTOU, TTIN = Signal("TTOU", 22), Signal("TTIN", 21)


def test_a_restart_that_does_not_fit_asks_the_old_one_to_shrink_and_goes_on_when_it_does() -> None:
    rig = short_of_memory()
    rig.at(20, e.RestartAsked("control", 7))
    assert rig.spawned() == [1]
    rig.at(21)
    assert rig.sent() == [(1, 22), (1, 22)]
    rig.room = 1000
    rig.at(22)
    assert rig.spawned() == [1, 2]
    told = [one.text for one in rig.all if isinstance(one, e.Tell)]
    assert told[0].startswith(
        "waiting: a second generation needs 1 MB of memory, and 1 MB are left"
    )
    rig.run_until(23)
    assert (1, USR1) in rig.sent()
    assert 21 not in [signal for _, signal in rig.sent()], "the old one ends: nothing to give back"


def test_a_restart_that_never_fits_is_put_off_and_said_to_be() -> None:
    rig = short_of_memory(memory_wait=5.0)
    rig.processes = 2
    rig.at(20, e.RestartAsked("control", 7))
    rig.run_until(24)
    assert rig.answers() == {}
    rig.run_until(25)
    assert rig.answers()[7][0] is False
    assert rig.answers()[7][1].startswith("put off until there is room: a second generation needs")
    assert rig.sent() == [], "its only worker is not taken from it"
    rig.run_until(50)
    assert rig.spawned() == [1]
    rig.room = 1e9
    rig.run_until(60)
    assert rig.spawned() == [1, 2], "it is made up for when there is room"


def test_workers_given_up_in_vain_are_given_back() -> None:
    rig = short_of_memory(memory_wait=2.0)
    rig.at(20, e.RestartAsked("HUP"))
    rig.run_until(22)
    shrunk = rig.sent().count((1, 22))
    assert shrunk == rig.sent().count((1, 21)) == 2


def test_a_failed_attempt_gives_the_workers_back_too() -> None:
    rig = short_of_memory()
    rig.at(20, e.RestartAsked("HUP"))
    rig.room = 1e9
    rig.at(21)
    assert rig.spawned() == [1, 2]
    rig.at(21.5, e.Died(2, EXIT_7))
    assert rig.sent() == [(1, 22), (1, 21)]


def test_with_nobody_serving_no_restart_waits_for_memory() -> None:
    rig = short_of_memory()
    rig.at(20, e.Died(1, KILL))
    rig.run_until(22)
    assert rig.phases() == {2: k.SERVING}


def test_with_a_memory_wait_of_0_memory_is_no_reason_to_wait() -> None:
    rig = short_of_memory(memory_wait=0.0)
    rig.at(20, e.RestartAsked("HUP"))
    assert rig.spawned() == [1, 2]


def test_one_that_says_when_it_is_ready_needs_what_it_held_then() -> None:
    rig = Rig()
    rig.at(0, e.Boot())
    rig.at(0.5, e.Ready(1))
    rig.pss, rig.room = 5000, 1000  # it has grown since: a new one will not be so large
    rig.at(20, e.RestartAsked("HUP"))
    assert rig.spawned() == [1, 2]


# More generations, upgrades, reports


def test_more_generations_may_be_alive_if_asked_for() -> None:
    rig = serving(max_generations=3)
    rig.at(5, e.RestartAsked("HUP"))
    rig.run_until(6)
    rig.at(7, e.RestartAsked("HUP"))
    rig.run_until(8)
    assert rig.phases() == {1: k.DRAINING, 2: k.DRAINING, 3: k.SERVING}
    rig.at(9, e.RestartAsked("HUP"))
    assert rig.spawned() == [1, 2, 3]
    rig.at(10, e.Died(1, 0))
    assert rig.spawned() == [1, 2, 3, 4]


def test_an_upgrade_is_checked_first_and_waits_for_a_restart_under_way() -> None:
    rig = serving()
    rig.at(5, e.RestartAsked("HUP"), e.UpgradeAsked(7))
    assert e.CheckUpgrade() not in rig.all
    rig.run_until(6)
    assert e.CheckUpgrade() not in rig.all, "the old one is still there"
    rig.at(7, e.Died(1, 0))
    assert rig.actions[-1] == e.CheckUpgrade()
    rig.at(8, e.RestartAsked("HUP"))
    rig.at(8.5, e.UpgradeChecked())
    assert e.Replace() not in rig.all, "a generation is starting"
    rig.run_until(9)
    rig.at(10, e.Died(2, 0))
    assert e.Replace() not in rig.all, "there may be more that has happened"
    assert rig.at(10) == [e.Replace()]
    rig.at(11, e.Resumed("from 1 to 2"))
    assert rig.answers()[7] == (True, "from 1 to 2")
    assert rig.state.upgrade is None


def test_a_new_version_that_would_not_run_changes_nothing_and_who_asked_learns_why() -> None:
    rig = serving()
    rig.at(5, e.UpgradeAsked(7), e.UpgradeAsked(8))
    rig.at(6, e.UpgradeChecked("no such file"))
    assert rig.answers()[7] == rig.answers()[8]
    assert rig.answers()[7] == (False, "start_server stays as it is: no such file")
    assert e.Replace() not in rig.all
    rig.at(7, e.UpgradeAsked())
    assert rig.actions[-1] == e.CheckUpgrade(), "it may be asked for again"


def test_an_upgrade_in_a_back_off_does_not_wait_for_a_success_that_may_never_come() -> None:
    rig = serving()
    rig.at(5, e.RestartAsked("HUP"))
    rig.at(5.5, e.Died(2, EXIT_7))
    rig.at(5.6, e.UpgradeAsked())
    assert rig.actions[-1] == e.CheckUpgrade()


def test_the_last_words_of_a_failed_generation_are_sent_to_who_asked_for_it() -> None:
    rig = serving()
    rig.at(20, e.RestartAsked("control", 7))
    actions = rig.at(20.5, e.Died(2, EXIT_7))
    quote = actions.index(e.Quote(7, 2))
    assert isinstance(actions[quote + 1], e.Answer)


def test_what_a_starting_generation_reports_is_told_to_who_waits() -> None:
    rig = serving()
    rig.at(20, e.RestartAsked("control", 7))
    rig.at(20.5, e.Reported(2, "loading shop"))
    assert e.Tell(7, "generation 2: loading shop") in rig.actions
    assert rig.state.generations[-1].status == "loading shop"


def test_a_generation_that_was_never_forked_is_never_taken_to_serve() -> None:
    rig = serving(interval=0)
    rig.forks_fail = True
    rig.at(20, e.RestartAsked("HUP"))
    assert rig.phases() == {1: k.SERVING}
    assert rig.sent() == []


# Properties, over random histories

_MOVES = ["wait", "due", "hup", "control", "ready", "die", "die old", "die new"]
_MOVES += ["wait", "due", "fork fails", "fork works", "policy", "term", "die and leave", "vanish"]
_MOVES += ["short of memory", "room again", "hungry", "upgrade", "checked"]
_steps = st.lists(
    st.tuples(
        st.sampled_from(_MOVES),
        st.floats(0, 40, allow_nan=False),
    ),
    max_size=60,
)


def _events(rig: Rig, what: str, amount: float) -> Iterable[e.Event]:  # noqa: PLR0912
    alive = list(rig.phases())
    starting = [n for n, phase in rig.phases().items() if phase == k.STARTING]
    match what:
        case "hup":
            yield e.RestartAsked("HUP")
        case "control":
            yield e.RestartAsked("control", rig.state.last_number + 1)
        case "ready" if starting:
            yield e.Ready(starting[0])
        case "die" if alive:
            yield e.Died(alive[int(amount) % len(alive)], EXIT_7)
        case "die old" if alive:
            yield e.Died(alive[0], 0)
        case "die new" if alive:
            yield e.Died(alive[-1], TERM)
        case "die and leave" if alive:
            number = alive[int(amount) % len(alive)]
            if not rig.state.generations[alive.index(number)].left:
                yield e.Died(number, EXIT_7, left=(9, 10))
        case "vanish":
            for one in rig.state.generations:
                if one.left:
                    yield e.Vanished(one.number)
                    break
        case "upgrade":
            yield e.UpgradeAsked(rig.state.last_number + 1000)
        case "checked" if rig.state.upgrade and rig.state.upgrade.stage == "checking":
            yield e.UpgradeChecked("no" if amount > 20 else "")
        case "checked" if rig.state.upgrade and rig.state.upgrade.stage == "replacing":
            yield e.Resumed("new")
        case "hungry":
            yield e.PolicyRead(rig.state.policy.but(memory_budget_kb=1500.0, memory_interval=1.0))
        case "policy":
            yield e.PolicyRead(rig.state.policy.but(kill_old_delay=amount))
        case "term":
            yield e.StopAsked("TERM")


@settings(max_examples=200)
@given(
    steps=_steps,
    readiness=st.sampled_from([k.AUTO, k.NOTIFY, k.INTERVAL, k.PROBE]),
    interval=st.sampled_from([0.0, 1.0]),
    most=st.sampled_from([2, 3]),
)
def test_no_history_costs_a_serving_generation(
    steps: list[tuple[str, float]], readiness: str, interval: float, most: int
) -> None:
    rig = Rig(
        readiness=readiness,
        readiness_timeout=5,
        grace=7,
        interval=interval,
        max_generations=most,
        min_restart_interval=3.0,
        signal_on_shrink=TTOU,
        signal_on_grow=TTIN,
    )
    rig.at(0, e.Boot())
    last_number = 0
    for what, amount in steps:
        rig.forks_fail = {"fork fails": True, "fork works": False}.get(what, rig.forks_fail)
        rig.room = {"short of memory": 10.0, "room again": 1e9}.get(what, rig.room)
        rig.pss = 500.0 + 100 * amount
        before = rig.phases()
        due = k.deadline(rig.state)
        assert due is None or due > rig.now or rig.state.over, "would spin"
        now = rig.now + (amount if what == "wait" else 0)
        if what == "due" and due is not None:
            now = due
        events = list(_events(rig, what, amount))
        rig.at(now, *events)
        dead = {event.number for event in events if isinstance(event, e.Died)}
        phases = rig.phases()
        alive = rig.state.generations

        assert len(alive) <= rig.state.policy.max_generations
        assert rig.spawned() == sorted(set(rig.spawned())), "numbers only rise"
        assert rig.state.last_number >= last_number
        last_number = rig.state.last_number
        ends = [n for n, phase in phases.items() if phase == k.DRAINING != before.get(n)]
        ends = [n for n in ends if n not in dead]
        if rig.state.stopping:
            assert set(phases.values()) <= {k.DRAINING}
            continue
        useful = (k.SERVING, k.RETIRING)
        had = [n for n, phase in before.items() if phase in useful and n not in dead]
        if had:
            assert k.SERVING in phases.values(), "one was ready and alive"
        for number in ends:
            newer = [n for n, phase in phases.items() if phase == k.SERVING and n > number]
            assert newer or before.get(number) == k.STARTING or number not in before, (
                "signalled before a newer one served"
            )
        assert list(phases.values()).count(k.SERVING) <= 1
        assert list(phases.values()).count(k.STARTING) <= 1
        if not had and not phases:
            assert k.deadline(rig.state) is not None, "nothing alive and nothing planned"
