"""What systemd starts by itself meets a play, or another of its kind: each pair on purpose."""

import json
import os
import shutil
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from ansible_collections.kechi.vps.plugins.module_utils import locks

from .locking import Program, lock_of, python

CERTIFICATES = """
from ansible_collections.kechi.vps.plugins.module_utils import certificates
sys.exit(certificates.main([], certificates.Machine(pathlib.Path(sys.argv[1]))))
"""
CERTIFICATES_MODULE = """
from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kechi.vps.plugins.modules import certificates
AnsibleModule.warn = lambda _self, text: print(text, flush=True)
machine = certificates.Machine
certificates.Machine = lambda tell: machine(pathlib.Path({root!r}), tell=tell)
certificates.main()
"""
HOLDS = """
import signal
def tell(text):
    print(text, flush=True)
handle = locks.keep(locks.BACKUP, "a test", tell=tell)
tell("it has it")
signal.pause()
"""
BACKUP = """
from backup_py import cli
from backup_py import locks as own
own.DIRECTORY = locks.DIRECTORY
cli.main()
"""
# its copying of files begins, and goes on for ever
ENDLESS_BACKUP = f"""
import signal
from backup_py import tree
def endless(*_):
    print("copying", flush=True)
    signal.pause()
tree.copy = endless
{BACKUP}
"""
LIMITS = """
from supervisor_py.crawlers import limits
from supervisor_py.crawlers import locks as own
own.DIRECTORY = locks.DIRECTORY
limits._run = lambda *_: ""
limits._nginx_since = lambda: 0.0
folder = pathlib.Path(sys.argv[1])
places = limits.Places(folder / "settings", folder / "suspects", folder / "crawlers.map")
sys.exit(limits.main(["apply"], places))
"""
MODULE = """
from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kechi.vps.plugins.modules import {name} as module
AnsibleModule.warn = lambda _self, text: print(text, flush=True)
for name, path in {places}.items():
    setattr(module, name, pathlib.Path(path))
{then}
"""
# as certbot does: at its end it writes what it knew at its beginning, and removes its lock's file
CERTBOT = """
import fcntl, os
lock, go, renewal, text = sys.argv[1:]
handle = open(lock, "w")
fcntl.lockf(handle, fcntl.LOCK_EX)
waiting = os.open(go, os.O_RDWR)
print("renewing", flush=True)
os.read(waiting, 1)
pathlib.Path(renewal).write_text(text)
os.remove(lock)
"""
SERVER = "server = https://127.0.0.1:1/dir\n"
A_PLAY = "a play"
WAITS = "waiting for the end of a play (pid"


@pytest.fixture
def own_locks(tmp_path):
    """The locks of this test's programs."""
    return tmp_path / "run" / "locks"


@pytest.fixture
def start(own_locks):
    """Start a Python program; what a failed test leaves running is ended."""
    started = []

    def start(code, *arguments, **options):
        started.append(Program(python(own_locks, code, *arguments), **options))
        return started[-1]

    yield start
    for program in started:
        program.kill()


@pytest.fixture
def start_module(start):
    """Start one of the collection's modules."""

    def start_module(name, places=None, path=None, **arguments):
        code = MODULE.format(name=name, places=places or {}, then="module.main()")
        told = json.dumps({"ANSIBLE_MODULE_ARGS": arguments})
        return start(code, told=told, path=path)

    return start_module


def pass_on(fifo):
    """Let a program go on that waits at a FIFO."""
    handle = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)  # fails where nobody waits
    os.write(handle, b"\n")
    os.close(handle)


def test_two_of_a_kind_never_act_at_once_and_the_second_says_whom_it_waits_for(own_locks, start):
    with lock_of(own_locks, locks.BACKUP, A_PLAY):
        second = start(HOLDS)
        second.wait_for(f"waiting for the end of a play (pid {os.getpid()}, since 2")
        assert "it has it" not in second.output
    second.wait_for("it has it")


def test_a_lock_ends_with_its_holder_whatever_that_dies_of(own_locks, start):
    first = start(HOLDS)
    first.wait_for("it has it")
    first.kill()
    with lock_of(own_locks, locks.BACKUP, A_PLAY):
        assert (own_locks / locks.BACKUP).stat().st_mode & 0o777 == 0o600
    assert own_locks.stat().st_mode & 0o777 == 0o700
    assert own_locks.parent.stat().st_mode & 0o777 == 0o755


