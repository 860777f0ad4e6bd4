"""What `pool_state` does on a machine, step by step, and what it tells where a step fails.

The machine is a directory with real files; systemd, start_server and the trials are made up.
"""

import functools
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from ansible_collections.kechi.vps.plugins.module_utils import health, hooks, release_sets, releases
from ansible_collections.kechi.vps.plugins.modules import pool_state

SERVICE, SOCKET = "kechi@main.service", "kechi@main.socket"
BLOG, WIKI = "kechi@main.blog.socket", "kechi@main.wiki.socket"
TRIAL = "kechi-trial-main.service"
CONTROL = "--control-socket=/run/kechi-main/control"
JOURNAL = "Traceback: the app's own words"
ONE, TWO = "000000000001", "000000000002"
CHECK = {"app": "blog", "site": "blog.test", "host": "blog.test", "path": "/", "statuses": [],
         "socket": "/run/kechi/main.sock"}  # fmt: skip
POOL = {
    "name": "main",
    "state": "present",
    "memory_max_mb": 100,
    "tasks_max": 64,
    "command": [],
    "environment": {},
    "checks": [CHECK],
    "hooks": [],
    "unit_paths": [f"/etc/systemd/system/{name}" for name in ("kechi@.service", BLOG)],
    "daemon_paths": ["/usr/local/lib/kechi/current"],
    "generation_paths": ["/etc/kechi/env"],
    "limits_paths": ["/etc/systemd/system/kechi@main.service.d/limits.conf"],
}


