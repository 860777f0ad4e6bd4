"""A release that is no good: the old one serves on, the play says why, the next good one works."""

from __future__ import annotations

import itertools
import re
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from testinfra.host import Host

from harness.load import Target, load
from shared.inventory import Inventory
from shared.versions import Versioned
from shared.vps import Vps

TARGETS = [
    Target("new", "one.example"),
    Target("keep-alive", "two.example"),
    Target("slow", "one.example", "/slow"),
]
HEALTHY = {"health_path": "/health", "health_statuses": [200]}
# what a trial does not show, as it is not under start_server
SERVING = "\nif 'SERVER_STARTER_PORT' in os.environ:\n    "
DIES = f"{SERVING}os._exit(3)\n"
UNWELL = """
healthy = application
UNWELL_ALWAYS = True
def application(environ, start_response):
    sick = UNWELL_ALWAYS or "SERVER_STARTER_PORT" in os.environ
    if sick and environ["PATH_INFO"] == "/health":
        start_response("500 Internal Server Error", [])
        return [b"the cache is gone"]
    return healthy(environ, start_response)
"""

UNWELL_LATER = UNWELL.replace("UNWELL_ALWAYS = True", "UNWELL_ALWAYS = False")
SICK = "the app one does not answer as it should: GET /health for one.example"


class Site:
    """The machine, and the app that is deployed to it in ever newer versions."""

    def __init__(self, host: Host, address: str, folder: Path) -> None:
        self.host = host
        self.vps = Vps(host, address)
        self.inventory = Inventory(host.backend.name)
        self.app = Versioned(folder, "one")
        self._numbers = itertools.count(2)

    def write(self, more: str = "", **files: str) -> str:
        """Make the app a newer version; returns that."""
        number = next(self._numbers)
        self.app.write(number, more, **files)
        return str(number)

    @property
    def pools(self) -> list[dict[str, Any]]:
        """The pools with the app as it is now."""
        pool = self.inventory.variables["vhost_app_pools"][0]
        return [{**pool, "apps": [{**self.app.entry, **HEALTHY}, pool["apps"][1]]}]

    def deploy(self) -> None:
        """Deploy the app as it is now."""
        self.inventory.apply(playbook="deploy", vhost_app_pools=self.pools)

    def refuse(self, **changes: object) -> str:
        """Deploy the app, expect that it fails, and return what was said."""
        said = self.inventory.refuse(playbook="deploy", vhost_app_pools=self.pools, **changes)
        assert self.host.file("/run/kechi/locks/play").size == 0, "no play has the machine any more"
        return said

    @property
    def version(self) -> str:
        """The version that serves."""
        return str(self.vps.get("one.example").headers["X-Generation"])

    @property
    def state(self) -> tuple[str, int, str]:
        """What must be as before: what serves, and what is switched to."""
        links = "readlink /srv/kechi/main/current /srv/kechi/main/good"
        apps = "readlink -f /srv/www/*/current"
        files = self.host.check_output(f"{links}; {apps}; cat /etc/kechi/pools/main.toml")
        return self.version, self.vps.main_pid("main"), str(files)


@pytest.fixture(scope="module")
def site(host, address, tmp_path_factory):
    return Site(host, address(host), tmp_path_factory.mktemp("apps"))


@pytest.fixture
def refused(site):
    """Deploy what must be refused, under load, and where that is asked for a good release then."""

    def run(words, *, good=False, **changes):
        before = site.state
        with load(site.vps.address, TARGETS) as report:
            output = site.refuse(**changes)
            after = site.state
            number = before[0]
            site.app.options = {"source": str(site.app.folder)}
            if good:
                number = site.write()
                site.deploy()
        print(report)
        assert words in output, output
        assert report.failures == [], str(report)
        assert after == before
        assert site.version == number
        return {str(version) for version in report.generations("one.example")}

    return run


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("\nimport nowhere\n", "No module named 'nowhere'"),
        ("\nos._exit(3)\n", "its process has died"),
        (f"{SERVING}raise RuntimeError('no such table')\n", "no such table"),
        (DIES, "failed: generation"),
        (f"{SERVING}time.sleep(3600)\n", "not ready"),
        (UNWELL, f"in a trial, so it goes on as it is: {SICK}"),
        (UNWELL_LATER, SICK),
    ],
    ids=["import error", "dies in trial", "import error at start", "dies at start", "never ready",
         "unwell", "unwell later"],
)  # fmt: skip
def test_a_release_that_does_not_serve_leaves_the_old_one_serving(refused, site, code, words):
    bad = site.write(code)
    seen = refused(words, good=code in (DIES, UNWELL_LATER))
    # what does not even start has answered nobody; the other one is found out as it serves
    assert bad not in seen or code is UNWELL_LATER


def test_a_release_that_never_loads_is_given_up_in_time(refused, site):
    site.write("\ntime.sleep(3600)\n")
    refused("not over within 4 seconds", vhost_app_load_timeout_seconds=4)


def test_a_hook_that_fails_leaves_the_old_release_serving(refused, site):
    site.write()
    site.app.options["before_switch"] = [["sh", "-c", "echo column missing >&2; exit 5"]]
    refused("a hook of the app one failed, so it goes on as it is", good=True)


