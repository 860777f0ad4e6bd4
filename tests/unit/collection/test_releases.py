"""Releases and release sets on a disk: published, chosen, switched, pruned, left alone."""

import json
import os

import pytest

from ansible_collections.kechi.vps.plugins.module_utils import release_sets, releases
from ansible_collections.kechi.vps.plugins.modules import release
from ansible_collections.kechi.vps.plugins.plugin_utils import trees


def make_tree(folder, files):
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


def publish(tmp_path, content, keep=2, validate=lambda _release: None, **readers):
    source = tmp_path / "source"
    make_tree(source, {"pkg/app.py": content})
    digest = trees.digest(source)
    trees.archive(source, tmp_path / "tree.tar.gz")
    destination = tmp_path / "www"
    wanted = {"destination": destination, "release": None, "digest": digest, "origin": "here",
              "archive": tmp_path / "tree.tar.gz", "group": "", "public": []}  # fmt: skip
    wanted |= readers
    tree = release.Tree(wanted)
    tree.publish(validate)
    release.switch(destination, tree.name)
    releases.prune(destination, keep, ())
    return destination, tree.name


def test_a_release_is_compiled_switched_to_and_old_ones_pruned(tmp_path):
    names = []
    for number in range(3):
        destination, name = publish(tmp_path, f"x = {number}\n")
        names.append(name)
        assert releases.current(destination) == name
        assert (destination / "current/pkg/app.py").read_text() == f"x = {number}\n"
        assert list((destination / "current/pkg/__pycache__").glob("app.*.pyc"))
    assert {path.name for path in (destination / "releases").iterdir()} == set(names[1:])
    assert set(releases.read(destination)) == set(names[1:])


def test_a_release_that_does_not_pass_is_not_switched_to_and_leaves_nothing(tmp_path):
    destination, good = publish(tmp_path, "x = 1\n")

    def validate(unpacked):
        assert (unpacked / "pkg/app.py").read_text() == "x = 2\n", "the new one is what it sees"
        raise OSError("No space left on device")

    with pytest.raises(OSError, match="No space"):
        publish(tmp_path, "x = 2\n", validate=validate)
    assert releases.current(destination) == good
    assert [path.name for path in (destination / "releases").iterdir()] == [good]


def test_what_an_interrupted_publication_left_is_cleared(tmp_path):
    make_tree(tmp_path / "www/releases/0000.part", {"half": ""})
    destination, name = publish(tmp_path, "x = 1\n")
    assert [path.name for path in (destination / "releases").iterdir()] == [name]
    assert (destination / "current").is_symlink()


def test_a_directory_of_somebody_else_is_not_taken(tmp_path):
    make_tree(tmp_path / "www", {"index.php": ""})
    with pytest.raises(releases.ReleaseError, match=r"not this role's; it holds index\.php"):
        publish(tmp_path, "x = 1\n")
    assert [path.name for path in (tmp_path / "www").iterdir()] == ["index.php"]


def test_a_directory_in_the_place_of_current_is_not_taken_away(tmp_path):
    (tmp_path / "current").mkdir()
    with pytest.raises(releases.ReleaseError, match="is no symlink"):
        releases.point(tmp_path / "current", tmp_path)
    assert (tmp_path / "current").is_dir()


def test_what_this_role_has_not_made_is_not_pruned(tmp_path):
    destination, _ = publish(tmp_path, "x = 1\n")
    make_tree(destination / "releases/my-backup", {"a": ""})
    for number in range(2, 5):
        publish(tmp_path, f"x = {number}\n", keep=1)
    assert len(list((destination / "releases").iterdir())) == 2
    assert (destination / "releases/my-backup/a").is_file()


RECORD = {
    "aaa1": {"deployed": 1.0, "origin": "git v1 (1234)"},
    "aaa2": {"deployed": 2.0},
    "bbb3": {"deployed": 3.0},
}


@pytest.mark.parametrize(
    ("wanted", "now", "found"),
    [
        ("previous", "bbb3", "aaa2"),
        ("previous", "aaa2", "aaa1"),
        ("current", "aaa2", "aaa2"),
        ("aaa1", "bbb3", "aaa1"),
        ("bbb", "aaa1", "bbb3"),
    ],
)
def test_a_release_is_found_by_its_place_its_name_or_the_begin_of_it(wanted, now, found):
    assert releases.choose(wanted, RECORD, now) == found


@pytest.mark.parametrize(
    ("wanted", "now", "sentence"),
    [
        ("previous", "aaa1", "no release that has served is older than the current one; there is"),
        ("aaa", "bbb3", '"aaa" is the begin of 2 names'),
        ("nope", "bbb3", r'no release "nope"; .*aaa1 \(1970-01-01 00:00:01 UTC, git v1 \(1234\)\)'),
        ("current", "", "it has no release yet"),
    ],
)
def test_a_release_that_is_not_there_is_refused_with_what_is(wanted, now, sentence):
    with pytest.raises(releases.ReleaseError, match=sentence):
        releases.choose(wanted, RECORD, now)


