"""What an app does at load and in its warm-up, seen from the workers that are forked after it."""

import json
import os
import signal
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from supervisor_py.vhost import warmup
from supervisor_py.vhost.hosts import Site

from .harness import Server, Sockets, get, opened, running, vhost_server, wait_until

Write = Callable[..., Path]
TELL = """
import json, os

def told(start_response, value, status="200 OK"):
    start_response(status, [("Content-Type", "application/json")])
    return [json.dumps(value).encode()]
"""


@pytest.fixture
def pool(tmp_path: Path) -> Write:
    def write(code: str, *, app: str = "", memory: str = "", settings: str = "workers = 2") -> Path:
        (tmp_path / "app.py").write_text(TELL + textwrap.dedent(code))
        path = tmp_path / "pool.toml"
        path.write_text(
            f'[pool]\nname = "pool"\n{settings}\n[pool.memory]\n{memory}\n'
            f'[[apps]]\nname = "site"\nhosts = ["site.test"]\ndirectory = "."\n{app}\n'
            + ("" if "asgi" in app else 'wsgi = "app:application"\n')
        )
        return path

    return write


def log_line(server: Server, part: str) -> str:
    (line,) = [line for line in server.log.read_text().splitlines() if part in line]
    return line


def from_each_worker(server: Server, workers: int = 2) -> dict[int, object]:
    """Ask until each worker has answered; returns what the first answer of each was."""
    seen: dict[int, object] = {}

    def all_have_answered() -> bool:
        pid, value = json.loads(get(server.sockets.path, "site.test").body)
        seen.setdefault(pid, value)
        return len(seen) == workers

    wait_until(all_have_answered)
    return seen


ASKED = """
    asked = []

    class Body:
        def __iter__(self):
            yield json.dumps([os.getpid(), asked]).encode()
            asked.append("whole")

        def close(self):
            asked.append("closed")

    def application(environ, start_response):
        asked.append((os.getpid(), environ["PATH_INFO"]))
        start_response("200 OK", [])
        return Body()
"""


def test_a_warm_up_happens_once_before_the_fork_and_takes_the_whole_answer(
    pool: Write, sockets: Sockets
) -> None:
    path = pool(ASKED, app='warm_up = ["/first", "/second?page=2"]')
    with running(path, sockets) as server:
        parent = server.process.pid
        for pid, asked in from_each_worker(server).items():
            assert pid != parent
            assert isinstance(asked, list)
            ends = ["whole", "closed"]
            assert asked[:6] == [[parent, "/first"], *ends, [parent, "/second"], *ends]


def test_a_warm_up_can_be_left_out(pool: Write, sockets: Sockets) -> None:
    path = pool(ASKED, app='warm_up = ["/"]', memory="warm_up = false")
    with running(path, sockets):
        pid, asked = json.loads(get(sockets.path, "site.test").body)
        assert asked == [[pid, "/"]]


def test_a_warm_up_looks_like_a_visit_through_the_front_end(pool: Write, sockets: Sockets) -> None:
    code = """
    seen = []

    def application(environ, start_response):
        seen.append({k: v for k, v in environ.items() if isinstance(v, (str, bool))})
        return told(start_response, seen)
    """
    with running(pool(code, app='warm_up = ["/a?b=c"]'), sockets) as server:
        warmed, asked = json.loads(
            get(
                server.sockets.path,
                "site.test",
                "/a?b=c",
                **{
                    "Accept": "*/*",
                    "User-Agent": "vhost_server (warm-up)",
                    "X-Forwarded-For": "127.0.0.1",
                    "X-Forwarded-Host": "site.test",
                    "X-Forwarded-Proto": "https",
                    "X-Real-IP": "127.0.0.1",
                },
            ).body
        )
        asked.pop("HTTP_ACCEPT_ENCODING")  # http.client's own
        asked["wsgi.multiprocess"] = warmed["wsgi.multiprocess"]
        assert warmed == asked
        assert (asked["wsgi.url_scheme"], asked["QUERY_STRING"]) == ("https", "b=c")


def test_a_warm_up_that_raises_refuses_a_deploy(pool: Write, sockets: Sockets) -> None:
    code = """
    def application(environ, start_response):
        raise LookupError("no such table: posts")
    """
    path = pool(code, app='warm_up = ["/"]')
    server = vhost_server(path, sockets)
    assert server.wait_refused() == 1
    log = server.log.read_text()
    assert f"{path}:10: the app site can't be loaded: a request for / failed:" in log
    assert "LookupError: no such table: posts" in log
    assert "warmup.py" not in log


