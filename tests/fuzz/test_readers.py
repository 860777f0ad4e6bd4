"""Each reader of what comes from outside takes it, or refuses it in its own words."""

from __future__ import annotations

import marshal
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import gunicorn.config
import gunicorn.http
import gunicorn.http.errors
import gunicorn.http.wsgi

from backup_py import database
from backup_py.errors import BackupError
from backup_py.identity import Owner
from supervisor_py import handover, model
from supervisor_py.control import ControlServer
from supervisor_py.crawlers import lines, robots
from supervisor_py.readiness import Readiness
from supervisor_py.signals import Signal
from supervisor_py.vhost import hosts, ledger, pool

from .fuzzing import fuzzed

TERM = Signal("TERM", 15)
POLICY = model.Policy(
    interval=1,
    readiness=model.AUTO,
    readiness_timeout=60,
    grace=30,
    signal_on_hup=TERM,
    signal_on_term=TERM,
)


class Poller:
    """Calls nobody by itself."""

    def __init__(self) -> None:
        self.watched: dict[int, Any] = {}

    def watch(self, fd: int, ready: Any) -> None:
        self.watched[fd] = ready

    def forget(self, fd: int) -> None:
        del self.watched[fd]


class Listener:
    """Listens to nobody: its clients are handed over."""

    made = None

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_UNIX)

    def remove(self) -> None:
        pass


@fuzzed("control")
def test_a_request_on_the_control_socket_is_asked_once_or_answered(data: bytes) -> None:
    poller, asked = Poller(), []
    ours, theirs = socket.socketpair()
    server = ControlServer(
        Listener(),  # type: ignore[arg-type]
        poller,  # type: ignore[arg-type]
        lambda number, words: asked.append((number, words)),
    )
    fd = ours.detach()
    server.adopt([[1, fd, False, b""]], 1)
    with theirs:
        theirs.setblocking(False)
        sent = 0
        while fd in poller.watched and sent < len(data):
            sent += theirs.send(data[sent : sent + 700])
            poller.watched[fd]()
        assert len(asked) <= 1
        first, end, _ = data.partition(b"\n")
        if end and len(first) <= 1024:
            assert asked == [(1, first.decode("utf-8", "replace").split())]
        server.answer(1, True, "generation 2 serves")
        server.close()
        assert poller.watched == {}
        answered = b""
        try:
            while piece := theirs.recv(4096):
                answered += piece
        except (BlockingIOError, ConnectionResetError):
            pass
    assert answered == b"" or answered.endswith(b"\n")
    assert answered.count(b"\n") <= 1


@fuzzed("notify")
def test_a_notification_says_ready_by_that_line_alone(data: bytes) -> None:
    readiness = Readiness()
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(data, readiness.address.replace("@", "\0", 1))
        ready, status = readiness.heard()
    finally:
        readiness.close()
    seen = data[:4096].split(b"\n")
    assert ready is (b"READY=1" in seen)
    assert (status is not None) is any(line.partition(b"=")[0] == b"STATUS" for line in seen)


GENERATION = model.Generation(3, phase=model.SERVING, pid=44, started=1.5, since=2.0, ready=2.0)
STATE = model.State(
    POLICY,
    generations=(GENERATION, model.Generation(4, pid=45, started=9.0, since=9.0)),
    restart=model.Restart("HUP", True, (1,), candidate=4),
    queued=model.Restart("timer", True),
    upgrade=model.Upgrade((2,)),
    last_number=4,
)
CHILD = handover.Child(3, 44, left=False, notify=5, pipe=6, tail=b"said", rest=b"")


def tables(value: Any) -> Iterator[dict[str, Any]]:
    """Every table in what is handed over, those that are in others included."""
    if isinstance(value, dict):
        yield value
    inner = value.values() if isinstance(value, dict) else value
    if isinstance(value, dict | list | tuple):
        for one in inner:
            yield from tables(one)


