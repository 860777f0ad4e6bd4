"""Code is read by its own pool, static files by everybody, and nothing of it by a neighbour."""

import grp
import json
import os
import stat
import subprocess

import pytest

from ansible_collections.kechi.vps.plugins.module_utils import access, release_sets, releases
from ansible_collections.kechi.vps.plugins.modules import release, virtualenvs

from .test_releases import make_tree, publish

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="gives groups, and reads as others")
POOL, NEIGHBOUR = "games", "news"  # groups that each Debian has
FILES = {
    "settings.py": "SECRET = 1\n",
    "app/views.py": "x = 1\n",
    "web/private.html": "x",
    "web/static/site.css": "x",
    "web/static/deep/logo.svg": "x",
    "run.sh": "#!/bin/sh\n",
}


def readable(top, group):
    """The files of a tree that a process with a group reads, by their paths."""
    code = """
import os, sys
for path in sys.argv[2:]:
    try:
        open(os.path.join(sys.argv[1], path)).close()
        print(path)
    except PermissionError:
        pass
"""
    paths = [str(path.relative_to(top)) for path in sorted(top.rglob("*")) if path.is_file()]
    gid = grp.getgrnam(group).gr_gid
    done = subprocess.run(["python3", "-c", code, top, *paths], capture_output=True, text=True,
                          check=True, user=65534, group=gid, extra_groups=[])  # fmt: skip
    return set(done.stdout.split())


@pytest.fixture
def www(tmp_path_of_all):
    """A directory that everybody can get to, and new files there are everybody's, as modules do."""
    before = os.umask(0o022)
    yield tmp_path_of_all
    os.umask(before)


@pytest.fixture
def tree(www):
    top = www / "tree"
    make_tree(top, FILES)
    (top / "run.sh").chmod(0o755)
    return top


def restrict(top, *public):
    access.restrict(top, access.group_id(POOL), public)


def test_a_release_is_its_pools_alone(tree):
    assert readable(tree, NEIGHBOUR) == set(FILES)
    restrict(tree)
    assert readable(tree, NEIGHBOUR) == set()
    assert readable(tree, POOL) == set(FILES)


def test_public_directories_are_everybodys_and_what_is_beside_them_is_not(tree):
    restrict(tree, "web/static", "not/there")
    assert readable(tree, NEIGHBOUR) == {"web/static/site.css", "web/static/deep/logo.svg"}
    assert readable(tree, POOL) == set(FILES)
    assert stat.S_IMODE((tree / "run.sh").stat().st_mode) == 0o750
    assert stat.S_IMODE((tree / "settings.py").stat().st_mode) == 0o640


def test_a_public_directory_may_be_around_one_of_before(tree):
    restrict(tree, "web/static")
    restrict(tree, "web", "web/static")
    assert readable(tree, NEIGHBOUR) == {name for name in FILES if name.startswith("web/")}


def test_no_link_of_a_release_gives_another_file_away(tree, www):
    (www / "secret").write_text("x")
    (www / "secret").chmod(0o600)
    (tree / "web/static/link").symlink_to(www / "secret")
    (tree / "link").symlink_to(www / "secret")
    restrict(tree, "web/static")
    assert stat.S_IMODE((www / "secret").stat().st_mode) == 0o600
    assert (www / "secret").stat().st_gid == 0


def of(destination, name, group, *public):
    """A release as it is looked at by a run."""
    wanted = {"destination": destination, "release": name, "group": group, "public": [*public]}
    return release.Tree(wanted)


def test_a_release_is_closed_before_it_has_its_name(www):
    def validate(part):
        assert stat.S_IMODE(part.stat().st_mode) == 0o700

    destination, name = publish(www, "x = 1\n", validate=validate, group=POOL)
    assert readable(destination / "releases" / name, NEIGHBOUR) == set()
    assert of(destination, name, POOL).open == {}, "a second run has nothing to do"
    assert stat.S_IMODE((destination / "releases.json").stat().st_mode) == 0o600


def test_releases_of_before_are_closed_by_the_next_run(www):
    destination, old = publish(www, "x = 1\n")
    _, name = publish(www, "x = 2\n")
    tree = of(destination, name, POOL)
    assert set(tree.open) == {old, name}
    tree.publish(lambda _release: None)
    for one in (old, name):
        assert readable(destination / "releases" / one, NEIGHBOUR) == set()
    assert of(destination, name, POOL).open == {}
    (destination / "releases" / old).chmod(0o755)
    assert set(of(destination, name, POOL).open) == {old}, "whoever has opened it since"


def test_what_nginx_serves_from_a_release_is_not_taken_away_from_it(www):
    destination, name = publish(www, "x = 1\n", group=POOL, public=["pkg"])
    assert of(destination, name, POOL).open == {}
    assert readable(destination / "releases" / name / "pkg", NEIGHBOUR)
    make_tree(destination / "releases" / name, {"more/x": ""})
    tree = of(destination, name, POOL, "more")
    assert tree.open == {name: ["more", "pkg"]}
    tree.publish(lambda _release: None)
    assert readable(destination / "releases" / name / "more", NEIGHBOUR) == {"x"}


def test_an_app_that_moves_leaves_its_former_pool_what_that_still_runs(www):
    destination, former = publish(www, "x = 1\n", group=POOL)
    _, moved = publish(www, "x = 1\n", group=NEIGHBOUR)
    assert moved == f"{former}-{NEIGHBOUR}"
    assert readable(destination / "releases" / former, POOL)
    assert not readable(destination / "releases" / former, NEIGHBOUR)
    assert readable(destination / "releases" / moved, NEIGHBOUR)
    assert publish(www, "x = 1\n", group=NEIGHBOUR)[1] == moved, "and stays where it is"
    assert of(destination, moved, NEIGHBOUR).open == {}


def test_release_sets_tell_neighbours_nothing_and_static_files_are_reached_through_them(www):
    code = www / "www/blog/releases/1"
    make_tree(code, {"static/x": "x", "app.py": "x"})
    releases.note(www / "www/blog", "1", deployed=1.0)
    restrict(code, "static")
    (www / "units").mkdir()
    (www / "etc").mkdir()
    sets = release_sets.Sets("main", www / "kechi", www / "www", www / "etc", www / "units")
    folder = sets.path("0" * 12)
    make_tree(folder, {"units/pool.conf": "x", "set.json": json.dumps({"apps": {"blog": "1"}})})
    sets.link("0" * 12, {"blog": str(code)}, "")
    sets.activate("0" * 12)
    assert folder in sets.readable
    sets.restrict()
    assert sets.readable == []
    assert readable(folder, NEIGHBOUR) == set()
    assert readable(www / "www/blog/current", NEIGHBOUR) == {"static/x"}
    (folder / "units").chmod(0o755)
    assert sets.readable == [folder / "units"]


def test_virtualenvs_are_their_pools_alone(www):
    folder = www / "venvs"
    make_tree(folder, {"0123456789ab/lib/secret_wheel.py": "x"})
    assert not virtualenvs.is_restricted(folder, POOL)
    virtualenvs.restrict(folder, POOL)
    assert virtualenvs.is_restricted(folder, POOL)
    assert readable(folder, NEIGHBOUR) == set()
    assert readable(folder, POOL) == {"0123456789ab/lib/secret_wheel.py"}


def test_a_group_that_is_not_there_is_named():
    with pytest.raises(access.AccessError, match="there is no group kechi-nobody"):
        access.group_id("kechi-nobody")
