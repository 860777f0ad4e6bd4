"""How vhost_server starts, refuses to start, says that it is ready, and ends."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

from supervisor_py.vhost.pool_worker import DRAIN_SECONDS, FIRST_BYTE_SECONDS

from ..waiting import LIMIT
from .harness import (
    COMMAND,
    EXAMPLES,
    ROOT,
    Connection,
    Server,
    Sockets,
    closes,
    get,
    running,
    vhost_server,
    wait_until,
)

HOST = "motd.test"
ENVIRONMENT = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
GOOD_APP = (
    "def application(environ, start_response):\n    start_response('200 OK', [])\n    return []\n"
)


def pool_of(folder: Path, **sources: str) -> Path:
    """Write apps of one module each, `wsgi_NAME.py`, and their pool."""
    text = '[pool]\nname = "test"\nworkers = 1\n'
    for name, source in sources.items():
        (folder / name).mkdir()
        (folder / name / f"wsgi_{name}.py").write_text(source)
        text += (
            f'[[apps]]\nname = "{name}"\nhosts = ["{name}.test"]\ndirectory = "{name}"\n'
            f'wsgi = "wsgi_{name}:application"\n'
        )
    path = folder / "test.toml"
    path.write_text(text)
    return path


def refusal(pool: Path, sockets: Sockets, **variables: str) -> str:
    """Return what a server says that doesn't start; it must not have said READY=1."""
    server = vhost_server(pool, sockets, variables=variables)
    assert server.wait_refused() == 1
    status = [line for line in "\n".join(server.said).splitlines() if line.startswith("STATUS=")]
    assert status == [f"STATUS={server.log.read_text().splitlines()[0][len('vhost_server: ') :]}"]
    return server.log.read_text()


def test_an_app_that_fails_to_import_is_named_with_its_traceback(
    tmp_path: Path, sockets: Sockets
) -> None:
    pool = pool_of(tmp_path, fine=GOOD_APP, broken="import math\n\nraise KeyError('no setting')\n")
    said = refusal(pool, sockets)
    assert f"{pool}:13: the app broken can't be loaded: import of wsgi_broken" in said
    assert "KeyError: 'no setting'" in said.splitlines()[0]
    assert f'File "{tmp_path}/broken/wsgi_broken.py", line 3, in <module>' in said


def test_an_app_that_exits_on_import_is_named(tmp_path: Path, sockets: Sockets) -> None:
    assert "the app a can't be loaded" in refusal(pool_of(tmp_path, a="raise SystemExit"), sockets)


@pytest.mark.parametrize(
    ("source", "reason"),
    [("app = 1", "has no 'application'"), ("application = 1", "1 can't be called")],
)
def test_a_missing_or_uncallable_wsgi_object_is_named(
    tmp_path: Path, sockets: Sockets, source: str, reason: str
) -> None:
    pool = pool_of(tmp_path, a=source)
    said = refusal(pool, sockets)
    assert f"{pool}:8: the app a can't be loaded: wsgi_a:application is not" in said
    assert reason in said


def test_a_missing_directory_is_named(tmp_path: Path, sockets: Sockets) -> None:
    pool = pool_of(tmp_path, a=GOOD_APP)
    (tmp_path / "a").rename(tmp_path / "b")
    said = refusal(pool, sockets)
    assert f"{pool}:7: the app a can't be loaded: its directory {tmp_path}/a: No such file" in said


def write(folder: Path, files: dict[str, str]) -> None:
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)


def test_an_app_that_hides_a_library_of_its_neighbours_is_refused(
    tmp_path: Path, sockets: Sockets
) -> None:
    pool = pool_of(tmp_path, a="import flask\n" + GOOD_APP, b="import flask\n" + GOOD_APP)
    write(tmp_path, {"b/flask.py": ""})
    said = refusal(pool, sockets)
    assert (
        'the app b can\'t be loaded: the module "flask" clashes: the virtualenv has it at' in said
    )
    assert f"the app b has another at {tmp_path}/b/flask.py" in said
    assert 'or give the app an interpreter of its own (isolation = "process")' in said


