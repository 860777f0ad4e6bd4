"""Two apps of the same layout in one interpreter: whatever way they import, each gets its own."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .harness import Server, Sockets, get, running

NAMES = ("left", "right")

APP = """
import atexit, importlib, importlib.util, json, os, sys, threading, typing
from concurrent import futures
from dataclasses import dataclass

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "lib"))
import in_lib

_spec = importlib.util.spec_from_file_location("by_hand", os.path.join(HERE, "data", "by_hand.py"))
by_hand = importlib.util.module_from_spec(_spec)
sys.modules["by_hand"] = by_hand
_spec.loader.exec_module(by_hand)

import config
from config import NAME
from helpers import deep

atexit.register(lambda: print("exits as", __import__("config").NAME, os.getcwd(), flush=True))

def thread(function):
    seen = []
    runner = threading.Thread(target=lambda: seen.append(function()))
    runner.start()
    runner.join()
    return seen[0]

def executor():
    if not hasattr(futures, "of_a_library"):
        futures.of_a_library = futures.ThreadPoolExecutor(1)
    return futures.of_a_library

def at_load(): return NAME
def top_level():
    import late_1
    return late_1.NAME
def from_import():
    from late_2 import NAME
    return NAME
def import_as():
    import helpers.late as late
    return late.NAME
def relative(): return deep.relative()
def import_module(): return importlib.import_module("late_3").NAME
def import_module_relative(): return importlib.import_module(".later", "helpers").NAME
def dunder_import(): return __import__("helpers.latest").latest.NAME
def import_string():
    from werkzeug.utils import import_string
    return import_string("late_4:NAME")
def in_a_thread():
    def run():
        import late_5
        return late_5.NAME
    return thread(run)
def in_a_librarys_executor():
    def run():
        import late_6
        return late_6.NAME
    return executor().submit(run).result()
def executor_directory(): return os.path.basename(executor().submit(os.getcwd).result())
def pickled():
    import pickle
    return pickle.loads(pickle.dumps(config.Thing())).name
def pickled_class():
    import pickle
    return pickle.loads(pickle.dumps(config.Thing)).name
def sys_modules(): return sys.modules["config"].NAME
def sys_modules_get(): return sys.modules.get("config").NAME
def own_name(): return sys.modules[__name__].NAME
def listed(): return "".join(m.NAME for n, m in list(sys.modules.items()) if m is config)
def type_hints(): return typing.get_type_hints(config.Holder)["thing"].name
def reloaded(): return importlib.reload(config).NAME
def circular():
    import circle_a
    return circle_a.name()
def circular_in_a_package():
    import ring.one
    return ring.one.name()
def get_data():
    import pkgutil
    return pkgutil.get_data("helpers", "data.txt").decode()
def resources():
    from importlib import resources
    return resources.files("helpers").joinpath("data.txt").read_text()
def source():
    import inspect
    return eval(inspect.getsource(inspect.getmodule(config.Thing)).split()[2])
def flask_root():
    import flask
    return os.path.basename(flask.Flask(__name__).root_path)
def flask_template():
    import flask
    with flask.Flask("helpers").app_context():
        return flask.render_template("page.html")
def jinja_package():
    import jinja2
    templates = jinja2.Environment(loader=jinja2.PackageLoader("helpers"))
    return templates.get_template("page.html").render()
def namespace():
    import parts.one
    return parts.one.NAME
def find_spec(): return os.path.basename(os.path.dirname(importlib.util.find_spec("config").origin))
def hand_made(): return __import__("by_hand").NAME
def inserted_path(): return in_lib.NAME
def late_from_inserted_path():
    import in_lib_late
    return in_lib_late.NAME
def source_layout():
    import packaged
    return packaged.NAME
def at_once():
    # the left one's cross_1 imports cross_2, the right one's the other way round
    return importlib.import_module("cross_1" if NAME == "left" else "cross_2").NAME
def star():
    names = {}
    exec("from late_7 import *", names)
    return names["NAME"]
def exec_import():
    names = {"__name__": "made"}
    exec("import late_8", names)
    return names["late_8"].NAME
def optional():
    try:
        import only_left
    except ImportError:
        return "right"
    return only_left.NAME
def hidden():
    known = "only_left" in sys.modules or importlib.util.find_spec("only_left") is not None
    return "left" if known else "right"