class Machine:
    """A VPS with one pool, and what is asked of its programs."""

    def __init__(self, root, monkeypatch):
        self.root = root
        self.commands = []
        self.warnings: list[str] = []
        self.units = {name: {"active": "inactive", "enabled": ""} for name in (SERVICE, SOCKET)}
        self.unloaded = False  # systemd has not read what is on the disk
        self.faults = {}  # by a word of a command: what it says as it fails
        self.starts = []  # what `systemctl show` tells of a service, one look after the other
        self.generations = [{"status": "serves 1 app"}]
        self.answer = ""  # to --status, instead of that
        self.sick = set()  # the sockets that answer wrongly
        self.asked = []  # the sockets, and by which way
        self.front = None
        self.environment_file = ""
        self.own_server = {
            **POOL,
            "command": [f"{self.path('/srv/www/blog')}/current/server", "--fast"],
            "environment": {"KEY": "a$b"},
        }
        self._redirect(monkeypatch)
        for folder in (
            "/run/kechi-main",
            "/etc/kechi/pools",
            "/etc/kechi/env",
            "/srv/kechi",
        ):
            self.path(folder).mkdir(parents=True, exist_ok=True)
        for folder in ("kechi@main.service.d", "multi-user.target.wants"):
            self.path(f"/etc/systemd/system/{folder}").mkdir(parents=True)
        module = SimpleNamespace(
            run_command=self.run,
            warn=self.warnings.append,
            params={"load_seconds": 120, "hook_seconds": 600, "health_seconds": 10, "keep": 3},
        )
        self.pools = pool_state.Pools(module)
        self.sets = pool_state.release_sets.Sets("main")

    def path(self, name):
        return self.root / str(name).lstrip("/")

    def _redirect(self, monkeypatch):
        """Have every absolute path of the modules lead into our directory."""
        for module in (pool_state, release_sets, releases):
            for name, value in list(vars(module).items()):
                if isinstance(value, Path):
                    monkeypatch.setattr(module, name, self.path(value))
        monkeypatch.setattr(pool_state, "Path", self._inside)
        own = (
            self.path(at)
            for at in ("srv/kechi", "srv/www", "etc/kechi/pools", "etc/systemd/system")
        )
        monkeypatch.setattr(release_sets, "Sets", functools.partial(release_sets.Sets, **dict(
            zip(("root", "apps", "pool_files", "units"), own, strict=True))))  # fmt: skip
        monkeypatch.setattr(pool_state.time, "sleep", lambda _seconds: None)
        monkeypatch.setattr(health, "front_end", lambda: self.front)
        monkeypatch.setattr(health, "check", self._ask)

    def _inside(self, name):
        path = Path(name)
        return self.path(path) if path.is_absolute() and self.root not in path.parents else path

    def _ask(self, wanted, _seconds, front):
        self.asked.append((wanted["socket"], front))
        if wanted["socket"] in self.sick:
            raise health.Unhealthy("GET / gives 500")

    def write(self, name, *, sockets=(BLOG,), app="blog"):
        """A release set of one app."""
        release = self.path(f"/srv/www/{app}/releases/{name}")
        release.mkdir(parents=True)
        releases.note(release.parent.parent, name, deployed=float(name))
        folder = self.sets.path(name)
        (folder / "units").mkdir(parents=True)
        (folder / "pool.toml").touch()
        for socket in sockets:
            (folder / "units" / socket).write_text("[Socket]\n")
        self.sets.link(name, {app: str(release)}, "/srv/kechi/main/venvs/0")
        about = {
            "apps": {app: str(release)},
            "virtualenv": "/srv/kechi/main/venvs/0",
            "routes": {"blog.test": "/run/kechi/main.sock"},
        }
        (folder / release_sets.ABOUT).write_text(json.dumps(about))
        return release

    def serve(self, name=ONE, pool=POOL):
        """Have the pool run, with a set that has passed its gate."""
        self.write(name)
        self.deploy(name, pool)
        self.commands.clear()
        self.asked.clear()

    def deploy(self, target, pool=POOL):
        """What the module does; returns the steps."""
        steps = self.pools.plan(pool, target)
        self.pools.bring(pool, target, steps)
        return steps

    def run(self, words, check_rc=False, data=None):
        """What the machine does for a command."""
        words = [str(word) for word in words]
        if words[:2] == ["systemctl", "show"]:
            return 0, self._show(words[-1]), ""
        if words[0] == "journalctl":  # which only asks, too
            return 0, f"{words[-1]} {JOURNAL}", ""
        self.commands.append(words if data is None else [*words, data])
        for part, said in self.faults.items():
            if part in words or (data and part in data):
                return 1, "", f"{said}\n"
        if words[0] == "systemctl":
            self._systemctl(*words[1:])
        elif words[0] == "systemd-run":
            for word in words:
                if word.startswith("--unit="):
                    self.units[TRIAL] = {"active": "active", "enabled": ""}
                elif word.startswith("--property=EnvironmentFile="):
                    self.environment_file = Path(word.rpartition("=")[2]).read_text()
        elif "--status" in words:
            return 0, self.answer or json.dumps({"generations": self.generations}), ""
        return 0, "", ""

    def _show(self, unit):
        found = self.units.get(unit, {"active": "inactive", "enabled": ""})
        shown = {
            "ActiveState": found["active"],
            "SubState": {"active": "running", "failed": "failed"}.get(found["active"], "dead"),
            "UnitFileState": found["enabled"],
            "NeedDaemonReload": "yes" if self.unloaded else "no",
            "Job": "0",
            "StatusErrno": "0",
            **dict.fromkeys(pool_state.LIMITS, "[not set]"),
            "MemoryMax": "104857600",
        }
        if unit in (SERVICE, TRIAL) and self.starts:
            shown |= self.starts.pop(0)
        return "".join(f"{name}={value}\n" for name, value in shown.items())

    def _systemctl(self, verb, *words):
        units = [word for word in words if not word.startswith("--")]
        for unit in units if verb != "set-property" else []:
            found = self.units.setdefault(unit, {"active": "inactive", "enabled": ""})
            if verb in ("enable", "disable"):
                found["enabled"] = f"{verb}d"
            if verb in ("start", "restart"):
                found["active"] = "active"
            if verb == "stop" or "--now" in words:
                found["active"] = "inactive"
        if verb == "daemon-reload":
            self.unloaded = False
        if verb == "restart":  # it requires the sockets
            for socket in self.sets.sockets(self.sets.active):
                self.units.setdefault(socket, {"enabled": ""})["active"] = "active"
            self._started_from(*pool_state.KINDS)
        if verb == "reload":
            self._started_from("generation")

    def reboot(self):
        """Have systemd start the pool by itself."""
        self._started_from(*pool_state.KINDS)

    def _started_from(self, *kinds):
        """What the unit does as it starts, by install(1)."""
        pool_state.RUNNING.mkdir(parents=True, exist_ok=True)
        for kind in kinds:
            note = (pool_state.NOTES / f"main.{kind}").read_text()
            (pool_state.RUNNING / f"main.{kind}").write_text(note)

    @property
    def done(self):
        """The begin of each command."""
        return [" ".join(words[:4]) for words in self.commands]