def test_whichever_is_loaded_first_it_is_the_hiding_app_that_is_named(
    tmp_path: Path, sockets: Sockets
) -> None:
    pool = pool_of(tmp_path, a="import bottle_neck\nimport flask\n" + GOOD_APP,
                   b="import flask\n" + GOOD_APP)  # fmt: skip
    write(tmp_path, {"a/flask.py": "", "a/bottle_neck.py": ""})
    assert 'the app a can\'t be loaded: the module "flask" clashes' in refusal(pool, sockets)


def test_a_folder_named_as_a_library_hides_nothing(tmp_path: Path, sockets: Sockets) -> None:
    pool = pool_of(tmp_path, a="import flask\nflask.Flask\n" + GOOD_APP, b=GOOD_APP)
    write(tmp_path, {"a/flask/script.py": "", "b/flask/script.py": ""})
    with running(pool, sockets):
        assert get(sockets.path, "a.test").status == 200


def test_an_own_module_under_a_name_of_the_standard_library_is_refused_where_imported(
    tmp_path: Path, sockets: Sockets
) -> None:
    source = "def late():\n    import queue\n" + GOOD_APP
    pool = pool_of(tmp_path, a="import queue\n" + GOOD_APP, b=source)
    write(tmp_path, {"b/queue.py": "", "b/secrets.py": "", "a/secrets/__init__.py": ""})
    said = refusal(pool, sockets)
    assert (
        'the app b can\'t be loaded: the app b has its own module "queue", imported by'
        f" {tmp_path}/b/wsgi_b.py: that is the standard library's name" in said
    )


def test_a_c_extension_of_an_apps_own_is_refused_though_the_app_could_do_without(
    tmp_path: Path, sockets: Sockets
) -> None:
    source = "try:\n    import _fast\nexcept ImportError:\n    pass\n" + GOOD_APP
    pool = pool_of(tmp_path, a=GOOD_APP, b=source)
    extension = tmp_path / "b" / f"_fast{sysconfig.get_config_var('EXT_SUFFIX')}"
    extension.touch()
    said = refusal(pool, sockets)
    assert f'C extension module of its own, "_fast" at {extension}' in said
    assert "install it into the virtualenv, or give the app an interpreter of its own" in said


def test_two_apps_that_are_one_object_of_an_installed_package_are_refused(
    tmp_path: Path, sockets: Sockets
) -> None:
    pool = pool_of(tmp_path, a=GOOD_APP, b=GOOD_APP)
    for name in "ab":
        pool.write_text(pool.read_text().replace(f"wsgi_{name}:application", "flask:Flask"))
    said = refusal(pool, sockets)
    assert "the app b can't be loaded: its object is the app a's, too" in said


def test_a_library_that_takes_in_an_apps_own_module_is_named(
    tmp_path: Path, sockets: Sockets
) -> None:
    pool = pool_of(tmp_path, a="import flask, settings\nflask.config_found = settings\n" + GOOD_APP,
                   b=GOOD_APP)  # fmt: skip
    write(tmp_path, {"a/settings.py": ""})
    said = refusal(pool, sockets)
    assert f'the library flask has imported the app a\'s own module "settings" ({tmp_path}' in said


def test_a_lazy_object_in_a_library_is_left_alone(tmp_path: Path, sockets: Sockets) -> None:
    source = "import django.conf, notes\n" + GOOD_APP  # settings, not configured
    pool = pool_of(tmp_path, a=source, b=GOOD_APP)
    write(tmp_path, {"a/notes.py": ""})
    with running(pool, sockets):
        assert get(sockets.path, "a.test").status == 200


