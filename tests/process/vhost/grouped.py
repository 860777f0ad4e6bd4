"""Pools with isolated apps, with a socket for each of them."""

import json
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..waiting import LIMIT
from .harness import Server, Sockets, get, wait_until

APP = """
import json, os, sys, time
LOADED = time.time()
{top}
def application(environ, start_response):
    if environ["PATH_INFO"] == "/slow":
        open("is-slow", "w").close()
        time.sleep(float(environ["QUERY_STRING"]))
    if environ["PATH_INFO"] == "/held":
        open("is-held", "w").close()
        open("let-go").close()  # a pipe
    generation = os.environ["SERVER_STARTER_GENERATION"]
    headers = [("X-Pid", str(os.getpid())), ("X-Generation", generation)]
    start_response("200 OK", headers)
    seen = {{"app": os.path.basename(os.path.dirname(__file__)), "pid": os.getpid(),
             "parent": os.getppid(), "cwd": os.getcwd(), "mine": os.environ.get("MINE"),
             "modules": sorted(n for n in list(sys.modules) if n.startswith("wsgi_"))}}
    return [json.dumps(seen).encode()]
"""


class GroupSockets(Sockets):
    """The listeners of a pool, and one for each isolated app."""

    def __init__(self, folder: Path, apps: Sequence[str]) -> None:
        super().__init__(folder)
        self._apps = apps

    def __enter__(self) -> "GroupSockets":
        super().__enter__()
        for app in self._apps:
            one = socket.socket(socket.AF_UNIX)
            one.bind(self.of(app))
            one.listen(512)
            self._sockets.append(one)
        return self

    def of(self, app: str) -> str:
        """Return the path of an app's socket: the shared one's, if it isn't isolated."""
        return str(self.folder / f"{app}.sock") if app in self._apps else self.path

    @property
    def variable(self) -> str:
        others = zip(self._apps, self.fds[2:], strict=True)
        named = "".join(f";{self.of(app)}={fd}" for app, fd in others)
        return f"127.0.0.1:{self.port}={self.fds[1]};{self.path}={self.fds[0]}{named}"


def write_pool(folder: Path, apps: dict[str, dict[str, Any]], head: str = "") -> Path:
    """Write small apps, and their pool; `top` of an app is code of its module, `source` all of it.

    What else is said of an app are keys of the pool file.
    """
    text = f'[pool]\nname = "test"\nworkers = 1\nthreads = 4\n{head}\n'
    for name, settings in apps.items():
        keys = dict(settings)
        source = keys.pop("source", None) or APP.format(top=keys.pop("top", ""))
        (folder / name).mkdir(exist_ok=True)
        (folder / name / f"wsgi_{name}.py").write_text(source)
        keys = {
            "name": name,
            "hosts": [f"{name}.test"],
            "directory": name,
            "wsgi": f"wsgi_{name}:application",
            **keys,
        }
        text += "[[apps]]\n" + "".join(f"{k} = {_toml(v)}\n" for k, v in keys.items())
    path = folder / "test.toml"
    path.write_text(text)
    return path


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{k} = {_toml(v)}" for k, v in value.items()) + " }"
    return json.dumps(value)


def ask(sockets: GroupSockets, app: str, path: str = "/") -> dict[str, Any]:
    reply = get(sockets.of(app), f"{app}.test", path)
    assert reply.status == 200, reply.body
    seen: dict[str, Any] = json.loads(reply.body)
    return seen


def processes(server: Server) -> dict[str, list[int]]:
    """Return the pids of a server's children, by the names that they have."""
    found: dict[str, list[int]] = {}
    for pid in server.workers():
        try:
            name = Path(f"/proc/{pid}/comm").read_text().strip()
        except OSError:
            continue
        found.setdefault(name, []).append(pid)
    return found


def status(server: Server) -> str:
    """Return what the server says of itself by now."""
    server.read_notifications()
    lines = "\n".join(server.said).splitlines()
    return [line for line in lines if line.startswith("STATUS=")][-1].removeprefix("STATUS=")


def wait_status(server: Server, part: str) -> None:
    deadline = time.monotonic() + LIMIT
    while part not in status(server):
        assert time.monotonic() < deadline, f"{part!r} is not in {server.said}"
        server.read_notifications(1)


def has_ended(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):  # the latter where it ends while it is read
        return True
    return stat.rpartition(")")[2].split()[0] == "Z"


def wait_ended(*pids: int) -> None:
    wait_until(lambda: all(map(has_ended, pids)))