@pytest.fixture
def machine(tmp_path, monkeypatch):
    return Machine(tmp_path, monkeypatch)


def test_a_new_pool_is_enabled_started_asked_and_then_left_alone(machine):
    machine.write(ONE)
    assert machine.deploy(ONE) == ["activate", "enable", "start", "gate"]
    assert machine.done == [
        "systemctl daemon-reload",
        f"systemctl enable {SERVICE} {SOCKET}",
        f"systemctl start {SOCKET}",
        f"systemctl restart --no-block {SERVICE}",
        f"{pool_state.START_SERVER} --status --json {CONTROL}",
    ]
    assert [words[-1] for words in machine.commands if words[1] == "enable"] == [BLOG]
    assert (machine.sets.active, machine.sets.good) == (ONE, ONE)
    assert machine.asked == [("/run/kechi/main.sock", None)]
    machine.commands.clear()
    assert machine.deploy(ONE) == []
    assert machine.commands == []


def test_another_set_is_checked_and_tried_before_it_gets_a_generation(machine):
    machine.serve()
    machine.write(TWO)
    assert machine.deploy(TWO) == ["check", "rehearse", "activate", "reload", "gate"]
    kinds = [words[0] if words[0] == "systemd-run" else words[1] for words in machine.commands]
    assert kinds == ["systemd-run", "stop", "systemd-run", "stop", "reload"]
    check, _, trial, _, reload = machine.commands
    vhost_server = f"{machine.sets.path(TWO)}/venv/bin/vhost_server"
    assert json.loads(check[-1])["command"][3:5] == [vhost_server, "--check"]
    assert trial[trial.index(vhost_server) :][2:] == ["--bind=unix:/run/kechi-trial-main/main.sock"]
    assert reload == ["systemctl", "reload", SERVICE]
    assert [socket for socket, _ in machine.asked] == [
        "/run/kechi-trial-main/main.sock",
        "/run/kechi/main.sock",
    ]
    assert machine.sets.good == TWO
    assert machine.deploy(TWO) == []


def test_an_isolated_app_more_restarts_the_pool_and_one_less_closes_its_socket(machine):
    machine.serve()
    machine.write(TWO, sockets=(BLOG, WIKI))
    assert "restart" in machine.deploy(TWO)
    assert machine.units[WIKI] == {"active": "active", "enabled": "enabled"}
    machine.commands.clear()
    three = "000000000003"
    machine.write(three, sockets=(BLOG,))
    steps = machine.deploy(three)
    assert steps == ["check", "rehearse", "activate", "close", "reload", "gate"]
    assert machine.done[-3:] == [
        f"systemctl disable --now {WIKI}",
        "systemctl daemon-reload",
        f"systemctl reload {SERVICE}",
    ]
    assert machine.units[WIKI] == {"active": "inactive", "enabled": "disabled"}
    assert not (pool_state.UNITS / WIKI).exists()
    assert (pool_state.UNITS / BLOG).exists()