def test_two_apps_that_need_two_versions_are_refused(tmp_path: Path, sockets: Sockets) -> None:
    pool = pool_of(tmp_path, a=GOOD_APP, b=GOOD_APP, c=GOOD_APP)
    has = metadata.version("Jinja2")
    write(
        tmp_path,
        {
            "a/requirements.txt": f"# what a needs\n-r more.txt\njinja2>=2  # any\nFlask=={has}x\n",
            "b/requirements.txt": "Jinja2==2.0 --hash=sha256:00\nWerkzeug==0.1\n",
            "c/requirements.txt": 'Jinja2==1.0; python_version < "3"\nnone==1\n',
        },
    )
    said = refusal(pool, sockets)
    assert (
        f"the app b can't be loaded: it needs Jinja2==2.0 ({tmp_path}/b/requirements.txt:1), and"
        f" the virtualenv has {has}, which the app a needs (jinja2>=2,"
        f" {tmp_path}/a/requirements.txt:3): a pool has one virtualenv, for isolated apps, too;"
        " move one"
    ) in said
    (tmp_path / "a" / "requirements.txt").unlink()
    with running(pool, sockets):
        assert get(sockets.path, "b.test").status == 200


def test_an_app_never_gets_a_neighbours_module_for_its_own(
    tmp_path: Path, sockets: Sockets
) -> None:
    pool = pool_of(tmp_path, a=GOOD_APP, b=GOOD_APP)
    pool.write_text(pool.read_text().replace("wsgi_b:", "wsgi_a:"))
    said = refusal(pool, sockets)
    assert f"the app b can't be loaded: import of wsgi_a from {tmp_path}/b failed" in said
    assert "ModuleNotFoundError: No module named 'wsgi_a'" in said


def test_import_roots_are_where_an_app_is_found(tmp_path: Path, sockets: Sockets) -> None:
    pool = pool_of(tmp_path, a=GOOD_APP, b=GOOD_APP)
    write(tmp_path, {"a/code/inner.py": GOOD_APP, "b/src/inner.py": GOOD_APP})
    text = pool.read_text().replace("wsgi_a:", "inner:").replace("wsgi_b:", "inner:")
    pool.write_text(text.replace('directory = "a"', 'directory = "a"\nimport_roots = ["code"]'))
    with running(pool, sockets):
        assert [get(sockets.path, f"{name}.test").status for name in "ab"] == [200, 200]


def test_an_import_root_that_is_not_there_is_named(tmp_path: Path, sockets: Sockets) -> None:
    pool = pool_of(tmp_path, a=GOOD_APP)
    pool.write_text(
        pool.read_text().replace('directory = "a"', 'directory = "a"\nimport_roots = ["lib"]')
    )
    assert f"its import root {tmp_path}/a/lib is not a directory" in refusal(pool, sockets)


def test_files_that_nobody_imports_do_not_clash(tmp_path: Path, sockets: Sockets) -> None:
    pool = pool_of(tmp_path, a=GOOD_APP, b=GOOD_APP)
    for name in "ab":
        (tmp_path / name / "setup.py").write_text("")
        (tmp_path / name / "static").mkdir()
    with running(pool, sockets):
        assert [get(sockets.path, f"{name}.test").status for name in "ab"] == [200, 200]


def test_problems_of_the_pool_file_are_all_told(tmp_path: Path, sockets: Sockets) -> None:
    pool = pool_of(tmp_path, a=GOOD_APP)
    pool.write_text(pool.read_text().replace("workers = 1", "workers = 0\nthread = 2"))
    said = refusal(pool, sockets)
    assert f"{pool}:4: pool.thread: unknown key (allowed: name, workers, threads, max_r" in said
    assert f"{pool}:3: pool.workers: 0 is not a whole number from 1 to 64" in said


