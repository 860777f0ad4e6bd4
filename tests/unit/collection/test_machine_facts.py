"""What the roles leave out, because one look at the machine has shown it to be done."""

import json
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest

from ansible_collections.kechi.vps.plugins.action.packages import ActionModule
from ansible_collections.kechi.vps.plugins.module_utils import dpkg, snapshot
from ansible_collections.kechi.vps.plugins.modules import files, machine_facts

KNOWN = {"nginx": "1.26.3-3", "openssl": "3.5.1-1"}


def test_only_packages_that_are_there_whole_count_as_installed():
    shown = "installed nginx 1.26.3-3\nconfig-files apache2 2.4\nhalf-configured certbot 4.0\n"
    assert dpkg.installed(shown) == {"nginx": "1.26.3-3"}


def test_check_mode_is_blind_where_package_lists_were_never_fetched(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "apt", SimpleNamespace())
    lists = str(tmp_path / "*_Packages*")
    assert dpkg.blindness(lists) == "its package lists were never fetched"
    (tmp_path / "deb.example_dists_trixie_main_binary-amd64_Packages.lz4").touch()
    assert dpkg.blindness(lists) == ""
    monkeypatch.setitem(__import__("sys").modules, "apt", None)
    assert dpkg.blindness(lists) == "python3-apt is not installed yet"


UNIT = "Id={}\nActiveState={}\nUnitFileState={}\nNeedDaemonReload={}\n"


@pytest.mark.parametrize(
    ("states", "settled"),
    [
        (("active", "enabled", "no"), True),
        (("inactive", "enabled", "no"), False),
        (("active", "disabled", "no"), False),
        (("active", "enabled", "yes"), False),
    ],
)
def test_a_unit_is_left_alone_only_where_it_runs_now_and_at_boot_by_its_files(states, settled):
    shown = "\n".join(
        [UNIT.format("a.service", *states), UNIT.format("b.timer", "active", "", "no")]
    )
    assert machine_facts.settled(shown) == (["a.service"] if settled else [])
    assert machine_facts.settled("\n") == []


@pytest.mark.parametrize(
    ("container", "machine", "found"),
    [
        ("podman", "kvm", ["container", "podman"]),
        ("none", "kvm", ["kvm"]),
        ("none", "none", []),
        ("", "", []),
    ],
)
def test_a_container_is_told_from_a_machine(container, machine, found):
    assert machine_facts.guest(container, machine) == found


def test_memory_is_counted_in_whole_megabytes():
    meminfo = "MemTotal:        1014456 kB\nMemFree:  1 kB\nSwapTotal:       524284 kB\n"
    assert machine_facts.memory_mb(meminfo, "MemTotal") == 990
    assert machine_facts.memory_mb(meminfo, "SwapTotal") == 511


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("events {\n\tworker_connections 768;\n\t# multi_accept on;\n}\n", 768),
        ("events {}\n# worker_connections 5;\n", 0),
        (None, 0),
    ],
)
def test_nginxs_connections_are_what_its_main_file_says(tmp_path, text, found):
    if text is not None:
        (tmp_path / "nginx.conf").write_text(text)
    assert machine_facts.nginx_connections(tmp_path / "nginx.conf") == found


def test_a_kernel_that_merges_no_pages_and_a_front_end_that_is_not_there_are_empty(tmp_path):
    assert machine_facts.page_merging(tmp_path) == {}
    for name in machine_facts.MERGING_FILES:
        (tmp_path / name).write_text("1\n")
    assert machine_facts.page_merging(tmp_path) == dict.fromkeys(machine_facts.MERGING_FILES, 1)
    file = tmp_path / "frontend.json"
    assert machine_facts.front_end(file) == {}
    file.write_text('{"port": 80')
    assert machine_facts.front_end(file) == {}
    file.write_text('{"port": 80}')
    assert machine_facts.front_end(file) == {"port": 80}


class Packages:
    """The action, with a machine that answers from a list."""

    def __init__(self, names, *, missing=(), check=False, known=None, **found):
        task = MagicMock(args={"names": names, "known": known or {}}, check_mode=check, async_val=0)
        answer = {"changed": False, "versions": {}, "blind": "", "has_lists": True}
        self.found = {**answer, "missing": list(missing), **found}
        self.valid_seconds = None
        self.asked = []
        action = ActionModule(task, MagicMock(), MagicMock(), MagicMock(), MagicMock(), MagicMock())
        action._module = self.module
        self.result = action.run()

    def module(self, name, arguments, _variables):
        self.asked.append((name.rpartition(".")[2], arguments.get("name") or arguments["names"]))
        self.valid_seconds = arguments.get("cache_valid_time", self.valid_seconds)
        return {"changed": True} if name.endswith("apt") else self.found


def test_nobody_is_asked_for_packages_that_are_known_to_be_there():
    machine = Packages(["nginx"], known=KNOWN)
    assert (machine.asked, machine.result["versions"]) == ([], {"nginx": "1.26.3-3"})
    assert machine.result["changed"] is False


