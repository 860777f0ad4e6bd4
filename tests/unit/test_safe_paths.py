"""Paths that others can change: where links are followed, what is read, what is ours alone."""

import os
import stat
from pathlib import Path

import pytest

from supervisor_py import safe_paths

REPOSITORY = Path(__file__).parents[2]
HOMES = ("backup_py/safe_paths.py", "plugins/module_utils/safe_paths.py")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make what others own")
THEIRS = 64_713


@pytest.mark.parametrize("home", HOMES)
def test_what_is_shipped_apart_is_the_same_file(home):
    ours = (REPOSITORY / "supervisor_py/safe_paths.py").read_bytes()
    assert (REPOSITORY / home).read_bytes() == ours, f"cp supervisor_py/safe_paths.py {home}"


@pytest.fixture
def theirs(tmp_path):
    path = tmp_path / "theirs"
    path.mkdir()
    os.chown(path, THEIRS, THEIRS)
    return path


def test_links_are_followed_where_nobody_else_can_make_one(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real/file").write_text("x")
    (tmp_path / "relative").symlink_to("real")
    (tmp_path / "absolute").symlink_to(tmp_path / "relative")
    (tmp_path / "last").symlink_to("absolute/../real/file")
    for name in ("relative/file", "absolute/file", "last"):
        assert safe_paths.read_regular(str(tmp_path / name), 9) == b"x"
        assert safe_paths.is_ours_alone(str(tmp_path / name))
    os.chdir(tmp_path)
    assert safe_paths.read_regular("relative/file", 9) == b"x"


def test_a_loop_of_links_is_an_error(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match="Too many levels"):
        safe_paths.read_regular(str(tmp_path / "a"), 9)


@as_root
@pytest.mark.parametrize("name", ["link", "way/file", "below/way/file"])
def test_below_a_directory_of_others_no_link_is_followed_whoever_made_it(theirs, name):
    (theirs.parent / "file").write_text("secret")
    (theirs / "below").mkdir()
    for way in (theirs / "way", theirs / "below/way"):
        way.symlink_to(theirs.parent)
    (theirs / "link").symlink_to(theirs.parent / "file")
    for act in (
        lambda path: safe_paths.read_regular(path, 99),
        lambda path: safe_paths.open_file(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC),
        lambda path: safe_paths.open_directory(path, make=True),
    ):
        with pytest.raises(OSError, match="is a link that somebody else may have made"):
            act(str(theirs / name))
    assert not safe_paths.is_ours_alone(str(theirs / name))
    assert (theirs.parent / "file").read_text() == "secret"


@as_root
def test_a_way_back_out_of_what_is_others_is_refused(theirs):
    (theirs.parent / "file").write_text("secret")
    with pytest.raises(OSError, match=r'a "\.\." below'):
        safe_paths.read_regular(str(theirs / "../file"), 99)


@as_root
@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o775])
def test_a_directory_that_others_may_write_to_is_not_ours_alone(tmp_path, mode):
    place = tmp_path / "open"
    place.mkdir()
    os.chown(place, 0, THEIRS)
    place.chmod(mode)
    assert not safe_paths.is_ours_alone(str(place / "file"))
    (place / "way").symlink_to(tmp_path)
    os.chown(place / "way", THEIRS, THEIRS, follow_symlinks=False)
    with pytest.raises(OSError, match="is a link that somebody else may have made"):
        safe_paths.read_regular(str(place / "way/file"), 99)


def test_below_a_sticky_directory_what_is_ours_is_ours_alone(tmp_path):
    tmp_path.chmod(0o1777)
    (tmp_path / "mine").mkdir(0o755)
    assert safe_paths.is_ours_alone(str(tmp_path / "mine/file"))
    assert not safe_paths.is_ours_alone(str(tmp_path / "file"))


def test_what_is_missing_is_as_safe_as_what_it_is_missing_in(tmp_path):
    assert safe_paths.is_ours_alone(str(tmp_path / "a/b/c"))
    tmp_path.chmod(0o777)
    assert not safe_paths.is_ours_alone(str(tmp_path / "a/b/c"))


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (os.mkfifo, "not a regular file"),
        (os.mkdir, "not a regular file"),
        (lambda path: Path(path).symlink_to("/dev/zero"), "not a regular file"),
        (lambda path: Path(path).write_bytes(b"x" * 100), "more than 99 bytes"),
    ],
)
def test_what_is_read_is_a_regular_file_of_so_many_bytes(tmp_path, make, why):
    make(str(tmp_path / "it"))
    with pytest.raises(OSError, match=why):
        safe_paths.read_regular(str(tmp_path / "it"), 99)


@as_root
def test_what_has_another_name_is_not_written_to_in_a_directory_of_others(theirs):
    victim = theirs.parent / "victim"
    victim.write_text("secret")
    (theirs / "pid").hardlink_to(victim)
    with pytest.raises(PermissionError, match="one name"):
        safe_paths.open_file(str(theirs / "pid"), os.O_WRONLY | os.O_TRUNC)
    assert victim.read_text() == "secret"
    os.mkfifo(theirs / "log")
    with pytest.raises(OSError, match=r"one name|No such device"):
        safe_paths.open_file(str(theirs / "log"), os.O_WRONLY)


def test_a_file_is_made_emptied_and_never_executable(tmp_path):
    os.umask(0o022)
    for _ in range(2):
        fd = safe_paths.open_file(str(tmp_path / "new"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.write(fd, b"x")
        os.close(fd)
    assert (tmp_path / "new").read_text() == "x"
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o644


def test_below_an_open_directory_no_link_is_followed(tmp_path):
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/file").write_text("x")
    (tmp_path / "way").symlink_to("a")
    (tmp_path / "a/b/link").symlink_to("file")
    top = safe_paths.open_directory(str(tmp_path))
    try:
        fd = safe_paths.open_below(top, ("a", "b", "file"), os.O_RDONLY)
        assert os.read(fd, 9) == b"x"
        os.close(fd)
        for parts in (("way", "b", "file"), ("a", "b", "link")):
            with pytest.raises(OSError, match=r"Not a directory|Too many levels"):
                safe_paths.open_below(top, parts, os.O_RDONLY)
    finally:
        os.close(top)