def test_ready_is_said_once_when_every_worker_serves_and_names_the_apps(
    motd_pool: Callable[..., Path], sockets: Sockets
) -> None:
    pool = motd_pool(workers=3, threads=2)
    slow_fork = pool.parent / "slow" / "slow.py"
    slow_fork.parent.mkdir()
    go = slow_fork.parent / "go"
    os.mkfifo(go)
    slow_fork.write_text(
        f"import os\nos.register_at_fork(after_in_child=lambda: open({str(go)!r}).close())\n"
        + GOOD_APP
    )
    with pool.open("a") as file:
        file.write('[[apps]]\nname="slow"\nhosts=["s.test"]\ndirectory="slow"\n')
        file.write('wsgi="slow:application"\n')
    server = vhost_server(pool, sockets)
    try:
        wait_until(lambda: len(server.workers()) == 3)
        time.sleep(1.2)  # the arbiter looks around every second, and tells nobody
        server.read_notifications()
        assert server.said == []
        with go.open("w"):
            server.wait_ready()
        assert server.said == ["READY=1\nSTATUS=serves motd, slow: 3 workers of 2 threads"]
        time.sleep(1.2)  # as above
        server.read_notifications()
        assert len(server.said) == 1
    finally:
        assert server.stop() == 0


def test_a_worker_told_to_end_while_it_starts_ends(tmp_path: Path, sockets: Sockets) -> None:
    source = "import os, time\nos.register_at_fork(after_in_child=lambda: time.sleep(1))\n"
    server = vhost_server(pool_of(tmp_path, a=source + GOOD_APP), sockets)
    wait_until(lambda: bool(server.workers()))
    began = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - began < DRAIN_SECONDS, "it has nothing to drain"


def test_inherited_sockets_outlive_the_server(
    motd_pool: Callable[..., Path], sockets: Sockets
) -> None:
    with running(motd_pool(), sockets):
        assert get(sockets.path, HOST).status == get(sockets.port, HOST).status == 200
    assert Path(sockets.path).is_socket()
    with running(motd_pool(), sockets):
        assert get(sockets.path, HOST).status == 200


def test_systemds_listen_fds_are_taken_and_left_in_place(
    motd_pool: Callable[..., Path], sockets: Sockets
) -> None:
    hand_over = (
        f"import os, sys; os.dup2({sockets.fds[0]}, 3); "
        "os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid())); "
        "os.execv(sys.argv[1], sys.argv[1:])"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", hand_over, *COMMAND, str(motd_pool())],
        env=ENVIRONMENT,
        pass_fds=sockets.fds,
    )
    try:
        assert get(sockets.path, HOST).status == 200
    finally:
        process.terminate()
        assert process.wait(LIMIT) == 0
    assert Path(sockets.path).is_socket()


def test_by_hand_it_binds_and_cleans_up(motd_pool: Callable[..., Path], tmp_path: Path) -> None:
    path = tmp_path / "hand.sock"
    command = [*COMMAND, str(motd_pool()), f"--bind=unix:{path}"]
    process = subprocess.Popen(command, env=ENVIRONMENT)
    try:
        wait_until(lambda: answers(path))
    finally:
        process.terminate()
        assert process.wait(LIMIT) == 0
    assert not path.exists()


def test_without_sockets_it_says_what_to_do(motd_pool: Callable[..., Path]) -> None:
    done = subprocess.run(
        [*COMMAND, motd_pool()], env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "run it under start_server, or with --bind=ADDRESS" in done.stderr


def test_a_killed_worker_is_replaced(motd_pool: Callable[..., Path], sockets: Sockets) -> None:
    with running(motd_pool(), sockets) as server:
        before = server.workers()
        os.kill(before[0], signal.SIGKILL)
        wait_until(lambda: before[0] not in (now := server.workers()) and len(now) == 2)
        assert get(sockets.path, HOST).status == 200


def test_workers_without_their_arbiter_finish_what_runs_and_end(
    motd_pool: Callable[..., Path], sockets: Sockets
) -> None:
    server = vhost_server(motd_pool(), sockets)
    server.wait_ready()
    workers = server.workers()
    with (
        contextlib.closing(Connection(sockets.path)) as slow,
        contextlib.closing(Connection(sockets.path)) as kept,
    ):
        slow.request("GET", "/slow?seconds=3", headers={"Host": HOST})
        response = slow.getresponse()
        assert kept.ask(HOST).headers["Connection"] == "keep-alive"
        server.process.kill()
        server.wait()
        wait_until(lambda: closes(kept, HOST))
        assert response.read().endswith(b"done\n")
    wait_until(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers))