def test_apt_is_asked_only_for_what_is_missing():
    assert Packages(["nginx"]).asked == [("packages", ["nginx"])]
    machine = Packages(["nginx", "certbot"], missing=["certbot"], known=KNOWN)
    names = ["nginx", "certbot"]
    assert machine.asked == [("packages", names), ("apt", ["certbot"]), ("packages", names)]
    assert machine.result["changed"] is True


def test_package_lists_are_fetched_where_there_are_none_however_new_their_directory_is():
    assert Packages(["nginx"], missing=["nginx"], has_lists=False).valid_seconds == 0
    assert Packages(["nginx"], missing=["nginx"]).valid_seconds == 3600


def test_check_mode_says_what_would_be_installed_where_apt_can_not_tell():
    machine = Packages(["nginx"], missing=["nginx"], blind="its package lists are gone", check=True)
    assert machine.asked == [("packages", ["nginx"])]
    assert machine.result["changed"] is True
    assert "would install nginx" in machine.result["msg"]
    assert "its package lists are gone" in machine.result["msg"]
    assert machine.result["diff"]["after"] == "nginx\n"
    assert Packages(["nginx"], missing=["nginx"], check=True).asked[-1] == ("apt", ["nginx"])


def test_files_that_are_not_wanted_go_and_only_once(tmp_path):
    file, link = tmp_path / "file", tmp_path / "link"
    file.write_text("text\n")
    link.symlink_to("nowhere")
    looked = files.Files(MagicMock(check_mode=True))
    assert looked.absent(str(file))
    assert file.exists()
    assert looked.diffs[0]["before"] == "text\n"
    for path in (file, link):
        assert files.Files(MagicMock(check_mode=False)).absent(str(path))
        assert not files.Files(MagicMock(check_mode=False)).absent(str(path))
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def taken(tmp_path, monkeypatch):
    """A folder with a file and what a snapshot of it shows, by the owner's own name."""
    folder = tmp_path / "etc"
    folder.mkdir()
    folder.chmod(0o755)  # whatever the umask is
    (folder / "a.conf").write_text("a\n")
    (folder / "a.conf").chmod(0o644)
    covered = ((str(tmp_path), "etc"), (str(folder), "*"), (str(folder), "gone"))
    monkeypatch.setattr(snapshot, "COVERED", covered)
    owner = {"owner": (folder / "a.conf").owner(), "group": (folder / "a.conf").group()}
    return SimpleNamespace(
        found=snapshot.take(covered),
        directory={"path": str(folder), **owner},
        file={"path": str(folder / "a.conf"), "content": "a\n", **owner},
    )


def test_files_are_left_alone_that_a_snapshot_shows_as_they_should_be(taken):
    folder = taken.directory["path"]
    assert snapshot.shows(
        taken.found, [taken.directory], [taken.file], [f"{folder}/gone", f"{folder}/of-a-pattern"]
    )
    Path(taken.file["path"]).write_text("15")
    found = snapshot.take(((folder, "*"),))
    assert snapshot.shows(found, [], [taken.file | {"content": 15}], [])


@pytest.mark.parametrize(
    ("directory", "file", "absent"),
    [
        ({"mode": "0700"}, {}, []),
        ({"owner": "another"}, {}, []),
        ({"path": "/not/covered"}, {}, []),
        ({}, {"content": "b\n"}, []),
        ({}, {"mode": "0600"}, []),
        ({}, {"mode": "u=rw"}, []),
        ({}, {"group": "another"}, []),
        ({}, {"path": "/not/covered"}, []),
        ({}, {}, ["a.conf"]),
        ({}, {}, ["deeper/not-covered"]),
    ],
)
def test_a_machine_is_asked_where_a_snapshot_shows_another_state_or_none(
    taken, directory, file, absent
):
    gone = [f"{taken.directory['path']}/{name}" for name in absent]
    wanted = [taken.directory | directory], [taken.file | file], gone
    assert not snapshot.shows(taken.found, *wanted)


def test_nothing_of_what_not_everybody_may_read_is_in_a_snapshot(taken):
    path = Path(taken.file["path"])
    path.chmod(0o640)
    found = snapshot.take(((str(path.parent), "*"),))
    assert snapshot.digest(b"a\n") not in found[str(path)]
    assert not snapshot.shows(found, [], [taken.file | {"mode": "0640"}], [])


def test_what_other_roles_take_from_enabled_pools_is_found_as_it_was_deployed(tmp_path):
    routes, static = {"a.example": "/run/kechi/main.sock"}, {"a": ["/srv/www/a/current/static"]}
    about = {"apps": {"a": "/srv/www/a/releases/1"}, "routes": routes, "static": static}
    wants = tmp_path / "units/multi-user.target.wants"
    wants.mkdir(parents=True)
    for name in ("main", "clock"):
        (wants / f"kechi@{name}.service").touch()
    for name in ("main", "off"):
        folder = tmp_path / "kechi" / name / "sets" / ("0" * 12)
        folder.mkdir(parents=True)
        (folder / "set.json").write_text(json.dumps(about))
        (tmp_path / "kechi" / name / "current").symlink_to(f"sets/{'0' * 12}")
    found = machine_facts.pools(tmp_path / "units", tmp_path / "kechi")
    assert found == {
        "clock": {"apps": [], "routes": {}, "static": {}},
        "main": {"apps": ["a"], "routes": routes, "static": static},
    }