def test_at_boot_a_warm_up_that_raises_takes_down_its_app_alone(
    pool: Write, sockets: Sockets
) -> None:
    code = "def application(environ, start_response): raise LookupError()"
    path = pool(code, app='warm_up = ["/"]')
    with running(path, sockets, SERVER_STARTER_BOOT="1"):
        assert get(sockets.path, "site.test").status == 503


@pytest.mark.parametrize("end", ["os._exit(3)", "os.kill(os.getpid(), 11)"])
def test_a_warm_up_that_ends_its_process_refuses_a_deploy(
    pool: Write, sockets: Sockets, end: str
) -> None:
    server = vhost_server(
        pool(f"def application(environ, start_response): {end}", app='warm_up = ["/"]'), sockets
    )
    assert server.wait_refused() == 1
    why = "itself, with status 3" if "3" in end else "by SIGSEGV"
    assert f"the process that asked for / was ended {why}" in server.log.read_text()


def test_a_warm_up_with_an_error_page_is_told_and_no_more(pool: Write, sockets: Sockets) -> None:
    code = """
    def application(environ, start_response):
        return told(start_response, os.getpid(), "502 Bad Gateway")
    """
    with running(pool(code, app='warm_up = ["/feed"]'), sockets) as server:
        line = log_line(server, "warm-up")
        assert line == "the app site: its warm-up path /feed answers 502 Bad Gateway"


OPENS = {
    "a TCP connection": (
        "socket.create_connection(('127.0.0.1', {port}))",
        "left a connection to 127.0.0.1:{port} open",
    ),
    "an SQLite database": (
        "sqlite3.connect('{folder}/data.db').execute('pragma user_version = 1').connection",
        "left the SQLite database {folder}/data.db open",
    ),
    "a file": ("open('{folder}/notes.txt', 'w')", "left the file {folder}/notes.txt open"),
    "an event loop": ("asyncio.new_event_loop()", "left an event loop (epoll) open"),
    "a thread": (
        "threading.Thread(target=time.sleep, args=(99,), daemon=True, name='flush').start()",
        'started the thread "flush", which does not run in the workers',
    ),
    "a process": ("subprocess.Popen(['sleep', '99'])", "started the process "),
}
HARMLESS = [
    "open('{folder}/app.log', 'a')",  # each write goes to the end
    "open('/dev/urandom', 'rb')",
    "socket.socket(socket.AF_INET, socket.SOCK_DGRAM)",
    "os.open('{folder}', os.O_DIRECTORY)",
]
IMPORTS = "import asyncio, socket, sqlite3, subprocess, threading, time\n    held = []\n"


@pytest.mark.parametrize("what", OPENS)
def test_what_an_app_leaves_open_at_load_is_named_with_the_hook(
    pool: Write, sockets: Sockets, what: str
) -> None:
    code, told = (text.format(port=sockets.port, folder=sockets.folder) for text in OPENS[what])
    keep = "    import atexit; atexit.register(lambda: held[0].kill())\n" if "Popen" in code else ""
    path = pool(f"""
    {IMPORTS}
    held.append({code})
{keep}
    def application(environ, start_response):
        return told(start_response, 1)
    """)
    with running(path, sockets) as server:
        line = log_line(server, f"the app site: at load it has {told}")
        assert "os.register_at_fork(after_in_child=...)" in line


@pytest.mark.parametrize("code", HARMLESS)
def test_what_workers_can_share_is_not_named(pool: Write, sockets: Sockets, code: str) -> None:
    path = pool(f"""
    {IMPORTS}
    held.append({code.format(folder=sockets.folder)})

    def application(environ, start_response):
        return told(start_response, 1)
    """)
    with running(path, sockets) as server:
        assert "at load" not in server.log.read_text()


def test_the_hook_opens_anew_in_each_worker_for_the_app(pool: Write, sockets: Sockets) -> None:
    code = """
    opened = []

    def reopen():
        opened.append((os.getpid(), os.getcwd()))

    os.register_at_fork(after_in_child=reopen)

    def application(environ, start_response):
        return told(start_response, [os.getpid(), opened])
    """
    with running(pool(code), sockets) as server:
        for pid, opened in from_each_worker(server).items():
            assert opened == [[pid, str(sockets.folder)]]