def test_a_requirement_that_can_not_be_installed_leaves_the_old_release_serving(refused, site):
    virtualenvs = site.host.check_output("ls /srv/kechi/main/venvs")
    site.write(requirements_txt="gunicorn==0.0.999\n")
    refused("the virtualenv could not be filled, and nothing else has changed")
    assert site.host.check_output("ls /srv/kechi/main/venvs") == virtualenvs


@contextmanager
def full(host, folder):
    """Put a directory on a disk that has only a few kB left, as it is."""
    small = "/run/small"
    size = int(host.check_output(f"du -sk {folder} | cut -f1"))
    host.check_output(
        f"mkdir -p {small} && mount -t tmpfs -o size={size + 64}k tmpfs {small}"
        f" && cp -a {folder}/. {small} && mount --bind {small} {folder}"
    )
    host.run(f"dd if=/dev/zero of={folder}/.filler bs=4k")
    try:
        yield
    finally:
        host.check_output(f"umount {folder} && umount {small}")


@pytest.mark.parametrize("folder", ["/srv/www/one/releases", "/srv/kechi/main/sets"])
def test_a_full_disk_leaves_the_old_release_serving_and_no_rest(site, folder):
    number = site.write()
    before = site.state
    with load(site.vps.address, TARGETS) as report:
        with full(site.host, folder):
            output = site.refuse()
            assert site.state == before
            assert site.host.run(f"ls {folder} | grep part").stdout == ""
        site.deploy()
    assert "No space left on device" in output
    assert report.failures == [], str(report)
    assert site.version == number


def test_a_run_that_was_cut_off_is_finished_or_taken_back_by_the_next(site):
    """Two of the moments that a run can end at, made by hand after whole ones."""
    good = site.write()
    site.deploy()
    pool = "/srv/kechi/main"
    first = site.host.check_output(f"readlink {pool}/current")
    newer = site.write()
    site.deploy()
    second = site.host.check_output(f"readlink {pool}/current")
    # switched, and not reloaded
    site.host.check_output(
        f"ln -sfn {first} {pool}/current && ln -sfn {first} {pool}/good"
        " && : > /etc/kechi/pools/main.generation && systemctl reload kechi@main.service"
        f" && ln -sfn {second} {pool}/current"
    )
    assert site.version == good
    site.deploy()
    assert site.version == newer
    # reloaded, and not asked; and what comes next is bad
    site.host.check_output(f"ln -sfn {first} {pool}/good")
    site.write("\nimport nowhere\n")
    assert "The releases before serve again" in site.refuse()
    assert site.version == good


def test_a_failed_deploy_shows_what_its_app_has_logged_in_this_try_alone(site):
    tell = "\nprint('the cause of try %d', file=__import__('sys').stderr, flush=True)\n"
    site.write(UNWELL + tell % 1)
    assert "one: the cause of try 1" in site.refuse()
    site.write(UNWELL + tell % 2)
    said = site.refuse()
    assert "one: the cause of try 2" in said
    assert "the cause of try 1" not in said
    unknown = {"app": "one", "release": "nope", "vhost_app_pools": site.pools}
    listed = " ".join(site.inventory.refuse(playbook="rollback", **unknown).split())
    assert re.search(r"UTC[^;]*, failed\)", listed), listed
    site.write()
    site.deploy()


# what starts after all must not be late on a busy machine
PATIENT = {"supervisor_readiness_timeout_seconds": 60}


@pytest.fixture(scope="module")
def patient_site(site):
    """The machine with time for a first start."""
    site.inventory.apply(vhost_app_pools=site.pools, **PATIENT)
    return site


@pytest.mark.parametrize(
    ("pool", "code", "words"),
    [
        ({"name": "absent", "command": ["/usr/bin/nonesuch"]}, "", "/usr/bin/nonesuch"),
        ({"name": "broken"}, "\nimport nowhere\n", "No module named 'nowhere'"),
        ({"name": "dying"}, DIES, "its first generation does not start"),
    ],
    ids=["no program", "import error", "dies at start"],
)
def test_a_new_pool_that_can_not_start_is_off_again_and_starts_once_it_is_mended(
    patient_site, pool, code, words, tmp_path
):
    site, name = patient_site, pool["name"]
    app = Versioned(tmp_path, name)
    app.write(1, code)
    left_out = "wsgi" if "command" in pool else ""
    apps = [{key: value for key, value in app.entry.items() if key != left_out}]
    before = site.state
    pools = [*site.pools, {"memory_max_mb": 100, **pool, "apps": apps}]
    said = site.inventory.refuse(vhost_app_pools=pools, **PATIENT)
    assert words in said, said
    assert "it is stopped and disabled again" in said
    units = f"kechi@{name}.service kechi@{name}.socket"
    shown = site.host.run(f"systemctl is-active {units}; systemctl is-enabled {units}").stdout
    assert shown.split() == ["inactive", "inactive", "disabled", "disabled"]
    assert site.state == before
    if "command" not in pool:
        app.write(2)
        assert "run playbooks/site.yml" in site.inventory.refuse(
            playbook="deploy", vhost_app_pools=pools, **PATIENT
        )
        site.inventory.apply(vhost_app_pools=pools, **PATIENT)
        active = f"systemctl is-active kechi@{name}.service"
        assert site.host.check_output(active) == "active"
        off = [*site.pools, {"name": name, "state": "absent", "apps": []}]
        site.inventory.apply(vhost_app_pools=off, **PATIENT)
