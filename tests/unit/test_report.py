"""What a server says of itself: JSON that every parser reads, metrics, and a line for systemd."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor_py import model, report
from supervisor_py.report import About
from supervisor_py.signals import Signal

POLICY = model.Policy(
    interval=1,
    readiness=model.AUTO,
    readiness_timeout=60,
    grace=30,
    signal_on_hup=Signal("TERM", 15),
    signal_on_term=Signal("TERM", 15),
)
ABOUT = About("1.2.3", 40, started=10.0, epoch=1_700_000_000.0, sockets=("80", "/s"), name="main")
OLD = model.Generation(
    3,
    started=20.0,
    phase=model.DRAINING,
    since=50.0,
    pid=103,
    ready=21.0,
    left=True,
)
ONE = model.Generation(
    4,
    started=49.0,
    phase=model.SERVING,
    since=50.0,
    pid=104,
    ready=50.0,
    told=True,
    jitter=0.5,
    status="up",
    pss_kb=2048.0,
    shared_percent=75.5,
    processes=5,
)
NEXT = model.Generation(5, started=59.0, since=59.0, pid=105)


def _clock(moment: float) -> str:
    return f"<{moment:g}>"


def _state(*generations: model.Generation, **more: object) -> model.State:
    return model.State(POLICY, generations=generations, **more)  # type: ignore[arg-type]


# JSON

_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 70), 1 << 70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(_values)
def test_json_says_what_was_meant(value: object) -> None:
    text = report.encode(value)
    assert json.loads(text) == value
    assert "\n" not in text
    text.encode()  # half of a surrogate pair would not be UTF-8


def test_json_has_no_line_ends_but_escaped() -> None:
    every = "".join(map(chr, range(0x100))) + "\udfff\ud800"
    text = report.encode({every: [every]})
    assert not re.search(r"[\x00-\x1f]", text)
    assert json.loads(text.encode()) == {every: [every]}, "as UTF-8, which has no surrogates"


def test_what_json_has_no_word_for_is_an_error() -> None:
    with pytest.raises(TypeError, match="no JSON for b'x'"):
        report.encode([b"x"])


# --status


def test_a_snapshot_tells_all_there_is_to_know() -> None:
    state = _state(
        OLD, ONE, restarts=(("boot", 1), ("HUP", 3)), last_reason="HUP", failed_attempts=2
    )
    known = json.loads(report.encode(report.snapshot(state, ABOUT, 60.25)))
    assert known == {
        "version": "1.2.3",
        "pid": 40,
        "uptime_seconds": 50.25,
        "sockets": ["80", "/s"],
        "stopping": False,
        "generations": [
            {
                "number": 3,
                "pid": 103,
                "phase": "draining",
                "age_seconds": 40.25,
                "phase_seconds": 10.25,
                "ready_after_seconds": 1.0,
                "said_ready": False,
                "status": None,
                "processes": None,
                "pss_kb": None,
                "shared_percent": None,
                "main_process_gone": True,
            },
            {
                "number": 4,
                "pid": 104,
                "phase": "serving",
                "age_seconds": 11.25,
                "phase_seconds": 10.25,
                "ready_after_seconds": 1.0,
                "said_ready": True,
                "status": "up",
                "processes": 5,
                "pss_kb": 2048.0,
                "shared_percent": 75.5,
                "main_process_gone": False,
            },
        ],
        "restart": None,
        "restarts": {"boot": 1, "HUP": 3},
        "last_reason": "HUP",
        "failed_attempts": 2,
        "trouble": None,
        "next_timed_restart_seconds": None,
    }


def test_a_snapshot_tells_of_the_restart_under_way() -> None:
    def restart(**fields: object) -> object:
        wish = model.Restart("HUP", True, **fields)  # type: ignore[arg-type]
        return report.snapshot(_state(ONE, restart=wish), ABOUT, 60.0)["restart"]

    nothing = {
        "reason": "HUP",
        "generation": None,
        "waits_for_memory": False,
        "next_attempt_seconds": None,
    }
    assert restart() == nothing
    assert restart(candidate=5) == nothing | {"generation": 5}
    assert restart(retry_at=63.5) == nothing | {"next_attempt_seconds": 3.5}
    assert restart(retry_at=59.0) == nothing | {"next_attempt_seconds": 0.0}
    assert restart(waiting=55.0) == nothing | {"waits_for_memory": True}
    assert restart(waiting=55.0, candidate=5) == nothing | {"generation": 5}, "it has got it"


def test_a_snapshot_tells_when_the_next_timed_restart_is() -> None:
    timed = POLICY.but(auto_restart=True, auto_restart_interval=100)
    state = _state(ONE).but(policy=timed)
    assert report.snapshot(state, ABOUT, 60.0)["next_timed_restart_seconds"] == 95.0


# The line for systemd


@pytest.mark.parametrize(
    ("state", "line"),
    [
        (_state(), "no generation alive"),
        (_state(ONE.but(processes=0)), "generation 4 serving (pid 104)"),
        (
            _state(OLD, ONE),
            "generation 3 draining, its main process gone (pid 103); "
            "generation 4 serving (pid 104); 5 processes, 2 MB, 76 % shared",
        ),
        (_state(NEXT, stopping=True), "stopping; generation 5 starting (pid 105)"),
        (_state(trouble="no such file"), "no such file"),
        (
            _state(ONE.but(processes=1), restart=model.Restart("HUP", True, waiting=3.0)),
            "generation 4 serving (pid 104); a restart waits for memory",
        ),
        (
            _state(NEXT, restart=model.Restart("HUP", True, waiting=3.0, candidate=5)),
            "generation 5 starting (pid 105)",
        ),
        (
            _state(ONE.but(processes=1), restarts=(("boot", 1),), last_reason="boot"),
            "generation 4 serving (pid 104)",
        ),
        (
            _state(ONE.but(processes=1), restarts=(("boot", 1), ("HUP", 1)), last_reason="HUP"),
            "generation 4 serving (pid 104); last restart: HUP",
        ),
    ],
)
def test_the_state_is_told_in_a_line(state: model.State, line: str) -> None:
    assert report.summary(state, _clock) == line


def test_the_line_tells_the_time_of_the_next_timed_restart() -> None:
    timed = POLICY.but(auto_restart=True, auto_restart_interval=100)
    line = report.summary(_state(ONE).but(policy=timed), _clock)
    assert line.endswith("; next restart at <155>")


# Metrics

Sample = tuple[str, tuple[tuple[str, str], ...]]


def parse(text: str) -> dict[Sample, float]:
    """Read Prometheus's text format (version 0.0.4) as its description has it."""
    assert text.endswith("\n")
    found: dict[Sample, float] = {}
    types: dict[str, str] = {}
    helped: set[str] = set()
    last = ""
    for line in text.splitlines():
        word, _, rest = line.partition(" ")
        if word == "#":
            what, name, value = rest.split(" ", 2)
            assert re.fullmatch(r"[a-zA-Z_:][a-zA-Z0-9_:]*", name)
            if what == "HELP":
                assert name not in helped, "one HELP line a name"
                helped.add(name)
            else:
                assert what == "TYPE"
                assert name not in types, "one TYPE line a name, before its samples"
                assert value in ("gauge", "counter")
                types[name] = value
            continue
        sample = re.fullmatch(r"([a-z_]+)(?:\{(.*)\})? ([-+.0-9e]+)", line)
        assert sample, line
        name, inside, value = sample.groups()
        assert name in types
        assert name in helped
        assert last in (name, "") or not any(known == name for known, _ in found), "in one group"
        last = name
        labels = []
        while inside:
            label = re.match(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[\\"n])*)"(?:,|$)', inside)
            assert label, inside
            text_ = re.sub(r"\\(.)", lambda found: {"n": "\n"}.get(found[1], found[1]), label[2])
            labels.append((label[1], text_))
            inside = inside[label.end() :]
        key = (name.removeprefix("start_server_"), tuple(sorted(labels)))
        assert key not in found, "one value for each set of labels"
        found[key] = float(value)
    return found


def _metrics(state: model.State, about: About = ABOUT) -> dict[tuple[str, str], float]:
    """Return values by name and by the label besides `server`, if there is one."""
    found = {}
    for (name, labels), value in parse(report.metrics(state, about)).items():
        (server,) = [text for label, text in labels if label == "server"]
        assert server == about.name
        others = [text for label, text in labels if label != "server"]
        found[name, "".join(others)] = value
    return found


def test_metrics_of_a_server_without_a_generation() -> None:
    assert _metrics(_state(failed_attempts=2, trouble="no such file")) == {
        ("info", "1.2.3"): 1,
        ("start_time_seconds", ""): 1_700_000_010,
        ("generations", "starting"): 0,
        ("generations", "serving"): 0,
        ("generations", "retiring"): 0,
        ("generations", "draining"): 0,
        ("generation", ""): 0,
        ("failed_attempts_total", ""): 2,
        ("failing", ""): 1,
    }


def test_metrics_of_a_server_in_the_middle_of_a_restart() -> None:
    state = _state(OLD, ONE, NEXT, restarts=(("boot", 1), ("HUP", 3)))
    timed = POLICY.but(auto_restart=True, auto_restart_interval=100)
    found = _metrics(state.but(policy=timed))
    assert found == {
        ("info", "1.2.3"): 1,
        ("start_time_seconds", ""): 1_700_000_010,
        ("generations", "starting"): 1,
        ("generations", "serving"): 1,
        ("generations", "retiring"): 0,
        ("generations", "draining"): 1,
        ("generation", ""): 4,
        ("generation_ready_time_seconds", ""): 1_700_000_050,
        ("generations_served_total", "boot"): 1,
        ("generations_served_total", "HUP"): 3,
        ("failed_attempts_total", ""): 0,
        ("failing", ""): 0,
        ("memory_pss_bytes", ""): 2048 * 1024,
        ("memory_shared_ratio", ""): 0.755,
        ("processes", ""): 5,
        ("next_timed_restart_time_seconds", ""): 1_700_000_155,
    }


def test_a_generation_without_workers_has_no_share() -> None:
    found = _metrics(_state(ONE.but(processes=1, shared_percent=0.0)))
    assert ("memory_shared_ratio", "") not in found
    assert found["processes", ""] == 1


def test_a_server_whose_name_is_no_utf_8_has_metrics_all_the_same() -> None:
    text = report.metrics(_state(ONE), ABOUT.but(name="caf\udce9"))
    assert 'server="caf?"' in text.encode().decode()


@given(st.text(st.characters(codec="utf-8", exclude_characters="\r"), max_size=20))
def test_a_server_of_any_name_can_be_told_from_others(name: str) -> None:
    text = report.metrics(_state(ONE), ABOUT.but(name=name))
    lines = text.split("\n")
    assert lines.pop() == ""
    assert len(lines) > 10
    assert all(line.startswith(("#", "start_server_")) for line in lines)
    if len(text.splitlines()) == len(lines):  # else it has characters that Python splits at
        assert _metrics(_state(ONE), ABOUT.but(name=name))


def test_metrics_stay_the_same_while_nothing_happens() -> None:
    first = report.metrics(_state(ONE), ABOUT)
    assert first == report.metrics(_state(ONE), ABOUT)
    assert "age" not in first


@pytest.mark.parametrize(
    ("path", "name"),
    [("", ""), ("/var/lib/x/main.prom", "main"), ("main.prom", "main"), ("/x/main", "main")],
)
def test_a_server_is_named_for_its_metrics_file(path: str, name: str) -> None:
    assert report.name_of_file(path) == name
