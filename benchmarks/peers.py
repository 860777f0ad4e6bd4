"""The super-daemons that are measured: how each is started, and how it replaces what it runs."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .environment import ROOT, environment, interpreter, say
from .processes import PATIENCE, wait_until

LISTEN_FD = 9


@dataclass
class Run:
    """One run of a super-daemon: a new directory, which may have app.py in it, and its pid."""

    directory: Path
    pid: int = 0


class Peer:
    """A super-daemon, and how it is used."""

    name = ""
    restart_is = ""  # what a restart is for it, in words

    def idle(self, run: Run, fifo: Path) -> list[str]:
        """Return what runs it with one child that writes into a FIFO first, and then sleeps."""
        raise NotImplementedError

    def web(self, run: Run, port: int) -> list[str]:
        """Return what runs it with gunicorn on a port."""
        raise NotImplementedError

    def restart(self, run: Run) -> None:
        """Ask for a restart; the caller sees by itself when that is over."""
        raise NotImplementedError


def _sleeper(fifo: Path) -> list[str]:
    return ["/bin/sh", "-c", f"echo > {fifo}; exec sleep 600"]


def _served(python: str, directory: Path, *bind: str) -> list[str]:
    options = ["--preload", "--workers=2", f"--chdir={directory}", "--log-level=error"]
    return [python, "-m", "gunicorn", *options, "--no-control-socket", *bind, "app:application"]


class Starter(Peer):
    """Server::Starter's command line: Perl's, and ours."""

    restart_is = "HUP, default options: the new one is started, then the old one ended"

    def __init__(self, name: str, command: Sequence[str], python: str) -> None:
        self.name, self._command, self._python = name, command, python

    def idle(self, run: Run, fifo: Path) -> list[str]:
        """Run a shell, with a socket at a path."""
        return [*self._command, f"--path={run.directory / 'listen'}", "--", *_sleeper(fifo)]

    def web(self, run: Run, port: int) -> list[str]:
        """Run gunicorn on a socket that was opened for it."""
        served = _served(self._python, run.directory, f"--bind=fd://{LISTEN_FD}")
        return [*self._command, f"--port=127.0.0.1:{port}={LISTEN_FD}", "--", *served]

    def restart(self, run: Run) -> None:
        """Send HUP."""
        os.kill(run.pid, signal.SIGHUP)


class Circus(Peer):
    """The circusd of circus, which opens the socket as well."""

    name = "circus"
    restart_is = "`circusctl reload`: the new one is started and the old one told to end at once"

    def __init__(self, bin_directory: Path) -> None:
        self._bin = bin_directory
        self._python = str(bin_directory / "python")

    def _configured(self, run: Run, command: str, socket: str = "") -> list[str]:
        (run.directory / "circus.ini").write_text(
            f"[circus]\nendpoint = ipc://{run.directory}/endpoint\n"
            f"pubsub_endpoint = ipc://{run.directory}/pubsub\nstatsd = False\n"
            f"[watcher:web]\ncmd = {command}\nuse_sockets = True\ncopy_env = True\n{socket}"
        )
        return [str(self._bin / "circusd"), str(run.directory / "circus.ini")]

    def idle(self, run: Run, fifo: Path) -> list[str]:
        """Run a script: circus takes a command apart by rules of its own."""
        script = run.directory / "child"
        script.write_text(f"#!/bin/sh\n{_sleeper(fifo)[2]}\n")
        script.chmod(0o755)
        return self._configured(run, str(script))

    def web(self, run: Run, port: int) -> list[str]:
        """Run gunicorn on circus's socket."""
        served = _served(self._python, run.directory, "--bind=fd://$(circus.sockets.web)")
        socket = f"[socket:web]\nhost = 127.0.0.1\nport = {port}\n"
        return self._configured(run, " ".join(served), socket)

    def restart(self, run: Run) -> None:
        """Ask over circus's own socket."""
        endpoint = f"ipc://{run.directory}/endpoint"
        command = [str(self._bin / "circusctl"), "--endpoint", endpoint, "reload", "web"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=PATIENCE)


