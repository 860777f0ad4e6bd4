"""What is an app's own on sys.path and in sys.modules; how it is kept apart is a process test."""

import sys
from collections.abc import Iterator
from importlib import _bootstrap
from pathlib import Path
from types import ModuleType

import pytest

from supervisor_py.vhost import context
from supervisor_py.vhost.context import AppContext
from supervisor_py.vhost.modules import AppFinder, ModuleKey


def app_in(folder: Path, name: str) -> AppContext:
    (folder / name).mkdir()
    return AppContext(name, folder / name, -1, {}, (str(folder / name),))


@pytest.fixture
def blog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AppContext]:
    # its virtualenv is in its directory, and its directory in one that all search
    site_packages = tmp_path / "blog" / ".venv" / "site-packages"
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path), str(site_packages), "relative"])
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    monkeypatch.setattr(_bootstrap, "_module_locks", vars(_bootstrap)["_module_locks"])
    yield app_in(tmp_path, "blog")
    context._current.set(None)


def test_a_key_is_equal_to_its_name_for_its_app_alone(tmp_path: Path, blog: AppContext) -> None:
    wiki = app_in(tmp_path, "wiki")
    key, same, other = ModuleKey("config", blog), ModuleKey("config", blog), ModuleKey("app", blog)
    modules: dict[str, str] = {key: "blog's", ModuleKey("config", wiki): "wiki's"}
    assert (key == "config", key != "config", "config" in modules) == (False, True, False)
    context._current.set(blog)
    assert (key == "config", key != "config", "config" == key, key == 1) == (  # noqa: SIM300
        True, False, True, False
    )  # fmt: skip
    assert (modules["config"], modules[same], len(modules)) == ("blog's", "blog's", 2)
    modules["config"] = "blog's new one"
    assert len(modules) == 2
    assert key != other
    context._current.set(wiki)
    assert (modules["config"], modules[key]) == ("wiki's", "blog's new one")
    assert (type(str(key)), hash(key)) == (str, hash("config"))


def test_what_an_app_adds_to_the_path_is_its_own_and_what_a_library_adds_is_shared(
    tmp_path: Path, blog: AppContext
) -> None:
    finder = AppFinder([blog])
    finder.install()
    before = list(sys.path)
    assert "relative" not in before
    own = [str(blog.root / "lib"), "/opt/elsewhere"]
    vendored = str(blog.root / ".venv" / "site-packages" / "tools" / "_vendor")
    with finder.loading(blog):
        assert sys.path[0] == str(blog.root)
        sys.path[:0] = own
        sys.path.append(vendored)
    assert sys.path == [*before, vendored]
    assert blog.search == [*own, str(blog.root), *before, vendored]


def test_the_path_is_given_back_after_a_load_that_fails(blog: AppContext) -> None:
    finder = AppFinder([blog])
    finder.install()
    before = list(sys.path)

    def load() -> None:
        with finder.loading(blog):
            sys.path.insert(0, "/opt/elsewhere")
            raise KeyError

    with pytest.raises(KeyError):
        load()
    assert sys.path == before


def test_a_module_put_in_by_hand_is_its_apps_where_its_file_is(
    tmp_path: Path, blog: AppContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    finder = AppFinder([blog])
    finder.install()
    places = {
        "of_the_app": blog.root / "plugins" / "one.py",
        "of_the_venv": blog.root / ".venv" / "site-packages" / "one.py",
        "of_the_pools": tmp_path / "one.py",
        "of_an_editable_library": Path("/elsewhere/one.py"),
    }
    with finder.loading(blog):
        for name, place in places.items():
            module = ModuleType(name)
            module.__file__ = str(place)
            sys.modules[name] = module
    try:
        assert [name for name in places if name in sys.modules] == list(places)[1:]
        context._current.set(blog)
        assert set(places) <= set(sys.modules)
        finder.forget(blog)
        assert "of_the_app" not in sys.modules
    finally:
        for name in places:
            sys.modules.pop(name, None)


def test_a_module_without_a_file_is_its_apps_unless_a_library_has_made_it(
    tmp_path: Path, blog: AppContext
) -> None:
    finder = AppFinder([blog, app_in(tmp_path, "wiki")])
    finder.install()
    library, package = ModuleType("a_library"), ModuleType("a_package")
    library.__file__ = "/elsewhere/a_library.py"
    package.__file__ = str(blog.root / "a_package.py")
    made = {
        "a_library": library,
        "of_a_library": ModuleType("of_a_library"),
        "a_library.sub": ModuleType("a_library.sub"),
        "xml.made_by_hand": ModuleType("xml.made_by_hand"),
        "a_package": package,
        "a_package.sub": ModuleType("a_package.sub"),
        "of_the_app": ModuleType("of_the_app"),
    }
    vars(library)["made"] = made["of_a_library"]
    context._current.set(blog)
    with finder.loading(blog):
        sys.modules.update(made)
    context._current.set(None)
    try:
        assert [name for name in made if name in sys.modules] == list(made)[:4]
        context._current.set(blog)
        assert [name for name in made if name in sys.modules] == list(made)
    finally:
        context._current.set(blog)
        for name in made:
            sys.modules.pop(name, None)
