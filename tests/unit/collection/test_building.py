"""What strangers' programs have made becomes root's, and nothing outside of it does."""

import os
import pwd
import stat
import subprocess

import pytest

from ansible_collections.kechi.vps.plugins.module_utils import building, sandbox

ROOT_ALONE = pytest.mark.skipif(os.geteuid() != 0, reason="gives files away")


@pytest.fixture
def nobody():
    return pwd.getpwnam("nobody")


@pytest.fixture
def tree(tmp_path):
    (tmp_path / "outside").mkdir(mode=0o700)
    (tmp_path / "outside" / "secret").write_text("secret")
    (tmp_path / "outside" / "secret").chmod(0o600)
    tree = tmp_path / "tree"
    (tree / "bin").mkdir(parents=True)
    (tree / "bin" / "run").write_text("x")
    (tree / "bin" / "run").chmod(0o6777)
    (tree / "data").write_text("x")
    (tree / "data").chmod(0o600)
    (tree / "to-file").symlink_to(tmp_path / "outside" / "secret")
    (tree / "to-folder").symlink_to(tmp_path / "outside")
    os.mkfifo(tree / "pipe")
    return tree


def state(path):
    status = path.lstat()
    return status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)


@ROOT_ALONE
def test_a_tree_is_given_away_without_its_links_pipes_and_setuid_bits(tree, nobody):
    outside = tree.parent / "outside"
    before = [state(outside), state(outside / "secret")]
    building.give(tree, nobody.pw_uid, nobody.pw_gid)
    owner = (nobody.pw_uid, nobody.pw_gid)
    assert state(tree / "bin" / "run") == (*owner, 0o755)
    assert state(tree / "data") == (*owner, 0o644)
    assert state(tree) == state(tree / "bin") == (*owner, 0o755)
    assert (tree / "to-file").lstat().st_uid == nobody.pw_uid
    assert not (tree / "pipe").exists()
    building.give(tree, 0, 0)
    assert state(tree / "bin" / "run") == (0, 0, 0o755)
    assert [state(outside), state(outside / "secret")] == before


@ROOT_ALONE
def test_what_is_given_away_is_no_link(tree, nobody):
    (tree.parent / "link").symlink_to(tree)
    with pytest.raises(OSError, match="link"):
        building.give(tree.parent / "link", nobody.pw_uid, nobody.pw_gid)
    assert state(tree)[0] == 0


def test_roots_own_file_replaces_a_link_and_is_never_written_through_one(tmp_path):
    (tmp_path / "victim").write_text("whole")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "tool").symlink_to(tmp_path / "victim")
    building.write(tmp_path / "bin", "tool", "ours", 0o755)
    assert (tmp_path / "bin" / "tool").read_text() == "ours"
    assert not (tmp_path / "bin" / "tool").is_symlink()
    assert (tmp_path / "victim").read_text() == "whole"
    (tmp_path / "elsewhere").symlink_to(tmp_path / "bin")
    with pytest.raises(OSError, match="elsewhere"):
        building.write(tmp_path / "elsewhere", "tool", "ours")


@pytest.fixture
def started(monkeypatch):
    """The command line of a build, and the environment that its unit reads."""
    found = {}

    def run_command(words):
        (file,) = [word for word in words if word.startswith("--property=EnvironmentFile=")]
        found["words"] = words
        with open(file.partition("File=")[2], encoding="utf-8") as opened:  # noqa: PTH123
            found["environment"] = opened.read()
        return found.get("result", (0, "", ""))

    found["builder"] = building.Builder(run_command, memory_mb=77, seconds=99)
    return found


def test_a_build_has_a_pools_sandbox_and_bounds(started, tmp_path):
    started["builder"].run(["make", "it"], writable=[tmp_path], environment={"TOKEN": "s3cret"})
    words = started["words"]
    own = {"User", "Group", "UMask"}
    for name, value in sandbox.DIRECTIVES:
        assert name in own or f"--property={name}={value}" in words
    for wanted in ("User=kechi-build", "MemoryMax=77M", "TasksMax=256", "RuntimeMaxSec=99",
                   f"ReadWritePaths={tmp_path}", "PrivateNetwork=yes"):  # fmt: skip
        assert f"--property={wanted}" in words
    assert words[-3:] == ["--", "make", "it"]
    assert "s3cret" not in " ".join(words)
    assert started["environment"] == 'TOKEN="s3cret"\n'


def test_a_build_reads_what_its_pool_may_but_for_what_is_hidden_from_it(started, tmp_path):
    builder = started["builder"]
    reader = building.Reader("kechi-main", ("/srv/kechi/main/sets", "/srv/www/blog/shared"))
    builder.run(["installer"], writable=[tmp_path], reader=reader)
    assert "--property=SupplementaryGroups=kechi-main" in started["words"]
    for path in reader.hidden:
        assert f"--property=InaccessiblePaths=-{path}" in started["words"]
    builder.run(["installer"], writable=[tmp_path])
    without = " ".join(started["words"])
    assert "SupplementaryGroups=" not in without
    assert "InaccessiblePaths=" not in without


def test_a_build_that_fails_is_told_with_its_end_and_one_that_was_killed_with_its_bounds(started):
    started["result"] = (1, "", "x" * 20_000 + "the reason")
    with pytest.raises(building.BuildError, match=r"x+the reason$") as told:
        started["builder"].run(["make"], writable=[])
    assert len(str(told.value)) <= building.SHOWN_CHARACTERS
    started["result"] = (137, "", "")
    with pytest.raises(building.BuildError, match="more than 77 MB or 99 s"):
        started["builder"].run(["make"], writable=[])


def test_systemd_knows_each_directive_of_the_sandbox(tmp_path):
    unit = tmp_path / "kechi-test.service"
    unit.write_text(f"[Service]\nExecStart=/bin/true\n{sandbox.unit_lines()}\n")
    done = subprocess.run(
        ["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False
    )
    assert "Unknown" not in done.stderr
    assert "Failed to parse" not in done.stderr
