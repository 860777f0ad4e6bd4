"""Each step that keeps memory shared, with it and without it, seen from a worker."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from supervisor_py import memory
from supervisor_py.vhost import recipe

from .harness import Server, Sockets, get, running

APP = """
import gc, json, os, sys

class Node:
    def __init__(self, number):
        self.number, self.text, self.next = number, str(number), [number, {}]

AT_LOAD = gc.isenabled()
NODES = [Node(number) for number in range(50_000)]  # some 30 MB that no request has a use for

def merged():
    with open("/proc/self/smaps") as file:
        return any("mg" in line.split() for line in file if line.startswith("VmFlags"))

def application(environ, start_response):
    gc.collect()  # as it comes by itself, sooner or later
    told = {"at load": AT_LOAD, "now": gc.isenabled(), "frozen": gc.get_freeze_count(),
            "pid": os.getpid(), "merged": merged(), "count": sys.getrefcount(NODES)}
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(told).encode()]
"""
Start = Callable[..., Any]


@pytest.fixture
def pool(sockets: Sockets) -> Callable[[str], Path]:
    def write(steps: str) -> Path:
        (sockets.folder / "app.py").write_text(APP)
        path = sockets.folder / "pool.toml"
        path.write_text(
            f'[pool]\nname = "pool"\nworkers = 1\nthreads = 2\n[pool.memory]\n{steps}\n'
            '[[apps]]\nname = "site"\nhosts = ["site.test"]\ndirectory = "."\n'
            'wsgi = "app:application"\n'
        )
        return path

    return write


def ask(server: Server, times: int = 1) -> dict[str, Any]:
    for _ in range(times - 1):
        get(server.sockets.path, "site.test")
    return dict(json.loads(get(server.sockets.path, "site.test").body))


def private_kb_after(server: Server, times: int) -> int:
    return memory.read(ask(server, times)["pid"]).private


def test_code_is_loaded_once_then_frozen_and_workers_keep_sharing_it(
    pool: Callable[[str], Path], sockets: Sockets
) -> None:
    with running(pool(""), sockets) as server:
        first, last = private_kb_after(server, 1), private_kb_after(server, 40)
        share = memory.read(ask(server)["pid"]).shared_percent()
    with running(pool("freeze = false"), sockets) as server:
        without = private_kb_after(server, 40)
    assert last < 1.3 * first
    assert share > 70
    assert without > 3 * last


@pytest.mark.parametrize(
    ("steps", "at_load", "is_frozen"),
    [("", False, True), ("gc_at_load = true", True, True), ("freeze = false", False, False)],
)
def test_garbage_is_collected_in_workers_and_not_at_load(
    pool: Callable[[str], Path], sockets: Sockets, steps: str, at_load: bool, is_frozen: bool
) -> None:
    with running(pool(steps), sockets) as server:
        seen = ask(server)
        assert (seen["at load"], seen["now"], seen["frozen"] > 50_000) == (at_load, True, is_frozen)


@pytest.mark.parametrize(("steps", "merged"), [("", True), ("same_page_merging = false", False)])
def test_equal_pages_may_be_merged_by_the_kernel(
    pool: Callable[[str], Path], sockets: Sockets, steps: str, merged: bool
) -> None:
    with running(pool(steps), sockets) as server:
        assert ask(server)["merged"] == merged
        running_now = recipe.KSM_RUN.read_text("ascii").strip()
        told = "equal pages are not merged" in server.log.read_text()
        assert told == (merged and running_now != "1")


def test_loaded_objects_are_immortal_where_python_can_and_else_the_log_says_so(
    pool: Callable[[str], Path], sockets: Sockets
) -> None:
    with running(pool("immortal = true"), sockets) as server:
        seen = ask(server, 20)
        told = "objects are not made immortal" in server.log.read_text()
        can = sys.version_info[:2] in recipe.WITH_THAT_COUNT
        assert (seen["count"] > 1 << 31, told) == (can, not can)
