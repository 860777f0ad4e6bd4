"""Whom nginx limits: what strangers write reaches its configuration as text, and no more."""

import json
import re
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from supervisor_py.crawlers import limits, locks
from supervisor_py.crawlers.limits import LimitsError, Places, Settings, as_map, chosen
from supervisor_py.crawlers.lines import MOST_AGENT

from .test_view import NASTY

BOTH = Settings(("impostors", "undeclared"))
# what a token of nginx's configuration is, between quotes
_LINE = re.compile(r'"([0-9a-f.:]+) ((?:[^"\\]|\\")*)" \$binary_remote_addr;')


@pytest.fixture(autouse=True)
def own_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "DIRECTORY", tmp_path / "locks")


def line(address: str = "192.0.2.7", agent: str = "Googlebot/2.1", group: str = "impostor") -> str:
    return json.dumps({"group": group, "address": address, "agent": agent})


def chosen_of(*lines: str, settings: Settings = BOTH) -> list[tuple[str, str]]:
    return chosen(iter(lines), settings)


def test_a_client_is_an_address_with_its_user_agent() -> None:
    assert as_map(chosen_of(line(agent='a "b"'), line("2001:db8::1", ""))).splitlines()[1:] == [
        r'"192.0.2.7 a \"b\"" $binary_remote_addr;',
        '"2001:db8::1 " $binary_remote_addr;',
    ]


@pytest.mark.parametrize(
    "group", ["verified", "person", "feed_reader", "monitor", "unverified", "rest", "", 7, None]
)
def test_nobody_but_impostors_and_undeclared_bots_is_limited(group: str) -> None:
    assert chosen_of(line(group=group)) == []


@pytest.mark.parametrize(
    ("groups", "wanted"),
    [(("impostors",), ["192.0.2.1"]), (("undeclared",), ["192.0.2.2"]), ((), [])],
)
def test_only_the_groups_that_were_asked_for_are_limited(
    groups: tuple[str, ...], wanted: list[str]
) -> None:
    lines = [line("192.0.2.1"), line("192.0.2.2", group="undeclared")]
    assert [address for address, _ in chosen_of(*lines, settings=Settings(groups))] == wanted


@pytest.mark.parametrize(
    "address", ["10.0.0.1", "127.0.0.1", "::1", "fe80::1", "::ffff:10.0.0.1", "203.0.113.77"]
)
def test_a_proxy_of_ones_own_and_who_was_named_are_never_limited(address: str) -> None:
    settings = Settings(("impostors",), ("203.0.113.0/24",))
    assert chosen_of(line(address), settings=settings) == []


@pytest.mark.parametrize(
    "agent",
    ["x" * 256, "é" * 128, r"a\x22b", "a\nb", "a\tb", "\x00", "\x7f", "\ud800", "\u2028", 5, None],
)
def test_a_user_agent_that_nginx_would_see_as_another_one_is_left_alone(agent: str) -> None:
    assert chosen_of(line(agent=agent)) == []


@pytest.mark.parametrize(
    "address", ["fe80::1%eth0", '2001:db8::1%a"; }', "192.0.2", "unix:", "", "x", 7, None]
)
def test_what_is_no_address_is_left_alone(address: str) -> None:
    assert chosen_of(line(address)) == []


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "7", '{"group": "impostor"}', "[" * 9999])
def test_what_is_no_line_of_a_report_is_passed_over(text: str) -> None:
    assert chosen_of(text, line()) == [("192.0.2.7", "Googlebot/2.1")]


def test_nobody_is_named_twice_as_nginx_compares() -> None:
    assert chosen_of(line(agent="Bot"), line(agent="bOT")) == [("192.0.2.7", "Bot")]


def test_the_same_clients_are_the_same_map_whoever_is_busier() -> None:
    one, other = line("192.0.2.1"), line("192.0.2.2")
    chosen = chosen_of(one, other)
    assert [address for address, _ in chosen] == ["192.0.2.1", "192.0.2.2"]
    assert chosen_of(other, one) == chosen


def test_nginx_gets_no_more_than_it_can_keep() -> None:
    many = [line(agent=f"bot {number}") for number in range(limits.MOST + 10)]
    assert len(chosen_of(*many)) == limits.MOST


