"""A pool whose app is hostile: nothing of root's or of a neighbour's is reached by any run.

What the app does is done here as its user, without even its sandbox around it.
"""

from __future__ import annotations

import pytest

from shared.inventory import Inventory
from shared.vps import Vps

APP = "/srv/www/evil"
RUN = "/run/kechi-evil"
# directories of static files inside `deep`, as in the inventory; the neighbour has such ones, too
THUMBS = [f"thumbs{number}" for number in range(1, 7)]
RUNS = 8
# what nobody of this scenario changes: files of root's, and the neighbour's persistent ones
WATCHED = "/etc/victim /srv/www/victim/shared"
LISTED = f"find {WATCHED} -printf '%p %u %g %m %s %l\\n' | sort; cat /etc/victim/secret"
SWAP = """
import ctypes, sys
swap = ctypes.CDLL(None).renameat2
one, other = (name.encode() for name in sys.argv[1:])
while True:
    swap(-100, one, -100, other, 2)
"""
# what a neighbour has, and what is made of it
OF_VICTIM = (
    "/srv/www/victim /srv/kechi/victim /etc/kechi/pools/victim.toml /var/cache/kechi/builds"
    " /etc/systemd/system/kechi@victim.service.d"
)
READ = """
import os, sys
for path in sys.stdin.read().splitlines():
    try:
        os.listdir(path) if os.path.isdir(path) else open(path).close()
        print(path)
    except (PermissionError, FileNotFoundError):
        pass
"""
KINDS = ["daemon", "generation", "limits", "unit"]


class Machine:
    """Does as root what an administrator does, and as the app what it likes."""

    def __init__(self, host, vps):
        self.host = host
        self.vps = vps
        self.inventory = Inventory(host.backend.name)

    def as_evil(self, command):
        become = "setpriv --reuid=kechi-evil --regid=kechi-evil --clear-groups"
        return self.host.check_output(f"{become} sh -c %s", command)

    def order(self, code):
        """Have the app run some code in its sandbox, in a worker."""
        self.as_evil(
            f"cat > {APP}/shared/o <<'END'\n{code}\nEND\nmv {APP}/shared/o {APP}/shared/order.py"
        )
        assert self.vps.get("evil.example").status == 200

    def tasks(self):
        """How many tasks the pool's unit has."""
        return int(self.host.check_output("systemctl show -P TasksCurrent kechi@evil"))

    def backups(self, app):
        """The names of an app's backups."""
        return set(self.host.run(f"ls -A /var/backups/kechi/{app}").stdout.split())

    def swapping(self, one, other):
        """Swap two names as the app, thousands of times a second, until it is stopped."""
        self.host.check_output(
            "systemd-run --quiet --collect --unit=swapper --uid=kechi-evil --gid=kechi-evil"
            " --property=RuntimeMaxSec=300 python3 -c %s %s %s",
            SWAP, one, other,
        )  # fmt: skip


@pytest.fixture
def machine(host, address):
    made = Machine(host, Vps(host, address(host)))
    host.check_output(
        "mkdir -p /etc/victim; echo secret > /etc/victim/secret; chmod 600 /etc/victim/secret;"
        f" cd /srv/www/victim/shared; mkdir -p {' '.join(THUMBS)};"
        " chown kechi-victim: thumbs*; chmod 700 thumbs*"
    )
    before = host.check_output(LISTED)
    yield made
    host.run("systemctl stop swapper.service")
    host.check_output(f"rm -rf {APP}/shared/* {RUN}/*.limits {RUN}/*.unit {RUN}/*.daemon"
                      f" {RUN}/*.generation")  # fmt: skip
    assert host.check_output(LISTED) == before, "what is not the app's was touched"
    assert made.vps.get("victim.example").status == 200


def test_what_runs_is_not_noted_where_an_app_can_put_links(machine):
    """And what an app has put there starts no step of a run."""
    machine.as_evil(f"ln -sfn /etc/victim/secret {RUN}/evil.limits")
    machine.as_evil(f"rm -f {RUN}/evil.generation; truncate -s 200M {RUN}/evil.generation")
    said = machine.inventory.apply(backup_min_free_mb=11)
    assert "changed=1 " in said, said
    notes = machine.host.check_output("stat -c '%U %a %n' /run/kechi/notes/evil.*").splitlines()
    assert [note.rpartition(".")[2] for note in notes] == KINDS
    assert all(note.startswith("root 600 ") for note in notes)
    machine.as_evil("! test -w /run/kechi/notes && ! cat /run/kechi/notes/evil.unit 2>&-")