@pytest.mark.parametrize(
    ("changed", "steps", "commands"),
    [
        (
            "/etc/systemd/system/kechi@.service",
            ["check", "restart", "gate"],
            ["systemctl restart --no-block kechi@main.service"],
        ),
        (
            "/usr/local/lib/kechi/current",
            ["upgrade"],
            [f"{pool_state.START_SERVER} --upgrade {CONTROL}"],
        ),
        ("/etc/kechi/env/ZONE", ["reload", "gate"], ["systemctl reload kechi@main.service"]),
        (
            "/etc/systemd/system/kechi@main.service.d/limits.conf",
            ["limits"],
            ["systemctl set-property --runtime kechi@main.service"],
        ),
    ],
)
def test_a_changed_file_takes_the_step_of_its_kind_once(machine, changed, steps, commands):
    machine.serve()
    machine.path(changed).parent.mkdir(parents=True, exist_ok=True)
    machine.path(changed).write_text("another")
    assert machine.deploy(ONE) == steps
    assert set(commands) <= set(machine.done)
    machine.commands.clear()
    assert machine.deploy(ONE) == []
    assert machine.commands == []


def test_limits_go_to_the_kernel_as_systemd_has_read_them(machine):
    machine.serve()
    machine.pools.act(POOL, "limits", ONE)
    (command,) = machine.commands
    assert command[4:] == [
        "MemoryMax=104857600",
        "MemoryHigh=",
        "MemorySwapMax=",
        "TasksMax=",
        "CPUWeight=",
    ]


def test_units_that_systemd_has_not_read_are_read(machine):
    machine.serve()
    machine.unloaded = True
    assert machine.deploy(ONE) == ["daemon-reload"]
    assert machine.done == ["systemctl daemon-reload"]
    assert machine.deploy(ONE) == []


def test_a_pool_that_is_to_go_is_stopped_with_all_its_sockets_once(machine):
    machine.serve()
    assert machine.pools.removal("main") == ["stop"]
    machine.pools.act(POOL, "stop", "")
    (command,) = machine.commands
    assert command == ["systemctl", "disable", "--now", SERVICE, SOCKET, BLOG]
    assert list(pool_state.RUNNING.iterdir()) == [], "nothing runs that was made from anything"
    assert machine.pools.removal("main") == []
    machine.units[BLOG]["enabled"] = "enabled"  # as after a run that was cut off
    assert machine.pools.removal("main") == ["stop"]


def test_a_pools_own_server_is_tried_with_the_code_that_is_new(machine):
    machine.serve(pool=machine.own_server)
    release = machine.write(TWO)
    assert machine.deploy(TWO, machine.own_server) == [
        "check",
        "rehearse",
        "activate",
        "reload",
        "gate",
    ]
    check, _, trial, *_ = machine.commands
    server = f"{release}/server"
    assert json.loads(check[-1])["command"][3:] == ["test", "-f", server, "-a", "-x", server]
    assert trial[:2] == ["systemd-run", "--no-block"]
    assert trial[trial.index("--") :] == ["--", server, "--fast"]
    assert "--path=/run/kechi-trial-main/main.sock" in trial
    assert machine.environment_file == 'KEY="a\\$b"\n'
    assert "KEY" not in " ".join(word for words in machine.commands for word in words)


def hooked(*commands):
    return {**POOL, "hooks": [{"app": "blog", "commands": list(commands), "environment": {"A": 1}}]}


def test_hooks_run_once_for_a_release_with_its_environment(machine):
    machine.write(ONE)
    pool = hooked(["migrate"], ["collect", "static"])
    assert machine.deploy(ONE, pool)[0] == "hooks"
    told = [json.loads(words[-1]) for words in machine.commands if words[0] == "systemd-run"]
    assert [one["command"][3:] for one in told] == [["migrate"], ["collect", "static"]]
    assert [one["environment"]["A"] for one in told] == ["1", "1"]
    assert machine.deploy(ONE, pool) == []


def test_a_hook_that_fails_is_told_and_runs_again_next_time(machine):
    machine.serve()
    machine.write(TWO)
    pool = hooked(["migrate"])
    machine.faults = {'"migrate"': "no such table"}
    told = failure(machine, TWO, pool)
    assert told.startswith("a hook of the app blog failed, so it goes on as it is: `migrate`")
    assert "no such table" in told
    assert machine.sets.active == ONE
    assert not any(words[1] == "reload" for words in machine.commands)
    machine.faults = {}
    assert "hooks" in machine.deploy(TWO, pool)


