"""How much of the machine each unit that we start could reach, by systemd's own score.

Units that stay come from the roles' templates, and those of a moment from what starts them.
"""

import re
import subprocess
from pathlib import Path

import jinja2
import pytest
import yaml

from ansible_collections.kechi.vps.plugins.filter import host
from ansible_collections.kechi.vps.plugins.module_utils import building, hooks, sandbox
from ansible_collections.kechi.vps.plugins.modules import firewall
from supervisor_py.vhost import of_pool

ROLES = Path(__file__).parents[3] / "roles"
MOST = 1.5  # of 10, which is a unit without a sandbox
# root's, whose work needs more; docs/security.md says what, and why
OF_ROOT = {"kechi-backup": 2.7, "kechi-certificates": 9.2, "kechi-firewall": 1.5}
UNPRIVILEGED = ["kechi@", "kechi-crawler of report", "kechi-crawler of limits"]
CONFINED = hooks.Confined("main", "/srv/www/a/releases/1", "/srv/www/a/shared", 300, 60, 256)


def installed(name, item=""):
    """The text of a unit as its role installs it."""
    (file,) = ROLES.glob(f"*/templates/{name}.service.j2")
    role = file.parents[1]
    environment = jinja2.Environment(trim_blocks=True, keep_trailing_newline=True)
    environment.filters["kechi.vps.sandbox"] = lambda _: sandbox.unit_lines()
    environment.filters["kechi.vps.firewall_sandbox"] = host.firewall_sandbox
    values = {"item": item}
    for kind in ("vars", "defaults"):
        values |= yaml.safe_load((role / kind / "main.yml").read_text())
    values["_backup_writes"] = ["/var/backups/kechi"]
    return environment.from_string(file.read_text()).render(values)


def of_a_moment(words):
    """The text of a unit that says what a call of systemd-run says."""
    found = [word.removeprefix("--property=") for word in words if word.startswith("--property=")]
    lines = [line for line in found if not line.startswith("EnvironmentFile=")]
    return "\n".join(["[Service]", "ExecStart=/bin/true", *lines, ""])


def build(*, network):
    words = []

    def run(command):
        words.extend(command)
        return 0, "", ""

    building.Builder(run, 512, 900).run(["make"], writable=[Path("/srv/x")], network=network)
    return words


def exposure(folder, text):
    """What systemd-analyze makes of a unit, and its reasons."""
    unit = folder / "kechi-test.service"
    unit.write_text(text)
    command = ["systemd-analyze", "security", "--offline=yes", "--no-pager", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
    assert found, done.stdout + done.stderr
    return float(found[1]), done.stdout


@pytest.mark.parametrize("name", UNPRIVILEGED)
def test_units_of_apps_and_reports_reach_little(tmp_path, name):
    score, why = exposure(tmp_path, installed(*name.split(" of ")))
    assert score <= MOST, why


@pytest.mark.parametrize(
    ("words", "most"),
    [
        pytest.param(build(network=True), MOST, id="an installer"),
        pytest.param(build(network=False), MOST, id="a build"),
        pytest.param(CONFINED.start, MOST, id="a hook or a check"),
        # whose processes all may say that they are ready, and give a socket to their own user
        pytest.param(CONFINED.serve("kechi-trial-main"), 1.6, id="a trial"),
        pytest.param(firewall.revert_unit(60), MOST, id="the firewall's way back"),
        pytest.param(
            of_pool.command(["--check"], "main", "300M", root=True), MOST, id="vhost_server --check"
        ),
    ],
)
def test_units_of_a_moment_reach_little(tmp_path, words, most):
    assert words[0] == "systemd-run"
    score, why = exposure(tmp_path, of_a_moment(words))
    assert score <= most, why


@pytest.mark.parametrize(("name", "most"), OF_ROOT.items())
def test_units_of_root_reach_no_more_than_they_did(tmp_path, name, most):
    score, why = exposure(tmp_path, installed(name))
    assert score <= most, why


def test_a_pools_own_drop_in_opens_little(tmp_path):
    file = ROLES / "vhost_app" / "templates" / "pool.conf.j2"
    environment = jinja2.Environment(trim_blocks=True, keep_trailing_newline=True)
    pool: dict[str, object] = {"command": None, "sockets": [], "temporary_max_mb": 16}
    drop_in = environment.from_string(file.read_text()).render(item=pool)
    text = installed("kechi@").replace("[Install]", f"{drop_in}\n[Install]")
    score, why = exposure(tmp_path, text)
    assert score <= MOST, why


def test_every_unit_of_the_roles_is_looked_at():
    names = {
        file.name.removesuffix(".service.j2") for file in ROLES.glob("*/templates/*.service.j2")
    }
    assert names == {name.split(" of ")[0] for name in UNPRIVILEGED} | set(OF_ROOT)


def test_a_unit_that_reaches_more_is_found(tmp_path):
    text = installed("kechi@")
    assert (
        exposure(tmp_path, text.replace("NoNewPrivileges=yes", ""))[0] > exposure(tmp_path, text)[0]
    )
    assert exposure(tmp_path, text.replace("CapabilityBoundingSet=", ""))[0] > MOST


def test_an_administrators_check_of_a_pool_is_confined_as_the_pool_is():
    assert of_pool.CONFINED[: len(sandbox.DIRECTIVES)] == sandbox.DIRECTIVES
