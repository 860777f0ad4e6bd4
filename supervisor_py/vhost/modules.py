"""Modules of an app's own: two apps of one interpreter may each have an `app.py`.

sys.modules stays the interpreter's one plain dict, which the import system looks into from C as
well as from Python. A module found in an app's own import roots is kept there under a ModuleKey: a
name that equals its text only for a thread that works for that app. So `import config`, late or
not, import_module("config"), pickle and sys.modules[__name__] all find the app's own one, and
libraries, under plain names, are shared. No function of the import system is replaced.
"""

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import _bootstrap
from importlib.abc import MetaPathFinder
from importlib.machinery import (
    ExtensionFileLoader,
    ModuleSpec,
    NamespaceLoader,
    PathFinder,
    SourceFileLoader,
    SourcelessFileLoader,
)
from itertools import takewhile
from types import CodeType, ModuleType
from typing import NoReturn

from . import context, spawning
from .context import AppContext
from .search_path import SearchPath

APART = 'give the app an interpreter of its own (isolation = "process")'
WAY_OUT = f"rename it, or {APART}"
NO_WAY_OUT = "rename it: the server has loaded that one before the apps, itself or by pool.preload"


class ClashError(ImportError):
    """An app's own module can't be kept apart from what its neighbours use.

    `isolate`: it could, in an interpreter of the app's own.
    """

    def __init__(self, sentence: str, name: str | None = None, *, isolate: bool = False) -> None:
        super().__init__(sentence, name=name)
        self.isolate = isolate


class ModuleKey(str):
    """A module's name that only its app sees: to others it equals nothing."""

    __slots__ = ("app",)
    app: AppContext

    def __new__(cls, text: str, app: AppContext) -> "ModuleKey":
        """Make the key of an app's module."""
        key = super().__new__(cls, text)
        key.app = app
        return key

    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        mine = other.app is self.app if type(other) is ModuleKey else context.current() is self.app
        return mine and str.__eq__(self, other) is True

    def __ne__(self, other: object) -> bool:
        return not self == other


class AppSpec(ModuleSpec):
    """The spec of an app's own module; its name, under which importlib keeps it, is a key."""

    @property
    def parent(self) -> str:
        """The package that relative imports start from, in plain text, for __package__."""
        return str(super().parent)


class _Plainly:
    """Makes modules with their plain name, where importlib would take the spec's."""

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return ModuleType(str(spec.name))


class _Checked(_Plainly):
    """Has code looked at before it is run."""

    check: Callable[[CodeType], None]

    def get_code(self, fullname: str) -> CodeType | None:
        if type(fullname) is ModuleKey:  # reload() names the module anew
            sys.modules[fullname].__name__ = str(fullname)
        code: CodeType | None = super().get_code(fullname)  # type: ignore[misc]
        if code is not None:
            self.check(code)
        return code


class _SourceLoader(_Checked, SourceFileLoader):  # type: ignore[misc]
    pass


class _BytecodeLoader(_Checked, SourcelessFileLoader):
    pass


class _NamespaceLoader(_Plainly, NamespaceLoader):
    def create_module(self, spec: ModuleSpec) -> ModuleType:  # type: ignore[override]
        module = super().create_module(spec)
        module.__file__ = None  # as importlib has it
        return module


class _Locks(dict[object, object]):
    """The import system's locks, by module, with an app's own modules apart from a neighbour's.

    Else two apps that each import an `a` with a `b`, at once, could seem to wait for each other.
    """

    def __init__(self, locks: dict[object, object], key: Callable[[str], object]) -> None:
        super().__init__(locks)
        self._key = key

    def __getitem__(self, name: object) -> object:
        return super().__getitem__(self._key(str(name)))

    def __setitem__(self, name: object, lock: object) -> None:
        super().__setitem__(self._key(str(name)), lock)

    def __delitem__(self, name: object) -> None:
        super().__delitem__(self._key(str(name)))

    def get(self, name: object, default: object = None) -> object:
        return super().get(self._key(str(name)), default)


@dataclass(slots=True)
class _OwnPart:
    """An app's own entries of its search path, and what has been looked for in them."""

    search: list[str]
    entries: list[str]
    found: dict[str, ModuleSpec | None]