class Supervisord(Peer):
    """The supervisord of supervisor; gunicorn opens its socket itself."""

    name = "supervisord"
    restart_is = "`supervisorctl restart`: the old one is ended, then the new one started"

    def __init__(self, bin_directory: Path) -> None:
        self._bin = bin_directory
        self._python = str(bin_directory / "python")

    def _configured(self, run: Run, command: str) -> list[str]:
        socket = run.directory / "control"
        (run.directory / "supervisord.conf").write_text(
            f"[supervisord]\nnodaemon = true\npidfile = {run.directory}/pid\n"
            f"logfile = {run.directory}/supervisord.log\nchildlogdir = {run.directory}\n"
            f"[unix_http_server]\nfile = {socket}\n"
            f"[supervisorctl]\nserverurl = unix://{socket}\n"
            "[rpcinterface:supervisor]\nsupervisor.rpcinterface_factory = "
            "supervisor.rpcinterface:make_main_rpcinterface\n"
            f"[program:web]\ncommand = {command}\n"
        )
        return [str(self._bin / "supervisord"), "-c", str(run.directory / "supervisord.conf")]

    def idle(self, run: Run, fifo: Path) -> list[str]:
        """Run a shell."""
        return self._configured(run, f"/bin/sh -c '{_sleeper(fifo)[2]}'")

    def web(self, run: Run, port: int) -> list[str]:
        """Run gunicorn on a socket of its own."""
        served = _served(self._python, run.directory, f"--bind=127.0.0.1:{port}")
        return self._configured(run, " ".join(served))

    def restart(self, run: Run) -> None:
        """Ask over supervisord's own socket."""
        config = str(run.directory / "supervisord.conf")
        command = [str(self._bin / "supervisorctl"), "-c", config, "restart", "web"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=PATIENCE)


class Gunicorn(Peer):
    """gunicorn with no super-daemon above it; its arbiter is what is measured."""

    name = "gunicorn (USR2)"
    restart_is = "USR2, and TERM to the old arbiter when the new one has loaded the application"

    def __init__(self, python: str) -> None:
        self._python = python

    def idle(self, run: Run, fifo: Path) -> list[str]:
        """Run one worker, whose application writes into the FIFO when it is loaded."""
        (run.directory / "idle.py").write_text(
            f"with open({str(fifo)!r}, 'w') as fifo:\n    fifo.write('x')\n"
            "def application(environ, start_response): ...\n"
        )
        bind = f"--bind=unix:{run.directory}/listen"
        options = [f"--chdir={run.directory}", "--log-level=error", "--no-control-socket", bind]
        return [self._python, "-m", "gunicorn", *options, "idle:application"]

    def web(self, run: Run, port: int) -> list[str]:
        """Run it on a socket of its own, with a pid file to find each new arbiter by."""
        pid_file = f"--pid={run.directory}/pid"
        return _served(self._python, run.directory, f"--bind=127.0.0.1:{port}", pid_file)

    def restart(self, run: Run) -> None:
        """Do what gunicorn's manual says."""
        current, successor = run.directory / "pid", run.directory / "pid.2"
        wait_until(lambda: not successor.exists(), "the arbiter to take the pid file over")
        arbiter = int(current.read_text())
        os.kill(arbiter, signal.SIGUSR2)
        wait_until(successor.exists, "the new arbiter")
        os.kill(arbiter, signal.SIGTERM)


def _perl(python: str) -> list[Peer]:
    perl, program = shutil.which("perl"), shutil.which("start_server", path="/usr/bin")
    if perl and program:
        module = [perl, "-MServer::Starter", "-e", "print $Server::Starter::VERSION"]
        found = subprocess.run(module, capture_output=True, text=True, check=False)
        if found.returncode == 0:
            return [Starter(f"Server::Starter {found.stdout} (Perl)", [perl, program], python)]
    say("Perl's is missing and left out: apt install libserver-starter-perl")
    return []


def all_peers() -> list[Peer]:
    """Return ours, and each of the others that is installed or can be."""
    run = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); from supervisor_py.cli import main; main()"
    )
    directory = environment(interpreter())
    python = str(directory / "python") if directory else sys.executable
    ours: Peer = Starter("start_server (ours)", [interpreter(), "-ISE", "-c", run], python)
    if directory is None:
        say("circus, supervisord and gunicorn's USR2 are left out")
        return [*_perl(python), ours]
    return [
        *_perl(python),
        Circus(directory),
        Supervisord(directory),
        Gunicorn(python),
        ours,
    ]