def test_no_pool_reads_a_neighbours_code_settings_wheels_or_files(machine):
    """By no name that it may know; what nginx serves of it, it may read as well."""

    def read():
        everything = f"find {OF_VICTIM} -mindepth 0 ! -type l"
        become = "setpriv --reuid=kechi-evil --regid=kechi-evil --clear-groups"
        return machine.host.check_output(f"{everything} | {become} python3 -c %s", READ).split()

    def allowed(path):
        served = "/public/static" in path and path.startswith("/srv/www/victim/releases/")
        # names of releases, and what of the unit is no secret
        names = ("/srv/www/victim", "/srv/www/victim/releases", "/var/cache/kechi/builds")
        return served or path in names or path.startswith("/etc/systemd/system/")

    everything = machine.host.check_output(f"find {OF_VICTIM}")
    for part in ("victim.py", "pool.toml", "set.json", "/venvs/", "draft.txt", "/shared"):
        assert part in everything
    machine.inventory.apply()
    found = read()
    assert [path for path in found if not allowed(path)] == []
    assert any(path.endswith("/public/static/site.css") for path in found)
    assert machine.vps.get("victim.example", "/static/site.css").text == "body { color: black }\n"
    assert machine.host.run("grep -rs hunter2 /etc/systemd/system").rc != 0
    # as a machine of an earlier version has it
    machine.host.check_output(
        "chmod -R o+rX /srv/www/victim/releases /srv/kechi/victim; chmod o-r"
        " /srv/kechi/victim/sets/*/pool.toml; sed -i '/\"group\"/d' /srv/www/victim/releases.json"
    )
    assert [path for path in read() if not allowed(path)] != []
    said = machine.inventory.apply()
    assert "changed=0 " not in said, said
    assert [path for path in read() if not allowed(path)] == []
    assert "changed=0 " in machine.inventory.apply()


def test_the_root_of_static_files_is_no_way_out(machine):
    machine.inventory.apply()
    shared = f"{APP}/shared"
    machine.host.check_output("test -s /var/log/nginx/kechi-access.log")
    machine.as_evil(f"umask 027; echo mine > {shared}/media/f; ln -s f {shared}/media/own")
    assert machine.vps.get("evil.example", "/media/f").text == "mine\n"
    assert machine.vps.get("evil.example", "/media/own").text == "mine\n"
    assert machine.vps.get("evil.example", f"/{THUMBS[0]}/x").status == 404
    machine.as_evil(f"mv {shared}/media {shared}/m; ln -s /var/log/nginx {shared}/media")
    machine.as_evil(
        f"cd {shared}/deep; mv {THUMBS[0]} {shared}/t; ln -s /var/log/nginx {THUMBS[0]}"
    )
    for path in ("/media/kechi-access.log", f"/{THUMBS[0]}/kechi-access.log"):
        assert machine.vps.get("evil.example", path).status in (403, 404)
    said = machine.inventory.refuse()
    assert f"{shared}/media: media is a link that somebody else may have made" in said
    machine.as_evil(
        f"rm -r {shared}/media {shared}/deep; ln -s /srv/www/victim/shared {shared}/deep"
    )
    said = machine.inventory.refuse(playbook="deploy", app="evil")
    assert f"{shared}/deep: deep is a link that somebody else may have made" in said


def test_a_directory_swapped_for_a_link_while_site_yml_runs_leads_nowhere(machine):
    shared = f"{APP}/shared"
    inside = " ".join(f"{shared}/deep/{name}" for name in THUMBS)
    machine.as_evil(f"mkdir -p {inside}; ln -s /srv/www/victim/shared {shared}/other")
    machine.swapping(f"{shared}/deep", f"{shared}/other")
    for _ in range(RUNS):  # each of them may be lucky, and meet no link
        succeeded, said = machine.inventory.attempt()
        if not succeeded:
            break
    machine.host.check_output("systemctl stop swapper.service")
    assert not succeeded, "no run has met the link, so nothing has been shown"
    # by the second one where it became a link after it had been looked at
    refusals = ("deep is a link that somebody else may have made", "deep is not a directory")
    assert any(refusal in said for refusal in refusals), said


