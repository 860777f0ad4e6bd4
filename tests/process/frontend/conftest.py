"""A real nginx with the role's configuration, before a real vhost_server."""

import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.collection.test_server_blocks import configuration

from ..machine import folder_for_others
from ..ports import free_ports
from ..vhost.harness import COMMAND, ROOT
from ..waiting import wait_until
from .http2 import Client

HOST = "echo.example"
DOWN_PAGE = ROOT / "roles" / "frontend" / "files" / "down.html"
ECHO = ROOT / "molecule" / "shared" / "apps" / "echo"
POOL = f"""
[pool]
name = "echo"
workers = 1
[[apps]]
name = "echo"
hosts = ["{HOST}"]
directory = "{ECHO}"
wsgi = "echo:application"
"""
MAIN = """
%(user)s
worker_processes 2;
worker_rlimit_nofile 4096;
pid %(folder)s/pid;
error_log %(folder)s/error.log;
events { worker_connections 1024; }
http {
%(configuration)s
}
"""


class Nginx:
    """An nginx that runs, and its workers."""

    def __init__(self, port: int, folder: Path) -> None:
        self.port, self.folder = port, folder

    @property
    def workers(self) -> set[int]:
        """The pids of its workers."""
        master = int((self.folder / "pid").read_text())
        children = Path(f"/proc/{master}/task/{master}/children").read_text()
        return {int(pid) for pid in children.split()}

    def memory_kb(self) -> int:
        """What its largest worker holds."""
        return max(
            int(re.findall(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[0])
            for pid in self.workers
        )

    def status(self) -> str:
        """What another client gets."""
        with contextlib.closing(Client(self.port, HOST)) as client:
            client.ask()
            return client.outcome()


def program() -> str:
    """Where nginx is, or "": scripts/host-packages unpacks it, as its package would start it."""
    places = f"/usr/sbin:/usr/bin:{ROOT}/.cache/nginx/usr/sbin"
    return os.environ.get("KECHI_NGINX") or shutil.which("nginx", path=places) or ""


def user() -> str:
    """Return what its workers run as: root's would reach whatever they are to be kept from."""
    return "user www-data;" if os.geteuid() == 0 else ""


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A directory that nginx's workers reach, who have a user of their own: pytest's are closed."""
    with folder_for_others() as made:
        yield made


@pytest.fixture(scope="module")
def nginx(folder: Path) -> Iterator[Nginx]:
    if not program():
        pytest.skip("no nginx here: `make test` fetches it, or name one by KECHI_NGINX")
    socket = folder / "echo.sock"
    (folder / "pool.toml").write_text(POOL)
    version = subprocess.run([program(), "-v"], capture_output=True, text=True, check=True).stderr
    found = [int(part) for part in re.findall(r"nginx/([\d.]+)", version)[0].split(".")]
    port, plain = free_ports(2)
    text = configuration(
        [{"name": "echo", "hosts": [HOST], "socket": str(socket)}],
        _frontend_tls=True,
        _frontend_http2_directive=found >= [1, 25, 1],
        _frontend_machine={"ipv6": False},
        _frontend_worker_connections=1024,
        _frontend_acme_root=str(folder),
        _frontend_down_page=shutil.copy(DOWN_PAGE, folder),  # the checkout may be root's alone
        frontend_port=plain,
        frontend_tls_port=port,
        # shorter than they are on a machine: some of what is sent is answered by them alone
        frontend_header_timeout_seconds=2,
        frontend_client_timeout_seconds=3,
    )
    for path in ("/etc/kechi/tls/current", "/var/log/nginx"):
        text = text.replace(path, str(folder))
    text = text.replace("include /etc/nginx/kechi.d", "# include /etc/nginx/kechi.d")
    make_certificate(folder / "echo")
    values = {"user": user(), "folder": folder, "configuration": text}
    (folder / "nginx.conf").write_text(MAIN % values)
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(
            subprocess.Popen([*COMMAND, f"--bind=unix:{socket}", str(folder / "pool.toml")])
        )
        stack.callback(server.terminate)
        wait_until(socket.exists, "vhost_server listens")
        socket.chmod(0o666)
        where = ["-e", str(folder / "error.log"), "-p", str(folder), "-c", "nginx.conf"]
        front = stack.enter_context(subprocess.Popen([program(), *where, "-g", "daemon off;"]))
        stack.callback(front.terminate)
        made = Nginx(port, folder)
        wait_until(lambda: answers(made, front), "nginx answers")
        yield made


def answers(made: Nginx, front: subprocess.Popen[bytes]) -> bool:
    assert front.poll() is None, (made.folder / "error.log").read_text()
    try:
        return made.status() == "200"
    except ConnectionRefusedError:
        return False


def make_certificate(folder: Path) -> None:
    folder.mkdir()
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
         "-subj", f"/CN={HOST}", "-keyout", folder / "privkey.pem",
         "-out", folder / "fullchain.pem"],
        check=True, capture_output=True,
    )  # fmt: skip
