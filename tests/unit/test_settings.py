"""What the operator may ask for, where from, and what is refused."""

from pathlib import Path

import pytest

from supervisor_py import model, options, settings
from supervisor_py.environment import Environment
from supervisor_py.errors import FatalError
from supervisor_py.model import Policy
from supervisor_py.settings import Settings


def _settings(line: str) -> Settings:
    parsed = options.parse(settings.OPTIONS, line.split())
    assert parsed.problems == ()
    return settings.from_options(parsed)


def _policy(**environment: str) -> Policy:
    return settings.policy_in(_settings("prog").policy, environment)


def test_the_defaults_are_perls_and_a_grace_of_30_seconds() -> None:
    chosen = _settings("prog arg")
    assert chosen.command == ("prog", "arg")
    policy = chosen.policy
    assert (policy.interval, policy.readiness, policy.grace) == (1, model.AUTO, 30)
    assert policy.signal_on_hup.name == policy.signal_on_term.name == "TERM"
    assert _settings("--backlog=0 prog").backlog == settings.BACKLOG


@pytest.mark.parametrize(
    ("text", "name", "number"),
    [("quit", "QUIT", 3), ("SIGUSR1", "USR1", 10), ("12", "12", 12), ("sigHup", "HUP", 1)],
)
def test_signals_are_taken_as_perls_kill_takes_them(text: str, name: str, number: int) -> None:
    signal = _settings(f"--signal-on-hup={text} prog").policy.signal_on_hup
    assert (signal.name, signal.number) == (name, number)


def test_an_empty_signal_is_the_default_as_in_perl() -> None:
    parsed = options.parse(settings.OPTIONS, ["--signal-on-hup", "", "prog"])
    assert settings.from_options(parsed).policy.signal_on_hup.name == "TERM"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("--signal-on-hup=NOPE prog", '--signal-on-hup: "NOPE" is not a signal'),
        ("--signal-on-term=99 prog", '--signal-on-term: "99" is not a signal'),
        ("--signal-on-term=_BLOCK prog", '"_BLOCK" is not a signal'),
        ("--readiness=soon prog", '--readiness: "soon" is unknown (allowed: auto, notify, int'),
        ("--interval=-1 prog", "--interval: -1 is too small (allowed: 0 or more)"),
        ("--kill-old-delay=-1 prog", "--kill-old-delay: -1 is too small"),
        ("--max-generations=1 prog", "--max-generations: 1 is too small (allowed: 2 or more)"),
        ("--memory-interval=0.5 prog", "--memory-interval: 0.5 is too small (allowed: 1 or more)"),
        ("--grace=1000000001 prog", "is too much (allowed: 0 to 1000000000)"),
        ("--shared-floor-percent=100 prog", "100 is too much (allowed: 0 to 99)"),
        ("--signal-on-shrink=TTO prog", '--signal-on-shrink: "TTO" is not a signal'),
        ("--probe=tcp:localhost:1 --readiness=auto prog", "--probe and --readiness exclude each"),
        ("--group=www prog", "--group: needs --user"),
        ("--path=/a;b prog", '--path: "/a;b" has a ";"'),
        ("--port=65536 prog", "invalid ``port'' value:65536"),
        ("--port=80=3 --port=u81=3 prog", "--port=u81=3: its fd is taken by --port=80=3"),
        ("--port=80 --port=0.0.0.0:80=4 prog", "--port=0.0.0.0:80=4: the same as --port=80"),
        ("--port=80", "server program not specified"),
    ],
)
def test_a_wrong_value_is_refused_with_what_is_allowed(line: str, words: str) -> None:
    with pytest.raises(FatalError) as refusal:
        _settings(line)
    assert words in str(refusal.value)
    assert refusal.value.code in (1, 98, 255)


def test_all_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(FatalError) as refusal:
        _settings("--port=x --port=99999 --signal-on-hup=NOPE --grace=3 --max-generations=0 prog")
    told = str(refusal.value).splitlines()
    assert [line.partition(":")[0] for line in told] == [
        "--signal-on-hup",
        "--max-generations",
        "invalid ``port'' value",
        "invalid ``port'' value",
    ]
    assert refusal.value.code == 1


