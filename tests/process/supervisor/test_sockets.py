"""Sockets: made, handed on, inherited from systemd, and never anybody else's deleted."""

import os
import signal
import socket
import stat
import sys
from pathlib import Path

import pytest

from supervisor_py import handoff

from ..machine import needs_ipv6
from ..waiting import LIMIT, wait_until
from .harness import Activated, Server, connect, free_port


def _listener(path: Path) -> socket.socket:
    one = socket.socket(socket.AF_UNIX)
    one.bind(str(path))
    one.listen(8)
    one.setblocking(False)  # as systemd's are
    return one


def test_tcp_udp_and_unix_sockets_are_served_and_told_in_both_protocols(server: Server) -> None:
    tcp, udp, local = free_port(), free_port(), free_port()
    server.start(
        f"--path={server.path}", f"--port=127.0.0.1:{tcp}", f"--port=u{udp}", f"--port={local}"
    ).wait_serving(1)
    record = server.record(1)
    env = record["environment"]
    assert env["SERVER_STARTER_PORT"] == f"127.0.0.1:{tcp}=3;{udp}=4;{local}=5;{server.path}=6"
    assert env["LISTEN_FDS"] == "4"
    assert env["LISTEN_PID"] == str(record["pid"])
    assert env["LISTEN_FDNAMES"] == f"unknown:{udp}:{local}:{server.path}"
    assert set(record["fds"]) <= {0, 1, 2, 3, 4, 5, 6, 7}, "nothing else leaks (7 lists the fds)"
    assert record["blocking"] == {"3": True, "4": True, "5": True, "6": True}
    assert server.ask() == server.ask(tcp) == server.ask(local) == 1
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(LIMIT)
        client.sendto(b"?", ("127.0.0.1", udp))
        assert client.recv(10) == b"1"
    assert stat.S_IMODE(server.path.stat().st_mode) == 0o777
    assert stat.S_IMODE(server.control.stat().st_mode) == 0o600


def test_a_port_can_be_bound_again_right_after_a_stop(server: Server) -> None:
    port = free_port()
    for number in (1, 2):
        server.start(f"--port=127.0.0.1:{port}").wait_serving(1)
        assert server.ask(port) == 1  # closed by the server first: its port is in TIME_WAIT
        assert server.stop() == 0
        assert server.said().count("exiting") == number


@needs_ipv6
def test_an_ipv6_address_is_bound_alone(server: Server) -> None:
    port = free_port()
    server.start(f"--port=[::1]:{port}").wait_serving(1)
    assert server.record(1)["environment"]["SERVER_STARTER_PORT"] == f"[::1]:{port}=3"
    with pytest.raises(ConnectionRefusedError):
        connect(port)


def test_without_sockets_the_variable_is_set_and_empty(server: Server) -> None:
    server.start().wait_serving(1)
    env = server.record(1)["environment"]
    assert env["SERVER_STARTER_PORT"] == ""
    assert "LISTEN_FDS" not in env
    assert "LISTEN_PID" not in env


def test_a_port_is_given_the_fd_that_was_asked_for(server: Server) -> None:
    one, two = free_port(), free_port()
    server.start(f"--port={one}", f"--port={two}=3", f"--path={server.path}").wait_serving(1)
    env = server.record(1)["environment"]
    assert env["SERVER_STARTER_PORT"] == f"{one}=4;{two}=3;{server.path}=5"
    assert env["LISTEN_FDNAMES"] == f"{two}:{one}:{server.path}"
    assert server.ask(one) == server.ask(two) == server.ask() == 1


def test_fds_that_are_not_in_a_row_are_not_told_as_listen_fds(server: Server) -> None:
    port = free_port()
    server.start(f"--port={port}=9").wait_serving(1)
    env = server.record(1)["environment"]
    assert env["SERVER_STARTER_PORT"] == f"{port}=9"
    assert "LISTEN_FDS" not in env
    assert server.ask(port) == 1


def test_a_socket_of_systemd_takes_the_place_of_the_path_and_is_never_unlinked(
    activated: Activated,
) -> None:
    before = os.umask(0o117)
    ours = _listener(activated.path)
    os.umask(before)
    made = activated.path.stat()
    activated.activate([ours], "kechi@main.socket", f"--path={activated.path}")
    activated.wait_serving(1)
    record = activated.record(1)
    assert record["environment"]["SERVER_STARTER_PORT"] == f"{activated.path}=3"
    assert record["environment"]["LISTEN_FDS"] == "1"
    assert record["environment"]["LISTEN_FDNAMES"] == "kechi@main.socket"
    assert record["environment"]["LISTEN_PID"] == str(record["pid"])
    assert record["blocking"] == {"3": True}
    assert activated.ask() == 1
    activated.signal(signal.SIGHUP)
    activated.wait_serving(2)
    assert activated.ask() == 2
    assert activated.stop() == 0
    assert activated.path.stat() == made or activated.path.stat().st_ino == made.st_ino
    ours.close()


