"""New code under load, from every kind of source, and back: whole, or not at all."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass

import pytest

from harness.load import Target, load
from shared.inventory import Inventory
from shared.versions import Versioned, archive, commit, wheel
from shared.vps import Vps

ROUNDS = 20
SOCKET = "/run/kechi/main.sock"
TARGETS = [
    Target("new", "one.example"),
    Target("keep-alive", "one.example"),
    Target("slow", "one.example", "/slow"),
    Target("keep-alive", "two.example"),
]
HOOK = """
import os, pathlib, pwd
import versioned
user = pwd.getpwuid(os.getuid()).pw_name
line = f"{versioned.VERSION} {user} {os.environ['WORD']} {os.environ['VIRTUAL_ENV']}\\n"
with pathlib.Path("/srv/www/one/shared/hooks").open("a") as file:
    file.write(line)
try:
    pathlib.Path("page.txt").write_text("0")
except OSError:
    pass
"""
# waits until somebody writes to its FIFO
WAITING_HOOK = """
import os, pathlib
shared = pathlib.Path("/srv/www/one/shared")
os.mkfifo(shared / "go")
(shared / "waiting").touch()
(shared / "go").read_text()
"""

# reads the library anew with each request: another one in its place would show
LATE = """
import importlib
import kechi_private
VERSION = importlib.reload(kechi_private).VERSION
"""
PACKAGED = """
def application(environ, start_response):
    start_response("200 OK", [("X-Generation", "%d")])
    return [b"packaged"]