def test_a_port_may_be_opened_for_tcp_and_for_udp() -> None:
    assert len(_settings("--port=53 --port=u53 --port=0 --port=0 prog").ports) == 4


@pytest.mark.parametrize("value", ["100", "1000"])
def test_a_floor_that_no_workers_can_keep_is_refused_in_the_envdir_too(value: str) -> None:
    with pytest.raises(FatalError, match="SHARED_FLOOR_PERCENT"):
        _policy(SHARED_FLOOR_PERCENT=value)


def test_truth_in_the_environment_is_perls() -> None:
    assert not _policy(ENABLE_AUTO_RESTART="").auto_restart
    assert not _policy(ENABLE_AUTO_RESTART="0").auto_restart
    assert _policy(ENABLE_AUTO_RESTART="0.0").auto_restart


@pytest.mark.parametrize("zero", ["", "0", "00", "0.0", " 0 "])
def test_an_interval_of_timed_restarts_that_is_zero_is_the_default(zero: str) -> None:
    given = {"ENABLE_AUTO_RESTART": "1", "AUTO_RESTART_INTERVAL": zero}
    assert _policy(**given).auto_restart_interval == 360
    assert settings.complete(given)["AUTO_RESTART_INTERVAL"] == "360"


def test_an_unset_delay_is_not_a_delay_of_zero() -> None:
    assert _policy().kill_old_delay is None
    assert _policy(KILL_OLD_DELAY="").kill_old_delay == 0
    assert _policy(KILL_OLD_DELAY="0").kill_old_delay == 0
    assert _policy(KILL_OLD_DELAY=" 5 ").kill_old_delay == 5


def test_a_default_kill_old_delay_is_unset_until_it_is_given() -> None:
    assert _settings("prog").policy.default_kill_old_delay is None
    assert _settings("--default-kill-old-delay=0 prog").policy.default_kill_old_delay == 0
    assert _settings("--default-kill-old-delay=15 prog").policy.default_kill_old_delay == 15


@pytest.mark.parametrize("value", ["soon", "-1", "1e3", "nan", "5s", "1.", ".", "9" * 30])
@pytest.mark.parametrize("name", ["KILL_OLD_DELAY", "AUTO_RESTART_INTERVAL"])
def test_a_wrong_number_in_the_environment_names_its_variable(name: str, value: str) -> None:
    with pytest.raises(FatalError, match=name):
        _policy(**{name: value})


def test_children_see_the_interval_that_is_used() -> None:
    assert settings.complete({"ENABLE_AUTO_RESTART": "1"})["AUTO_RESTART_INTERVAL"] == "360"
    assert "AUTO_RESTART_INTERVAL" not in settings.complete({})


def test_a_wrong_envdir_value_changes_nothing_and_is_said_once(tmp_path: Path) -> None:
    base = _settings("prog").policy
    environment = Environment({"A": "1"}, {"ENVDIR": str(tmp_path)}, base)
    (tmp_path / "KILL_OLD_DELAY").write_text("soon")
    (tmp_path / "A").write_text("2")
    assert "soon" in environment.refresh()
    assert environment.refresh() == ""
    assert environment.policy == base
    assert environment.variables["A"] == "1"
    (tmp_path / "KILL_OLD_DELAY").write_text("3")
    assert environment.refresh() == ""
    assert environment.policy.kill_old_delay == 3
    assert environment.variables["A"] == "2"
    (tmp_path / "KILL_OLD_DELAY").write_text("soon")
    assert "soon" in environment.refresh(), "said again after it was right"


def test_a_missing_envdir_is_no_error(tmp_path: Path) -> None:
    base = _settings("prog").policy
    environment = Environment({"A": "1"}, {"ENVDIR": str(tmp_path / "missing")}, base)
    assert environment.variables["A"] == "1"


def test_a_fifo_in_the_envdir_does_not_block(tmp_path: Path) -> None:
    import os  # noqa: PLC0415

    os.mkfifo(tmp_path / "PIPE")
    environment = Environment({}, {"ENVDIR": str(tmp_path)}, _settings("prog").policy)
    assert "PIPE" not in environment.variables