def failure(machine, target, pool=POOL):
    with pytest.raises(pool_state.PoolError) as caught:
        machine.deploy(target, pool)
    return str(caught.value)


def test_a_set_that_does_not_load_is_not_switched_to(machine):
    machine.serve()
    machine.write(TWO)
    machine.faults = {"--pipe": "ModuleNotFoundError: No module named 'flask'"}
    told = failure(machine, TWO)
    assert told.startswith("what is new can't be served, so it goes on as it is: ")
    assert "No module named 'flask'" in told
    assert machine.done == ["systemd-run --quiet --wait --pipe"]
    assert machine.sets.active == ONE


def test_a_pools_own_server_that_is_no_program_is_not_switched_to(machine):
    machine.serve(pool=machine.own_server)
    release = machine.write(TWO)
    machine.faults = {"--pipe": ""}
    assert f"{release}/server is no program that kechi-main may run" in failure(
        machine, TWO, machine.own_server
    )
    assert machine.sets.active == ONE


def trial_refused(machine):
    machine.faults = {"--service-type=notify": "Job failed"}


def trial_sick(machine):
    machine.sick = {"/run/kechi-trial-main/main.sock"}


@pytest.mark.parametrize(
    ("spoil", "own_server", "words"),
    [
        (trial_refused, False, "Job failed"),
        (trial_refused, True, "Job failed"),
        (trial_sick, False, "the app blog does not answer as it should: GET / gives 500"),
        (trial_sick, True, "the app blog does not answer as it should: GET / gives 500"),
    ],
)
def test_a_set_that_fails_its_trial_is_not_switched_to_and_the_trial_is_ended(
    machine, spoil, own_server, words
):
    pool = machine.own_server if own_server else POOL
    machine.serve(pool=pool)
    machine.write(TWO)
    spoil(machine)
    told = failure(machine, TWO, pool)
    assert "goes on as it is" in told
    assert words in told
    assert f"{TRIAL} {JOURNAL}" in told
    assert [words for words in machine.commands if words[0] != "journalctl"][-1] == [
        "systemctl",
        "stop",
        TRIAL,
    ]
    assert machine.sets.active == ONE
    assert "systemctl reload kechi@main.service" not in machine.done


def test_a_pools_own_server_that_ends_in_its_trial_is_told(machine):
    machine.serve(pool=machine.own_server)
    machine.write(TWO)
    # the service of the pool is looked at first
    machine.starts = [{}, {"ActiveState": "failed", "SubState": "failed"}]
    assert "it is failed (failed)" in failure(machine, TWO, machine.own_server)
    assert machine.sets.active == ONE


STARTING = {"ActiveState": "activating", "SubState": "start", "Job": "7"}


@pytest.mark.parametrize(
    ("starts", "words"),
    [
        ([{}, STARTING, {**STARTING, "StatusErrno": "2"}], "its first generation does not start"),
        (
            [{}, STARTING, {"ActiveState": "failed", "SubState": "failed"}],
            "it is failed (failed)",
        ),
        ([{}, {"ActiveState": "activating", "SubState": "auto-restart"}], "it is activating"),
    ],
)
def test_a_pool_that_does_not_start_is_told_with_its_journal(machine, starts, words):
    machine.write(ONE)
    machine.starts = starts
    told = failure(machine, ONE)
    assert words in told
    assert f"{SERVICE} {JOURNAL}" in told
    assert machine.sets.good == "", "nobody has asked it"


def test_the_end_of_a_start_is_waited_for(machine):
    machine.write(ONE)
    machine.starts = [{}, *[STARTING] * 5, {"ActiveState": "activating", "Job": "7"}]
    machine.deploy(ONE)
    assert machine.starts == []
    assert machine.sets.good == ONE