def test_one_apps_files_do_not_end_the_others_backup(machine):
    shared = f"{APP}/shared"
    before = {app: machine.backups(app) for app in ("evil", "victim")}
    machine.as_evil(f"printf 'SQLite format 3\\0' > {shared}/app.db")
    done = machine.host.run("kechi_backup run")
    assert done.rc == 1
    assert f"evil: not backed up: {shared}/app.db" in done.stderr
    assert "failed: evil" in done.stderr
    machine.as_evil(
        f"rm {shared}/app.db; python3 -c \"import os; os.chdir('{shared}')\n"
        "for _ in range(1100): os.mkdir('d'); os.chdir('d')\""
    )
    assert "nested more than 200 deep" in machine.host.run("kechi_backup run").stderr
    assert len(machine.backups("victim") - before["victim"]) == 2
    assert machine.backups("evil") == before["evil"]


def test_a_restore_gives_nothing_away_that_was_not_in_the_backup(machine):
    shared = f"{APP}/shared"
    machine.as_evil(f"mkdir {shared}/a; cd {shared}/a; touch secret $(seq 500)")
    machine.host.check_output("kechi_backup run evil")
    machine.as_evil(f"ln -s /etc/victim {shared}/b")
    machine.swapping(f"{APP}/shared.restoring/files/a", f"{shared}/b")
    said = machine.inventory.apply(playbook="restore", app="evil")
    assert "is in place" in said
    machine.host.check_output("systemctl stop swapper.service")
    assert machine.host.check_output(f"stat -c %U {shared} {shared}/a/secret") == (
        "kechi-evil\nkechi-evil"
    )
    machine.host.check_output(f"rm -rf {APP}/shared.before-*")


# forks twice, lets go of all that it was given, and takes its mark off
DAEMON = """
import os, resource, sys
if os.fork() == 0:
    os.setsid()
    if os.fork():
        os._exit(0)
    resource.setrlimit(10, (resource.getrlimit(10)[1],) * 2)
    os.closerange(0, 1000)
    code = "import os, signal; open('/srv/www/evil/shared/daemon', 'w').write(str(os.getpid()));"
    os.execve("/usr/bin/python3", ["innocent", "-c", code + "signal.pause()"], {})
os.wait()
"""


def test_nothing_that_an_app_forks_outlives_its_generation_or_adds_up(machine):
    machine.host.check_output("systemctl reload kechi@evil")
    before = machine.tasks()
    for _ in range(3):
        machine.order(DAEMON)
        file = f"{APP}/shared/daemon"
        machine.vps.wait_until(lambda: machine.host.run(f"test -s {file}").rc == 0, "it runs")  # noqa: B023
        pid = machine.host.check_output(f"cat {file}; rm {file}")
        assert machine.host.run(f"kill -0 {pid}").rc == 0
        machine.host.check_output("systemctl reload kechi@evil")
        assert machine.host.run(f"kill -0 {pid}").rc != 0
    machine.vps.wait_until(lambda: machine.tasks() <= before, "all of them have gone")


def test_what_an_app_puts_into_its_runtime_directory_misleads_no_command(machine):
    before = machine.vps.generation("victim")
    machine.as_evil(f"mv {RUN}/control {RUN}/c; ln -s /run/kechi-victim/control {RUN}/control")
    done = machine.host.run(f"start_server --restart --control-socket={RUN}/control")
    assert done.rc != 0
    assert "control is a link that somebody else may have made" in done.stderr
    assert "kechi_victim" not in done.stderr
    machine.as_evil(f"mv {RUN}/c {RUN}/control; mv {RUN}/pid {RUN}/p; mkfifo {RUN}/pid")
    done = machine.host.run("timeout 60 shared_memory_size --all")
    assert done.rc == 1
    assert "not a regular file" in done.stderr
    machine.as_evil(f"rm {RUN}/pid; echo 1 > {RUN}/pid")
    done = machine.host.run("shared_memory_size evil")
    assert "process 1 is user 0's" in done.stderr
    machine.as_evil(f"mv {RUN}/p {RUN}/pid")
    assert machine.host.run("shared_memory_size evil victim").rc == 0
    assert machine.vps.generation("victim") == before
