"""The firewall's steps, and that new rules are kept only after a new connection."""

from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest
from ansible.errors import AnsibleConnectionFailure

from ansible_collections.kechi.vps.plugins.action.firewall import ActionModule
from ansible_collections.kechi.vps.plugins.modules import firewall

SETTLED = firewall.SETTLED


@pytest.mark.parametrize(
    ("facts", "steps"),
    [
        ({}, []),
        ({"loaded": False}, ["try", "keep"]),
        ({"loaded": False, "written": False}, ["try", "keep"]),
        ({"written": False}, ["keep"]),
        ({"unit": {**SETTLED, "UnitFileState": "disabled"}}, ["keep"]),
        ({"unit": {**SETTLED, "ActiveState": "failed"}}, ["keep"]),
        ({"unit": {**SETTLED, "NeedDaemonReload": "yes"}}, ["keep"]),
    ],
)
def test_rules_that_the_kernel_has_already_are_not_tried_again(facts, steps):
    assert firewall.needed(**{"loaded": True, "written": True, "unit": SETTLED, **facts}) == steps


@pytest.mark.parametrize(
    ("ports", "defined"),
    [([2222, 22, 22], "{ 22, 2222 }"), ([22022], "{ 22022 }"), ([], "{ 22 }")],
)
def test_the_ports_of_ssh_are_always_open(ports, defined):
    assert firewall.with_ports("rules\n", ports) == f"define ssh_ports = {defined}\nrules\n"


class Run:
    """The action with a machine that is made up; its clock goes by its own pauses alone."""

    def __init__(self, *, reaches, connection="a 2 b 22", before="a 1 b 22", kept=None):
        self.asked = []
        self.resets = 0
        self._shell = MagicMock()
        self.now = 100.0
        self.reaches = reaches  # asked with the seconds since the new rules were loaded
        self.connection = connection
        self.kept = kept or {"changed": True, "steps": ["keep"]}
        task = SimpleNamespace(
            args={"rules": "r", "unit": "u", "connection": before, "confirm_seconds": 60},
            check_mode=False,
            async_val=0,
        )
        action = ActionModule(task, self, MagicMock(), MagicMock(), MagicMock(), MagicMock())
        action._clock = lambda: self.now
        action._sleep = self.sleep
        action._module = self.module
        self.result = action.run()

    def reset(self):  # as a connection has it
        self.resets += 1

    def sleep(self, seconds):
        self.now += seconds

    def module(self, name, arguments, _variables):
        self.asked.append(arguments.get("step", name))
        if self.asked[-1] == "try":
            return {"changed": True, "steps": ["try", "keep"]}
        if not self.reaches(self.now - 100):
            self.now += 10  # ssh's own time-out
            raise AnsibleConnectionFailure("timed out")
        if name == "ssh_facts":
            return {"connection": self.connection}
        return self.kept if self.asked[-1] == "keep" else {"changed": True, "steps": ["undo"]}


def test_rules_are_kept_when_a_new_connection_has_come_in():
    run = Run(reaches=lambda _: True)
    assert run.asked == ["try", "ssh_facts", "keep"]
    assert run.resets == 1
    assert run.result == {"changed": True, "steps": ["try", "keep"]}


def test_a_connection_that_fails_once_is_tried_again():
    run = Run(reaches=lambda seconds: seconds > 20)
    assert run.asked == ["try", "ssh_facts", "ssh_facts", "ssh_facts", "keep"]
    assert not run.result.get("failed")


def test_the_old_connection_confirms_nothing():
    run = Run(reaches=lambda _: True, connection="a 1 b 22")
    assert "keep" not in run.asked
    assert run.result["failed"]
    assert "the old connection is still used" in run.result["msg"]


def test_rules_that_let_nobody_in_are_given_up_after_the_timer_of_the_machine():
    run = Run(reaches=lambda seconds: seconds > 60)
    assert run.asked[0] == "try"
    assert run.asked[-1] == "undo"
    assert "keep" not in run.asked
    assert run.result["failed"]
    assert "let nobody in for 60 seconds, so that the previous ones are back" in run.result["msg"]
    assert "timed out" in run.result["msg"]


def test_a_machine_that_stays_away_is_told():
    run = Run(reaches=lambda _: False)
    assert run.result["failed"]
    assert "the machine has not been reached since: timed out" in run.result["msg"]
    assert run.now < 300


def test_a_confirmation_that_came_too_late_is_a_failure():
    run = Run(reaches=lambda _: True, kept={"failed": True, "msg": "taken back already"})
    assert run.result["failed"]
    assert run.result["msg"] == "taken back already"


def test_without_ssh_there_is_no_connection_to_lose():
    run = Run(reaches=lambda _: True, connection="", before=None)
    assert run.asked == ["try", "ssh_facts", "keep"]


class RefusedError(Exception):
    """What `fail_json` raises here."""


@pytest.fixture
def without_nftables(tmp_path, monkeypatch):
    """A machine whose kernel has none, as nft tells it."""
    for name in ("NFT", "RULES", "UNIT", "TRIAL"):
        monkeypatch.setattr(firewall, name, tmp_path / name)
    (tmp_path / "NFT").touch()
    module = MagicMock(check_mode=False, tmpdir=str(tmp_path))
    module.params = {"rules": "rules\n", "unit": "unit\n", "ssh_ports": []}
    module.fail_json.side_effect = lambda msg: (_ for _ in ()).throw(RefusedError(msg))
    module.run_command.return_value = (1, "", "Operation not supported")
    return module


def test_a_kernel_without_nftables_is_refused_clearly(without_nftables):
    with pytest.raises(RefusedError, match=r"kernel has no nftables.*Operation not supported"):
        firewall.present(without_nftables, firewall.Firewall(without_nftables))


def test_a_kernel_without_nftables_needs_no_rules_taken_away(without_nftables):
    assert firewall.Firewall(without_nftables).remove() == []