def test_inherited_sockets_are_matched_by_address_and_the_others_are_added(
    activated: Activated,
) -> None:
    tcp = socket.create_server(("127.0.0.1", 0))
    port = tcp.getsockname()[1]
    other = socket.create_server(("0.0.0.0", 0))
    path = _listener(activated.path)
    fresh = free_port()
    activated.activate(
        [path, other, tcp],
        "web:admin:api",
        f"--port=127.0.0.1:{port}",
        f"--port={fresh}",
        f"--path={activated.path}",
    )
    activated.wait_serving(1)
    env = activated.record(1)["environment"]
    added = other.getsockname()[1]
    assert env["SERVER_STARTER_PORT"] == (
        f"127.0.0.1:{port}=3;{fresh}=4;{activated.path}=5;{added}=6"
    )
    assert env["LISTEN_FDNAMES"] == f"api:{fresh}:web:admin"
    assert {activated.ask(number) for number in (port, fresh, added)} == {1}
    assert activated.ask() == 1


def test_sockets_meant_for_another_process_are_not_taken(activated: Activated) -> None:
    other = socket.create_server(("127.0.0.1", 0))
    activated.activate([other], "web", f"--path={activated.path}", WRONG_PID="1")
    activated.wait_serving(1)
    env = activated.record(1)["environment"]
    assert env["SERVER_STARTER_PORT"] == f"{activated.path}=3"
    assert env["LISTEN_FDNAMES"] == str(activated.path)


def test_a_stale_socket_is_replaced(server: Server) -> None:
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(server.path))
    stale.close()
    server.start(f"--path={server.path}").wait_serving(1)
    assert server.ask() == 1


def test_a_regular_file_at_the_path_is_left_alone(server: Server) -> None:
    server.path.write_text("precious")
    for option in (f"--path={server.path}", f"--control-socket={server.path}"):
        refused = server.client(option, "--", "sleep", "60")
        assert refused.returncode == 98
        assert f"{server.path}: it exists and is not a socket" in refused.stderr
        assert server.path.read_text() == "precious"


def test_the_live_socket_of_another_server_is_left_alone(server: Server) -> None:
    server.start(f"--path={server.path}").wait_serving(1)
    other = server.directory / "other.sock"
    for option in (f"--path={server.path}", f"--control-socket={server.control}"):
        refused = server.client(f"--path={other}", option, "--", "sleep", "60")
        assert refused.returncode == 98
        assert "another server listens there" in refused.stderr
    assert server.ask() == 1
    assert server.restart().returncode == 0
    assert not other.exists(), "what was made before the refusal is taken back"


def test_a_path_that_is_somebody_elses_by_now_is_not_unlinked(server: Server) -> None:
    server.start(f"--path={server.path}").wait_serving(1)
    server.path.unlink()
    successor = _listener(server.path)
    assert server.stop() == 0
    assert server.path.exists()
    successor.close()


def test_a_port_in_use_is_said(server: Server) -> None:
    taken = socket.create_server(("127.0.0.1", 0))
    port = taken.getsockname()[1]
    refused = server.client(f"--port=127.0.0.1:{port}", "--", "sleep", "60")
    assert refused.returncode == 98
    assert f"failed to bind to 127.0.0.1:{port}: Address already in use" in refused.stderr


def test_a_child_may_read_its_sockets_with_our_module(server: Server) -> None:
    out = server.directory / "out"
    code = (
        f"import sys, os; sys.path.insert(0, {str(Path(handoff.__file__).parents[1])!r})\n"
        "from supervisor_py.handoff import inherited\n"
        "import pathlib, signal\n"
        f"pathlib.Path({str(out)!r}).write_text(repr(inherited(os.environ, os.getpid())))\n"
        "signal.pause()"
    )
    program = [sys.executable, "-c", code]
    server.start(f"--path={server.path}", "--interval=0", program=program)
    wait_until(lambda: out.exists() and out.read_text(), "the child")
    assert out.read_text() == f"[Handed(name={str(server.path)!r}, fd=3)]"


def test_closed_standard_fds_are_not_taken_by_sockets(server: Server) -> None:
    close = "import os\nos.close(0)\nos.close(1)"
    server.start(f"--path={server.path}", prelude=close).wait_serving(1)
    record = server.record(1)
    assert record["environment"]["SERVER_STARTER_PORT"] == f"{server.path}=3"
    assert {0, 1, 2, 3} <= set(record["fds"])
    assert server.ask() == 1
