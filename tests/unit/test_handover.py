"""What one version hands to the next: every state comes back, and other versions are understood."""

import marshal
import os
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor_py import handover, model
from supervisor_py.handover import Child, Handover, HandoverError
from supervisor_py.signals import Signal

POLICY = model.Policy(
    interval=1,
    readiness=model.AUTO,
    readiness_timeout=60,
    grace=30,
    signal_on_hup=Signal("TERM", 15),
    signal_on_term=Signal("TERM", 15),
)

_times = st.floats(0, 1e9)
_maybe_times = st.none() | _times
_numbers = st.integers(0, 1 << 40)
_texts = st.text(st.characters(exclude_categories=()), max_size=20)
_clients = st.lists(_numbers, max_size=3).map(tuple)
_generations = st.builds(
    model.Generation,
    number=_numbers,
    started=_times,
    phase=st.sampled_from([model.STARTING, model.SERVING, model.RETIRING, model.DRAINING]),
    since=_times,
    pid=_numbers,
    ready=_maybe_times,
    told=st.booleans(),
    killed=st.booleans(),
    left=st.booleans(),
    jitter=st.floats(0, 1),
    status=_texts,
    fresh_kb=_times,
    pss_kb=_times,
    shared_percent=st.floats(0, 100),
    processes=_numbers,
    measured=_maybe_times,
)
_restarts = st.builds(
    model.Restart,
    reason=_texts,
    planned=st.booleans(),
    clients=_clients,
    candidate=_numbers,
    retry_at=_maybe_times,
    fits=st.booleans(),
    measuring=st.booleans(),
    waiting=_maybe_times,
    put_off=st.booleans(),
    shrunk=_numbers,
)
_upgrades = st.builds(model.Upgrade, clients=_clients, stage=_texts)
_states = st.fixed_dictionaries(
    {"generations": st.lists(_generations, max_size=3).map(tuple)},
    optional={
        "restart": st.none() | _restarts,
        "queued": st.none() | _restarts,
        "upgrade": st.none() | _upgrades,
        "last_number": _numbers,
        "failures": _numbers,
        "failed_attempts": _numbers,
        "speaks": st.booleans(),
        "announced": st.booleans(),
        "trouble": _texts,
        "restarts": st.lists(st.tuples(_texts, _numbers), max_size=3).map(tuple),
        "last_reason": _texts,
        "stopping": st.booleans(),
    },
).map(lambda fields: model.State(POLICY, **fields))  # type: ignore[arg-type]


def _handed(state: model.State, **more: Any) -> Handover:
    fields: dict[str, Any] = {
        "version": "1.0",
        "started": 5.5,
        "state": handover.state_to_plain(state),
        "sockets": [{"name": "80", "label": "80", "fd": 3, "ours": True, "made": None}],
        "children": [],
        "clients": [[3, 9, True, b"restart\n"]],
        "last_client": 3,
    }
    return Handover(**{**fields, **more})


def _over(handed: Handover) -> Handover:
    """Hand it over, as to another process."""
    fd = handover.write(handed)
    try:
        return handover.read(fd)
    finally:
        os.close(fd)


@pytest.fixture
def file() -> Iterator[int]:
    fd = os.memfd_create("handover")
    yield fd
    os.close(fd)


@given(_states)
def test_every_state_comes_back_as_it_was(state: model.State) -> None:
    handed = _handed(state)
    taken = _over(handed)
    assert taken == handed
    assert handover.state(taken, POLICY) == state


def test_the_policy_is_the_successors_own() -> None:
    taken = _over(_handed(model.State(POLICY)))
    other = POLICY.but(grace=5)
    assert handover.state(taken, other).policy == other
    assert "policy" not in taken.state


@given(st.binary(max_size=50), st.binary(max_size=50))
def test_what_children_have_said_comes_back_byte_for_byte(tail: bytes, rest: bytes) -> None:
    child = Child(number=4, pid=77, left=False, notify=8, pipe=9, tail=tail, rest=rest)
    taken = _over(_handed(model.State(POLICY), children=[child.values()], unwritten=rest))
    assert handover.children(taken) == [child]
    assert taken.unwritten == rest


def test_all_fds_that_must_stay_open_are_told_and_no_others() -> None:
    child = Child(number=4, pid=77, left=False, notify=20, pipe=-1, tail=b"", rest=b"")
    handed = _handed(
        model.State(POLICY),
        children=[child.values()],
        pid_file=21,
        control=22,
        log=23,
        log_read_end=24,
        log_streams=[25, 26],
    )
    assert sorted(handed.fds()) == [9, 20, 21, 22, 23, 24, 25, 26]
    assert _handed(model.State(POLICY), clients=[]).fds() == []


