"""What a requirement's build and a release's hook can do: no more than the app's own pool."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from shared.inventory import Inventory
from shared.versions import Versioned

# what is tried, with its outcome: "done", or the error's name
PROBE = """
import ctypes, errno, glob, json, os, socket

libc = ctypes.CDLL(None, use_errno=True)
IO_URING_SETUP, NEW_USER_NAMESPACE = 425, 0x10000000


def outcome(attempt):
    try:
        attempt()
    except OSError as error:
        # a hook has less to write to than its pool: what is not read-only there is root's
        return errno.errorcode.get(error.errno, "OSError").replace("EROFS", "EACCES")
    return "done"


def call(number_or_function, *arguments):
    if number_or_function(*arguments) < 0:
        raise OSError(ctypes.get_errno(), "")


def opened(path, mode="r"):
    return lambda: open(path, mode).close()


def processes_of_root():
    owners = [os.stat(path).st_uid for path in glob.glob("/proc/[0-9]*")]
    if 0 not in owners:
        raise OSError(errno.ESRCH, "")


def probe():
    return {
        "a user namespace": outcome(lambda: call(libc.unshare, NEW_USER_NAMESPACE)),
        "io_uring": outcome(lambda: call(libc.syscall, IO_URING_SETUP, 4, bytes(120))),
        "netlink": outcome(lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0).close()),
        "packets": outcome(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0).close()),
        "root's processes": outcome(processes_of_root),
        "root's files": outcome(opened("/etc/shadow")),
        "root's home": outcome(lambda: os.listdir("/root")),
        "a unit": outcome(opened("/etc/systemd/system/kechi-probe.service", "w")),
        "code of another app": outcome(opened("/srv/www/two/releases/probe", "w")),
        "a pool's set": outcome(opened("/srv/kechi/main/sets/probe", "w")),
        "priority": outcome(lambda: os.setpriority(os.PRIO_PROCESS, 0, -5)),
        "affinity": outcome(lambda: os.sched_setaffinity(0, {0})),
    }
"""
WRITE = """
import json, os, pathlib
import probe
where = pathlib.Path("/srv/www/one/shared/probe-" + os.environ["INVOCATION_ID"])
where.write_text(json.dumps(probe.probe()))
"""
BACKEND = """
import os, zipfile
import probe


def build_wheel(folder, config_settings=None, metadata_directory=None):
    found = {**probe.probe(), "user": os.getuid(), "pool file": probe.outcome(
        probe.opened("/etc/kechi/pools/main.toml"))}
    name, about = "kechi_probe-1.0-py3-none-any.whl", "kechi_probe-1.0.dist-info"
    files = {
        "kechi_probe_found.json": probe.json.dumps(found),
        about + "/METADATA": "Metadata-Version: 2.1\\nName: kechi-probe\\nVersion: 1.0\\n",
        about + "/WHEEL": "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
    }
    lines = "".join(f"{path},,\\n" for path in [*files, about + "/RECORD"])
    with zipfile.ZipFile(os.path.join(folder, name), "w") as packed:
        for path, text in {**files, about + "/RECORD": lines}.items():
            packed.writestr(path, text)
    return name
"""
PROJECT = """
[project]
name = "kechi-probe"
version = "1.0"
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""
GONE = {"name": "two", "hosts": ["two.example"], "state": "absent"}
PORT = 8099
SERVE = f"python3 -m http.server --bind 127.0.0.1 --directory /srv/probe {PORT}"


@pytest.fixture(scope="module")
def inventory(host):
    return Inventory(host.backend.name)


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    return Versioned(tmp_path_factory.mktemp("apps"), "one")


@pytest.fixture(scope="module")
def pools(inventory, app):
    """What the inventory has of the app as it is now; another app is other tests'."""

    def entries():
        pool = inventory.variables["vhost_app_pools"][0]
        return [{**pool, "apps": [app.entry, GONE]}]

    return entries


@pytest.fixture
def sdist(host, tmp_path):
    """The address of a source distribution, which the machine itself serves."""
    folder = tmp_path / "kechi_probe-1.0"
    folder.mkdir()
    for name, text in {"probe.py": PROBE, "backend.py": BACKEND, "pyproject.toml": PROJECT,
                       "PKG-INFO": "Metadata-Version: 2.1\nName: kechi-probe\nVersion: 1.0\n",
                       }.items():  # fmt: skip
        (folder / name).write_text(text)
    packed = tmp_path / "kechi_probe-1.0.tar.gz"
    with tarfile.open(packed, "w:gz") as tar:
        tar.add(folder, arcname=folder.name)
    host.check_output("mkdir -p /srv/probe")
    send(host, packed, "/srv/probe/kechi_probe-1.0.tar.gz")
    host.check_output(f"systemd-run --quiet --collect --unit=probe-index {SERVE}")
    wait = f"until (: </dev/tcp/127.0.0.1/{PORT}) 2>/dev/null; do sleep 0.1; done"
    host.check_output(f"timeout 60 bash -c '{wait}'")
    yield f"kechi-probe @ http://127.0.0.1:{PORT}/kechi_probe-1.0.tar.gz"
    host.check_output("systemctl stop probe-index && rm -r /srv/probe")


def send(host, path: Path, target: str) -> None:
    content = path.read_bytes().hex()
    host.check_output(f'python3 -c \'open("{target}", "wb").write(bytes.fromhex("{content}"))\'')


def test_a_hook_a_check_and_a_trial_can_do_what_the_pool_can_and_no_more(
    host, inventory, app, pools
):
    app.options["before_switch"] = [["python", "write.py"]]
    app.write(11, more="import write\n", probe_py=PROBE, write_py=WRITE)
    inventory.apply(vhost_app_pools=pools())
    app.options["before_switch"] = []
    found = host.check_output("cat /srv/www/one/shared/probe-*").replace("}{", "}\n{")
    host.check_output("rm /srv/www/one/shared/probe-*")
    seen = [json.loads(line) for line in found.splitlines()]
    assert len(seen) >= 4  # the hook, the check, the trial, and the pool
    assert all(outcomes == seen[0] for outcomes in seen), seen
    assert "done" not in seen[0].values(), seen[0]


def test_a_requirements_build_is_not_roots_and_reaches_nothing(host, inventory, app, pools, sdist):
    app.write(12, requirements_txt=f"{sdist}\n")
    inventory.apply(vhost_app_pools=pools())
    files = "/srv/kechi/main/venv/lib/python3*/site-packages"
    found = json.loads(host.check_output(f"cat {files}/kechi_probe_found.json"))
    user = int(host.check_output("id --user kechi-build"))
    assert found.pop("user") == user
    assert "done" not in found.values(), found
    foreign = host.check_output("find /srv/kechi/*/venvs /var/lib/kechi/tools ! -user root")
    assert foreign == "", "what was made is root's"
    assert host.check_output(f"ps --no-headers -U {user} | wc -l") == "0"


def test_where_only_wheels_may_come_nothing_is_built(host, inventory, app, pools, sdist):
    before = host.check_output("readlink /srv/kechi/main/current")
    app.write(13, requirements_txt=f"{sdist}\n# again\n")
    told = inventory.refuse(vhost_app_pools=pools(), vhost_app_build="wheels-only")
    assert "the virtualenv could not be filled, and nothing else has changed" in told
    assert host.file("/run/kechi/locks/play").size == 0, "no play has the machine any more"
    assert host.check_output("readlink /srv/kechi/main/current") == before