KEEPS_OPEN = f"""
    {IMPORTS}
    def application(environ, start_response):
        import colorsys
        if not held:
            held.append(sqlite3.connect("data.db", check_same_thread=False))
            held.append(os.getpid())
            held[0].execute("pragma user_version = 1")
        return told(start_response, [os.getpid(), held[1]])
"""


def test_what_a_warm_up_leaves_open_is_not_opened_before_the_fork(
    pool: Write, sockets: Sockets
) -> None:
    with running(pool(KEEPS_OPEN, app='warm_up = ["/"]'), sockets) as server:
        line = log_line(server, "the app site: ")
        assert f"a request for / has left the SQLite database {sockets.folder}/data.db open" in line
        assert all(pid == opened for pid, opened in from_each_worker(server).items())


def test_what_such_a_warm_up_imports_is_imported_before_the_fork(
    pool: Write, sockets: Sockets
) -> None:
    code = KEEPS_OPEN.replace("import colorsys", "import late").replace("held[1]]", "late.PID]")
    (sockets.folder / "late.py").write_text("import os\nPID = os.getpid()\n")
    with running(pool(code, app='warm_up = ["/"]'), sockets) as server:
        assert set(from_each_worker(server).values()) == {server.process.pid}


def test_a_warm_up_without_an_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    parent = os.getpid()
    asked = []

    def application(environ: object, start_response: object) -> list[bytes]:
        asked.append(os.getpid())
        while os.getpid() != parent:
            signal.pause()
        return []

    monkeypatch.setattr(warmup, "SECONDS", 1)
    app = warmup.Served(Site("site.test"), application)
    assert warmup.warm(app, ["/"], forks=True) == ["no answer to / in 1 s: not warmed up"]
    assert asked == []


def test_an_asgi_app_is_warmed_up_too(pool: Write, sockets: Sockets) -> None:
    code = """
    started = []

    async def application(scope, receive, send):
        if scope["type"] == "lifespan":
            await receive()
            started.append(os.getpid())
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        import late
        body = json.dumps([os.getpid(), [started, late.PID]]).encode()
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": body})
    """
    (sockets.folder / "late.py").write_text("import os\nPID = os.getpid()\n")
    path = pool(code, app='asgi = "app:application"\nwarm_up = ["/"]\nworkers = 2')
    with running(path, sockets) as server:
        for pid, value in from_each_worker(server).items():
            assert value == [[pid], server.workers()[0]]
        assert "the app site: " not in server.log.read_text()


RANDOM = """
    import random
    {seed}

    def application(environ, start_response):
        return told(start_response, [os.getpid(), {draw}])
"""


@pytest.mark.parametrize(
    ("seed", "draw"),
    [
        ("random.seed(1)", "random.random()"),
        ("generator = random.Random()", "generator.random()"),
        ("import numpy.random", "numpy.random.random()"),
    ],
)
def test_each_worker_has_random_numbers_of_its_own(
    pool: Write, sockets: Sockets, seed: str, draw: str
) -> None:
    with running(pool(RANDOM.format(seed=seed, draw=draw)), sockets) as server:
        numbers = from_each_worker(server)
        assert len(set(map(str, numbers.values()))) == len(numbers)


def test_a_generator_with_a_seed_of_the_apps_own_keeps_it(pool: Write, sockets: Sockets) -> None:
    code = RANDOM.format(seed="generator = random.Random(1)", draw="generator.random()")
    with running(pool(code), sockets) as server:
        assert len(set(map(str, from_each_worker(server).values()))) == 1


def test_a_pool_of_connections_is_emptied_before_the_fork(pool: Write, sockets: Sockets) -> None:
    code = """
    import sqlalchemy
    engine = sqlalchemy.create_engine("sqlite:///data.db")
    memory = sqlalchemy.create_engine(
        "sqlite://", poolclass=sqlalchemy.StaticPool, connect_args={"check_same_thread": False}
    )

    def run(engine, statement):
        with engine.begin() as connection:
            return connection.execute(sqlalchemy.text(statement))

    run(engine, "create table if not exists post (id integer)")
    run(memory, "create table post (id integer)")

    def application(environ, start_response):
        run(engine, "select * from post")
        run(memory, "select * from post")
        return told(start_response, [os.getpid(), os.getpid()])
    """
    with running(pool(code, app='warm_up = ["/"]'), sockets) as server:
        assert not [path for path in opened(server.process.pid) if path.name == "data.db"]
        assert "the app site: " not in server.log.read_text()
        from_each_worker(server)
