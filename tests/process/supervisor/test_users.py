"""--user and --group: root opens the sockets, and is given up for good before anything runs."""

import grp
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor_py import users

from ..machine import folder_for_others
from ..waiting import LIMIT, wait_until
from .harness import AS_NOBODY, Server, alive, command, connect

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
NOBODY = pwd.getpwnam("nobody")
_SYSTEM_PYTHON = "/usr/bin/python3"  # ours may be where only root can read
_NEW_ENOUGH = "import sys; sys.exit(sys.version_info < (3, 11))"
_PROGRAM = ["/bin/sh", "-c", 'id -G >"$OUT"; env >>"$OUT"; exec sleep 60']


class Theirs(Server):
    """A server whose files are in root's directory, and in one that is nobody's."""

    def __init__(self, directory: Path, code: Path) -> None:
        super().__init__(directory, code)
        self.own = directory / "own"
        self.own.mkdir()
        os.chown(self.own, NOBODY.pw_uid, NOBODY.pw_gid)
        self.status_file = self.own / "status"
        self.out = self.own / "out"

    def begin(self, *options: str) -> "Theirs":
        env = {"OUT": str(self.out), "HOME": "/root", "USER": "root", "LOGNAME": "root"}
        self.start(
            f"--path={self.path}",
            "--user=nobody",
            "--interval=0",
            *options,
            program=_PROGRAM,
            env=env,
            cwd="/",
        ).wait_serving(1)
        wait_until(lambda: self.out.exists() and "LOGNAME" in self.out.read_text(), "it runs")
        return self

    def identity(self, pid: int) -> dict[str, list[int]]:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        pairs = (line.split(":") for line in lines)
        return {
            name: [int(number) for number in value.split()]
            for name, value in pairs
            if name in ("Uid", "Gid", "Groups")
        }


@pytest.fixture
def theirs(published: Path) -> Iterator[Theirs]:
    with folder_for_others() as directory:
        one = Theirs(directory, published)
        yield one
        one.clean_up()


def _owner(file: Path) -> tuple[int, int]:
    return file.stat().st_uid, file.stat().st_gid


def test_the_super_daemon_and_its_generations_are_that_user_with_no_way_back(
    theirs: Theirs,
) -> None:
    theirs.begin()
    assert theirs.process is not None
    expected = {
        "Uid": [NOBODY.pw_uid] * 4,
        "Gid": [NOBODY.pw_gid] * 4,
        "Groups": sorted(os.getgrouplist("nobody", NOBODY.pw_gid)),
    }
    assert theirs.identity(theirs.process.pid) == expected
    assert theirs.identity(theirs.generations()[1]) == expected
    assert (
        "CapPrm:\t0000000000000000"
        in Path(f"/proc/{theirs.process.pid}/status").read_text().splitlines()
    )
    groups, *variables = theirs.out.read_text().splitlines()
    assert groups.split() == [str(one) for one in expected["Groups"]]
    assert {"HOME=/root", "USER=root", "LOGNAME=root"} <= set(variables), "as setuidgid leaves it"


def test_the_group_may_be_another_one(theirs: Theirs) -> None:
    daemon = grp.getgrnam("daemon").gr_gid
    theirs.begin("--group=daemon")
    assert theirs.process is not None
    identity = theirs.identity(theirs.process.pid)
    assert identity["Gid"] == [daemon] * 4
    assert identity["Groups"] == sorted(os.getgrouplist("nobody", daemon))
    assert theirs.stop() == 0
    theirs.begin(f"--group={daemon}")
    assert theirs.identity(theirs.process.pid)["Gid"] == [daemon] * 4


def test_what_root_has_made_is_that_users_and_serves_on(theirs: Theirs) -> None:
    log = theirs.directory / "server.log"
    theirs.begin(f"--log-file={log}")
    for file in (theirs.pid_file, theirs.control, theirs.path, log, theirs.status_file):
        assert _owner(file) == (NOBODY.pw_uid, NOBODY.pw_gid)
    assert stat.S_IMODE(theirs.control.stat().st_mode) == 0o600
    assert _owner(theirs.directory) == (0, 0)
    connect(str(theirs.path)).close()
    assert theirs.restart().returncode == 0
    theirs.wait_serving(2)


def test_what_that_user_can_not_remove_is_left_and_said_and_the_next_start_copes(
    theirs: Theirs,
) -> None:
    theirs.begin()
    assert theirs.stop() == 0
    said = theirs.said()
    assert said.count(f"{theirs.path} is left behind: Permission denied") == 1
    assert said.count(f"failed to unlink file:{theirs.pid_file}: Permission denied") == 1
    assert theirs.path.exists()
    assert not theirs.status_file.exists()
    stopped = theirs.client("--stop", f"--pid-file={theirs.pid_file}")
    assert stopped.returncode == 3, "the pid file is nobody's lock any more"
    theirs.begin()
    assert f"removing existing socket file:{theirs.path}" in theirs.said()
    connect(str(theirs.path)).close()


