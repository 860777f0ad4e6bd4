"""What one app leaves behind is not found by the next one, in the same thread of one process."""

import json
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from ..waiting import wait_until
from .harness import Server, Sockets, get, running
from .test_start import write

APP = """
import _thread, contextvars, decimal, json, os, signal, sys, tempfile, threading

NAME = os.environ["NAME"]
sys.stderr.reconfigure(encoding="utf-8", errors="backslashreplace")
os.chdir("data")
made = sys.modules["appconfig"] = type(sys)("appconfig")
made.WHO = NAME
seen = contextvars.ContextVar("seen")

def look():
    import late
    return [os.environ["NAME"], os.path.basename(os.path.dirname(os.getcwd())), late.NAME]

def sum_up():
    return str(decimal.Decimal(1) / decimal.Decimal(3))

def round_off():
    decimal.getcontext().prec = 4
    return sum_up()

def remember():
    before = seen.get(None)
    seen.set(NAME)
    return before

def in_empty_context():
    return contextvars.Context().run(look)

def write_receipt(gate, *, name):
    open(gate).read()
    with open(name + ".new", "w") as file:
        json.dump(look(), file)
    os.rename(name + ".new", name)

def low_level_thread():
    gate = os.path.join(os.path.dirname(__file__), "gate")
    _thread.start_new_thread(write_receipt, (gate,), {"name": "receipt.json"})

def low_level_failure():
    done = threading.Event()
    def fail():
        try:
            raise KeyError(f"of {NAME}")
        finally:
            done.set()
    _thread.start_new_thread(fail, ())
    done.wait()

def directory():
    return open("file.txt").read()

def temporary():
    with tempfile.NamedTemporaryFile() as file:
        places = os.path.dirname(file.name), tempfile.gettempdir(), tempfile.gettempdirb()
        return [os.fsdecode(place) for place in places]

def error_stream():
    stream = sys.stderr
    return [stream.name, stream.mode, stream.errors, stream.line_buffering, stream.write_through]

def add_to_path():
    sys.path.insert(0, os.path.abspath("plugins"))
    import extras
    return [extras.NAME, sys.path[0]]

def rebind_path():
    sys.path = [os.path.abspath("others")] + sys.path
    import others
    return others.NAME

def relative_path():
    sys.path.append("more")
    import extra_more
    return extra_more.NAME

def metadata():
    from importlib import metadata
    try:
        version = metadata.version("mypkg-a")
    except metadata.PackageNotFoundError:
        version = None
    return [version, [entry.value for entry in metadata.entry_points(group="my.plugins")]]

def try_plugins():
    found = []
    for name in ("extras", "others"):
        try:
            __import__(name)
            found.append(name)
        except ImportError:
            pass
    return [found, [entry for entry in sys.path if "plugins" in entry or "others" in entry]]

def spawned(method="spawn"):
    import multiprocessing
    import tasks
    with multiprocessing.get_context(method).Pool(1) as pool:
        return pool.apply_async(tasks.work, (3,)).get(60)

def forkserved():
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor
    import tasks
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("forkserver")) as pool:
        return pool.submit(tasks.work, 4).result(60)

def ended():
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, b".")
        while True:
            signal.pause()
    os.read(reading, 1)
    os.kill(child, signal.SIGTERM)
    return -os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

def forked():
    return spawned("fork")

def hand_made():
    import appconfig
    return appconfig.WHO

def application(environ, start_response):
    start_response("200 OK", [])
    return [json.dumps(globals()[environ["PATH_INFO"][1:]]()).encode()]
"""
TASKS = """
import os

def work(number):
    import late
    here = os.path.basename(os.path.dirname(os.getcwd()))
    return [number * number, os.environ["NAME"], late.NAME, here]
"""
NAMES = ("one", "two")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("apart")
    pool = '[pool]\nname = "apart"\nworkers = 1\nthreads = 1\n'
    for name in NAMES:
        late = f'NAME = "{name}"\n'
        write(folder / name, {"app.py": APP, "late.py": late, "data/file.txt": f"of {name}"})
        (folder / name / "tmp").mkdir()
        write(folder / name, {"tasks.py": TASKS})
        pool += f'[[apps]]\nname = "{name}"\nhosts = ["{name}.test"]\ndirectory = "{name}"\n'
        pool += f'wsgi = "app:application"\nenvironment.NAME = "{name}"\n'
        pool += f'environment.TMPDIR = "{folder / name / "tmp"}"\n'
    for module, place in (("extras", "plugins"), ("others", "others")):
        write(folder / "one" / "data" / place, {f"{module}.py": 'NAME = "one\'s"\n'})
    for name in NAMES:
        write(folder / name / "data" / "more", {"extra_more.py": f'NAME = "{name}"\n'})
    info = folder / "one" / "mypkg_a-1.0.dist-info"
    write(info, {"METADATA": "Metadata-Version: 2.1\nName: mypkg-a\nVersion: 1.0\n"})
    write(info, {"entry_points.txt": "[my.plugins]\na = a:x\n"})
    (folder / "apart.toml").write_text(pool)
    with Sockets(folder) as sockets, running(folder / "apart.toml", sockets) as started:
        yield started