"""


@pytest.fixture(scope="module")
def vps(host, address):
    return Vps(host, address(host))


@pytest.fixture(scope="module")
def inventory(host):
    return Inventory(host.backend.name)


@pytest.fixture(scope="module")
def apps(tmp_path_factory):
    folder = tmp_path_factory.mktemp("apps")
    return [Versioned(folder, "one"), Versioned(folder, "two")]


@pytest.fixture(scope="module")
def deploy(inventory, apps):
    """Run a playbook with the apps as they are now."""

    def run(playbook="deploy", **changes):
        pool = inventory.variables["vhost_app_pools"][0]
        pools = [{**pool, "apps": [app.entry for app in apps]}]
        return inventory.apply(playbook=playbook, vhost_app_pools=pools, **changes)

    return run


@dataclass(frozen=True)
class Deploy:
    """A version, and from when to when its playbook ran, which may switch at any time between."""

    version: int
    began: float
    ended: float


def serving(deploys: list[Deploy], since: float, until: float) -> set[int]:
    """The versions that may have answered within a time."""
    ended = [later.ended for later in deploys[1:]] + [float("inf")]
    return {
        deploy.version
        for deploy, replaced in zip(deploys, ended, strict=True)
        if deploy.began <= until and replaced >= since
    }


def version(vps, site):
    return int(vps.get(site).headers["X-Generation"])


def releases(host, app):
    return json.loads(host.check_output(f"cat /srv/www/{app}/releases.json"))


def virtualenv(host):
    return host.check_output("readlink -f /srv/kechi/main/venv")


def test_versions_alternate_under_load_and_each_answer_is_wholly_old_or_new(
    vps, deploy, apps, proof
):
    one, two = apps
    two.write(50)  # only one of them is to be deployed
    first = version(vps, "one.example")
    deploys = [Deploy(first, 0.0, 0.0)]
    with proof.load(vps, TARGETS, sockets={SOCKET: TARGETS}, pools=["main"]) as watch:
        for number in range(first + 1, first + 1 + ROUNDS):
            one.write(number)
            watch.event(f"deploy {number}")
            began = time.time()
            deploy(app="one")
            deploys.append(Deploy(number, began, time.time()))
    for report in watch.reports.values():
        assert report.generations("two.example") == {1}
        assert report.generations("one.example") == {deploy.version for deploy in deploys}
        for outcome in report.outcomes:
            if outcome.target.host == "one.example":
                asked = report.epoch + outcome.started
                assert int(outcome.generation) in serving(deploys, asked, asked + outcome.seconds)


def test_a_second_deploy_changes_nothing(vps, deploy):
    state = vps.state("main")
    assert "changed=0" in deploy(app="one")
    assert vps.state("main") == state


def test_a_rollback_is_to_the_previous_release_or_a_named_one_until_the_next_deploy(
    vps, host, deploy
):
    newest = version(vps, "one.example")
    names = sorted(releases(host, "one").items(), key=lambda item: item[1]["deployed"])
    deploy("rollback", app="one")
    assert version(vps, "one.example") == newest - 1
    deploy("rollback", app="one", release=names[0][0].partition("-")[0])
    assert version(vps, "one.example") == newest - 2  # three releases are kept
    deploy()
    assert version(vps, "one.example") == newest
    assert version(vps, "two.example") == 50


def test_what_can_not_be_rolled_back_to_is_refused_with_what_is_there(vps, host, inventory):
    state = vps.state("main")
    for changes, words in [
        ({"app": "one", "release": "nothing"}, 'no release "nothing"; there is: '),
        ({"app": "nobody"}, "No machine has the app nobody; there are: one, two"),
        ({}, "Which app? -e app=NAME; there are: one, two"),
    ]:
        assert words in inventory.refuse(playbook="rollback", **changes)
    assert vps.state("main") == state


def test_old_releases_and_sets_are_pruned(host):
    assert len(releases(host, "one")) == 3
    assert host.check_output("ls /srv/www/one/releases | wc -l") == "3"
    assert int(host.check_output("ls /srv/kechi/main/sets | wc -l")) <= 4
    assert host.check_output("ls /srv/kechi/main/venvs | wc -l") == "1"


def test_a_hook_runs_once_for_a_release_as_the_pools_user_before_the_switch(
    vps, host, deploy, apps
):
    one, _two = apps
    one.options["before_switch"] = [["python", "hook.py"]]
    one.options["environment"] = {"WORD": "hello"}
    one.write(60, hook_py=HOOK)
    deploy(app="one")
    line = f"60 kechi-main hello {virtualenv(host)}"
    assert host.file("/srv/www/one/shared/hooks").content_string.splitlines() == [line]
    assert version(vps, "one.example") == 60, "a hook can't write into the release"
    one.options["environment"]["WORD"] = "again"
    deploy(app="one")
    one.write(61, hook_py=HOOK)
    deploy(app="one")
    found = host.file("/srv/www/one/shared/hooks").content_string.splitlines()
    assert [text.split()[0] for text in found] == ["60", "61"]
    one.options["before_switch"] = []


def test_a_play_that_meets_another_is_refused_and_after_an_interruption_waits_for_its_last_task(
    vps, host, deploy, apps, inventory
):
    one, _two = apps
    shared = "/srv/www/one/shared"
    one.options["before_switch"] = [["python", "hook.py"]]
    one.write(62, hook_py=WAITING_HOOK)
    pool = inventory.variables["vhost_app_pools"][0]
    changes = {"vhost_app_pools": [{**pool, "apps": [app.entry for app in apps]}], "app": "one"}
    with inventory.under_way(playbook="deploy", **changes) as first:
        vps.wait_until(lambda: host.file(f"{shared}/waiting").exists, "the hook")
        for playbook in ("deploy", "restart"):
            said = inventory.refuse(playbook=playbook, **changes)
            assert "Another play changes this machine: playbooks/deploy.yml by " in said
            assert f"(pid {first.pid} there), since 2" in said
        said = inventory.apply(playbook="deploy", check=True, **changes)
        assert "What is said of this machine may change" in said
        first.kill()  # as where a control machine dies: what it has begun goes on
        first.wait()
    assert version(vps, "one.example") == 61, "its task on the machine still waits for the hook"
    with inventory.under_way(playbook="deploy", **changes) as second:
        # one has the lock of tasks, and the other one waits for it
        find = "find /proc/[0-9]*/fd -lname /run/kechi/locks/task 2>/dev/null | wc -l"
        vps.wait_until(lambda: host.run(find).stdout.strip() == "2", "a second task")
        host.check_output(f"echo > {shared}/go")
        said, _ = second.communicate()
    assert second.returncode == 0, said
    assert "The lock that a play has left behind at its end was taken over" in said
    assert "waiting for the end of a task of a play (pool_state) (pid " in said
    assert version(vps, "one.example") == 62
    host.check_output(f"rm {shared}/go {shared}/waiting")
    one.options["before_switch"] = []
    assert host.file("/run/kechi/locks/play").size == 0, "and nobody has the machine any more"


def test_code_comes_from_git_by_its_version_and_from_an_archive(vps, host, deploy, apps, tmp_path):
    one, two = apps
    one.write(70)
    commit(one.folder, "v70")
    one.write(71)
    later = commit(one.folder)
    two.write(72)
    archive(two.folder, tmp_path / "two.tar.gz")
    one.options = {"git": str(one.folder), "version": "v70"}
    two.options = {"archive": str(tmp_path / "two.tar.gz")}
    deploy()
    assert (version(vps, "one.example"), version(vps, "two.example")) == (70, 72)
    one.options["version"] = "main"
    deploy(app="one")
    assert version(vps, "one.example") == 71
    origins = [entry["origin"] for entry in releases(host, "one").values()]
    assert f"git main ({later[:12]})" in origins
    assert host.run("which git").rc != 0, "the target needs none"


def test_a_wheel_and_a_requirement_are_installed_beside_what_runs_without_an_index(
    vps, host, deploy, apps, tmp_path
):
    house = tmp_path / "house"
    house.mkdir()
    needed = ["gunicorn==27.0.1"]
    subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", f"--dest={house}", *needed],
                   check=True)  # fmt: skip
    one, two = apps
    two.options = {"source": str(two.folder)}
    sites = [Target("new", "two.example"), Target("slow", "two.example", "/slow")]
    for number in (80, 81):
        library = {"kechi_private.py": f"VERSION = {number}\n"}
        wheel(house, "kechi_private", str(number), library)
        two.write(number, requirements_txt=f"kechi-private=={number}\n", late_py=LATE)
        packed = wheel(tmp_path, "packaged", str(number), {"packaged.py": PACKAGED % number})
        one.options = {"wheel": str(packed), "wsgi": "packaged:application"}
        before = virtualenv(host)
        with load(vps.address, sites) as report:
            deploy(vhost_app_wheel_house=str(house))
        assert report.failures == [], str(report)
        assert (version(vps, "one.example"), version(vps, "two.example")) == (number, number)
        assert virtualenv(host) != before
    deploy("rollback", app="two", vhost_app_wheel_house=str(house))
    assert (version(vps, "one.example"), version(vps, "two.example")) == (81, 80)