class AppFinder(MetaPathFinder):
    """Finds modules for the calling thread's app: in its import roots, then where all search."""

    def __init__(self, apps: Sequence[AppContext]) -> None:
        self._apps = apps
        self._last = next(reversed(sys.modules))  # before any app
        # The server's own search path. A relative entry would be another one in each directory.
        self._shared = [entry for entry in sys.path if os.path.isabs(entry)]
        self._hidden = {app: frozenset(_hidden_in(app.import_roots)) for app in apps}
        self._path = SearchPath(self._shared)
        self._settled: dict[AppContext, list[str]] = {app: [] for app in apps}
        self._own: dict[AppContext, _OwnPart] = {}
        self._loading: AppContext | None = None
        self._refused: list[ClashError] = []
        self._spawns = False

    def install(self) -> None:
        """Be asked before Python's own finder, and after those of built-in modules."""
        sys.path = self._path
        sys.meta_path.insert(sys.meta_path.index(PathFinder), self)
        locks = _Locks(vars(_bootstrap)["_module_locks"], self._lock_key)
        vars(_bootstrap)["_module_locks"] = locks

    @contextmanager
    def loading(self, app: AppContext) -> Iterator[None]:
        """Have sys.path be an app's own, and keep for it alone what it makes of it.

        Raises ClashError also where the app has survived one, in a `try` around an import.
        """
        last = next(reversed(sys.modules))
        self._loading = self._path.loading = app
        self._refused.clear()
        self._path.share([*app.import_roots, *self._shared])
        try:
            yield
        finally:
            self._adopt(app)
            search = _absolute(self._path.shared())
            self._loading = self._path.loading = None
            # A library may have added something, too: pkg_resources does.
            self._shared = [entry for entry in search if not self._is_own(app, entry)]
            app.search[:] = search
            self._settled[app] = list(search)
            self._path.share(self._shared)
        added = {name: sys.modules[name] for name in _added_since(last) if type(name) is str}
        for name, module in reversed(added.items()):  # packages first
            if self._is_own_file(app, module) or self._is_made_by(app, name, added):
                sys.modules[ModuleKey(name, app)] = sys.modules.pop(name)
        if self._refused:
            raise self._refused[0]

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find a module for the calling thread's app; raises ClashError where it can't be its."""
        app = context.current()
        if app is None or fullname.partition(".")[0] in sys.stdlib_module_names:
            if fullname in spawning.IMPORTED and not self._spawns:
                self._spawns = True
                spawning.install()
            return None
        if path is not None:
            parent = sys.modules.get(fullname.rpartition(".")[0])
            if not isinstance(getattr(parent, "__spec__", None), AppSpec):
                return None
            spec = PathFinder.find_spec(fullname, path, target)
            return spec and self._claim(spec, app)
        self._adopt(app)
        self._settle(app)
        search = self._search(app)
        spec = PathFinder.find_spec(fullname, search, target)
        if spec is None:
            return None
        places = _places(spec)
        own = [place for place in places if self._is_own(app, os.path.dirname(place))]
        if own and len(own) == len(places):
            return self._claim(spec, app)
        if own and len(self._apps) > 1:
            # Folders without code of their own, beside a library that is spread over several.
            shared = [entry for entry in search if not self._is_own(app, entry)]
            spec = PathFinder.find_spec(fullname, shared, target)
        if self._loading is None and (clash := self._clash_with_shared(fullname, spec)):
            raise clash[1]
        return spec

    def clashes(self) -> Iterator[tuple[AppContext, ClashError]]:
        """Yield each app that clashes with what is loaded for all, with the error that says it."""
        for name in self._offered():
            spec = getattr(sys.modules.get(name), "__spec__", None)
            clash = isinstance(spec, ModuleSpec) and self._clash_with_shared(name, spec)
            if clash:
                yield clash
        if len(self._apps) > 1:  # else nobody is there to see a module that he shouldn't
            yield from self._taken_in()

    def _offered(self) -> Iterator[str]:
        """Yield the plain names in sys.modules that an app may have a module of its own for.

        An isolated app shares the pages of what is there with others, until it looks at it: even
        that writes its count of references.
        """
        names: set[str] = set()
        for app in self._apps:
            for entry in app.search or app.import_roots:
                if not self._is_own(app, entry):
                    continue
                try:
                    names.update(name.partition(".")[0] for name in os.listdir(entry))
                except OSError:  # a zip file, say
                    names.update(name for name in sys.modules if type(name) is str)
        yield from (name for name in names if name.isidentifier() and name in sys.modules)

    def _taken_in(self) -> Iterator[tuple[AppContext, ClashError]]:
        """Yield each app that has a module of its own in the namespace of a library."""
        own = {id(m): n for n, m in sys.modules.items() if isinstance(n, ModuleKey)}
        for name, module in list(sys.modules.items()):
            if isinstance(name, ModuleKey) or not _is_module(module):
                continue
            for value in list(vars(module).values()):
                key = own.get(id(value)) if _is_module(value) else None
                if isinstance(key, ModuleKey):
                    sentence = (
                        f"the library {name} has imported the app {key.app.name}'s own module"
                        f' "{key}" ({_place_of(value)}), and would show it to all apps; {WAY_OUT}'
                    )
                    yield key.app, ClashError(sentence, name, isolate=True)

    def forget(self, app: AppContext) -> None:
        """Take an app's own modules away."""
        for name in list(sys.modules):
            if isinstance(name, ModuleKey) and name.app is app:
                del sys.modules[name]

    def _adopt(self, app: AppContext) -> None:
        """Take what an app has put in the place of sys.path for the content of its own one."""
        put = sys.path
        if put is not self._path:
            sys.path = self._path
            if app is self._loading:
                self._path.share(put)
            else:
                app.search[:] = put

    def _settle(self, app: AppContext) -> None:
        """Share what a library has added to the path in a request of an app."""
        settled = self._settled[app]
        if app is self._loading or app.search == settled:
            return
        for entry in _absolute(app.search):
            if entry not in settled and not self._is_own(app, entry):
                self._shared.append(entry)
                self._path.share(self._shared)
        self._settled[app] = list(app.search)

    def _search(self, app: AppContext) -> list[str]:
        shared = self._path.shared()
        if self._loading is app:
            return shared
        search = _absolute(app.search)
        if self._loading is not None:
            return search
        return [*search, *(entry for entry in shared if entry not in search)]

    def _is_own(self, app: AppContext, path: str) -> bool:
        """Tell whether what is on sys.path, or in it, is the app's: also where nobody knows it."""
        return self._nearest(app, path) is not False

    def _is_own_file(self, app: AppContext, module: object) -> bool:
        """Tell whether a module that was put into sys.modules by hand is of the app's own."""
        file = getattr(module, "__file__", None)
        return isinstance(file, str) and self._nearest(app, os.path.abspath(file)) is True

    def _is_made_by(self, app: AppContext, name: str, added: Mapping[str, ModuleType]) -> bool:
        """Tell whether a module without a file has been made by an app, and not by a library."""
        module = added[name]
        if len(self._apps) == 1 or type(module) is not ModuleType or not _is_bare(module):
            return False
        top, dot, _ = name.partition(".")
        if dot:
            own = [key for key in list(sys.modules) if type(key) is ModuleKey and key.app is app]
            return top in map(str, own)
        libraries = [one for one in added.values() if one is not module and _is_module(one)]
        return not any(value is module for one in libraries for value in vars(one).values())

    def _nearest(self, app: AppContext, path: str) -> bool | None:
        """Return whose the nearest directory is: the app's or not, or None where nobody knows.

        The virtualenv may be inside the app's directory, or the other way round.
        """
        known = dict.fromkeys(_absolute(self._settled[app]), True) | dict.fromkeys(
            self._shared, False
        )
        known |= dict.fromkeys((str(app.root), *app.import_roots), True)
        while path not in known:
            above = os.path.dirname(path)
            if above == path:
                return None
            path = above
        return known[path]

    def _lock_key(self, name: str) -> object:
        app = context.current()
        top = name.partition(".")[0]
        if app is None or top in sys.stdlib_module_names or self._own_spec(app, top) is None:
            return name
        return app, name

    def _own_spec(self, app: AppContext, name: str) -> ModuleSpec | None:
        """Return the spec of a top-level module in the app's own part of its search path."""
        search = self._search(app)
        own = self._own.get(app)
        if own is None or own.search != search:
            entries = [entry for entry in search if self._is_own(app, entry)]
            own = self._own[app] = _OwnPart(list(search), entries, {})
        if name not in own.found:
            own.found[name] = PathFinder.find_spec(name, own.entries)
        return own.found[name]

    def _claim(self, spec: ModuleSpec, app: AppContext) -> ModuleSpec:
        loader = spec.loader
        made: _SourceLoader | _BytecodeLoader | _NamespaceLoader
        if isinstance(loader, ExtensionFileLoader):
            if len(self._apps) == 1:
                return spec
            self._refuse(
                f'the app {app.name} has a C extension module of its own, "{spec.name}" at'
                f" {spec.origin}, and an interpreter has those for all apps: install it into the"
                f" virtualenv, or {APART}",
                spec.name,
                isolate=True,
            )
        if loader is None:
            made = self._namespace(spec, app)
        elif isinstance(loader, SourceFileLoader):
            made = _SourceLoader(loader.name, loader.path)
            made.check = partial(self._check, app)
        elif isinstance(loader, SourcelessFileLoader):
            made = _BytecodeLoader(loader.name, loader.path)
            made.check = partial(self._check, app)
        else:
            return spec  # from a zip file, or from whoever has a hook for such a path entry
        claimed = AppSpec(ModuleKey(spec.name, app), made, origin=spec.origin)
        claimed.submodule_search_locations = spec.submodule_search_locations
        claimed.has_location = spec.has_location
        return claimed

    def _check(self, app: AppContext, code: CodeType) -> None:
        hidden = self._hidden[app]
        if hidden and (names := hidden.intersection(_imported(code))):
            name = min(names)
            self._refuse(
                f'the app {app.name} has its own module "{name}", imported by {code.co_filename}:'
                " that is the standard library's name, and that one is there for all apps; rename"
                " it (or put it into a package)",
                name,
            )

    def _refuse(self, sentence: str, name: str, *, isolate: bool = False) -> NoReturn:
        refusal = ClashError(sentence, name, isolate=isolate)
        self._refused.append(refusal)
        raise refusal

    def _namespace(self, spec: ModuleSpec, app: AppContext) -> _NamespaceLoader:
        def find_again(name: str, path: Sequence[str]) -> ModuleSpec | None:
            # A namespace looks for its folders again when sys.path has changed.
            top = "." not in name
            return PathFinder.find_spec(name, [*app.import_roots, *path] if top else path)

        folders = list(spec.submodule_search_locations or ())
        loader = _NamespaceLoader(spec.name, folders, find_again)
        spec.submodule_search_locations = loader._path  # type: ignore[attr-defined]
        return loader

    def _clash_with_shared(
        self, name: str, spec: ModuleSpec | None
    ) -> tuple[AppContext, ClashError] | None:
        """Return the app that hides a shared module by one of its own, and the error."""
        if spec is None or name in sys.stdlib_module_names or name == "__main__":
            return None
        here = next(iter(_places(spec)), None)
        for app in self._apps:
            offered = self._own_spec(app, name)
            if offered is None or offered.loader is None or here is None:
                continue
            (place,) = _places(offered)
            if place != here:
                isolate = name in _added_since(self._last)
                return app, ClashError(
                    f'the module "{name}" clashes: the virtualenv has it at {_shown(spec)}, for all'
                    f" apps, and the app {app.name} has another at {_shown(offered)};"
                    f" {WAY_OUT if isolate else NO_WAY_OUT}",
                    name,
                    isolate=isolate,
                )
        return None


