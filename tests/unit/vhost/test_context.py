import _thread
import atexit
import io
import os
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from supervisor_py.vhost import callbacks, context, environment, errors
from supervisor_py.vhost.context import AppContext
from supervisor_py.vhost.directory import open_directory


@pytest.fixture
def blog(tmp_path: Path) -> AppContext:
    return AppContext("blog", tmp_path, open_directory(tmp_path), {"COLOUR": "red"})


@pytest.fixture(autouse=True)
def environ(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    plain = type(os.environ)
    for name in ("COLOUR", "SIZE", "NEW"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SIZE", "big")
    monkeypatch.setattr(subprocess.Popen, "__init__", subprocess.Popen.__init__)
    environment.install()
    yield
    context._current.set(None)
    os.environ.__class__ = plain


def in_app(app: AppContext) -> None:
    context._current.set(app)  # enter() would move the test run's own directory, too


def test_an_app_sees_its_variables_over_the_process_and_only_while_it_runs(
    blog: AppContext,
) -> None:
    in_app(blog)
    assert (os.environ["COLOUR"], os.getenv("SIZE")) == ("red", "big")
    assert {"COLOUR", "SIZE"} <= set(os.environ)
    assert dict(os.environ)["COLOUR"] == os.environ.copy()["COLOUR"] == "red"
    assert len(os.environ) == len(list(os.environ)) == len(dict(os.environ))
    assert "'COLOUR': 'red'" in repr(os.environ)
    context.leave()
    assert "COLOUR" not in os.environ


def test_what_an_app_sets_or_deletes_is_its_own(blog: AppContext) -> None:
    in_app(blog)
    os.environ["NEW"] = "1"
    del os.environ["SIZE"]
    assert os.environ.pop("COLOUR") == "red"
    assert (os.getenv("NEW"), os.getenv("SIZE"), os.getenv("COLOUR")) == ("1", None, None)
    assert "SIZE" not in set(os.environ)
    with pytest.raises(KeyError, match="SIZE"):
        del os.environ["SIZE"]
    context.leave()
    assert (os.getenv("NEW"), os.getenv("SIZE")) == (None, "big")


def test_only_strings_can_be_set(blog: AppContext) -> None:
    in_app(blog)
    with pytest.raises(TypeError):
        os.environ["NEW"] = 1  # type: ignore[assignment]


def test_the_server_itself_sets_the_process_variables() -> None:
    os.environ["NEW"] = "1"
    assert os.environb[b"NEW"] == b"1"
    del os.environ["NEW"]
    assert b"NEW" not in os.environb


def test_a_thread_of_an_app_works_for_it_and_in_its_directory(
    blog: AppContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    for owner, name in (
        (threading.Thread, "start"),
        (_thread, "start_new_thread"),
        (_thread, "start_new"),
        (ThreadPoolExecutor, "submit"),
        (atexit, "register"),
        (os, "register_at_fork"),
    ):
        monkeypatch.setattr(owner, name, getattr(owner, name))
    callbacks.install()
    home = Path.cwd()
    seen: list[object] = []

    class Looking(threading.Thread):
        def run(self) -> None:
            seen.extend((context.current(), Path.cwd()))

    in_app(blog)
    for thread in (Looking(), threading.Thread(target=Looking.run, args=(None,))):
        thread.start()
        thread.join()
    context.leave()
    server_thread = Looking()
    server_thread.start()
    server_thread.join()
    assert seen == [blog, blog.root] * 2 + [None, home]


@pytest.mark.parametrize(
    ("writes", "expected"),
    [
        (["one\n"], "blog: one\n"),
        (["one\ntwo\n"], "blog: one\nblog: two\n"),
        (["one", " more", "\n", "two"], "blog: one more\nblog: two\n"),
        (["one\n\ntwo"], "blog: one\nblog: \nblog: two\n"),
        (["\n"], "blog: \n"),
        ([""], ""),
    ],
)
def test_each_error_line_of_an_app_begins_with_its_name(
    blog: AppContext, writes: list[str], expected: str
) -> None:
    stream = io.StringIO()
    prefixed = errors.AppPrefixed(stream)
    in_app(blog)
    assert [prefixed.write(text) for text in writes] == [len(text) for text in writes]
    prefixed.flush()
    assert stream.getvalue() == expected


def test_lines_that_threads_of_two_apps_write_bit_by_bit_do_not_mix(
    blog: AppContext, tmp_path: Path
) -> None:
    stream = io.StringIO()
    prefixed = errors.AppPrefixed(stream)
    turns = [threading.Barrier(2) for _ in range(3)]

    def write(name: str) -> None:
        in_app(AppContext(name, tmp_path, -1, {}))
        for turn, text in zip(turns, ("a", "b", "\n"), strict=True):
            turn.wait(10)
            prefixed.write(text)

    threads = [threading.Thread(target=write, args=(name,)) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(stream.getvalue().splitlines()) == ["one: ab", "two: ab"]


def test_what_an_app_leaves_of_a_line_is_not_the_next_ones(blog: AppContext) -> None:
    stream = io.StringIO()
    prefixed = errors.AppPrefixed(stream)
    in_app(blog)
    prefixed.write("unfinished")
    context.leave()
    prefixed.write("the server's\n")
    assert stream.getvalue() == "blog: unfinished\nthe server's\n"


def test_error_lines_of_the_server_are_left_alone() -> None:
    stream = io.StringIO()
    errors.AppPrefixed(stream).write("one\ntwo\n")
    assert stream.getvalue() == "one\ntwo\n"