def test_a_lock_that_is_a_link_is_not_followed(own_locks, tmp_path):
    own_locks.mkdir(parents=True)
    (own_locks / locks.BACKUP).symlink_to(tmp_path / "precious")
    (tmp_path / "precious").write_text("precious")
    with pytest.raises(OSError, match="symbolic links"), lock_of(own_locks, locks.BACKUP, A_PLAY):
        pytest.fail("it was followed")
    assert (tmp_path / "precious").read_text() == "precious"


@pytest.fixture
def certificates(tmp_path):
    """A machine whose ACME server is silent, with one certificate that it has given."""
    if not shutil.which("openssl"):
        pytest.skip("certificates are signed by openssl")
    settings = tmp_path / "etc/kechi/certificates.json"
    renewal = tmp_path / "etc/letsencrypt/renewal/kechi-blog.conf"
    for file in (settings, renewal, tmp_path / "var/lib/kechi/certificates.json"):
        file.parent.mkdir(parents=True, exist_ok=True)
    site = {"name": "blog", "hosts": ["blog.example"]}
    acme = {"server": "https://127.0.0.1:1/dir", "email": "me@example.org"}
    on = {"sites": [site], "acme": acme, "ports": {"http": 1, "https": 2}}
    settings.write_text(json.dumps(on))
    renewal.write_text(f"[renewalparams]\n{SERVER}")
    return settings, renewal


OFF = json.dumps({"sites": [], "acme": {}, "ports": {"http": 1, "https": 0}})


def test_a_timers_look_at_certificates_that_meets_a_play_goes_by_the_plays_settings(
    certificates, own_locks, start, tmp_path
):
    settings, renewal = certificates
    with lock_of(own_locks, locks.CERTIFICATES, A_PLAY):
        timers = start(CERTIFICATES, tmp_path)
        timers.wait_for(WAITS)
        # what a play does: the settings, and then, under the lock, what follows from them
        settings.write_text(OFF)
        renewal.write_text(f"[renewalparams]\nautorenew = False\n{SERVER}")
    timers.end()
    assert "autorenew = False" in renewal.read_text(), timers.output


def test_a_play_has_certificates_looked_after_only_when_the_timers_program_has_ended(
    certificates, own_locks, start, tmp_path
):
    _settings, renewal = certificates
    with lock_of(own_locks, locks.CERTIFICATES, "kechi-certificates"):
        told = json.dumps({"ANSIBLE_MODULE_ARGS": {"stage": "finish", "settings": json.loads(OFF)}})
        play = start(CERTIFICATES_MODULE.format(root=str(tmp_path)), told=told)
        play.wait_for("waiting for the end of kechi-certificates (pid")
        # what it has begun by the settings of before
        renewal.write_text(f"[renewalparams]\n# renewed\n{SERVER}")
    play.end()
    assert "autorenew = False\n# renewed" in renewal.read_text(), play.output


def test_certbot_that_is_under_way_ends_before_its_renewals_are_switched_off(
    certificates, start, tmp_path
):
    settings, renewal = certificates
    lock, go = tmp_path / "etc/letsencrypt/.certbot.lock", tmp_path / "go"
    os.mkfifo(go)
    certbot = start(CERTBOT, lock, go, renewal, f"[renewalparams]\n{SERVER}")
    certbot.wait_for("renewing")
    settings.write_text(OFF)
    play = start(CERTIFICATES, tmp_path)
    play.wait_for("waiting for the end of certbot")
    pass_on(go)
    assert certbot.end()[0] == 0, certbot.output
    play.end()
    assert "autorenew = False" in renewal.read_text(), play.output


@pytest.fixture
def backups(tmp_path):
    """The configuration of backups of one app, and where it is."""
    shared = tmp_path / "www" / "blog" / "shared"
    shared.mkdir(parents=True)
    with closing(sqlite3.connect(shared / "app.db")) as made, made:
        made.execute("create table t (x)")
    config = {
        "host": "vps1",
        "apps": [{"name": "blog", "directory": str(shared)}],
        "directory": str(tmp_path / "backups"),
        "state": str(tmp_path / "state"),
        "secrets": str(tmp_path / "backup.secrets.json"),
        "keep": 2,
        "min_free_mb": 0,
        "exclude": [],
        "restic_keep": {},
    }
    (tmp_path / "backup.secrets.json").write_text("{}")
    file = tmp_path / "backup.json"
    file.write_text(json.dumps(config))
    return config, file


def kept(directory):
    return [path.name for path in Path(directory).glob("*/*")]