def _absolute(entries: Iterable[object]) -> list[str]:
    """Return the entries of a path as they are in the calling thread's directory.

    A relative one would be kept for all by what it means to the first.
    """
    return [os.path.abspath(entry) for entry in entries if isinstance(entry, str)]


def _hidden_in(roots: Iterable[str]) -> Iterator[str]:
    """Yield the names of top-level modules that the standard library has, too."""
    for root in roots:
        for entry in os.listdir(root):
            name = entry.removesuffix(".py")
            is_module = name != entry or os.path.isfile(f"{root}/{name}/__init__.py")
            if is_module and name in sys.stdlib_module_names:
                yield name


def _added_since(last: str) -> list[str]:
    """Return the names that have come into sys.modules after another one."""
    return list(takewhile(lambda name: name is not last, reversed(sys.modules)))


def _is_bare(module: ModuleType) -> bool:
    """Tell whether a module comes from nowhere."""
    known = vars(module)
    return known.get("__spec__") is None and not {"__file__", "__path__"} & known.keys()


def _is_module(value: object) -> bool:
    """Tell a module from a lazy object, which isinstance() would make look for its settings."""
    return issubclass(type(value), ModuleType)


def _places(spec: ModuleSpec) -> list[str]:
    """Return what a module is in its path entry: one file or folder, or a namespace's several."""
    locations = spec.submodule_search_locations
    if locations is not None:
        return list(locations)
    return [spec.origin] if spec.origin else []


def _place_of(module: ModuleType) -> str:
    return str(getattr(module, "__file__", None) or list(getattr(module, "__path__", ())))


def _shown(spec: ModuleSpec) -> str:
    return spec.origin or str(next(iter(spec.submodule_search_locations or ()), "?"))


def _imported(code: CodeType) -> Iterator[str]:
    """Yield the top-level names that code imports absolutely, functions in it included."""
    import dis  # noqa: PLC0415  # only for an app that has a module named as one of the library's

    loads: list[object] = []
    for instruction in dis.get_instructions(code):
        if instruction.opname == "IMPORT_NAME":
            if loads[-2:-1] == [0]:  # the level, loaded before the list of names
                yield str(instruction.argval).partition(".")[0]
        elif instruction.opname.startswith(("LOAD_CONST", "LOAD_SMALL_INT")):
            loads.append(instruction.argval)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _imported(constant)