def test_a_first_generation_that_serves_without_an_app_is_a_failure(machine):
    machine.write(ONE)
    machine.generations = [{"status": None}, {"status": "1 app; can't load blog: SyntaxError; x"}]
    assert failure(machine, ONE).startswith("its first generation can't load blog: SyntaxError\n")
    assert machine.sets.good == ""


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({}, "KeyError"),
        ([], "TypeError"),
        ({"generations": None}, "TypeError"),
        ({"generations": [5]}, "TypeError"),
        ({"generations": [{"status": {"a": 1}}]}, ""),  # text like any other
        ("\x1b[2J no JSON", "JSONDecodeError"),
        ("[" * 200_000, "RecursionError"),
    ],
)
def test_a_status_that_is_none_is_a_failure_with_a_reason(machine, answer, words):
    """The control socket is in the app's own directory: anything may answer there."""
    machine.write(ONE)
    machine.answer = answer if isinstance(answer, str) else json.dumps(answer)
    if not words:
        machine.deploy(ONE)
        return
    with pytest.raises(pool_state.PoolError, match=f"--status gives no status .{words}"):
        machine.deploy(ONE)


def main_fails(machine, monkeypatch, target, **more):
    """Run the module as Ansible does; what it says as it fails."""
    said = {}

    def fail_json(**told):
        said.update(told)
        raise SystemExit

    params = machine.pools.module.params | {
        "pools": [POOL | more], "known": [], "release_sets": {"main": target}
    }  # fmt: skip
    module = SimpleNamespace(
        **vars(machine.pools.module) | {"params": params}, check_mode=False, fail_json=fail_json
    )
    monkeypatch.setattr(pool_state, "AnsibleModule", lambda **_options: module)
    monkeypatch.setattr(pool_state.bounded, "run", machine.run)
    monkeypatch.setattr(pool_state.play_lock, "at_work", lambda _module: None)
    with pytest.raises(SystemExit):
        pool_state.main()
    return said["msg"]


def test_nothing_that_a_failure_quotes_acts_on_a_terminal_or_is_endless(machine, monkeypatch):
    machine.serve()
    machine.write(TWO)
    lines = ["\x1b]0;x\x07\x1b[2J\u202edone", "x" * 10**6, *map(str, range(1000)), "the last"]
    machine.faults["reload"] = "\n".join(lines)
    told = main_fails(machine, monkeypatch, TWO, checks=[])
    assert not [one for one in told if not one.isprintable() and one != "\n"]
    assert "the last\n" in told
    assert len(told) < 100_000
    machine.faults["reload"] = "\n".join(lines[:2])
    told = main_fails(machine, monkeypatch, TWO, checks=[])
    assert "\\x1b]0;x\\x07\\x1b[2J\\u202edone\nxxx" in told
    assert len(told) < 100_000


def test_an_app_that_answers_wrongly_is_told_and_its_set_is_not_good(machine):
    machine.serve()
    machine.write(TWO)
    machine.sick = {"/run/kechi/main.sock"}
    told = failure(machine, TWO)
    assert told.startswith("the app blog does not answer as it should: GET / gives 500\n")
    assert f"{SERVICE} {JOURNAL}" in told
    assert (machine.sets.active, machine.sets.good) == (TWO, ONE)


def test_the_front_end_is_asked_for_what_it_knows_already(machine):
    machine.front = {"scheme": "http", "port": 80}
    machine.serve()
    machine.write(TWO)
    machine.deploy(TWO)
    assert machine.asked[-1] == ("/run/kechi/main.sock", machine.front)
    assert machine.asked[0][1] is None, "a trial is not behind it"


def test_what_fails_goes_back_to_the_set_that_was_good(machine):
    machine.serve()
    machine.write(TWO)
    machine.sick = {"/run/kechi/main.sock"}
    failure(machine, TWO)
    machine.commands.clear()
    assert (
        machine.pools.go_back(POOL, ["reload", "gate"], was_off=False)
        == f"The releases before serve again: blog {ONE}"
    )
    assert (machine.sets.active, machine.sets.good) == (ONE, ONE)
    assert "systemctl reload kechi@main.service" in machine.done
    assert machine.pools.go_back(POOL, ["reload", "gate"], was_off=False) == "", (
        "it is there already"
    )
    machine.sick = set()
    assert machine.deploy(ONE) == []


