"""The ways to serve apps that are compared: what each runs, and where each app is found."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .environment import ROOT, interpreter
from .mix import WebApp, in_one_interpreter

DISPATCHER = """\
import importlib, sys
APPS = {apps!r}
SITES = {{}}
for host, directory, target in APPS:
    sys.path.insert(0, directory)
    module, _, name = target.partition(":")
    SITES[host] = getattr(importlib.import_module(module), name)
def application(environ, start_response):
    return SITES[environ["HTTP_HOST"]](environ, start_response)
"""


@dataclass
class Deployment:
    """What runs a set of apps, and the unix socket that each of them is asked at."""

    commands: list[list[str]] = field(default_factory=list)
    sockets: dict[str, Path] = field(default_factory=dict)


class Server:
    """A way to serve apps."""

    name = ""
    merged = False  # whether it is measured where the kernel merges equal pages

    def deploy(self, apps: Sequence[WebApp], directory: Path, bin_directory: Path) -> Deployment:
        """Write what is needed into a directory, and return what to run."""
        raise NotImplementedError


@dataclass
class Ours(Server):
    """start_server and vhost_server with one pool."""

    name: str = "kechi"
    pool: Mapping[str, object] = field(default_factory=dict)  # keys of [pool]
    memory: Mapping[str, bool] = field(default_factory=dict)  # keys of [pool.memory]
    warm_up: int = 1  # how many of an app's pages are asked for at load
    isolate: bool = False  # every app, not only those that must be
    idle_seconds: int = 0  # of isolated apps
    merged: bool = False

    def deploy(self, apps: Sequence[WebApp], directory: Path, bin_directory: Path) -> Deployment:
        """Write the pool file: all apps that can share an interpreter do, the others are isolated.

        Each isolated app has its own socket.
        """
        together, apart = ([], list(apps)) if self.isolate else in_one_interpreter(apps)
        sockets = {app.name: directory / "shared.sock" for app in together}
        sockets |= {app.name: directory / f"{app.name}.sock" for app in apart}
        lines = ["[pool]", 'name = "bench"']
        lines += [f"{key} = {json.dumps(value)}" for key, value in self.pool.items()]
        if self.memory:
            lines.append("[pool.memory]")
            lines += [f"{key} = {json.dumps(value)}" for key, value in self.memory.items()]
        for app in apps:
            lines += ["[[apps]]", f'name = "{app.name}"', f'hosts = ["{app.host}"]']
            lines += [f'directory = "{app.directory}"', f'wsgi = "{app.target}"']
            lines += [f"warm_up = {json.dumps(list(app.pages[: self.warm_up]))}"]
            if app in apart:
                lines.append('isolation = "process"')
                lines += [f"idle_seconds = {self.idle_seconds}"] if self.idle_seconds else []
        pool = directory / "pool.toml"
        pool.write_text("\n".join(lines) + "\n")
        paths = [f"--path={path}" for path in dict.fromkeys(sockets.values())]
        served = vhost_server(str(bin_directory / "python"), pool)
        return Deployment([[*start_server(), *paths, "--", *served]], sockets)


def start_server() -> list[str]:
    """Return our super-daemon's command."""
    return [interpreter(), "-ISE", "-c", _main("supervisor_py.cli")]


def vhost_server(python: str, pool: Path, before: str = "", path: str = "") -> list[str]:
    """Return our server's command; `before` is a program to run first, which finds `path`."""
    return [python, "-c", _main("supervisor_py.vhost.cli", before, path), str(pool)]


def _main(module: str, before: str = "", path: str = "") -> str:
    paths = f"import sys; sys.path[:0] = {[str(ROOT), path] if path else [str(ROOT)]!r}\n"
    return f"{paths}{before}from {module} import main; sys.exit(main())"


@dataclass
class GunicornEach(Server):
    """One gunicorn for each app, as most tutorials have it."""

    name: str = "one gunicorn per app"
    options: tuple[str, ...] = ("--workers=1",)

    def deploy(self, apps: Sequence[WebApp], directory: Path, bin_directory: Path) -> Deployment:
        """Run a gunicorn in each app's directory."""
        found = Deployment()
        for app in apps:
            path = directory / f"{app.name}.sock"
            found.sockets[app.name] = path
            options = [f"--chdir={app.directory}", *self.options, app.target]
            found.commands.append(gunicorn(bin_directory, path, *options))
        return found


@dataclass
class GunicornInNamespaces(GunicornEach):
    """One gunicorn for each app, in namespaces as a container has, with a process that waits."""

    name: str = "one gunicorn per app, in namespaces"

    def deploy(self, apps: Sequence[WebApp], directory: Path, bin_directory: Path) -> Deployment:
        """Run each below `unshare`, which stays as an engine's init does."""
        found = super().deploy(apps, directory, bin_directory)
        apart = ["unshare", "--fork", "--kill-child", "--pid", "--mount-proc", "--net", "--ipc"]
        found.commands = [[*apart, "--uts", *command] for command in found.commands]
        return found


