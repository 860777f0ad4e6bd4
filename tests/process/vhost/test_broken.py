"""One app that can't be loaded: refused at a deploy, alone with its 503 at boot, and --check."""

import contextlib
import http.client
import re
import subprocess
from pathlib import Path

import pytest

from ..waiting import LIMIT
from .harness import (
    COMMAND,
    ROOT,
    START_SERVER,
    Sockets,
    free_port,
    get,
    running,
    start_server,
    wait_until,
)
from .test_start import ENVIRONMENT, GOOD_APP, pool_of, refusal

BROKEN = {
    "raises": "def at_load():\n    raise KeyError('no setting')\n\nat_load()\n",
    "misspelt": "def application(environ, start_response)\n    pass\n",
    "hides": "import flask\n" + GOOD_APP,
    "exits": "raise SystemExit('usage: manage.py')\n",
    "none": "app = 1\n",
}


def broken_pool(folder: Path, kind: str) -> Path:
    pool = pool_of(folder, fine="import json\n" + GOOD_APP, bad=BROKEN[kind], late=GOOD_APP)
    if kind == "hides":
        (folder / "bad" / "flask.py").write_text("")
        (folder / "late" / "wsgi_late.py").write_text("import flask\n" + GOOD_APP)
    return pool


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_app_refuses_a_deploy(tmp_path: Path, sockets: Sockets, kind: str) -> None:
    said = refusal(broken_pool(tmp_path, kind), sockets)
    assert re.match(rf"vhost_server: {tmp_path}/test.toml:\d+: the app bad can't be loaded: ", said)


def test_the_refusal_ends_with_the_apps_traceback(tmp_path: Path, sockets: Sockets) -> None:
    lines = refusal(broken_pool(tmp_path, "raises"), sockets).splitlines()
    assert f'  File "{tmp_path}/bad/wsgi_bad.py", line 2, in at_load' in lines
    assert lines[-1] == "KeyError: 'no setting'"
    assert not any("supervisor_py" in line for line in lines), "only the app's own frames"


@pytest.mark.parametrize("kind", BROKEN)
def test_at_boot_a_broken_app_takes_only_itself_down(
    tmp_path: Path, sockets: Sockets, kind: str
) -> None:
    with running(broken_pool(tmp_path, kind), sockets, SERVER_STARTER_BOOT="1") as server:
        assert server.said == [
            "READY=1\nSTATUS=serves fine, late: 1 workers of 8 threads; can't load bad"
        ]
        assert [get(sockets.path, f"{name}.test").status for name in ("fine", "late")] == [200, 200]
        answer = get(sockets.path, "bad.test")
        assert (answer.status, answer.headers["Retry-After"]) == (503, "60")
        assert b"the app bad could not be loaded" in answer.body
        assert get(sockets.path, "other.test").status == 421
    assert "the app bad can't be loaded: " in server.log.read_text()


def test_at_boot_a_missing_directory_takes_only_its_app_down(
    tmp_path: Path, sockets: Sockets
) -> None:
    pool = pool_of(tmp_path, bad=GOOD_APP, fine=GOOD_APP)
    (tmp_path / "bad").rename(tmp_path / "moved")
    with running(pool, sockets, SERVER_STARTER_BOOT="1"):
        assert [get(sockets.path, f"{n}.test").status for n in ("bad", "fine")] == [503, 200]


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ("workers = 0", "pool.workers: 0 is not a whole number"),
        ("workers = [", "is not TOML"),
        ('workers = 1\npreload = ["nowhere_at_all"]', "nowhere_at_all"),
        (None, "cannot be read: No such file or directory"),
    ],
    ids=["key", "syntax", "preload", "missing"],
)
def test_at_boot_a_pool_that_cannot_be_served_answers_503_with_the_reason_in_its_status(
    tmp_path: Path, sockets: Sockets, settings: str | None, reason: str
) -> None:
    pool = pool_of(tmp_path, a=GOOD_APP)
    good = pool.read_text()
    if settings is None:
        pool.unlink()
    else:
        pool.write_text(good.replace("workers = 1", settings))
    refusal(pool, sockets)
    with running(pool, sockets, SERVER_STARTER_BOOT="1") as server:
        (said,) = server.said
        assert said.startswith("READY=1\nSTATUS=answers 503 to all: ")
        assert reason in said
        assert reason in server.log.read_text()
        for address in (sockets.path, sockets.port):
            answer = get(address, "a.test")
            assert (answer.status, answer.headers["Retry-After"]) == (503, "60")
            assert b"can't be started" in answer.body
            assert reason.encode() not in answer.body
        assert server.stop() == 0