def _data(**changes: Any) -> dict[str, Any]:
    generation = model.Generation(3, 1.0, model.SERVING, pid=30)
    handed = _handed(model.State(POLICY, generations=(generation,)))
    fields = {name: getattr(handed, name) for name in handed._fields}
    return {"format": 1, **fields, **changes}


def _read(file: int, data: dict[str, Any]) -> Handover:
    os.write(file, marshal.dumps(data, 2))
    return handover.read(file)


def test_fields_of_a_newer_version_are_passed_over(file: int) -> None:
    data = _data(mood="good")
    data["state"]["weather"] = (1, 2)
    data["state"]["plan"] = {"record": "Plan", "fields": {"a": 1}}
    data["state"]["generations"][0]["fields"]["colour"] = "red"
    data["children"] = [
        {"number": 3, "pid": 30, "left": False, "notify": 5, "pipe": 6, "tail": b"", "rest": b""}
        | {"shoe": 44}
    ]
    taken = _read(file, data)
    (one,) = handover.state(taken, POLICY).generations
    assert (one.number, one.pid) == (3, 30)
    assert handover.children(taken)[0].pid == 30


def test_what_an_older_version_does_not_know_has_its_default(file: int) -> None:
    data = _data()
    for name in ("log", "log_pid", "log_streams", "unwritten", "lost", "control"):
        del data[name]
    for name in ("last_reason", "upgrade", "failed_attempts"):
        del data["state"][name]
    del data["state"]["generations"][0]["fields"]["pss_kb"]
    taken = _read(file, data)
    assert (taken.log, taken.log_streams, taken.unwritten) == (handover.NO_FD, [], b"")
    state = handover.state(taken, POLICY)
    assert (state.last_reason, state.upgrade) == ("", None)
    assert state.generations[0].pss_kb == 0


def test_what_is_needed_and_missing_is_named(file: int) -> None:
    data = _data()
    del data["started"]
    with pytest.raises(HandoverError, match="not enough: Handover needs the field started"):
        _read(file, data)


def test_a_generation_without_its_number_is_refused(file: int) -> None:
    data = _data()
    del data["state"]["generations"][0]["fields"]["number"]
    with pytest.raises(HandoverError, match="Generation needs the field number"):
        handover.state(_read(file, data), POLICY)


def test_a_child_without_its_pid_is_refused(file: int) -> None:
    taken = _read(file, _data(children=[{"number": 3}]))
    with pytest.raises(HandoverError, match="Child needs the field pid"):
        handover.children(taken)


def test_another_format_is_refused(file: int) -> None:
    with pytest.raises(HandoverError, match="has format 2, and 1 is known"):
        _read(file, _data(format=2))


@pytest.mark.parametrize("data", [b"", b"\x00", b"{}", b"i\x01\x00\x00\x00", b"\xff" * 90])
def test_rubbish_is_refused(file: int, data: bytes) -> None:
    os.write(file, data)
    with pytest.raises(HandoverError, match="can't be read"):
        handover.read(file)


def test_a_handover_without_a_format_is_refused(file: int) -> None:
    data = _data()
    del data["format"]
    with pytest.raises(HandoverError, match="can't be read"):
        _read(file, data)


def test_whoever_checks_reads_it_without_moving_on_in_it() -> None:
    handed = _handed(model.State(POLICY))
    fd = handover.write(handed)
    try:
        assert handover.read(fd) == handed
        assert handover.read(fd) == handed
    finally:
        os.close(fd)


def test_it_is_taken_once_and_its_variables_go_no_further() -> None:
    handed = _handed(model.State(POLICY))
    fd = handover.write(handed)
    variables = {handover.VARIABLE: str(fd), handover.CHECK_VARIABLE: "1", "HOME": "/"}
    assert handover.taken(variables) == (handed, True)
    assert variables == {"HOME": "/"}
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(fd)
    assert handover.taken(variables) == (None, False)


@pytest.mark.parametrize("fd", ["x", "", "-1", "99999"])
def test_a_wrong_fd_in_the_variable_is_refused(fd: str) -> None:
    with pytest.raises(HandoverError):
        handover.taken({handover.VARIABLE: fd})


def test_the_file_is_not_left_to_children() -> None:
    fd = handover.write(_handed(model.State(POLICY)))
    try:
        assert not os.get_inheritable(fd)
    finally:
        os.close(fd)