def ask(server: Server, name: str, what: str) -> Any:
    reply = get(server.sockets.path, f"{name}.test", f"/{what}")
    assert reply.status == 200, server.log.read_text()[-3000:]
    return json.loads(reply.body)


def test_what_a_request_sets_in_contextvars_is_gone_with_it(server: Server) -> None:
    exact = "0." + "3" * 28
    assert ask(server, "one", "round_off") == "0.3333"
    assert [ask(server, name, "sum_up") for name in NAMES] == [exact, exact]
    assert [ask(server, name, "remember") for name in (*NAMES, *NAMES)] == [None] * 4


def test_an_empty_context_is_the_apps_too(server: Server) -> None:
    for name in NAMES:
        assert ask(server, name, "in_empty_context") == [name] * 3


def test_a_thread_of_the_lowest_kind_works_for_its_app(server: Server) -> None:
    gate = server.sockets.folder / "one" / "gate"
    os.mkfifo(gate)
    ask(server, "one", "low_level_thread")
    ask(server, "two", "sum_up")  # so that the thread that has started it is another one's
    gate.write_text("")
    receipt = server.sockets.folder / "one" / "data" / "receipt.json"
    wait_until(receipt.exists, "the thread's receipt in its app's directory")
    assert json.loads(receipt.read_text()) == ["one"] * 3


def test_what_ends_a_thread_of_the_lowest_kind_is_in_the_log_with_its_apps_name(
    server: Server,
) -> None:
    ask(server, "two", "low_level_failure")
    line = "two: KeyError: 'of two'"
    wait_until(lambda: line in server.log.read_text().splitlines(), line)


def test_the_directory_that_a_load_leaves_is_what_requests_find(server: Server) -> None:
    for name in (*NAMES, *NAMES):
        assert ask(server, name, "directory") == f"of {name}"


def test_temporary_files_are_where_an_apps_variables_say(server: Server) -> None:
    for name in (*NAMES, *reversed(NAMES)):
        place = str(server.sockets.folder / name / "tmp")
        assert ask(server, name, "temporary") == [place] * 3


def test_the_error_stream_is_as_a_file_is(server: Server) -> None:
    assert ask(server, "one", "error_stream") == ["<stderr>", "w", "backslashreplace", True, False]


def test_what_a_request_adds_to_the_path_is_its_apps_alone(server: Server) -> None:
    plugins, others = (str(server.sockets.folder / "one/data" / n) for n in ("plugins", "others"))
    assert ask(server, "two", "try_plugins") == [[], []]
    assert ask(server, "one", "add_to_path") == ["one's", plugins]
    assert ask(server, "two", "try_plugins") == [[], []]
    assert ask(server, "one", "rebind_path") == "one's"
    assert ask(server, "two", "try_plugins") == [[], []]
    assert ask(server, "one", "try_plugins") == [["extras", "others"], [others, plugins]]


def test_a_relative_entry_of_the_path_is_relative_to_its_own_app(server: Server) -> None:
    assert [ask(server, name, "relative_path") for name in (*NAMES, *NAMES)] == [*NAMES, *NAMES]


def test_metadata_beside_the_code_is_its_apps_alone(server: Server) -> None:
    assert [ask(server, name, "metadata") for name in NAMES] == [["1.0", ["a:x"]], [None, []]]


def test_a_module_made_by_hand_is_its_apps_alone(server: Server) -> None:
    assert [ask(server, name, "hand_made") for name in NAMES] == list(NAMES)


@pytest.mark.parametrize(("what", "number"), [("spawned", 9), ("forkserved", 16), ("forked", 9)])
def test_a_process_that_multiprocessing_starts_is_its_apps(
    server: Server, what: str, number: int
) -> None:
    for name in (*NAMES, *NAMES):
        assert ask(server, name, what) == [number, name, name, name]


def test_a_child_that_an_app_forks_is_ended_by_a_signal(server: Server) -> None:
    assert ask(server, "one", "ended") == signal.SIGTERM