def answers(path: Path) -> bool:
    try:
        return get(str(path), HOST).status == 200
    except ConnectionRefusedError:  # it is bound, and not listened on yet
        return False


def seconds_for(server: Server, requests: int) -> float:
    began = time.monotonic()
    for _ in range(requests):
        assert get(server.sockets.path, HOST).status == 200
    return time.monotonic() - began


def test_clients_that_say_nothing_or_never_hang_up_hold_up_nobody(
    motd_pool: Callable[..., Path], sockets: Sockets
) -> None:
    with running(motd_pool(workers=1), sockets) as server, contextlib.ExitStack() as stack:
        for sent in [b""] * 10 + [b"GET / HTTP/1.0\r\nHost: motd.test\r\n\r\n"] * 10:
            client = stack.enter_context(socket.socket(socket.AF_UNIX))
            client.connect(sockets.path)
            client.sendall(sent)
        assert seconds_for(server, 10) < FIRST_BYTE_SECONDS, "that is what each of them is given"


def test_a_busy_worker_leaves_connections_to_another(
    motd_pool: Callable[..., Path], sockets: Sockets
) -> None:
    with (
        running(motd_pool(workers=2, threads=1), sockets) as server,
        contextlib.closing(Connection(sockets.path)) as client,
    ):
        client.request("GET", "/slow?seconds=30", headers={"Host": HOST})
        client.getresponse()
        assert seconds_for(server, 20) < 30  # the promise: before the other one is over


def test_a_drain_answers_kept_alive_connections_and_then_closes_them(
    motd_pool: Callable[..., Path], sockets: Sockets
) -> None:
    server = vhost_server(motd_pool(workers=1), sockets)
    server.wait_ready()
    with contextlib.closing(Connection(sockets.path)) as kept:
        assert kept.ask(HOST).headers["Connection"] == "keep-alive"
        server.terminate()
        time.sleep(1)  # what is kept stays so for a while, and no event tells that it does
        last = kept.ask(HOST)
        assert (last.status, last.headers["Connection"]) == (200, "close")
    assert server.wait() == 0


COLLECTING_APP = """
import gc, json
LOADED_WITH_GC = gc.isenabled()

def application(environ, start_response):
    gc.collect()
    start_response("200 OK", [])
    return [json.dumps([LOADED_WITH_GC, gc.isenabled(), gc.get_freeze_count()]).encode()]
"""


def test_what_is_loaded_is_shared_and_stays_so_through_a_collection(
    tmp_path: Path, sockets: Sockets
) -> None:
    pool = pool_of(tmp_path, gc=COLLECTING_APP)
    examples = (EXAMPLES / "pool.toml").read_text().partition("[[apps]]")[2]
    examples = examples.replace('directory = "', f'directory = "{EXAMPLES}/')
    pool.write_text(f"{pool.read_text()}\n[[apps]]{examples}")
    with running(pool, sockets) as server:
        worker = server.workers()[0]
        assert shared_part(worker) > 0.75
        loaded_with_gc, enabled, frozen = json.loads(get(sockets.path, "gc.test").body)
        assert (loaded_with_gc, enabled) == (False, True)
        assert frozen > 20_000
        assert shared_part(worker) > 0.7


