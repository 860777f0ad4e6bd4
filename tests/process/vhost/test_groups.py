"""Isolated apps: an interpreter each, forked from a parent that has loaded no app."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from markupsafe import _speedups

from supervisor_py.vhost.groups import STOP_SECONDS

from ..supervisor.harness import halt
from ..waiting import LIMIT
from .grouped import (
    GroupSockets,
    ask,
    has_ended,
    processes,
    status,
    wait_ended,
    wait_status,
    write_pool,
)
from .harness import (
    COMMAND,
    ROOT,
    START_SERVER,
    Connection,
    Load,
    Server,
    Sockets,
    closes,
    get,
    opened,
    running,
    serving,
    vhost_server,
    wait_until,
)
from .test_frameworks import copy_app
from .test_start import refusal

ISOLATED: dict[str, Any] = {"isolation": "process"}
NAMES = ("one", "two", "own")
ENVIRONMENT = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}


def mixed(folder: Path, **more: Any) -> Path:
    """Two shared apps and an isolated one."""
    return write_pool(folder, {"one": {}, "two": {}, "own": ISOLATED | more})


def test_an_isolated_app_has_an_interpreter_a_directory_and_an_environment_of_its_own(
    tmp_path: Path,
) -> None:
    pool = mixed(tmp_path, environment={"MINE": "own's"})
    with GroupSockets(tmp_path, ["own"]) as sockets, running(pool, sockets) as server:
        seen = {name: ask(sockets, name) for name in NAMES}
        for name in NAMES:
            assert (seen[name]["app"], seen[name]["cwd"]) == (name, str(tmp_path / name))
        assert seen["own"]["mine"] == "own's"
        assert seen["one"]["pid"] == seen["two"]["pid"] != seen["own"]["pid"]
        assert seen["own"]["parent"] == server.process.pid
        assert set(processes(server)) == {"kechi:shared", "kechi:own"}
        assert Path(f"/proc/{server.process.pid}/comm").read_text() == "kechi:parent\n"
        told = "serves one, two: 1 workers of 4 threads; isolated: own serves"
        assert server.said == [f"READY=1\nSTATUS={told}"]


def test_an_isolated_app_is_asked_on_its_own_socket_and_answers_no_other_host(
    tmp_path: Path,
) -> None:
    with GroupSockets(tmp_path, ["own"]) as sockets, running(mixed(tmp_path), sockets):
        assert get(sockets.of("own"), "one.test").status == 421
        assert get(sockets.path, "own.test").status == 421
        assert get(sockets.port, "own.test").status == 421


def django_pool(folder: Path, **shop: Any) -> Path:
    lines = []
    for name, more in {"blog": {}, "shop": shop}.items():
        copy_app("django", folder / name)
        keys = "".join(f"{key} = {value}\n" for key, value in more.items())
        lines.append(
            f'[[apps]]\nname = "{name}"\nhosts = ["{name}.test"]\ndirectory = "{name}"\n'
            f'wsgi = "app:app"\nenvironment.MINE = "{name}"\n{keys}'
        )
    pool = folder / "django.toml"
    pool.write_text('[pool]\nname = "d"\nworkers = 1\npreload = ["django"]\n' + "\n".join(lines))
    return pool


@pytest.mark.parametrize("isolated", [("shop",), ("blog", "shop")])
def test_two_django_projects_are_served_when_one_or_both_are_isolated(
    tmp_path: Path, isolated: tuple[str, ...]
) -> None:
    pool = django_pool(tmp_path)
    text = pool.read_text()
    for name in isolated:
        line = f'environment.MINE = "{name}"\n'
        text = text.replace(line, f'{line}isolation = "process"\n')
        (tmp_path / name / "config.py").write_text(f'NAME = "django of {name}"\n')
    pool.write_text(text)
    with GroupSockets(tmp_path, isolated) as sockets, running(pool, sockets) as server:
        for name in ("blog", "shop"):
            page = get(sockets.of(name), f"{name}.test").body.decode()
            assert f"<h1>django{f' of {name}' if name in isolated else ''}</h1>" in page
            with contextlib.closing(Connection(sockets.of(name))) as connection:
                headers = {"Host": f"{name}.test"}
                headers["Content-Type"] = "application/x-www-form-urlencoded"
                connection.request("POST", "/form", f"word={name}", headers)
                assert name.encode() in connection.getresponse().read()
        assert "Traceback" not in server.log.read_text()


def test_an_app_with_several_workers_of_its_own_has_an_arbiter_of_its_own(tmp_path: Path) -> None:
    pool = mixed(tmp_path, workers=2, threads=1)
    with GroupSockets(tmp_path, ["own"]) as sockets, running(pool, sockets) as server:
        (arbiter,) = processes(server)["kechi:own"]
        assert ask(sockets, "own")["parent"] == arbiter
        assert "serves own: 2 workers of 1 threads" in status(server)


def test_no_module_of_an_app_gets_into_the_parent(tmp_path: Path) -> None:
    """Else a neighbour would find it in its sys.modules."""
    with (
        GroupSockets(tmp_path, ["one", "own"]) as sockets,
        running(write_pool(tmp_path, dict.fromkeys(("one", "own"), ISOLATED)), sockets),
    ):
        for name in ("one", "own"):
            assert ask(sockets, name)["modules"] == [f"wsgi_{name}"]


@pytest.mark.parametrize(
    ("named", "said"),
    [
        (
            ["other"],
            r"test.toml:\d+: the isolated app own has no socket: none is named own.sock;"
            r" add --path={0}/own.sock",
        ),
        (["own", "deeper/own"], r"has 2 sockets, {0}/own.sock and {0}/deeper/own.sock: it can"),
    ],
)
def test_a_missing_or_second_socket_is_refused_with_the_option_to_add(
    tmp_path: Path, named: list[str], said: str
) -> None:
    (tmp_path / "deeper").mkdir()
    with GroupSockets(tmp_path, named) as sockets:
        assert re.search(said.format(re.escape(str(tmp_path))), refusal(mixed(tmp_path), sockets))


def test_shared_apps_without_a_socket_are_refused(tmp_path: Path) -> None:
    command = [*COMMAND, f"--bind=unix:{tmp_path}/own.sock", str(mixed(tmp_path))]
    done = subprocess.run(
        command, env=ENVIRONMENT, capture_output=True, text=True, timeout=LIMIT, check=False
    )
    assert done.returncode == 1
    assert "no socket is left for the shared apps one, two" in done.stderr
    assert f"add --path={tmp_path}/shared.sock, or a --port" in done.stderr
    assert not (tmp_path / "own.sock").exists()


def test_a_socket_that_no_group_needs_is_left_alone(tmp_path: Path) -> None:
    pool = write_pool(tmp_path, {"own": ISOLATED})
    with GroupSockets(tmp_path, ["own"]) as sockets, running(pool, sockets) as server:
        assert ask(sockets, "own")["app"] == "own"
        assert set(processes(server)) == {"kechi:own"}


def test_what_is_preloaded_is_imported_once_and_shared(tmp_path: Path) -> None:
    top = "import library; SEEN = library.WHERE"
    apps = {name: ISOLATED | {"top": top} for name in ("one", "own")}
    pool = write_pool(tmp_path, apps, 'preload = ["library"]')
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "library.py").write_text("import os; WHERE = os.getpid()\nprint('once')\n")
    variables = {"PYTHONPATH": f"{ROOT}:{tmp_path}/lib"}
    with GroupSockets(tmp_path, ["one", "own"]) as sockets:
        with running(pool, sockets, **variables) as server:
            assert ask(sockets, "own")["parent"] == server.process.pid
        assert server.log.read_text().count("once") == 1


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("raise KeyError('no library')", "import of library failed: KeyError: 'no library'"),
        ("import wsgi_one", "imports the app one's own module wsgi_one"),
        (
            "import threading, time\nthreading.Thread(target=time.sleep, args=(60,), name='ticks',"
            " daemon=True).start()",
            "import of library has started a thread (ticks)",
        ),
    ],
)
@pytest.mark.parametrize("isolated", [True, False])
def test_a_preload_that_fails_is_refused_with_its_line(
    tmp_path: Path, source: str, said: str, *, isolated: bool
) -> None:
    apps = {"one": {}, "own": ISOLATED if isolated else {}}
    pool = write_pool(tmp_path, apps, 'preload = ["library"]')
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "library.py").write_text(source)
    with GroupSockets(tmp_path, ["own"]) as sockets:
        path = f"{ROOT}:{tmp_path}/lib:{tmp_path}/one"
        log = refusal(pool, sockets, PYTHONPATH=path)
    assert f"{pool}:5: pool.preload: " in log
    assert said in log


BROKEN = "raise KeyError('no setting')"


def refused(pool: Path, sockets: Sockets) -> list[str]:
    """Return the log of a generation that has refused to start, from where it says so."""
    server = vhost_server(pool, sockets)
    assert server.wait_refused() == 1
    log = server.log.read_text()
    said = log[log.index("vhost_server: ") :].splitlines()
    assert server.said == [f"STATUS={said[0].removeprefix('vhost_server: ')}"]
    return said


@pytest.mark.parametrize("idle", [{}, {"idle_seconds": 60}])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_broken_isolated_app_refuses_a_deploy(
    tmp_path: Path, idle: dict[str, int], workers: int
) -> None:
    pool = mixed(tmp_path, source=BROKEN, workers=workers, **idle)
    with GroupSockets(tmp_path, ["own"]) as sockets:
        said = refused(pool, sockets)
    assert re.search(r"test.toml:\d+: the app own can't be loaded: import of wsgi_own", said[0])
    assert f'  File "{tmp_path}/own/wsgi_own.py", line 1, in <module>' in said
    assert "KeyError: 'no setting'" in said


def test_an_isolated_app_that_kills_its_process_refuses_a_deploy(tmp_path: Path) -> None:
    pool = mixed(tmp_path, source="import os; os.kill(os.getpid(), 9)")
    with GroupSockets(tmp_path, ["own"]) as sockets:
        assert "own: its process has died of SIGKILL" in refused(pool, sockets)[0]


@pytest.mark.parametrize("idle", [{}, {"idle_seconds": 60}])
@pytest.mark.parametrize("source", [BROKEN, "import os; os._exit(1)"])
def test_at_boot_a_broken_isolated_app_takes_only_itself_down(
    tmp_path: Path, source: str, idle: dict[str, int]
) -> None:
    pool = mixed(tmp_path, source=source, **idle)
    with (
        GroupSockets(tmp_path, ["own"]) as sockets,
        running(pool, sockets, SERVER_STARTER_BOOT="1") as server,
    ):
        assert "; can't load own" in status(server)
        assert [ask(sockets, name)["app"] for name in ("one", "two")] == ["one", "two"]
        answer = get(sockets.of("own"), "own.test")
        assert (answer.status, answer.headers["Retry-After"]) == (503, "60")
        assert get(sockets.of("own"), "one.test").status == 421


def test_at_boot_a_broken_shared_app_leaves_its_neighbours_and_the_isolated_ones(
    tmp_path: Path,
) -> None:
    pool = write_pool(tmp_path, {"one": {}, "two": {"source": BROKEN}, "own": ISOLATED})
    with (
        GroupSockets(tmp_path, ["own"]) as sockets,
        running(pool, sockets, SERVER_STARTER_BOOT="1") as server,
    ):
        assert status(server).endswith("; can't load two")
        assert [ask(sockets, name)["app"] for name in ("one", "own")] == ["one", "own"]
        assert get(sockets.path, "two.test").status == 503


def test_a_library_version_that_a_neighbour_contradicts_is_refused_though_isolated(
    tmp_path: Path,
) -> None:
    pool = mixed(tmp_path)
    (tmp_path / "one" / "requirements.txt").write_text("flask>=1")
    (tmp_path / "own" / "requirements.txt").write_text("flask==0.1")
    with GroupSockets(tmp_path, ["own"]) as sockets:
        assert "a pool has one virtualenv, for isolated apps, too" in refused(pool, sockets)[0]


def test_what_clashes_in_one_interpreter_is_served_when_it_is_isolated(tmp_path: Path) -> None:
    """An own flask.py, a module kept by a library, and an own C extension."""
    top = "import flask, kept; flask.kept = kept; import _speedups; _speedups._escape_inner"
    pool = write_pool(tmp_path, {"one": {"top": "import flask"}, "own": ISOLATED | {"top": top}})
    (tmp_path / "own" / "flask.py").write_text("")
    (tmp_path / "own" / "kept.py").write_text("")
    shutil.copy(_speedups.__file__, tmp_path / "own")
    with GroupSockets(tmp_path, ["own"]) as sockets, running(pool, sockets):
        assert [ask(sockets, name)["app"] for name in ("one", "own")] == ["one", "own"]


def wait_process(server: Server, name: str) -> dict[str, list[int]]:
    wait_until(lambda: name in processes(server))
    return processes(server)


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    wait_ended(pid)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_process_of_a_group_is_started_again_alone(tmp_path: Path, workers: int) -> None:
    pool = mixed(tmp_path, workers=workers)
    with GroupSockets(tmp_path, ["own"]) as sockets, running(pool, sockets) as server:
        for name, host in (("kechi:own", "own"), ("kechi:shared", "one")):
            before = processes(server)
            kill(before[name][0])
            assert ask(sockets, host)["app"] == host, "nobody listened, but the socket is there"
            after = wait_process(server, name)
            assert after.pop(name) != before.pop(name)
            assert after == before, "the neighbour has noticed nothing"
        wait_status(server, "own: 2 workers" if workers > 1 else "own serves")
        assert "own: its process has died of SIGKILL" in server.log.read_text()


def test_an_arbiter_that_stays_stopped_goes_on_and_looks_after_its_workers(tmp_path: Path) -> None:
    pool = mixed(tmp_path, workers=2)
    with GroupSockets(tmp_path, ["own"]) as sockets, running(pool, sockets) as server:
        arbiter = processes(server)["kechi:own"][0]
        workers = {ask(sockets, "own")["pid"] for _ in range(20)}
        halt(arbiter)
        for worker in workers:
            os.kill(worker, signal.SIGKILL)
        assert ask(sockets, "own")["pid"] not in workers, "as soon as the arbiter goes on"
        assert f"own (pid {arbiter}) has been stopped, sending CONT" in server.log.read_text()
        assert processes(server)["kechi:own"][0] == arbiter


def test_a_group_that_goes_on_dying_is_started_less_and_less_often(tmp_path: Path) -> None:
    pool = mixed(tmp_path, top="import signal; signal.setitimer(signal.ITIMER_REAL, 0.5)")
    with (
        GroupSockets(tmp_path, ["own"]) as sockets,
        running(pool, sockets) as server,
    ):
        wait_until(lambda: "the next one starts in 2 s" in server.log.read_text())
        assert ask(sockets, "one")["app"] == "one"
        said = re.findall(
            r"own: its process has died of SIGALRM; .* in (\d) s", server.log.read_text()
        )
        assert said[:3] == ["0", "1", "2"]


def test_no_group_outlives_the_parent(tmp_path: Path) -> None:
    pool = write_pool(tmp_path, {"one": {}, "own": ISOLATED, "many": ISOLATED | {"workers": 2}})
    with GroupSockets(tmp_path, ["own", "many"]) as sockets:
        server = vhost_server(pool, sockets)
        server.wait_ready()
        pids = [ask(sockets, name)["pid"] for name in ("one", "own", "many")]
        pids += server.workers()
        with contextlib.closing(Connection(sockets.of("own"))) as slow:
            slow.request("GET", "/slow?2", headers={"Host": "own.test"})
            wait_until((tmp_path / "own" / "is-slow").exists)
            server.process.kill()
            server.wait()
            assert slow.getresponse().status == 200
        wait_ended(*pids)


def test_all_groups_drain_to_the_last_byte(tmp_path: Path) -> None:
    pool = write_pool(tmp_path, {"one": {}, "own": ISOLATED, "many": ISOLATED | {"workers": 2}})
    with GroupSockets(tmp_path, ["own", "many"]) as sockets, contextlib.ExitStack() as stack:
        server = stack.enter_context(running(pool, sockets))
        clients = []
        for name in ("one", "own", "many"):
            client = stack.enter_context(contextlib.closing(Connection(sockets.of(name))))
            client.request("GET", "/slow?2", headers={"Host": f"{name}.test"})
            clients.append(client)
        kept = stack.enter_context(contextlib.closing(Connection(sockets.of("own"))))
        assert kept.ask("own.test").headers["Connection"] == "keep-alive"
        for name in ("one", "own", "many"):
            wait_until((tmp_path / name / "is-slow").exists)
        server.terminate()
        wait_until(lambda: closes(kept, "own.test"))
        for client in clients:
            response = client.getresponse()
            assert (response.status, response.read()[:1]) == (200, b"{")
        assert server.wait() == 0


def test_a_generation_ends_also_while_an_app_is_loaded(tmp_path: Path) -> None:
    pool = mixed(tmp_path, top="import signal; signal.pause()")
    with GroupSockets(tmp_path, ["own"]) as sockets:
        server = vhost_server(pool, sockets)
        wait_until(lambda: "kechi:own" in processes(server))
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began < STOP_SECONDS, "it was told, and not killed"


def test_a_hanging_process_is_ended_and_started_again(tmp_path: Path) -> None:
    with GroupSockets(tmp_path, ["own"]) as sockets:
        command = "import sys; from supervisor_py.vhost import parent; parent.HEARTBEAT_SECONDS = 2"
        command += "; from supervisor_py.vhost.cli import main; sys.exit(main())"
        with serving(Server([sys.executable, "-c", command, mixed(tmp_path)], sockets)) as server:
            (pid,) = processes(server)["kechi:own"]
            os.kill(pid, signal.SIGSTOP)
            wait_ended(pid)
            assert ask(sockets, "own")["pid"] != pid


def test_shrinking_reaches_the_workers_of_all_groups(tmp_path: Path) -> None:
    apps = {"one": {}, "many": ISOLATED | {"workers": 2}, "own": ISOLATED}
    pool = write_pool(tmp_path, apps)
    pool.write_text(pool.read_text().replace("workers = 1", "workers = 2", 1))

    def workers(pid: int) -> int:
        return len(Path(f"/proc/{pid}/task/{pid}/children").read_text().split())

    with GroupSockets(tmp_path, ["many", "own"]) as sockets, running(pool, sockets) as server:
        arbiters = [processes(server)[f"kechi:{name}"][0] for name in ("shared", "many")]
        assert [workers(pid) for pid in arbiters] == [2, 2]
        os.kill(server.process.pid, signal.SIGTTOU)
        wait_until(lambda: [workers(pid) for pid in arbiters] == [1, 1])
        os.kill(server.process.pid, signal.SIGTTIN)
        wait_until(lambda: [workers(pid) for pid in arbiters] == [2, 2])
        assert ask(sockets, "own")["app"] == "own"


def test_an_isolated_app_is_recycled_and_no_request_is_lost(tmp_path: Path) -> None:
    pool = mixed(tmp_path, max_requests=200)
    load = Load()
    with GroupSockets(tmp_path, ["own"]) as sockets, running(pool, sockets) as server:
        for _ in range(3):
            load.new_connections(sockets.of("own"), "own.test")
        load.keep_alive(sockets.of("own"), "own.test", 0.01)
        with load:
            wait_until(lambda: len(load.seen) > 4)
        assert load.failures == []
        assert re.search(r"latest replacement: own: \d+ requests, of 2\d\d", status(server))
        assert "own: its process is replaced: " in server.log.read_text()


def test_a_process_that_still_answers_somebody_is_replaced_once(tmp_path: Path) -> None:
    pool = mixed(tmp_path, max_requests=20)
    with GroupSockets(tmp_path, ["own"]) as sockets, running(pool, sockets) as server:
        with contextlib.closing(Connection(sockets.of("own"))) as slow:
            slow.request("GET", "/slow?3", headers={"Host": "own.test"})
            pid = ask(sockets, "own")["pid"]
            wait_until(lambda: ask(sockets, "own")["pid"] != pid)
            assert not has_ended(pid)
            assert slow.getresponse().status == 200
        wait_ended(pid)
        assert log(server).count("own: its process is replaced: ") == 1


def test_a_replacement_that_does_not_load_leaves_the_old_process_serving(tmp_path: Path) -> None:
    pool = mixed(tmp_path, max_requests=20)
    with GroupSockets(tmp_path, ["own"]) as sockets, running(pool, sockets) as server:
        pid = ask(sockets, "own")["pid"]
        (tmp_path / "own" / "wsgi_own.py").write_text(BROKEN)
        wait_until(lambda: ask(sockets, "own")["pid"] == pid and "next try in 60 s" in log(server))
        for _ in range(30):
            assert ask(sockets, "own")["pid"] == pid


def log(server: Server) -> str:
    return server.log.read_text()


def test_a_release_that_is_switched_meanwhile_waits_for_the_next_generation(tmp_path: Path) -> None:
    """Also where a process is started anew: it is of the release that its generation began with."""
    pool = mixed(tmp_path)
    (tmp_path / "own").rename(tmp_path / "first")
    shutil.copytree(tmp_path / "first", tmp_path / "second")
    (tmp_path / "own").symlink_to("first")
    with GroupSockets(tmp_path, ["own"]) as sockets, running(pool, sockets):
        seen = ask(sockets, "own")
        (tmp_path / "own").unlink()
        (tmp_path / "own").symlink_to("second")
        kill(seen["pid"])
        assert [seen["app"], ask(sockets, "own")["app"]] == ["first", "first"]


def test_restarts_of_all_groups_under_load_lose_no_request(tmp_path: Path) -> None:
    """With start_server and a --path for each group, one generation after the other."""
    apps = {"one": {}, "own": ISOLATED, "many": ISOLATED | {"workers": 2},
            "idle": ISOLATED | {"idle_seconds": 1}}  # fmt: skip
    pool = write_pool(tmp_path, apps)
    paths = {name: str(tmp_path / f"{name}.sock") for name in apps}
    control = f"--control-socket={tmp_path}/control"
    options = [*(f"--path={path}" for path in paths.values()), control]
    process = subprocess.Popen(
        [*START_SERVER, *options, "--", *COMMAND, str(pool)], cwd=tmp_path, env=ENVIRONMENT
    )
    load = Load()
    try:
        wait_until(lambda: all(map(os.path.exists, paths.values())))
        for name, path in paths.items():
            assert get(path, f"{name}.test").status == 200
            load.new_connections(path, f"{name}.test")
            load.keep_alive(path, f"{name}.test", 0.3 if name != "idle" else 1.2)
        with load:
            for _ in range(5):
                restart = [*START_SERVER, "--restart", control]
                subprocess.run(restart, env=ENVIRONMENT, check=True, timeout=LIMIT)
        assert load.failures == []
        assert {name.split("/")[0] for name in load.seen} >= set("123456")
    finally:
        process.terminate()
        assert process.wait(LIMIT) == 0
    assert load.done["new"] > 500


def test_what_an_app_starts_beside_itself_ends_with_its_generation(tmp_path: Path) -> None:
    """Else helpers add up with each restart, until the pool may have no more tasks."""
    listed = tmp_path / "helpers"
    top = (
        "import subprocess\n"
        "helper = subprocess.Popen(['/bin/sleep', '600'], env={}, start_new_session=True,\n"
        "    stdin=-3, stdout=-3, stderr=-3)\n"
        f"open({str(listed)!r}, 'a').write(f'{{helper.pid}}\\n')"
    )
    pool = write_pool(tmp_path, {"one": {"top": top}, "own": ISOLATED | {"top": top}})
    paths = [tmp_path / f"{name}.sock" for name in ("one", "own")]
    control = f"--control-socket={tmp_path}/control"
    options = [f"--path={path}" for path in paths] + [control, "--readiness=notify"]
    process = subprocess.Popen(
        [*START_SERVER, *options, "--", *COMMAND, str(pool)], cwd=tmp_path, env=ENVIRONMENT
    )
    helpers: list[int] = []
    try:
        for _ in range(3):
            wait_until(lambda: all(path.exists() for path in paths))
            for path in paths:
                assert get(str(path), f"{path.stem}.test").status == 200
            before = helpers
            helpers = [int(pid) for pid in listed.read_text().split()]
            assert len(helpers) >= len(before) + 2
            assert not any(has_ended(pid) for pid in helpers if pid not in before)
            restart = [*START_SERVER, "--restart", control]
            subprocess.run(restart, env=ENVIRONMENT, check=True, timeout=LIMIT)
            wait_ended(*helpers)
    finally:
        process.terminate()
        assert process.wait(LIMIT) == 0
    wait_ended(*(int(pid) for pid in listed.read_text().split()))


def test_a_process_of_a_group_holds_no_socket_of_another_group(tmp_path: Path) -> None:
    """Else a group that has ended would seem to listen, and an app could take its neighbours'."""
    pool = write_pool(tmp_path, {"one": {}, "own": ISOLATED, "idle": ISOLATED})
    with GroupSockets(tmp_path, ["own", "idle"]) as sockets, running(pool, sockets):
        for name in ("one", "own", "idle"):
            held = opened(ask(sockets, name)["pid"])
            listening = {"one": sockets.fds[:2], "own": sockets.fds[2:3], "idle": sockets.fds[3:]}
            for owner, fds in listening.items():
                theirs = {Path(f"/proc/self/fd/{fd}").readlink() for fd in fds}
                assert (theirs <= held) if owner == name else not theirs & held