@given(address=st.ip_addresses(v=4).map(str), agent=st.text(st.characters(codec="ascii")) | NASTY)
@example(address="192.0.2.7", agent='"; } server { return 200 "')
@example(address="192.0.2.7", agent='$remote_addr "a" {b};#')
def test_a_line_becomes_one_entry_of_the_map_with_its_own_text(address: str, agent: str) -> None:
    assume(chosen_of(line(address)))  # it is nobody's own
    assume(agent.isprintable() and "\\" not in agent and len(agent.encode()) < MOST_AGENT)
    (entry,) = as_map(chosen_of(line(address, agent))).splitlines()[1:]
    match = _LINE.fullmatch(entry)
    assert match is not None, entry
    assert match[1] == address
    assert match[2].replace('\\"', '"') == agent


@given(address=NASTY | st.just("192.0.2.7") | st.ip_addresses().map(str), agent=NASTY)
@example(address="2001:db8::1", agent='"')
def test_no_line_becomes_more_than_an_entry_of_the_map(address: str, agent: str) -> None:
    clients = chosen_of(line(address, agent))
    head, *found = as_map(clients).splitlines()
    assert len(found) == len(clients) <= 1
    assert [ip_address(match[1]) for entry in found if (match := _LINE.fullmatch(entry))] == [
        ip_address(address) for address, _ in clients
    ]
    assert head.startswith("#")


class Nginx:
    """What stands for nginx and systemd: takes a configuration, or not."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
        self.file, self.commands, self.fault, self.since = file, list[str](), "", 0.0
        monkeypatch.setattr(limits, "_run", self._run)
        monkeypatch.setattr(limits, "_nginx_since", lambda: self.since)

    def _run(self, *command: str) -> str:
        self.commands.append(command[0])
        if command[0] == "systemctl":
            self.since = self.file.stat().st_mtime + 1
            return ""
        return self.fault


def test_nginx_is_reloaded_only_for_what_is_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "crawlers.map"
    nginx = Nginx(monkeypatch, file)
    assert limits.put(file, "one")
    assert nginx.commands == ["nginx", "systemctl"]
    assert not limits.put(file, "one")
    assert nginx.commands == ["nginx", "systemctl"]
    nginx.since = 0.0  # as after a run that was cut off before it had reloaded
    assert not limits.put(file, "one")
    assert nginx.commands == ["nginx", "systemctl", "systemctl"]


@pytest.mark.parametrize("before", ["old", None])
def test_a_map_that_nginx_refuses_is_put_back_and_not_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str | None
) -> None:
    file = tmp_path / "crawlers.map"
    if before is not None:
        file.write_text(before)
    nginx = Nginx(monkeypatch, file)
    nginx.fault = "unexpected end of file"
    with pytest.raises(LimitsError, match="put back: unexpected end of file"):
        limits.put(file, "new")
    assert (file.read_text() if file.exists() else None) == before
    assert nginx.commands == ["nginx"]


def test_the_command_applies_lists_and_clears(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    places = Places(tmp_path / "settings", tmp_path / "suspects", tmp_path / "crawlers.map")
    Nginx(monkeypatch, places.map)
    places.settings.write_text('{"groups": ["impostors"], "never": []}')
    places.suspects.write_text(f"{line()}\n{'x' * 40_000}\n{line('192.0.2.8')}\n")
    assert limits.main(["apply"], places) == 0
    assert limits.main(["list"], places) == 0
    assert '"192.0.2.8 Googlebot/2.1" $binary' in capsys.readouterr().out
    assert limits.main(["clear"], places) == 0
    assert "192.0.2" not in places.map.read_text()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ('{"groups": ["people"], "never": []}', "people is not one of impostors, undeclared"),
        ('{"groups": [], "never": ["x"]}', "'x' does not appear to be an IPv4 or IPv6 network"),
        ("{", "settings: "),
    ],
)
def test_settings_that_are_none_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], settings: str, message: str
) -> None:
    places = Places(tmp_path / "settings", tmp_path / "suspects", tmp_path / "crawlers.map")
    places.settings.write_text(settings)
    places.suspects.write_text("")
    assert limits.main(["apply"], places) == 1
    assert message in capsys.readouterr().err
    assert not places.map.exists()


def test_another_file_is_not_read_in_the_reports_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = Places(tmp_path / "settings", tmp_path / "suspects", tmp_path / "crawlers.map")
    places.settings.write_text('{"groups": ["impostors"], "never": []}')
    (tmp_path / "secret").write_text(line())
    places.suspects.symlink_to(tmp_path / "secret")
    assert limits.main(["apply"], places) == 1
    assert "suspects: Too many levels of symbolic links" in capsys.readouterr().err