def test_at_boot_a_missing_socket_of_an_isolated_app_answers_503(
    tmp_path: Path, sockets: Sockets
) -> None:
    pool = pool_of(tmp_path, b=GOOD_APP, a=GOOD_APP)
    pool.write_text(pool.read_text() + 'isolation = "process"\n')
    with running(pool, sockets, SERVER_STARTER_BOOT="1") as server:
        assert "the isolated app a has no socket" in server.said[0]
        assert get(sockets.path, "a.test").status == 503


def test_under_start_server_boot_deploy_and_restart(tmp_path: Path) -> None:
    pool = pool_of(tmp_path, fine=GOOD_APP, bad=BROKEN["raises"])
    port = free_port()
    files = [f"--control-socket={tmp_path}/control"]

    def statuses() -> list[int]:
        with contextlib.suppress(OSError, http.client.HTTPException):
            return [get(port, f"{name}.test").status for name in ("fine", "bad")]
        return []

    def restart() -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [*START_SERVER, "--restart", *files],
            env=ENVIRONMENT, capture_output=True, text=True, timeout=LIMIT, check=False,
        )  # fmt: skip

    with start_server(port, tmp_path, *COMMAND, str(pool), options=files):
        wait_until(lambda: statuses() == [200, 503])
        refused = restart()
        assert refused.returncode != 0
        told = refused.stdout + refused.stderr
        assert "the app bad can't be loaded: " in told
        assert "KeyError: 'no setting'" in told
        assert statuses() == [200, 503]
        (tmp_path / "bad" / "wsgi_bad.py").write_text(GOOD_APP)
        assert restart().returncode == 0
        assert statuses() == [200, 200]
        (tmp_path / "bad" / "wsgi_bad.py").write_text(BROKEN["misspelt"])
        assert restart().returncode != 0
        assert statuses() == [200, 200]


def check(pool: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*COMMAND, "--check", pool],
        env=ENVIRONMENT, capture_output=True, text=True, timeout=LIMIT, check=False,
    )  # fmt: skip


def test_check_prints_what_each_app_costs(tmp_path: Path) -> None:
    slow = "import time\ntime.sleep(0.3)\nKEPT = bytes(range(256)) * 40_000\n"
    threads = "import threading\nthreading.Thread(target=threading.Event().wait).start()\n"
    done = check(pool_of(tmp_path, slow=slow + GOOD_APP, fine=threads + GOOD_APP))
    assert (done.returncode, done.stderr) == (0, "")
    heading, first, second, total, _, remark, verdict = done.stdout.splitlines()
    assert heading.split() == ["APP", "SECONDS", "MB"]
    name, seconds, size = first.split()
    assert name == "slow"
    assert 0.3 <= float(seconds) < 100  # the promise: seconds, and no milliseconds
    assert 9 < float(size) < 15
    assert second.split()[0] == "fine"
    assert float(second.split()[2]) < 5
    assert total.split()[0] == "TOTAL"
    assert remark.startswith("the app fine: at load it has started the thread ")
    assert verdict == "All 2 apps can be served."