def test_what_an_app_sets_is_nothing_to_the_server_or_a_neighbour(
    tmp_path: Path, sockets: Sockets
) -> None:
    # gunicorn reads SCRIPT_NAME from os.environ for each request, in the thread that had one.
    pool = pool_of(tmp_path, a=GOOD_APP, b=GOOD_APP)
    text = pool.read_text().replace("workers = 1", "workers = 1\nthreads = 1")
    text = text.replace(
        'wsgi_a:application"', 'wsgi_a:application"\nenvironment.SCRIPT_NAME = "/x"'
    )
    pool.write_text(text)
    with running(pool, sockets):
        assert [get(sockets.path, f"{name}.test").status for name in "aba"] == [200] * 3


LOGGING_APP = """
import logging

logger = logging.getLogger("named_{name}")

def application(environ, start_response):
    logger.error("said by {name}")
    start_response("200 OK", [])
    return []
"""


def test_logging_set_up_by_one_app_does_not_silence_another(
    tmp_path: Path, sockets: Sockets
) -> None:
    set_up = "import logging.config\nlogging.config.dictConfig({'version': 1})\n"
    sources = {name: LOGGING_APP.format(name=name) for name in "ab"}
    pool = pool_of(tmp_path, a=sources["a"], b=set_up + sources["b"])
    with running(pool, sockets) as server:
        for name in "ab":
            get(sockets.path, f"{name}.test")
            assert f"{name}: said by {name}" in server.log.read_text().splitlines()


def shared_part(pid: int) -> float:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    size = {key: int(value.split()[0]) for key, value in (line.split(":") for line in lines)}
    return (size["Shared_Clean"] + size["Shared_Dirty"]) / size["Rss"]


def test_a_start_that_meets_a_deploys_switch_has_all_code_of_before_it_or_begins_anew(
    tmp_path: Path, sockets: Sockets
) -> None:
    """As a restart by the clock may; a library that is loaded first waits for the switch."""
    for release in ("old", "new"):
        (tmp_path / release).mkdir()
        source = GOOD_APP.replace("[])", f"[('X-Release', '{release}')])")
        (tmp_path / release / "wsgi_app.py").write_text(source)
    current, go = tmp_path / "current", tmp_path / "go"
    current.symlink_to("old")
    os.mkfifo(go)
    (tmp_path / "slow_library.py").write_text(
        f"import os\nfifo = os.open({str(go)!r}, os.O_RDWR)\n"
        f"open({str(tmp_path / 'loading')!r}, 'w').close()\nos.read(fifo, 1)\n"
    )
    pool = tmp_path / "test.toml"
    pool.write_text(
        '[pool]\nname = "test"\nworkers = 1\npreload = ["slow_library"]\n'
        '[[apps]]\nname = "app"\nhosts = ["app.test"]\ndirectory = "current"\n'
        'wsgi = "wsgi_app:application"\n'
    )
    server = vhost_server(pool, sockets, variables={"PYTHONPATH": f"{ROOT}:{tmp_path}"})
    try:
        wait_until((tmp_path / "loading").exists)
        (tmp_path / "next").symlink_to("new")
        (tmp_path / "next").rename(current)
        go.write_text("\n")
        server.wait_ready()
        assert get(sockets.path, "app.test").headers["X-Release"] == "old"
    finally:
        server.stop()


def test_a_start_by_the_virtualenv_of_before_a_switch_goes_on_by_the_one_of_the_pool_file(
    tmp_path: Path,
) -> None:
    pool = pool_of(tmp_path, app=GOOD_APP)
    program = tmp_path / "venv" / "bin" / "vhost_server"
    program.parent.mkdir(parents=True)
    program.write_text('#!/bin/sh\necho "anew with $*"\n')
    program.chmod(0o755)
    (tmp_path / "current.toml").symlink_to(pool)
    done = subprocess.run(
        [*COMMAND, "--check", tmp_path / "current.toml"],
        env=ENVIRONMENT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == f"anew with --check {tmp_path / 'current.toml'}\n"