@pytest.mark.parametrize("idle", [{}, {"idle_seconds": 1}])
def test_an_isolated_app_may_speak_asgi(tmp_path: Path, idle: dict[str, int]) -> None:
    source = (
        "async def application(scope, receive, send):\n"
        "    if scope['type'] == 'lifespan':\n"
        "        while True:\n"
        "            event = (await receive())['type']\n"
        "            open('lifespan', 'a').write(event + '\\n')\n"
        "            await send({'type': event + '.complete'})\n"
        "    await send({'type': 'http.response.start', 'status': 200})\n"
        "    await send({'type': 'http.response.body', 'body': b'asgi'})\n"
    )
    pool = write_pool(tmp_path, {"own": ISOLATED | idle | {"source": source}})
    pool.write_text(pool.read_text().replace("wsgi = ", "asgi = "))
    told = tmp_path / "own" / "lifespan"
    with GroupSockets(tmp_path, ["own"]) as sockets, running(pool, sockets):
        lives = 1 if idle else 0
        assert told.read_text().split() == ["lifespan.startup", "lifespan.shutdown"][: 1 + lives]
        assert get(sockets.of("own"), "own.test").body == b"asgi"
    count = 1 + lives
    assert told.read_text().split() == ["lifespan.startup", "lifespan.shutdown"] * count