def test_check_names_every_broken_app_and_fails(tmp_path: Path) -> None:
    pool = pool_of(tmp_path, **BROKEN, fine="import flask\n" + GOOD_APP)
    (tmp_path / "hides" / "flask.py").write_text("")
    line = 'wsgi = "wsgi_hides:application"\n'
    pool.write_text(pool.read_text().replace(line, f'{line}isolation = "shared"\n'))
    done = check(pool)
    assert done.returncode == 1
    for name in BROKEN:
        assert f"the app {name} can't be loaded: " in done.stdout
    assert "the app fine can't" not in done.stdout
    assert "KeyError: 'no setting'" in done.stdout
    assert done.stdout.splitlines()[1].split()[0] == "fine"


def test_check_says_what_is_wrong_with_the_file(tmp_path: Path) -> None:
    pool = pool_of(tmp_path, a=GOOD_APP)
    pool.write_text(pool.read_text() + 'host = "x"\n')
    done = check(pool)
    assert done.returncode == 1
    assert f"vhost_server: {pool}:9: apps[0].host: unknown key (allowed: name, hosts" in done.stderr


PATCHERS = {
    "gevent": ("monkey", "saved = {}\ndef patch_all():\n    saved['socket'] = {}\n", "patch_all"),
    "eventlet": ("patcher", "already_patched = {}\ndef monkey_patch():\n"
                            "    already_patched['socket'] = True\n", "monkey_patch"),
}  # fmt: skip


@pytest.mark.parametrize("library", PATCHERS)
def test_an_app_that_replaces_threads_for_all_is_refused_with_the_way_out(
    tmp_path: Path, sockets: Sockets, library: str
) -> None:
    module, source, patch = PATCHERS[library]
    package = tmp_path / "lib" / library
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / f"{module}.py").write_text(source)
    path = {"PYTHONPATH": f"{ROOT}:{tmp_path / 'lib'}"}
    imports = f"from {library} import {module}\n"
    pool = pool_of(tmp_path, a=f"{imports}{module}.{patch}()\n{GOOD_APP}", b=GOOD_APP)
    said = refusal(pool, sockets, **path)
    assert "the app a can't be loaded: it has replaced" in said
    assert f"({library}.{module})" in said
    assert 'isolation = "process"' in said
    (tmp_path / "a" / "wsgi_a.py").write_text(imports + GOOD_APP)
    with running(pool, sockets, **path):
        assert get(sockets.path, "a.test").status == 200


def test_an_app_that_replaces_threads_for_all_may_be_alone(
    tmp_path: Path, sockets: Sockets
) -> None:
    package = tmp_path / "lib" / "gevent"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "monkey.py").write_text("saved = {'socket': {}}\n")
    pool = pool_of(tmp_path, a=f"from gevent import monkey\n{GOOD_APP}")
    with running(pool, sockets, PYTHONPATH=f"{ROOT}:{tmp_path / 'lib'}"):
        assert get(sockets.path, "a.test").status == 200


def test_what_neighbours_feel_of_a_load_is_in_the_log_with_the_way_out(
    tmp_path: Path, sockets: Sockets
) -> None:
    felt = "import gettext, socket\ngettext.NullTranslations().install()\n"
    felt += "socket.setdefaulttimeout(3)\n"
    pool = pool_of(tmp_path, a=felt + GOOD_APP, b="import ssl, decimal\n" + GOOD_APP)
    with running(pool, sockets) as server:
        lines = [line for line in server.log.read_text().splitlines() if "has changed" in line]
    told = [line.partition(", for its neighbours, too: ") for line in lines]
    assert sorted(what for what, _, _ in told) == [
        "the app a: at load it has changed builtins",
        "the app a: at load it has changed the time-out of all sockets (socket.setdefaulttimeout)",
    ]
    assert all('isolation = "process"' in way_out for _, _, way_out in told)


def test_what_an_app_alone_changes_is_nobodys_business(tmp_path: Path, sockets: Sockets) -> None:
    pool = pool_of(tmp_path, a="import socket\nsocket.setdefaulttimeout(3)\n" + GOOD_APP)
    with running(pool, sockets) as server:
        assert "has changed" not in server.log.read_text()