def gunicorn(bin_directory: Path, path: Path, *options: str) -> list[str]:
    """Return a command that runs gunicorn on a unix socket."""
    quiet = ["--log-level=error", "--no-control-socket", f"--bind=unix:{path}"]
    return [str(bin_directory / "python"), "-m", "gunicorn", *quiet, *options]


def write_dispatcher(apps: Sequence[WebApp], directory: Path) -> None:
    """Write the module `dispatch`, which finds apps by their host, and does nothing else."""
    sites = [(app.host, str(app.directory), app.target) for app in apps]
    (directory / "dispatch.py").write_text(DISPATCHER.format(apps=sites))


@dataclass
class GunicornPreloaded(Server):
    """One gunicorn, which loads all apps that one interpreter can hold, and then forks.

    Each other app has a gunicorn of its own.
    """

    name: str = "one gunicorn, preloaded, plain dispatcher, 5 sync workers"
    options: tuple[str, ...] = ("--workers=5", "--preload")

    def deploy(self, apps: Sequence[WebApp], directory: Path, bin_directory: Path) -> Deployment:
        """Run it over a dispatcher."""
        together, apart = in_one_interpreter(apps)
        write_dispatcher(together, directory)
        path = directory / "all.sock"
        found = GunicornEach().deploy(apart, directory, bin_directory)
        found.sockets |= {app.name: path for app in together}
        options = [f"--chdir={directory}", *self.options, "dispatch:application"]
        found.commands.append(gunicorn(bin_directory, path, *options))
        return found


UWSGI = ("--need-app", "--disable-logging", "--die-on-term")


def _uwsgi(bin_directory: Path, path: Path, *options: str) -> list[str]:
    return [str(bin_directory / "uwsgi"), f"--http-socket={path}", *UWSGI, *options]


@dataclass
class UwsgiDispatcher(Server):
    """One uWSGI with a master and five workers over a dispatcher; another app has its own."""

    name: str = "uWSGI, plain dispatcher, 5 workers"

    def deploy(self, apps: Sequence[WebApp], directory: Path, bin_directory: Path) -> Deployment:
        """Run it, and one more for each app that does not fit in."""
        together, apart = in_one_interpreter(apps)
        write_dispatcher(together, directory)
        path = directory / "all.sock"
        found = Deployment(sockets={app.name: path for app in together})
        options = ["--master", "--processes=5", f"--chdir={directory}", "--module=dispatch"]
        found.commands.append(_uwsgi(bin_directory, path, *options))
        for app in apart:
            alone = directory / f"{app.name}.sock"
            found.sockets[app.name] = alone
            options = [f"--chdir={app.directory}", f"--module={app.target}"]
            found.commands.append(_uwsgi(bin_directory, alone, *options))
        return found


@dataclass
class UwsgiEmperor(Server):
    """uWSGI's Emperor, with one process for each app; it starts them when somebody asks."""

    name: str = "uWSGI Emperor, one vassal per app"
    idle_seconds: int = 0

    def deploy(self, apps: Sequence[WebApp], directory: Path, bin_directory: Path) -> Deployment:
        """Write an .ini for each app; with idle_seconds, the Emperor holds the sockets."""
        vassals = directory / "vassals"
        vassals.mkdir()
        found = Deployment()
        for app in apps:
            path = directory / f"{app.name}.socket"
            found.sockets[app.name] = path
            lines = ["[uwsgi]", f"chdir = {app.directory}", f"module = {app.target}"]
            lines += ["need-app = true", "disable-logging = true", "die-on-term = true"]
            # a vassal that is started on demand gets its socket as descriptor 0
            where = "fd://0" if self.idle_seconds else path
            lines.append(f"http-socket = {where}")
            if self.idle_seconds:
                lines += ["master = true", f"idle = {self.idle_seconds}", "die-on-idle = true"]
            (vassals / f"{app.name}.ini").write_text("\n".join(lines) + "\n")
        uwsgi = bin_directory / "uwsgi"
        command = [str(uwsgi), f"--emperor={vassals}", f"--binary-path={uwsgi}"]
        if self.idle_seconds:
            command.append(f"--emperor-on-demand-directory={directory}")
        found.commands.append(command)
        return found


@dataclass
class Granian(Server):
    """One granian over a dispatcher."""

    name: str = "granian, plain dispatcher, 1 worker"
    workers: int = 1

    def deploy(self, apps: Sequence[WebApp], directory: Path, bin_directory: Path) -> Deployment:
        """Run it, and one more for each app that does not fit in."""
        together, apart = in_one_interpreter(apps)
        write_dispatcher(together, directory)
        path = directory / "all.sock"
        found = Deployment(sockets={app.name: path for app in together})
        found.commands.append(_granian(bin_directory, path, directory, "dispatch:application"))
        for app in apart:
            alone = directory / f"{app.name}.sock"
            found.sockets[app.name] = alone
            found.commands.append(_granian(bin_directory, alone, app.directory, app.target))
        return found


def _granian(bin_directory: Path, path: Path, directory: Path, target: str) -> list[str]:
    options = ["--interface=wsgi", "--workers=1", f"--working-dir={directory}", "--no-log"]
    return [str(bin_directory / "granian"), f"--uds={path}", *options, target]