def test_a_nightly_backup_that_meets_a_restore_waits_and_goes_by_the_settings_of_then(
    backups, own_locks, start, tmp_path
):
    config, file = backups
    with lock_of(own_locks, locks.BACKUP, "kechi_backup restore blog"):
        nightly = start(BACKUP, f"--config={file}", "run")
        nightly.wait_for("waiting for the end of kechi_backup restore blog (pid")
        assert kept(config["directory"]) == []
        file.write_text(json.dumps({**config, "directory": str(tmp_path / "elsewhere")}))
    assert nightly.end()[0] == 0, nightly.output
    assert kept(config["directory"]) == []
    assert len(kept(tmp_path / "elsewhere")) == 1


def test_a_restore_that_meets_a_backup_is_refused_with_who_and_changes_nothing(
    backups, own_locks, start
):
    config, file = backups
    with lock_of(own_locks, locks.BACKUP, "kechi_backup run"):
        restore = start(BACKUP, f"--config={file}", "restore", "blog")
        code, said = restore.end()
    assert code == 1
    assert f"blog: not restored, as kechi_backup run (pid {os.getpid()}, since 2" in said
    assert "systemctl stop kechi-backup.service" in said
    assert not list(Path(config["apps"][0]["directory"]).parent.glob("shared.*"))


def test_a_restores_swap_waits_for_a_deploy_that_may_restart_the_same_unit(
    backups, own_locks, start
):
    config, file = backups
    run = start(BACKUP, f"--config={file}", "run")
    assert run.end()[0] == 0, run.output
    shared = Path(config["apps"][0]["directory"])
    with lock_of(own_locks, locks.TASK, "a task of a play (pool_state)"):
        restore = start(BACKUP, f"--config={file}", "restore", "blog")
        restore.wait_for("waiting for the end of a task of a play (pool_state) (pid")
        assert not list(shared.parent.glob("shared.before-*"))
    assert restore.end()[0] == 0, restore.output
    assert len(list(shared.parent.glob("shared.before-*"))) == 1


def test_a_backup_that_a_play_ends_leaves_no_half_of_it(backups, start):
    config, file = backups
    run = start(ENDLESS_BACKUP, f"--config={file}", "run")
    run.wait_for("copying")
    run.terminate()
    assert run.end()[0] == 128 + 15
    assert kept(config["directory"]) == []


def test_limits_that_meet_a_play_are_of_the_groups_that_it_has_written(tmp_path, own_locks, start):
    (tmp_path / "settings").write_text('{"groups": ["impostors"], "never": []}')
    suspect = {"group": "impostor", "address": "192.0.2.7", "agent": "Googlebot/2.1"}
    (tmp_path / "suspects").write_text(json.dumps(suspect) + "\n")
    with lock_of(own_locks, locks.CRAWLERS, A_PLAY):
        apply = start(LIMITS, tmp_path)
        apply.wait_for(WAITS)
        (tmp_path / "settings").write_text('{"groups": [], "never": []}')
    assert apply.end()[0] == 0, apply.output
    assert "192.0.2.7" not in (tmp_path / "crawlers.map").read_text()


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="modules change a machine as root")


@as_root
def test_a_play_writes_nginxs_files_only_when_the_limits_program_has_ended(
    tmp_path, own_locks, start_module
):
    file = tmp_path / "crawlers.conf"
    files = [{"path": str(file), "content": "new"}]
    with lock_of(own_locks, locks.CRAWLERS, "kechi-crawler-limits apply"):
        play = start_module("files", files=files, lock=locks.CRAWLERS)
        play.wait_for("waiting for the end of kechi-crawler-limits apply (pid")
        assert not file.exists()
    assert play.end()[0] == 0, play.output
    assert file.read_text() == "new"


@as_root
def test_no_two_tasks_of_plays_change_a_machine_at_once_and_check_mode_waits_for_none(
    tmp_path, own_locks, start_module
):
    file = tmp_path / "file"
    files = [{"path": str(file), "content": "new"}]
    with lock_of(own_locks, locks.TASK, "a task of a play (virtualenvs)"):
        second = start_module("files", files=files)
        second.wait_for("waiting for the end of a task of a play (virtualenvs) (pid")
        checks = start_module("files", files=files, _ansible_check_mode=True)
        assert checks.end()[0] == 0, checks.output
        assert not file.exists()
    assert second.end()[0] == 0, second.output
    assert file.read_text() == "new"


# the kernel's rules are "old"; to load the new ones takes until somebody writes to `go`
NFT = """#!/bin/sh
case "$NAMESPACE $*" in
  " list tables") echo "table inet kechi" ;;
  " --stateless --terse list"*) echo old ;;
  "inside --stateless --terse list"*) echo new ;;
  " -f {folder}/trial/new.nft") exec 3<>{folder}/go; : > {folder}/loading; read _ <&3 ;;
esac
echo "$*" >> {folder}/log
"""