def plain_names():
    import helpers
    texts = [config.__name__, helpers.__name__, helpers.__package__, helpers.__spec__.parent,
             deep.__package__, config.Thing.__module__]
    assert texts == ["config", "helpers", "helpers", "helpers", "helpers", "config"], texts
    assert {type(text) for text in texts} == {str}, [(t, type(t)) for t in texts]
    return NAME
def shared_library():
    import flask
    assert not flask.__file__.startswith(HERE)
    return NAME + "/" + str(id(flask))

def application(environ, start_response):
    probe = globals()[environ["PATH_INFO"][1:]]
    start_response("200 OK", [])
    return [json.dumps(probe()).encode()]
"""
FILES = {
    "app.py": APP,
    "config.py": (
        'NAME = "{name}"\n'
        "from dataclasses import dataclass, field\n"
        "class Thing:\n    name = NAME\n"
        '@dataclass\nclass Holder:\n    thing: "Thing" = field(default_factory=Thing)\n'
    ),
    "helpers/__init__.py": "",
    "helpers/deep.py": "def relative():\n    from . import sibling\n    return sibling.NAME\n",
    "helpers/data.txt": "{name}",
    "helpers/templates/page.html": "{name}",
    "circle_a.py": "import circle_b\ndef name(): return circle_b.NAME\n",
    "circle_b.py": 'import circle_a\nNAME = "{name}"\n',
    "ring/__init__.py": "",
    "ring/one.py": "from . import two\ndef name(): return two.name()\n",
    "ring/two.py": "from . import one\nimport config, ring.one as again\n"
    "def name():\n    assert again is one\n    return config.NAME\n",
    **{
        f"{place}.py": 'NAME = "{name}"\n'
        for place in (
            *(f"late_{number}" for number in range(1, 9)),
            *("helpers/late", "helpers/later", "helpers/latest", "helpers/sibling"),
            *("parts/one", "data/by_hand", "lib/in_lib", "lib/in_lib_late", "src/packaged"),
        )
    },
}
PROBES = [
    line.split()[1].partition("(")[0]
    for line in APP[APP.index("def at_load") :].splitlines()
    if line.startswith("def ") and "():" in line
]


def write_app(folder: Path, name: str) -> None:
    for path, text in FILES.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text if path == "app.py" else text.format(name=name))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("apps")
    pool = '[pool]\nname = "two"\nworkers = 1\nthreads = 4\n'
    for name in NAMES:
        write_app(folder / name, name)
        pool += f'[[apps]]\nname = "{name}"\nhosts = ["{name}.test"]\n'
        pool += f'wsgi = "app:application"\ndirectory = "{name}"\n'
        one, two = ("cross_1", "cross_2") if name == "left" else ("cross_2", "cross_1")
        sleep = "import time\ntime.sleep(0.5)\n"  # so that the imports of both overlap
        (folder / name / f"{one}.py").write_text(f"{sleep}import {two}\nNAME = {two}.NAME\n")
        (folder / name / f"{two}.py").write_text(f"{sleep}NAME = {name!r}\n")
    (folder / "left" / "only_left.py").write_text('NAME = "left"')
    (folder / "two.toml").write_text(pool)
    with Sockets(folder) as sockets, running(folder / "two.toml", sockets) as started:
        yield started
    log = started.log.read_text().splitlines()
    for name in NAMES:
        assert f"exits as {name} {folder / name}" in log


def ask(server: Server, name: str, probe: str) -> Any:
    reply = get(server.sockets.path, f"{name}.test", f"/{probe}")
    assert reply.status == 200, server.log.read_text()[-3000:]
    return json.loads(reply.body)


@pytest.mark.parametrize("probe", [p for p in PROBES if p not in ("shared_library", "at_once")])
def test_two_apps_may_both_have_an_app_py(server: Server, probe: str) -> None:
    assert [ask(server, name, probe) for name in (*NAMES, *reversed(NAMES))] == [
        *NAMES,
        *reversed(NAMES),
    ]


def test_libraries_of_the_virtualenv_are_shared(server: Server) -> None:
    left, right = (ask(server, name, "shared_library").split("/")[1] for name in NAMES)
    assert left == right


def test_imports_of_two_apps_at_once_do_not_wait_for_each_other(server: Server) -> None:
    found: dict[str, Any] = {}

    def client(name: str) -> None:
        found[name] = ask(server, name, "at_once")

    threads = [threading.Thread(target=client, args=(name,)) for name in NAMES]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {name: name for name in NAMES}
