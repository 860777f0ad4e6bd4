"""The two protocols that tell a child of its sockets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor_py import handoff
from supervisor_py.errors import FatalError
from supervisor_py.handoff import Handed, HandoffError
from supervisor_py.ports import parse_port

_names = st.text(st.characters(exclude_characters=";", exclude_categories=["Cs"]), min_size=1)


@given(st.lists(st.builds(Handed, _names, st.integers(0, 9999))))
def test_what_is_encoded_can_be_read_back(sockets: list[Handed]) -> None:
    assert handoff.decode_ports(handoff.encode_ports(sockets)) == sockets


@pytest.mark.parametrize("value", ["80", "80=x", "=3", "80=-1", "80="])
def test_a_garbled_variable_is_an_error(value: str) -> None:
    with pytest.raises(HandoffError, match="SERVER_STARTER_PORT"):
        handoff.decode_ports(value)


@pytest.mark.parametrize(
    ("names", "variables"),
    [
        ({}, {}),
        ({3: "a"}, {"LISTEN_FDS": "1", "LISTEN_FDNAMES": "a"}),
        ({4: "b", 3: "/run/a"}, {"LISTEN_FDS": "2", "LISTEN_FDNAMES": "/run/a:b"}),
        ({3: "h:80", 4: "\u00e9", 5: ""}, {"LISTEN_FDS": "3", "LISTEN_FDNAMES": ":".join(
            ["unknown"] * 3)}),
        ({3: "a", 5: "b"}, {}),
        ({4: "a"}, {}),
    ],
)  # fmt: skip
def test_listen_fds_are_told_only_from_3_on_in_a_row(
    names: dict[int, str], variables: dict[str, str]
) -> None:
    assert handoff.encode_listen(names) == variables


def test_listen_fds_count_only_for_the_process_that_is_named() -> None:
    variables = {"LISTEN_PID": "12", "LISTEN_FDS": "2", "LISTEN_FDNAMES": "web"}
    assert handoff.decode_listen(variables, 12) == [Handed("web", 3), Handed("unknown", 4)]
    assert handoff.decode_listen(variables, 13) == []
    with pytest.raises(HandoffError, match="LISTEN_FDS"):
        handoff.decode_listen({"LISTEN_PID": "12", "LISTEN_FDS": "x"}, 12)


def test_a_child_reads_start_servers_variable_first() -> None:
    both = {"SERVER_STARTER_PORT": "80=7", "LISTEN_PID": "1", "LISTEN_FDS": "1"}
    assert handoff.inherited(both, 1) == [Handed("80", 7)]
    assert handoff.inherited({**both, "SERVER_STARTER_PORT": ""}, 1) == [Handed("unknown", 3)]


@pytest.mark.parametrize(
    ("text", "name", "host", "number", "fd"),
    [
        ("21801", "21801", "0.0.0.0", 21801, None),
        ("u21801", "21801", "0.0.0.0", 21801, None),
        (" 80 =5 ", "80", "0.0.0.0", 80, 5),
        ("127.0.0.1:80", "127.0.0.1:80", "127.0.0.1", 80, None),
        ("[::1]:80", "[::1]:80", "::1", 80, None),
        ("::1:80", "[::1]:80", "::1", 80, None),
        ("[127.0.0.1]:80", "127.0.0.1:80", "127.0.0.1", 80, None),
        ("localhost:u21807=12", "localhost:21807", "localhost", 21807, 12),
        ("0", "0", "0.0.0.0", 0, None),
        ("80=0", "80", "0.0.0.0", 80, 0),
    ],
)
def test_port_forms_have_the_names_that_perl_gives_them(
    text: str, name: str, host: str, number: int, fd: int | None
) -> None:
    port = parse_port(text)
    assert (port.name, port.host, port.number, port.fd) == (name, host, number, fd)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x", "invalid ``port'' value:x"),
        ("", "invalid ``port'' value:"),
        ("65536", "invalid ``port'' value:65536"),
        ("80= 5", "invalid ``port'' value:80= 5"),
        ("80=", "invalid ``port'' value:80="),
        ("80=x", "invalid ``port'' value:80=x"),
        ("a]b:80", "invalid ``port'' value"),
        ("80=2", "fd 2 is taken for messages"),
        (":8080", "failed to resolve host:"),
        ("gg::1:80", "failed to resolve host:gg::1"),
    ],
)
def test_a_wrong_port_is_refused(text: str, words: str) -> None:
    with pytest.raises(FatalError) as refusal:
        parse_port(text)
    assert words in str(refusal.value)