REVERT = "import os; os.execvp(module.revert()[0], module.revert())"
SYSTEMCTL = """#!/bin/sh
[ "$*" != daemon-reload ] || {{ exec 3<>{folder}/go; : > {folder}/reloading; read _ <&3; }}
"""


@pytest.fixture
def firewall(tmp_path):
    """What stands for the commands of a machine with a firewall, and the paths of the module."""
    commands = tmp_path / "bin"
    commands.mkdir()
    os.mkfifo(tmp_path / "go")
    scripts = {
        "nft": NFT.format(folder=tmp_path),
        "unshare": '#!/bin/sh\nshift\nNAMESPACE=inside exec "$@"\n',
        "systemctl": SYSTEMCTL.format(folder=tmp_path),
        "systemd-run": "#!/bin/sh\n",
    }
    for name, text in scripts.items():
        (commands / name).write_text(text)
        (commands / name).chmod(0o755)
    paths = {"TRIAL": "trial", "RULES": "rules", "UNIT": "unit", "NFT": "bin/nft"}
    return commands, {name: str(tmp_path / path) for name, path in paths.items()}


@as_root
def test_the_firewalls_revert_does_not_come_before_the_rules_that_it_takes_back(
    firewall, own_locks, start, start_module, tmp_path
):
    commands, places = firewall
    play = start_module("firewall", places, commands, rules="new", unit="unit", confirm_seconds=1)
    wait_until((tmp_path / "loading").exists, play)
    # the timer is due while the new rules are still being loaded
    revert = start(MODULE.format(name="firewall", places=places, then=REVERT))
    wait_until(lambda: revert.has_ended() or is_waited_for(own_locks / locks.FIREWALL), play)
    pass_on(tmp_path / "go")
    assert play.end()[0] == 0, play.output
    assert revert.end()[0] == 0, revert.output
    lines = (tmp_path / "log").read_text().splitlines()
    trial = places["TRIAL"]
    loaded = [line for line in lines if line.startswith(f"-f {trial}")]
    assert loaded[-2:] == [f"-f {trial}/new.nft", f"-f {trial}/previous.nft"]
    assert not Path(trial).exists()


@as_root
def test_the_firewalls_revert_takes_nothing_back_that_a_play_has_just_kept(
    firewall, own_locks, start, start_module, tmp_path
):
    commands, places = firewall
    trial = Path(places["TRIAL"])
    trial.mkdir()
    (trial / "previous.nft").touch()
    (trial / "new.listing").write_text("old\n")  # what the kernel has
    play = start_module("firewall", places, commands, step="keep", rules="new", unit="unit")
    wait_until((tmp_path / "reloading").exists, play)
    # the timer has been due before it was stopped
    revert = start(MODULE.format(name="firewall", places=places, then=REVERT))
    wait_until(lambda: revert.has_ended() or is_waited_for(own_locks / locks.FIREWALL), play)
    pass_on(tmp_path / "go")
    assert play.end()[0] == 0, play.output
    assert revert.end()[0] == 0, revert.output
    assert f"-f {trial}/previous.nft" not in (tmp_path / "log").read_text().splitlines()
    assert Path(places["RULES"]).read_text().endswith("new")


@as_root
def test_a_step_of_the_firewall_that_does_not_end_keeps_nobody_out(
    firewall, own_locks, start, tmp_path
):
    _commands, places = firewall
    trial = Path(places["TRIAL"])
    trial.mkdir()
    (trial / "previous.nft").touch()
    impatient = f"module.WAIT_SECONDS = 0; {REVERT}"
    with lock_of(own_locks, locks.FIREWALL, A_PLAY):
        revert = start(MODULE.format(name="firewall", places=places, then=impatient))
        assert revert.end()[0] == 0, revert.output
    assert (tmp_path / "log").read_text() == f"-f {trial}/previous.nft\n"
    assert not trial.exists()


def wait_until(fulfilled, program):
    """Wait for what no program's line tells; a program that has ended brings it no more."""
    while not fulfilled():
        assert not program.has_ended(), program.output
        time.sleep(0.01)  # between two looks


def is_waited_for(lock):
    """Whether a process waits for a lock."""
    lines = Path("/proc/locks").read_text().splitlines()
    return any("->" in line and f":{lock.stat().st_ino} " in line for line in lines)
