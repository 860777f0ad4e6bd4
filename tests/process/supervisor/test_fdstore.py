"""systemd's fd store: the sockets that we made outlive a super-daemon that is killed."""

import contextlib
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..waiting import LIMIT, wait_until
from .harness import Activated, alive, connect, free_port


class Systemd:
    """What systemd does with NOTIFY_SOCKET: it keeps what comes with FDSTORE=1, by name."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.store: dict[str, socket.socket] = {}
        self.heard: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.settimeout(LIMIT)

    def hear_until(self, text: str) -> None:
        while not any(text in message.splitlines() for message in self.heard):
            message, fds, _flags, _address = socket.recv_fds(self._socket, 4096, 8)
            self.heard.append(message.decode())
            lines = dict(line.partition("=")[::2] for line in self.heard[-1].splitlines())
            if lines.get("FDSTORE") == "1":
                assert lines["FDPOLL"] == "0"
                (fd,) = fds
                self.forget(lines["FDNAME"])
                self.store[lines["FDNAME"]] = socket.socket(fileno=fd)
            else:
                assert not fds
            if lines.get("FDSTOREREMOVE") == "1":
                assert lines["FDNAME"] in self.store
                self.forget(lines["FDNAME"])

    def forget(self, name: str) -> None:
        if name in self.store:
            self.store.pop(name).close()

    def close(self) -> None:
        self._socket.close()
        for name in list(self.store):
            self.forget(name)


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Systemd]:
    one = Systemd(tmp_path / "notify")
    yield one
    one.close()


def _begin(server: Activated, systemd: Systemd, *options: str) -> None:
    """Start a server as systemd does, with all that is in the store; wait until it serves."""
    systemd.heard.clear()
    server.activate(
        list(systemd.store.values()),
        ":".join(systemd.store),
        *options,
        NOTIFY_SOCKET=str(systemd.path),
        FDSTORE="16",
    )
    systemd.hear_until("READY=1")
    server.wait_serving(1)


def _kill(server: Activated) -> None:
    """Kill all, as systemd does when the main process has died."""
    worker = server.generations()[1]
    server.signal(signal.SIGKILL)
    server.wait()
    with contextlib.suppress(ProcessLookupError):
        os.kill(worker, signal.SIGKILL)
    wait_until(lambda: not alive(worker), "the worker is dead")
    server.status_file.unlink()


def test_sockets_that_we_made_are_stored_before_we_are_ready(
    activated: Activated, systemd: Systemd
) -> None:
    tcp, udp = free_port(), free_port()
    _begin(
        activated, systemd, f"--path={activated.path}", f"--port=127.0.0.1:{tcp}", f"--port=u{udp}"
    )
    assert sorted(str(one.getsockname()) for one in systemd.store.values()) == sorted(
        [str(activated.path), str(("127.0.0.1", tcp)), str(("0.0.0.0", udp))]
    )
    for name in systemd.store:
        assert name.isascii()
        assert name.isprintable()
        assert ":" not in name
    ready = next(at for at, message in enumerate(systemd.heard) if "READY=1" in message)
    stored = [at for at, message in enumerate(systemd.heard) if "FDSTORE=1" in message]
    assert len(stored) == 3
    assert max(stored) < ready
    environment = activated.record(1)["environment"]
    assert "FDSTORE" not in environment


def test_sockets_of_systemd_are_not_stored_again(activated: Activated, systemd: Systemd) -> None:
    with socket.create_server(("127.0.0.1", 0)) as theirs:
        port = theirs.getsockname()[1]
        activated.activate(
            [theirs], "web", f"--port=127.0.0.1:{port}", NOTIFY_SOCKET=str(systemd.path)
        )
        systemd.hear_until("READY=1")
        assert systemd.store == {}


@pytest.mark.parametrize("form", ["path", "port", "any-port"])
def test_a_connection_between_a_kill_and_the_next_start_is_not_refused(
    activated: Activated, systemd: Systemd, form: str
) -> None:
    port = free_port()
    option = {
        "path": f"--path={activated.path}",
        "port": f"--port=127.0.0.1:{port}",
        "any-port": "--port=127.0.0.1:0",
    }[form]
    _begin(activated, systemd, option)
    (stored,) = systemd.store.values()
    bound = stored.getsockname()
    address = bound if form == "path" else bound[1]
    variables = activated.record(1)["environment"]
    for _ in range(2):  # the second super-daemon has not made the sockets, and is killed too
        _kill(activated)
        with connect(address) as client:
            _begin(activated, systemd, option)
            assert client.recv(10) == b"1"
        assert activated.ask(address) == 1
        again = activated.record(1)["environment"]
        for name in ("SERVER_STARTER_PORT", "LISTEN_FDS", "LISTEN_FDNAMES"):
            assert again[name] == variables[name]
        assert len(systemd.store) == 1
    systemd.heard.clear()
    assert activated.stop() == 0
    systemd.hear_until("STOPPING=1")
    if form == "path":
        assert not activated.path.exists(), "it is ours, though another one of us has made it"
        systemd.hear_until("FDSTOREREMOVE=1")
        assert systemd.store == {}
    else:
        assert len(systemd.store) == 1, "systemd closes it, unless it restarts us"


def test_a_stored_socket_that_nobody_asks_for_any_more_is_closed_everywhere(
    activated: Activated, systemd: Systemd
) -> None:
    port, kept = free_port(), free_port()
    _begin(activated, systemd, f"--path={activated.path}", f"--port={port}", f"--port={kept}")
    _kill(activated)
    _begin(activated, systemd, f"--port={kept}")
    assert len(systemd.store) == 1
    assert not activated.path.exists()
    assert activated.record(1)["environment"]["SERVER_STARTER_PORT"] == f"{kept}=3"
    with pytest.raises(ConnectionRefusedError):
        connect(port)
    assert activated.ask(kept) == 1


def test_a_stored_socket_that_has_lost_its_path_is_made_anew(
    activated: Activated, systemd: Systemd
) -> None:
    _begin(activated, systemd, f"--path={activated.path}")
    (name,) = systemd.store
    _kill(activated)
    activated.path.unlink()
    _begin(activated, systemd, f"--path={activated.path}")
    assert activated.ask() == 1
    assert len(systemd.store) == 1
    assert name not in systemd.store
    assert activated.stop() == 0
    assert not activated.path.exists()


def test_a_path_that_is_another_servers_by_now_is_left_alone(
    activated: Activated, systemd: Systemd
) -> None:
    _begin(activated, systemd, f"--path={activated.path}")
    _kill(activated)
    activated.path.unlink()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(activated.path))
        other.listen()
        activated.activate(
            list(systemd.store.values()), ":".join(systemd.store), f"--path={activated.path}"
        )
        assert activated.wait() == 98
        assert f"another server listens there (pid {os.getpid()}: " in activated.said()
        assert activated.path.exists()


def test_a_name_alone_does_not_make_a_socket_ours(activated: Activated) -> None:
    """Somebody may give a .socket unit any FileDescriptorName=."""
    with socket.socket(socket.AF_UNIX) as theirs:
        theirs.bind(str(activated.path))
        theirs.listen()
        made = activated.path.stat()
        name = f"start_server-{os.fstat(theirs.fileno()).st_ino + 1}-{made.st_dev}-{made.st_ino}"
        activated.activate([theirs], name, f"--path={activated.path}")
        activated.wait_serving(1)
        assert activated.record(1)["environment"]["LISTEN_FDNAMES"] == name
        assert activated.stop() == 0
        assert activated.path.stat().st_ino == made.st_ino


def test_a_systemd_that_does_not_answer_is_said_and_survived(activated: Activated) -> None:
    nobody = str(activated.directory / "none")
    activated.start(f"--path={activated.path}", env={"NOTIFY_SOCKET": nobody})
    activated.wait_serving(1)
    assert "failed to tell systemd FDSTORE=1: No such file or directory" in activated.said()
    assert activated.ask() == 1