def test_going_back_that_fails_is_told_too(machine):
    machine.serve()
    machine.write(TWO)
    machine.faults = {"reload": "Job for kechi@main.service failed"}
    assert "systemctl reload kechi@main.service: Job for" in failure(machine, TWO)
    told = machine.pools.go_back(POOL, ["reload", "gate"], was_off=False)
    assert told.startswith(f"Going back to the releases before (blog {ONE}) failed, too: ")
    assert "Job for kechi@main.service failed" in told


@pytest.mark.parametrize("sick", [True, False], ids=["does not answer", "does not start"])
def test_a_new_pool_that_fails_is_off_again_and_a_mended_one_starts(machine, sick):
    machine.write(ONE)
    if sick:
        machine.sick = {"/run/kechi/main.sock"}
    else:
        machine.starts = [{}, {"ActiveState": "activating", "SubState": "auto-restart"}]
    failure(machine, ONE)
    told = machine.pools.go_back(POOL, ["activate", "enable", "start", "gate"], was_off=True)
    assert told.startswith("It did not run before: it is stopped and disabled again")
    for unit in (SERVICE, SOCKET, BLOG):
        assert machine.units[unit] == {"active": "inactive", "enabled": "disabled"}
    assert (machine.sets.active, machine.sets.good) == ("", "")
    machine.sick, machine.starts = set(), []
    machine.write(TWO)
    assert machine.deploy(TWO) == ["activate", "enable", "start", "gate"]
    assert machine.sets.good == TWO


@pytest.mark.parametrize("by", ["the play", "hand"])
@pytest.mark.parametrize("sick", [True, False], ids=["does not answer", "does not start"])
def test_a_pool_that_was_taken_away_does_not_serve_its_old_release_again_when_a_new_one_fails(
    machine, monkeypatch, sick, by
):
    machine.serve()
    if by == "hand":
        machine.run(["systemctl", "disable", "--now", SERVICE, SOCKET, BLOG])
    else:
        machine.pools.act(POOL, "stop", "")
    machine.write(TWO)
    if sick:
        machine.sick = {"/run/kechi/main.sock"}
    else:
        machine.generations = [{"status": "0 apps; can't load blog: SyntaxError; x"}]
    told = main_fails(machine, monkeypatch, TWO)
    assert "It did not run before: it is stopped and disabled again" in told
    assert "serve again" not in told
    for unit in (SERVICE, SOCKET, BLOG):
        assert machine.units[unit] == {"active": "inactive", "enabled": "disabled"}
    assert (machine.sets.active, machine.sets.good) == (ONE, ONE), "for commands and backups"
    machine.sick, machine.generations = set(), [{"status": None}]
    assert machine.deploy(TWO) == ["activate", "enable", "start", "gate"]
    assert (machine.sets.active, machine.sets.good) == (TWO, TWO)


@pytest.mark.parametrize("state", ["failed", "only started"])
def test_a_pool_that_was_down_but_not_taken_away_gets_its_good_release_back(
    machine, monkeypatch, state
):
    machine.serve()
    machine.units[SERVICE] = {
        "failed": {"active": "failed", "enabled": "enabled"},
        "only started": {"active": "active", "enabled": "disabled"},
    }[state]
    machine.write(TWO)
    machine.sick = {"/run/kechi/main.sock"}
    assert f"The releases before serve again: blog {ONE}" in main_fails(machine, monkeypatch, TWO)
    assert (machine.sets.active, machine.sets.good) == (ONE, ONE)
    assert machine.units[SERVICE]["active"] == "active"


def test_a_pool_that_served_without_ever_having_been_good_is_not_stopped(machine):
    machine.write(ONE)
    machine.sick = {"/run/kechi/main.sock"}
    failure(machine, ONE)
    assert machine.pools.go_back(POOL, ["gate"], was_off=False) == ""
    assert machine.units[SERVICE]["active"] == "active"