@fuzzed("handover")
def test_what_has_more_fields_or_fewer_is_taken_or_refused(data: bytes) -> None:
    """Each two bytes are a table and what is done to it: what marshal reads is our own alone."""
    handed = handover.Handover(
        version="1.0",
        started=5.5,
        state=handover.state_to_plain(STATE),
        sockets=[],
        children=[CHILD.values()],
        clients=[[3, 9, True, b"restart\n"]],
        last_client=3,
    )
    told = {"format": 1, **{name: getattr(handed, name) for name in handed._fields}}
    for at, what in zip(data[::2], data[1::2], strict=False):
        found = list(tables(told))
        table = found[at % len(found)]
        if table and what % 2:
            del table[sorted(table)[what // 2 % len(table)]]
        else:
            table[f"field {what}"] = [what]
    fd = os.memfd_create("handover")
    try:
        os.write(fd, marshal.dumps(told, 2))
        try:
            again = handover.read(fd)
            state = handover.state(again, POLICY)
            handover.children(again)
        except handover.HandoverError as error:
            assert "handed over" in str(error)
        else:
            assert data or state == STATE
    finally:
        os.close(fd)


@fuzzed("pool_file")
def test_a_pool_file_is_read_or_refused_with_its_problems(data: bytes) -> None:
    with tempfile.NamedTemporaryFile(suffix=".toml") as file:
        file.write(data)
        file.flush()
        try:
            found = pool.read(file.name)
        except pool.PoolError as error:
            assert str(error)
        else:
            assert found.apps


@fuzzed("ledger")
def test_what_a_process_says_of_itself_is_read_or_passed_over(data: bytes) -> None:
    fd = os.memfd_create(ledger.NAME)
    try:
        os.write(fd, os.getpid().to_bytes(8, "little") + data)
        found = ledger.read(os.getpid())
    finally:
        os.close(fd)
    assert (found is not None) is (len(data) >= ledger._CELLS.size - 8)
    if found is not None:
        assert len(found.group.encode()) <= 3 * 32
        assert 0 <= found.requests < 1 << 64


@fuzzed("sqlite")
def test_a_database_is_copied_or_said_to_be_none(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as made:
        source, target = Path(made, "source"), Path(made, "target")
        source.write_bytes(data)
        if not database.is_database(data[: len(database.MAGIC)]):
            return
        try:
            database.copy(source, target, Owner.of(source), 1 << 24)
        except BackupError as error:
            assert str(source) in str(error)
        else:
            assert database.damage(target) == ""


@fuzzed("log_lines")
def test_a_line_of_a_log_is_a_bounded_request_or_none(data: bytes) -> None:
    read = lines.reader()
    for line in data.decode("utf-8", "replace").split("\n"):
        hit = read(line)
        if hit is None:
            continue
        assert len(hit.agent.encode("utf-8", "replace")) <= lines.MOST_AGENT
        assert len(hit.uri) <= lines.MOST_URI
        assert len(hit.vhost.encode("utf-8", "replace")) <= lines.MOST_NAME
        assert len(hit.address) <= 64
        assert hit.size >= 0
        assert hit.app_seconds is None or hit.app_seconds >= 0


@fuzzed("robots_txt")
def test_a_robots_txt_is_explained_to_everybody(data: bytes) -> None:
    file = robots.parse(data)
    for agent in ("Applebot", "Googlebot", "somebody"):
        for path in ("/", "/private/page?x=1", "/%C3%BC"):
            said = robots.explain(file, agent, path)
            assert said.reasons
            if said.rule is not None:
                assert said.allowed is (said.rule.kind == "allow")


CONFIG = gunicorn.config.Config()
CONFIG.set("forwarder_headers", "")
CONFIG.set("header_map", "refuse")
NO_REQUEST = (
    gunicorn.http.errors.ParseException,
    gunicorn.http.errors.NoMoreData,
    gunicorn.http.errors.ChunkMissingTerminator,
    StopIteration,
)
SITES = hosts.Router(
    {
        hosts.Site("shop.test"): "shop",
        hosts.Site("shop.test", "/wiki"): "wiki",
        hosts.Site("*.shop.test"): "tenants",
    }
)


@fuzzed("requests")
def test_a_request_is_an_apps_or_refused_and_never_two_apps(data: bytes) -> None:
    try:
        request = next(gunicorn.http.RequestParser(CONFIG, iter([data]), ("127.0.0.1", 1)))
    except NO_REQUEST:
        return
    _, environ = gunicorn.http.wsgi.create(request, None, ("127.0.0.1", 1), "", CONFIG)
    try:
        app, prefix, rest = SITES.pick(
            environ.get("HTTP_HOST"), environ.get("RAW_URI", "/"), environ["PATH_INFO"]
        )
    except (hosts.BadHostError, hosts.UnknownHostError, hosts.UnknownPathError):
        return
    name = hosts.host_of(environ["HTTP_HOST"])
    assert name == "shop.test" if app in ("shop", "wiki") else name.endswith(".shop.test")
    asked = unquote_to_bytes(request.path).decode("latin-1")
    assert (prefix == "/wiki") is (app == "wiki")
    assert ".." not in (prefix + rest).split("/") or app == "tenants"
    assert asked
