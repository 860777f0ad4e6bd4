"""Strangers' sources are compiled without rights and within bounds, as compileall would do it."""

import compileall
import marshal
import os
import py_compile
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ansible_collections.kechi.vps.plugins.module_utils import compiling

ROOT = Path(__file__).parents[3]
NAMED = Path("/srv/www/app/releases/abc")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    (tree / "package").mkdir(parents=True)
    (tree / "package" / "fine.py").write_text("def one():\n    return 1\n")
    (tree / "z.py").write_text("import package.fine\n")
    return tree


def compiled(tree: Path) -> list[str]:
    return sorted(path.name.partition(".")[0] for path in tree.rglob("*.pyc"))


def test_byte_code_is_that_of_compileall(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    for tree in (ours, theirs):
        shutil.copytree(ROOT / "supervisor_py", tree, ignore=shutil.ignore_patterns("*.pyc"))
        (tree / "latin.py").write_bytes(b"# -*- coding: latin-1 -*-\nname = '\xe9'\n")
        (tree / "broken.py").write_text("def\n")
        (tree / "empty.py").write_text("")
    compiling.compile_tree(ours, NAMED)
    compileall.compile_dir(
        theirs, quiet=2, stripdir=str(theirs), prependdir=str(NAMED),
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )  # fmt: skip
    found = {path.relative_to(ours): path for path in ours.rglob("*.pyc")}
    assert found.keys() == {path.relative_to(theirs) for path in theirs.rglob("*.pyc")}
    assert len(found) > 50
    for name, path in found.items():
        made, wanted = path.read_bytes(), (theirs / name).read_bytes()
        assert made[:16] == wanted[:16], name
        # how often an object is referred to says whether marshal marks it
        code, other = (marshal.loads(content[16:]) for content in (made, wanted))
        assert (code, code.co_filename) == (other, other.co_filename), name
    done = subprocess.run(
        [sys.executable, "-ISv", "-c", f"import sys; sys.path[:0] = [{str(ours)!r}]; import latin"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "latin.cpython" in done.stderr, "Python takes it"


@pytest.mark.parametrize(
    "source",
    [
        b"(" * 100_000,
        b"-" * 1_000_000 + b"1",
        b"x = " + b"[" * 5000 + b"]" * 5000,
        b"a.b" + b".c" * 1_000_000,
        b"\0",
        b"# coding: no such thing\n",
        b"x = (" + b"0," * 7_000_000 + b")",  # a gigabyte of syntax tree
        b"a" * (compiling.MOST_SOURCE + 1),
    ],
    ids=["open", "minus", "deep", "long", "nul", "coding", "wide", "huge"],
)
def test_a_source_that_no_compiler_can_take_costs_nothing_but_itself(
    tree: Path, source: bytes
) -> None:
    (tree / "m.py").write_bytes(source)
    compiling.compile_tree(tree, NAMED)
    assert compiled(tree) == ["fine", "z"]


def test_a_compiler_that_takes_too_long_or_dies_is_ended_and_so_is_that(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gets a new one for what is left, but not for ever."""
    code = compiling.CODE.replace(
        "    try:\n",
        "    if b'hang' in source: import time; time.sleep(600)  # until it is killed\n"
        "    if b'die' in source: os.abort()\n"
        "    try:\n",
    )
    monkeypatch.setattr(compiling, "CODE", code)
    monkeypatch.setattr(compiling, "FILE_SECONDS", 5)
    (tree / "a.py").write_text("'hang'")
    (tree / "b.py").write_text("'die'")
    compiling.compile_tree(tree, NAMED)
    assert compiled(tree) == ["fine", "z"]
    for name in ("c", "d", "e"):
        (tree / f"{name}.py").write_text("'die'")
    for path in tree.rglob("*.pyc"):
        path.unlink()
    monkeypatch.setattr(compiling, "FILE_SECONDS", 60)
    (tree / "a.py").unlink()
    compiling.compile_tree(tree, NAMED)
    assert compiled(tree) == [], "b, c and d come before them"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has rights to give up")
def test_the_compiler_has_no_rights(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = "repr((os.getuid(), os.getgid(), os.getgroups(), dict(os.environ), os.getcwd(),"
    shown += " sorted(os.listdir('/proc/self/fd')), resource.getrlimit(resource.RLIMIT_FSIZE),"
    shown += " resource.getrlimit(resource.RLIMIT_AS)))"
    code = compiling.CODE.replace(
        "made = marshal.dumps(",
        f"source = 'told = ' + repr({shown}); made = marshal.dumps(",
    )
    monkeypatch.setattr(compiling, "CODE", code)
    with (tree / "z.py").open() as held:
        os.set_inheritable(held.fileno(), True)
        compiling.compile_tree(tree, NAMED)
    (tree / "package" / "fine.py").unlink()
    done = subprocess.run(
        [sys.executable, "-IS", "-c", f"import sys; sys.path[:0] = [{str(tree)!r}]; import z;"
         " print(z.told)"], capture_output=True, text=True, check=True,
    )  # fmt: skip
    uid, gid, groups, environment, directory, fds, size, memory = eval(done.stdout)
    assert (uid, gid, groups) == (compiling.NOBODY, compiling.NOBODY, [])
    assert environment.keys() <= {"LC_CTYPE"}
    assert directory == "/"
    assert len(fds) == 4, "its standard streams, and the one that lists them"
    assert size == (0, 0)
    assert memory == (compiling.MEMORY_BYTES, compiling.MEMORY_BYTES)


def test_no_link_is_followed(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.py").write_text("secret = 1")
    (tree / "link.py").symlink_to(tmp_path / "secret.py")
    compiling.compile_tree(tree, NAMED)
    assert compiled(tree) == ["fine", "z"]


def test_the_time_of_a_file_is_bounded_while_it_is_written_too() -> None:
    with compiling._running() as compiler:
        began = time.monotonic()
        with pytest.raises(compiling._EndedError):
            compiler._wait(compiler._out, compiling.select.POLLIN, began)


@pytest.mark.parametrize("how", ["directory", "file", "no directory", "directory as a file"])
def test_no_byte_code_is_written_through_a_link_of_the_release(
    tree: Path, tmp_path: Path, how: str
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    victim = outside / "victim"
    victim.write_text("root's")
    cache = tree / "package" / "__pycache__"
    cached = cache / f"fine.{sys.implementation.cache_tag}.pyc"
    if how == "directory":
        cache.symlink_to(outside)
    elif how == "no directory":
        cache.write_text("mine")
    else:
        cache.mkdir()
        if how == "file":
            cached.symlink_to(victim)
        else:
            cached.mkdir()
    compiling.compile_tree(tree, NAMED)
    assert [path.name for path in outside.iterdir()] == ["victim"]
    assert victim.read_text() == "root's"
    assert (tree / "__pycache__" / f"z.{sys.implementation.cache_tag}.pyc").is_file()
