"""Trees of the control machine: nothing but their own regular files is sent."""

import os
import socket
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from ansible_collections.kechi.vps.plugins.plugin_utils import trees


@pytest.fixture
def tree(tmp_path):
    tree = tmp_path / "tree"
    (tree / "pkg").mkdir(parents=True)
    (tree / "pkg" / "module.py").write_text("x")
    (tree / "app.py").write_text("y")
    return tree


def names(tree):
    return [file.name for file in trees.files(tree)]


def test_links_inside_of_the_tree_are_sent_as_what_they_point_at(tree, tmp_path):
    (tree / "link.py").symlink_to("pkg/module.py")
    (tree / "other").symlink_to(tree / "pkg")
    wanted = ["app.py", "link.py", "other/module.py", "pkg/module.py"]
    assert names(tree) == wanted
    trees.archive(tree, tmp_path / "x.tar.gz", inside="in")
    with tarfile.open(tmp_path / "x.tar.gz") as packed:
        assert packed.getnames() == [f"in/{name}" for name in wanted]
        assert all(member.isreg() and member.uid == 0 for member in packed)
        content = packed.extractfile("in/link.py")
        assert content is not None
        assert content.read() == b"x"


def test_the_tree_itself_may_be_a_link(tree, tmp_path):
    (tmp_path / "link").symlink_to(tree)
    assert names(tmp_path / "link") == names(tree)
    assert trees.digest(tmp_path / "link") == trees.digest(tree)


OUTSIDE = {
    "a file": lambda tree: (tree / "x").symlink_to("/etc/passwd"),
    "a file, relative": lambda tree: (tree / "x").symlink_to("../secret"),
    "a directory": lambda tree: (tree / "x").symlink_to("/etc"),
    "the parent": lambda tree: (tree / "x").symlink_to(".."),
    "a neighbour whose name begins the same": lambda tree: (tree / "x").symlink_to("../tree2/x"),
    "by a link inside": lambda tree: (
        (tree / "x").symlink_to("pkg/y"),
        (tree / "pkg" / "y").symlink_to("/etc/passwd"),
    ),
    "what is not sent": lambda tree: (tree / "x").symlink_to(".git/config"),
    "nothing": lambda tree: (tree / "x").symlink_to("nowhere"),
    "itself": lambda tree: (tree / "x").symlink_to("x"),
    "a directory that it is in": lambda tree: (tree / "pkg" / "x").symlink_to("../pkg"),
    "the tree": lambda tree: (tree / "pkg" / "x").symlink_to(tree),
}


@pytest.mark.parametrize("make", OUTSIDE.values(), ids=OUTSIDE)
def test_a_link_to_what_is_not_sent_is_refused(tree, tmp_path, make):
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "tree2").mkdir()
    (tmp_path / "tree2" / "x").write_text("secret")
    (tree / ".git").mkdir()
    (tree / ".git" / "config").write_text("secret")
    make(tree)
    with pytest.raises(trees.TreeError, match=r"^(pkg/)?[xy] is a link to "):
        trees.digest(tree)
    with pytest.raises(trees.TreeError):
        trees.archive(tree, tmp_path / "x.tar.gz")


def test_links_may_lead_to_what_is_in_a_directory_around_the_tree_and_no_further(tree, tmp_path):
    around = tmp_path / "around"
    around.mkdir()
    tree = tree.rename(around / "tree")
    (around / "shared.py").write_text("z")
    (tree / "x.py").symlink_to("../shared.py")
    assert [file.name for file in trees.files(tree, around)] == ["app.py", "pkg/module.py", "x.py"]
    trees.archive(tree, tmp_path / "x.tar.gz", within=around)
    with tarfile.open(tmp_path / "x.tar.gz") as packed:
        assert packed.getmember("x.py").isreg()
    (tmp_path / "secret").write_text("secret")
    (tree / "y.py").symlink_to("../../secret")
    with pytest.raises(trees.TreeError, match=r"^y\.py is a link to "):
        trees.digest(tree, within=around)


REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("program", ["supervisor_py", "backup_py"])
def test_the_programs_of_the_collection_can_be_sent_with_all_that_they_import(program, tmp_path):
    trees.archive(REPOSITORY / program, tmp_path / "x.tar.gz", program, within=REPOSITORY)
    with tarfile.open(tmp_path / "x.tar.gz") as packed:
        packed.extractall(tmp_path, filter="data")
    modules = {"supervisor_py": "serve, supervisor_py.crawlers.limits", "backup_py": "cli"}
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import {program}.{modules[program]}"
    subprocess.run([sys.executable, "-ISEc", code], check=True)


def test_a_pipe_or_a_socket_is_refused_and_not_waited_for(tree):
    os.mkfifo(tree / "pipe")
    with pytest.raises(trees.TreeError, match=r"^pipe is neither"):
        trees.digest(tree)
    (tree / "pipe").unlink()
    with socket.socket(socket.AF_UNIX) as server:
        folder = os.open(tree, os.O_RDONLY)  # its path may be too long for a socket's
        server.bind(f"/proc/self/fd/{folder}/app.sock")
        os.close(folder)
        with pytest.raises(trees.TreeError, match=r"^app\.sock is neither"):
            trees.digest(tree)


def test_links_that_multiply_a_tree_are_refused(tree, monkeypatch):
    monkeypatch.setattr(trees, "MOST_FILES", 1000)
    for number in range(12):
        folder = tree / f"d{number:02}"
        folder.mkdir()
        for name in "ab":
            (folder / name).symlink_to(f"../d{number + 1:02}")
    (tree / "d12").mkdir()
    (tree / "d12" / "file").write_text("x")
    with pytest.raises(trees.TreeError, match="more than 1000 files"):
        trees.digest(tree)
