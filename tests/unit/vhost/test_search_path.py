"""sys.path is a list like any other, for each app its own."""

import copy
import json
import os
import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor_py.vhost import context
from supervisor_py.vhost.context import AppContext
from supervisor_py.vhost.search_path import SearchPath


@pytest.fixture(autouse=True)
def nobody() -> Iterator[None]:
    yield
    context._current.set(None)


def app_with(*search: str) -> AppContext:
    return AppContext("app", Path("/srv"), -1, {}, search=list(search))


ENTRIES = st.text("abc", min_size=1, max_size=2)
CHANGES = st.one_of(
    st.tuples(st.just("append"), ENTRIES),
    st.tuples(st.just("insert"), st.integers(-3, 3), ENTRIES),
    st.tuples(st.just("extend"), st.lists(ENTRIES)),
    st.tuples(st.just("remove"), ENTRIES),
    st.tuples(st.just("pop")),
    st.tuples(st.just("reverse")),
    st.tuples(st.just("sort")),
    st.tuples(st.just("clear")),
    st.tuples(st.just("__iadd__"), st.lists(ENTRIES)),
    st.tuples(st.just("__setitem__"), st.slices(3), st.lists(ENTRIES)),
    st.tuples(st.just("__delitem__"), st.slices(3)),
)


def apply(target: list[str], change: tuple[object, ...]) -> object:
    name, *arguments = change
    try:
        found = getattr(target, str(name))(*arguments)
    except (ValueError, IndexError) as error:
        return type(error)
    return None if name == "__iadd__" else found


@given(st.lists(CHANGES), st.booleans())
def test_it_does_what_a_list_does_to_the_list_of_who_asks(
    changes: list[tuple[object, ...]], of_an_app: bool
) -> None:
    path, other = SearchPath(["/shared"]), app_with("/other")
    plain = ["/own", "/shared"] if of_an_app else ["/shared"]
    context._current.set(app_with(*plain) if of_an_app else None)
    for change in changes:
        assert apply(path, change) == apply(plain, change)
        if of_an_app and not plain:
            return  # an app without any path is not loaded
        assert path == plain
        assert [len(path), list(path), [*path], path[:], path.copy(), repr(path)] == [
            *(len(plain), plain, plain, plain, plain, repr(plain))
        ]
    context._current.set(other)
    assert path == ["/other"]


def test_all_that_is_made_of_it_is_what_the_app_sees() -> None:
    path = SearchPath(["/shared"])
    context._current.set(app_with("/own", "/shared"))
    own = ["/own", "/shared"]
    assert [list(path), sorted(path), [*path], path + [], [] + path, path * 1] == [own] * 6  # noqa: RUF005
    assert (tuple(path), set(path)) == (tuple(own), set(own))
    assert os.pathsep.join(path) == "/own:/shared"
    assert json.loads(json.dumps(path)) == own
    for made in (copy.copy(path), copy.deepcopy(path), pickle.loads(pickle.dumps(path))):
        assert (type(made), made) == (list, own)
    assert "/own" in path
    assert list(reversed(path)) == own[::-1]
    assert path.index("/shared") == path.count("/shared") == 1
    extended: list[str] = []
    extended.extend(path)
    extended += path
    assert extended == own * 2


def test_what_is_loaded_has_the_list_itself() -> None:
    path, app = SearchPath(["/shared"]), app_with("/own")
    path.loading = app
    context._current.set(app)
    path.append("/new")
    assert (path.shared(), app.search) == (["/shared", "/new"], ["/own"])