def test_a_step_that_fails_is_named_and_what_was_cut_off_is_done_next_time(machine):
    machine.serve()
    machine.write(TWO)
    machine.faults = {"reload": "it did not become ready"}
    failure(machine, TWO)
    machine.faults = {}
    assert machine.deploy(TWO) == ["reload", "gate"]
    assert machine.sets.good == TWO


def test_what_a_boot_has_started_after_a_switch_that_was_cut_off_is_not_taken_for_the_set_before(
    machine,
):
    machine.serve()
    machine.write(TWO)
    machine.pools.act(POOL, "activate", TWO)
    machine.reboot()
    assert "reload" in machine.deploy(ONE)


@pytest.mark.parametrize(
    ("step", "word"),
    [
        ("daemon-reload", "daemon-reload"),
        ("enable", "enable"),
        ("reload", "reload"),
        ("restart", "restart"),
        ("start", "start"),
        ("start", "--status"),
        ("upgrade", "--upgrade"),
        ("limits", "set-property"),
        ("close", "disable"),
        ("stop", "disable"),
    ],
)
def test_a_command_that_fails_ends_its_step_with_its_words_and_the_journal(machine, step, word):
    machine.serve()
    (pool_state.UNITS / WIKI).touch()
    before = {kind: machine.pools.running("main")[kind] for kind in pool_state.KINDS}
    machine.faults = {word: "Access denied"}
    with pytest.raises(pool_state.PoolError) as caught:
        machine.pools.act(POOL, step, ONE)
    told, _, journal = str(caught.value).partition("\nThe last lines of its journal:\n")
    assert told.endswith("Access denied")
    assert word in told
    assert journal == f"--unit={SERVICE} {JOURNAL}"
    if step in ("upgrade", "limits"):
        assert machine.pools.running("main") == before, "it runs with what it had"


def test_a_disk_that_is_full_is_told_with_the_step(machine, monkeypatch):
    machine.serve()
    machine.write(TWO)
    monkeypatch.setattr(
        machine.sets.__class__, "activate", lambda *_: (_ for _ in ()).throw(OSError("disk full"))
    )
    assert failure(machine, TWO) == "activate: disk full"


def test_what_is_old_and_can_not_be_removed_is_a_warning(machine, monkeypatch):
    machine.write(ONE)
    monkeypatch.setattr(
        machine.sets.__class__, "prune", lambda *_: (_ for _ in ()).throw(OSError("busy"))
    )
    machine.deploy(ONE)
    assert machine.warnings == ["pool main: what is old can't be removed: busy"]
    assert machine.sets.good == ONE


def test_digests_that_can_not_be_written_are_a_warning_and_the_pool_is_served(machine, monkeypatch):
    machine.serve()
    write = releases.write_atomically

    def refuse(path, text, **more):
        if text and path.parent.name == "pools":
            raise OSError("read-only")
        write(path, text, **more)

    monkeypatch.setattr(releases, "write_atomically", refuse)
    machine.write(TWO)
    machine.deploy(TWO)
    assert machine.sets.good == TWO
    assert len(machine.warnings) == 1
    assert "main.generation can't be written: read-only" in machine.warnings[0]


def test_pools_that_nobody_speaks_of_are_warned_of(machine):
    for name in ("main", "old"):
        path = f"/etc/systemd/system/multi-user.target.wants/kechi@{name}.service"
        machine.path(path).touch()
    machine.pools.warn_of_forgotten([])
    assert machine.warnings == [], "nobody has said which there are"
    machine.pools.warn_of_forgotten(["main"])
    assert len(machine.warnings) == 1
    assert machine.warnings[0].startswith("the pool old goes on, and is not in the inventory")


def test_what_others_run_has_its_environment_by_stdin_alone(machine):
    machine.write(ONE)
    machine.deploy(ONE, hooked(["migrate"]))
    (command,) = [words for words in machine.commands if words[0] == "systemd-run"]
    assert "A=1" not in " ".join(command[:-1])
    assert command[-5:-1] == ["/usr/bin/python3", "-I", "-c", hooks.RUNNER]
