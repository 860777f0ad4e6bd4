"""A process with one app is that app's: what C code, exec and the import system see is its own."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .grouped import GroupSockets
from .harness import ROOT, get, running
from .test_start import GOOD_APP, write

APP = """
import json, os, subprocess, sys, time
import acmecorp.shop

def zone():
    return time.strftime("%Z")

def change_zone():
    before = zone()
    os.environ["TZ"] = "Asia/Tokyo"  # as Django does
    time.tzset()
    return [before, zone()]

def c_library():
    return [os.system('test "$NAME" = one'), os.environb[b"NAME"].decode()]

def subprocesses():
    os.environ["LATER"] = "1"
    told = subprocess.check_output(["sh", "-c", "echo $NAME $LATER"], text=True).split()
    return [told, os.popen("echo $LATER").read().strip()]

def executed():
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(writing, 1)
        os.execv("/bin/sh", ["sh", "-c", "echo $NAME"])
    os.waitpid(child, 0)
    return os.read(reading, 100).decode().strip()

def namespace():
    import acmecorp.late
    return [acmecorp.common.NAME, acmecorp.shop.NAME, acmecorp.late.NAME]

def spawned():
    import multiprocessing, tasks
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply_async(tasks.work, (3,)).get(60)

def application(environ, start_response):
    start_response("200 OK", [])
    return [json.dumps(globals()[environ["PATH_INFO"][1:]]()).encode()]
"""
FILES = {
    "app.py": APP,
    "tasks.py": "import os\n\ndef work(number):\n    return [number, os.environ['NAME']]\n",
    "acmecorp/shop.py": "from acmecorp import common\nNAME = 'shop'\n",
    "acmecorp/late.py": "NAME = 'late'\n",
}


@pytest.fixture(scope="module", params=["isolated", "alone"])
def socket(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Yield the socket of the app `one`, which is isolated, or alone in its pool."""
    folder = tmp_path_factory.mktemp("alone")
    write(folder / "lib" / "acmecorp", {"common.py": "NAME = 'common'\n"})
    write(folder / "one", FILES)
    pool = '[pool]\nname = "alone"\nworkers = 1\n'
    pool += '[[apps]]\nname = "one"\nhosts = ["one.test"]\ndirectory = "one"\n'
    pool += 'wsgi = "app:application"\nenvironment = { NAME = "one", TZ = "America/Lima" }\n'
    isolated = request.param == "isolated"
    if isolated:
        pool += 'isolation = "process"\n'
        for name in ("two", "three"):
            write(folder / name, {"app.py": GOOD_APP})
            pool += f'[[apps]]\nname = "{name}"\nhosts = ["{name}.test"]\ndirectory = "{name}"\n'
            pool += 'wsgi = "app:application"\nenvironment.NAME = "another"\n'
    (folder / "alone.toml").write_text(pool)
    path = f"{ROOT}:{folder / 'lib'}"
    with (
        GroupSockets(folder, ["one"] if isolated else []) as sockets,
        running(folder / "alone.toml", sockets, PYTHONPATH=path, TZ="UTC"),
    ):
        yield sockets.of("one")


def ask(socket: str, what: str) -> Any:
    reply = get(socket, "one.test", f"/{what}")
    assert reply.status == 200
    return json.loads(reply.body)


@pytest.mark.skipif(not Path("/usr/share/zoneinfo").is_dir(), reason="needs time zones")
def test_its_time_zone_counts_whoever_sets_it(socket: str) -> None:
    assert ask(socket, "change_zone") == ["-05", "JST"]
    assert ask(socket, "zone") == "JST"


def test_its_variables_are_the_processs(socket: str) -> None:
    assert ask(socket, "c_library") == [os.EX_OK, "one"]
    assert ask(socket, "subprocesses") == [["one", "1"], "1"]
    assert ask(socket, "executed") == "one"
    assert ask(socket, "spawned") == [3, "one"]


def test_a_namespace_may_be_spread_over_it_and_its_libraries(socket: str) -> None:
    assert ask(socket, "namespace") == ["common", "shop", "late"]