def test_an_upgrade_keeps_the_user_the_sockets_and_what_serves(
    theirs: Theirs, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not shutil.which(_SYSTEM_PYTHON) or subprocess.call([_SYSTEM_PYTHON, "-c", _NEW_ENOUGH]):
        pytest.skip("a Python that nobody may run is needed")
    monkeypatch.setattr(sys, "executable", _SYSTEM_PYTHON)
    theirs.begin()
    assert theirs.process is not None
    before = theirs.generations()
    upgraded = theirs.client("--upgrade", f"--control-socket={theirs.control}")
    assert upgraded.returncode == 0, upgraded.stderr
    assert theirs.identity(theirs.process.pid)["Uid"] == [NOBODY.pw_uid] * 4
    assert theirs.generations() == before
    connect(str(theirs.path)).close()
    assert theirs.restart().returncode == 0
    theirs.wait_serving(2)
    assert theirs.identity(theirs.generations()[2])["Uid"] == [NOBODY.pw_uid] * 4
    assert theirs.stop() == 0


def test_in_a_directory_of_that_user_nothing_is_left(theirs: Theirs) -> None:
    theirs.path = theirs.own / "listen.sock"
    theirs.pid_file = theirs.own / "pid"
    theirs.control = theirs.own / "control"
    theirs.begin()
    assert theirs.stop() == 0
    assert "left behind" not in theirs.said()
    theirs.out.unlink()
    assert list(theirs.own.iterdir()) == []


def _refused(theirs: Theirs, *options: str, program: str = "/bin/true") -> tuple[int, str]:
    done = theirs.client(f"--path={theirs.path}", *options, "--", program)
    assert "starting now" not in done.stderr
    assert not theirs.path.exists()
    return done.returncode, done.stderr


def test_what_that_user_will_not_be_able_to_do_is_refused_at_the_start(theirs: Theirs) -> None:
    user = f"for user {NOBODY.pw_uid})"
    for option in ("status-file", "metrics-file"):
        code, said = _refused(theirs, "--user=nobody", f"--{option}={theirs.directory}/file")
        assert code == 13
        assert f"Permission denied (--{option}: {theirs.directory}, {user}" in said
        assert _refused(theirs, "--user=nobody", f"--{option}={theirs.own}/file", program="no")[
            1
        ].startswith("failed to exec no"), "there it may"
    closed = theirs.directory / "closed"
    closed.mkdir(mode=0o700)
    code, said = _refused(theirs, "--user=nobody", f"--dir={closed}")
    assert (code, said) == (
        13,
        f"failed to chdir:{closed}: Permission denied (--dir: {closed}, {user}\n",
    )
    program = theirs.directory / "program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o700)
    code, said = _refused(theirs, "--user=nobody", program=str(program))
    assert (code, said) == (13, f"failed to exec {program}: Permission denied\n")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--user=no-such-user"], '--user: "no-such-user" is unknown (allowed: '),
        (["--user=4000000001"], '--user: "4000000001" is unknown'),
        (["--user=99999999999999999999"], '--user: "99999999999999999999" is unknown'),
        (["--user=nobody", "--group=no-such"], '--group: "no-such" is unknown (allowed: '),
        (["--group=daemon"], "--group: needs --user"),
    ],
)
def test_a_user_or_group_that_does_not_exist_is_refused(
    theirs: Theirs, options: list[str], words: str
) -> None:
    code, said = _refused(theirs, *options)
    assert code == 1
    assert words in said


def _as_nobody(code: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    prelude = AS_NOBODY.format(uid=NOBODY.pw_uid, gid=NOBODY.pw_gid)
    return subprocess.run(
        [*command(prelude=prelude, code=code), *arguments],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
        cwd="/",
    )


def test_only_root_can_become_another_user(theirs: Theirs) -> None:
    refused = _as_nobody(theirs.code, "--user=root", "--", "/bin/true")
    assert (refused.returncode, refused.stderr) == (
        1,
        "--user=root: only root can become another user\n",
    )
    # The same command line is fine for who is that user already.
    pid_file = f"--pid-file={theirs.directory}/pid"
    done = _as_nobody(theirs.code, "--user=nobody", pid_file, "--", "/bin/true")
    assert done.stderr.startswith(f"failed to open file:{theirs.directory}/pid: Permission denied")


def test_nobody_can_have_a_file_given_away_that_is_not_ours(tmp_path: Path) -> None:
    """Whoever may write in the directory might put a link in the file's place."""
    account = users.find("nobody", None)
    precious = tmp_path / "precious"
    precious.write_text("")
    link = tmp_path / "link"
    link.symlink_to(precious)
    users.give(str(link), account)
    assert _owner(precious) == (0, 0)
    hard = tmp_path / "hard"
    os.link(precious, hard)
    users.give(str(hard), account)
    assert _owner(precious) == (0, 0)
    hard.unlink()
    users.give(str(precious), account)
    assert _owner(precious) == (NOBODY.pw_uid, NOBODY.pw_gid)
    os.chown(precious, 1, 1)
    users.give(str(precious), account)
    assert _owner(precious) == (1, 1), "it was not root's"


def test_a_worker_that_only_that_user_may_signal_is_ended(theirs: Theirs) -> None:
    theirs.begin("--grace=1")
    worker = theirs.generations()[1]
    theirs.signal(signal.SIGHUP)
    theirs.wait_serving(2)
    assert not alive(worker)
    assert theirs.stop() == 0