def test_failed_releases_are_marked_and_are_no_previous_ones():
    record = {**RECORD, "aaa2": {"deployed": 2.0, "failed": True}}
    assert releases.choose("previous", record, "bbb3") == "aaa1"
    assert releases.choose("aaa2", record, "bbb3") == "aaa2", "who names it wants it"
    assert "aaa2 (1970-01-01 00:00:02 UTC, failed);" in releases.listing(record, "bbb3")
    assert releases.listing(record, "bbb3").count("failed") == 1


def test_a_full_disk_leaves_a_file_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "file"
    releases.write_atomically(path, "old", 0o640)
    monkeypatch.setattr(
        type(path), "write_text", lambda *_args, **_more: (_ for _ in ()).throw(OSError("full"))
    )
    with pytest.raises(OSError, match="full"):
        releases.write_atomically(path, "new")
    assert path.read_text() == "old"
    assert [found.name for found in tmp_path.iterdir()] == ["file"]


class Machine:
    """A pool with one app, in a directory."""

    def __init__(self, root):
        self.root = root
        for name in ("etc", "units", "www/blog"):
            (root / name).mkdir(parents=True)
        self.sets = release_sets.Sets(
            "main", root / "kechi", root / "www", root / "etc", root / "units"
        )

    def write(self, number, virtualenv="0" * 12):
        code = self.root / f"www/blog/releases/{number}"
        code.mkdir(parents=True)
        (code / "app.py").write_text(f"{number}")
        releases.note(self.root / "www/blog", str(number), deployed=float(number))
        venv = self.sets.folder / "venvs" / virtualenv
        venv.mkdir(parents=True, exist_ok=True)
        name = f"{number:012x}"
        folder = self.sets.path(name)
        (folder / "units").mkdir(parents=True)
        self.sets.link(name, {"blog": str(code)}, str(venv))
        (folder / "pool.toml").write_text(f"number = {number}")
        (folder / "units/pool.conf").write_text(f"# {number}")
        (folder / "units/kechi@main.blog.socket").write_text(f"# {number}")
        (folder / "set.json").write_text(json.dumps({"apps": {"blog": str(code)}}))
        return name

    @property
    def seen(self):
        """What a start of the pool would find: all of one set."""
        return {
            (self.root / "etc/main.toml").read_text().rpartition(" ")[2],
            (self.root / "www/blog/current/app.py").read_text(),
            (self.root / "units/kechi@main.service.d/pool.conf").read_text().rpartition(" ")[2],
        }


def test_code_virtualenv_pool_file_and_units_are_switched_together_and_back(tmp_path):
    machine = Machine(tmp_path)
    one, two = machine.write(1), machine.write(2, "1" * 12)
    machine.sets.activate(one)
    machine.sets.confirm(one)
    assert machine.seen == {"1"}
    assert machine.sets.activate(two) is True, "its units are others"
    assert machine.seen == {"2"}
    assert (machine.sets.folder / "venv").resolve().name == "1" * 12
    assert (machine.sets.active, machine.sets.good) == (two, one)
    machine.sets.activate(machine.sets.good)
    assert machine.seen == {"1"}
    assert machine.sets.activate(one) is False
    assert machine.sets.sockets(one) == ["kechi@main.blog.socket"]


def test_a_set_that_is_not_whole_is_none(tmp_path):
    machine = Machine(tmp_path)
    one = machine.write(1)
    machine.sets.activate(one)
    (machine.sets.path(one) / "set.json").unlink()
    assert machine.sets.active == ""


def test_old_sets_go_with_what_they_alone_needed_but_never_what_is_in_use(tmp_path):
    machine = Machine(tmp_path)
    names = []
    for number in range(1, 6):
        names.append(machine.write(number, f"{number:012d}"))
        machine.sets.activate(names[-1])
        if number != 4:  # the deploy of that one has failed
            machine.sets.confirm(names[-1])
            os.utime(machine.sets.path(names[-1]), (number, number))
    machine.sets.activate(names[0])
    machine.sets.confirm(names[0])
    (machine.sets.folder / "venvs" / "mine").mkdir()
    os.utime(machine.sets.path(names[3]), (0, 0))
    machine.sets.prune(2)
    assert {path.name for path in (machine.sets.folder / "sets").iterdir()} == {names[0], names[4]}
    venvs = {path.name for path in (machine.sets.folder / "venvs").iterdir()}
    assert venvs == {"000000000001", "000000000005", "mine"}
    kept = {path.name for path in (tmp_path / "www/blog/releases").iterdir()}
    assert kept == {"1", "4", "5"}, "two of the newest, and what is in use"
    machine.sets.activate(names[4])  # not asked yet: what it may go back to stays
    os.utime(machine.sets.path(names[0]), (0, 0))
    machine.sets.prune(1)
    assert {path.name for path in (machine.sets.folder / "sets").iterdir()} == {names[0], names[4]}
