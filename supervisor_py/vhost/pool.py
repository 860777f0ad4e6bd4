"""The pool file: what it may say, and the checked record that the server works from.

Pure but for read(), and standard library only: the Ansible roles check an inventory with the same
code, before anything on a host is changed.
"""

import json
import keyword
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from .hosts import Site, site
from .source import Source

NAME = re.compile(r"[a-z][a-z0-9-]{0,23}", re.ASCII)
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
WARM_UP_PATH = re.compile(r"/[!-~]*", re.ASCII)
# The super-daemon and the server speak to each other by these; an app's own value would cut that.
RESERVED_VARIABLES = frozenset(
    {
        "LISTEN_FDNAMES",
        "LISTEN_FDS",
        "LISTEN_PID",
        "NOTIFY_SOCKET",
        "SERVER_STARTER_BOOT",
        "SERVER_STARTER_GENERATION",
        "SERVER_STARTER_PORT",
    }
)
WORKERS = range(1, 65)
THREADS = range(1, 65)
MAX_REQUESTS = range(0, 1_000_000_001)
MEGABYTES = range(0, 1_000_001)
SECONDS = range(0, 1_000_000_001)
HEAD_BYTES = range(256, 32_769)  # of a request's line, or of one of its header fields
HEAD_FIELDS = range(20, 1001)
WSGI, ASGI = "wsgi", "asgi"  # the keys of an app's object, and how that is called
AUTO, SHARED, PROCESS = "auto", "shared", "process"  # what `isolation` may be
ISOLATIONS = (AUTO, SHARED, PROCESS)
COUNTS = {  # the keys of a group's workers: what is allowed, and what 0 means
    "workers": (WORKERS, ""),
    "threads": (THREADS, ""),
    "max_requests": (MAX_REQUESTS, ", 0 for no limit"),
    "max_private_mb": (MEGABYTES, ", 0 for no limit"),
    "max_age_seconds": (SECONDS, ", 0 for no limit"),
    "limit_request_line": (HEAD_BYTES, ""),
    "limit_request_fields": (HEAD_FIELDS, ""),
    "limit_request_field_size": (HEAD_BYTES, ""),
}
TIMEOUT_SECONDS = range(1, 3601)
TIMEOUTS = ("header_timeout_seconds", "body_timeout_seconds", "send_timeout_seconds")
IDLE = "idle_seconds"
REQUEST_TIMEOUT = "request_timeout_seconds"
REQUEST_TIMEOUT_SECONDS = 60  # by default
DOCUMENT_KEYS = ("pool", "apps")
POOL_KEYS = ("name", *COUNTS, *TIMEOUTS, REQUEST_TIMEOUT, "preload", "memory")
MEMORY_KEYS = ("gc_at_load", "warm_up", "freeze", "same_page_merging", "immortal")
APP_KEYS = (
    "name",
    "hosts",
    "directory",
    "import_roots",
    "wsgi",
    "asgi",
    "environment",
    "warm_up",
    "isolation",
    REQUEST_TIMEOUT,
    IDLE,
    *COUNTS,
)


class PoolError(ValueError):
    """A pool file that can't be used; `problems` has every reason, one sentence each."""

    def __init__(self, problems: list[str], source: Source | None = None) -> None:
        told = problems
        if source is not None:
            told = [f"{source.where(sentence.partition(':')[0])}: {sentence}" for sentence in told]
        super().__init__("\n".join(told))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Workers:
    """The processes of one group of apps, and when one of them is replaced (0: never for that)."""

    count: int = 0  # 0: as many as suit the machine
    threads: int = 0  # of each; 0 the same
    max_requests: int = 0
    max_private_mb: int = 0  # memory that the process alone holds
    max_age_seconds: int = 0
    # What nginx lets through by default; more is 414 or 431.
    limit_request_line: int = 8190
    limit_request_fields: int = 100
    limit_request_field_size: int = 8190


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long a client is waited for."""

    header_timeout_seconds: int = 10  # from the first byte of a request to the end of its fields
    body_timeout_seconds: int = 20  # while its body comes too slowly
    send_timeout_seconds: int = 60  # while it takes its answer too slowly


@dataclass(frozen=True, slots=True)
class Memory:
    """The steps that keep memory shared, each of which can be left out."""

    gc_at_load: bool = False  # collect garbage while apps are loaded
    warm_up: bool = True  # ask each app for its `warm_up` paths before workers are forked
    freeze: bool = True  # collect before the fork, and never look again at what is there by then
    same_page_merging: bool = True  # let the kernel merge equal pages, where it offers that
    immortal: bool = False  # count no references to what has been loaded (Python 3.12 and later)


@dataclass(frozen=True, slots=True)
class App:
    """One app of a pool: whose requests it gets, and where its code is."""

    name: str
    sites: tuple[Site, ...]  # its key `hosts`
    directory: Path  # as the file has it, so a `current` symlink is still one
    module: str
    attribute: str  # dotted where the object is an attribute of another
    interface: str = WSGI
    environment: Mapping[str, str] = field(default_factory=dict)
    import_roots: tuple[Path, ...] | None = None  # relative to the directory; None: by its layout
    warm_up: tuple[str, ...] = ()  # paths to ask it for once, when it has been loaded
    isolation: str = AUTO
    own: Workers | None = None  # its own, where it has a process; None: it shares the pool's
    isolation_reason: str = ""  # why a plan gives an app a process that has no say in it
    idle_seconds: int = 0  # without a request, after which an isolated app sleeps; 0: never
    request_timeout_seconds: int = REQUEST_TIMEOUT_SECONDS  # then a request is told of; 0: never


@dataclass(frozen=True, slots=True)
class Pool:
    """A whole pool file."""

    name: str
    apps: tuple[App, ...]
    shared: Workers = Workers()  # of all apps that are not isolated
    preload: tuple[str, ...] = ()  # modules that every group of the pool is forked with
    memory: Memory = Memory()
    timeouts: Timeouts = Timeouts()
    source: Source | None = field(default=None, compare=False)

    def where(self, app: str, key: str) -> str:
        """Return `file:line` of an app's key, or of the app where it has none; "" for no file."""
        if self.source is None:
            return ""
        index = [one.name for one in self.apps].index(app)
        return self.source.where(f"apps[{index}].{key}")


def problems(document: Mapping[str, object]) -> list[str]:
    """Return every problem of a parsed pool file, each with its place and value; [] is good."""
    return [
        *_unknown("", document, DOCUMENT_KEYS),
        *_pool_problems(document.get("pool")),
        *_apps_problems(document.get("apps")),
    ]


def parse(document: Mapping[str, object], relative_to: Path | None = None) -> Pool:
    """Return the checked record of a parsed pool file; raises PoolError with all its problems.

    A relative app directory is taken from `relative_to`, the folder of the pool file.
    """
    found = problems(document)
    if found:
        raise PoolError(found)
    pool = _table(document["pool"])
    shared = _workers(pool, Workers())
    alone = replace(shared, count=1)
    timeout = _number(pool.get(REQUEST_TIMEOUT, REQUEST_TIMEOUT_SECONDS))
    return Pool(
        name=str(pool["name"]),
        apps=tuple(
            _app(_table(app), relative_to or Path(), alone, timeout)
            for app in _array(document["apps"])
        ),
        shared=shared,
        preload=tuple(str(module) for module in _array(pool.get("preload", ()))),
        memory=Memory(**{k: bool(v) for k, v in _table(pool.get("memory", {})).items()}),
        timeouts=Timeouts(**{key: _number(pool[key]) for key in TIMEOUTS if key in pool}),
    )


def read(path: Path | str) -> Pool:
    """Read a pool file; raises PoolError, also for a file that can't be read or is no TOML."""
    file = Path(path)
    try:
        source = Source(str(file), file.read_text(encoding="utf-8"))
        document = tomllib.loads(source.text)
    except OSError as error:
        raise PoolError([f"{file}: cannot be read: {error.strerror}"]) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PoolError([f"{file}: is not TOML: {error}"]) from error
    try:
        return replace(parse(document, file.resolve().parent), source=source)
    except PoolError as error:
        raise PoolError(error.problems, source) from None


def _workers(table: Mapping[str, object], default: Workers) -> Workers:
    given = {"count" if key == "workers" else key: table[key] for key in COUNTS if key in table}
    return replace(default, **{key: _number(value) for key, value in given.items()})


def is_isolated(app: Mapping[str, object]) -> bool:
    """Tell whether an app has a process of its own; one that speaks ASGI always has."""
    return app.get("isolation") == PROCESS or app.get(ASGI) is not None


def _app(app: Mapping[str, object], folder: Path, alone: Workers, timeout: int) -> App:
    interface = ASGI if ASGI in app else WSGI
    module, _, attribute = str(app[interface]).partition(":")
    return App(
        name=str(app["name"]),
        sites=tuple(found for text in _array(app["hosts"]) if (found := site(str(text)))),
        directory=folder / str(app["directory"]),
        module=module,
        attribute=attribute,
        interface=interface,
        environment={k: str(v) for k, v in _table(app.get("environment", {})).items()},
        import_roots=(
            tuple(Path(str(root)) for root in _array(app["import_roots"]))
            if "import_roots" in app
            else None
        ),
        warm_up=tuple(str(path) for path in _array(app.get("warm_up", ()))),
        isolation=PROCESS if is_isolated(app) else str(app.get("isolation", AUTO)),
        own=_workers(app, alone) if is_isolated(app) else None,
        idle_seconds=_number(app.get(IDLE, 0)),
        request_timeout_seconds=_number(app.get(REQUEST_TIMEOUT, timeout)),
    )


def _pool_problems(pool: object) -> Iterator[str]:
    if not isinstance(pool, Mapping):
        yield f"pool: {_wrong(pool)} a table ([pool], with {', '.join(POOL_KEYS)})"
        return
    yield from _unknown("pool.", pool, POOL_KEYS)
    yield from _name_problems("pool.name", pool.get("name"))
    yield from _counts_problems("pool", pool)
    for key in TIMEOUTS:
        if key in pool:
            yield from _number_problems(f"pool.{key}", pool[key], TIMEOUT_SECONDS, "")
    yield from _request_timeout_problems("pool", pool)
    yield from _preload_problems("pool.preload", pool.get("preload", ()))
    yield from _memory_problems("pool.memory", pool.get("memory", {}))


def _counts_problems(place: str, table: Mapping[str, object]) -> Iterator[str]:
    for key, (allowed, note) in COUNTS.items():
        if key in table:
            yield from _number_problems(f"{place}.{key}", table[key], allowed, note)


def _preload_problems(place: str, modules: object) -> Iterator[str]:
    if not _is_array(modules):
        yield f"{place}: {_wrong(modules)} a list of modules"
        return
    for module in _array(modules):
        if not isinstance(module, str) or not _is_dotted_name(module):
            yield f'{place}: {_wrong(module)} a module ("package" or "package.module")'


def _memory_problems(place: str, memory: object) -> Iterator[str]:
    if not isinstance(memory, Mapping):
        yield f"{place}: {_wrong(memory)} a table ([{place}], with {', '.join(MEMORY_KEYS)})"
        return
    yield from _unknown(f"{place}.", memory, MEMORY_KEYS)
    for key, value in memory.items():
        if not isinstance(value, bool):
            yield f"{place}.{key}: {_wrong(value)} true or false"


def _apps_problems(apps: object) -> Iterator[str]:
    if not _is_array(apps) or not apps:
        yield f"apps: {_wrong(apps)} a list of at least one app ([[apps]])"
        return
    names: dict[str, str] = {}
    hosts: dict[str, str] = {}
    for index, app in enumerate(_array(apps)):
        place = f"apps[{index}]"
        if not isinstance(app, Mapping):
            yield f"{place}: {_wrong(app)} a table ([[apps]], with {', '.join(APP_KEYS)})"
            continue
        yield from _unknown(f"{place}.", app, APP_KEYS)
        yield from _name_problems(f"{place}.name", app.get("name"))
        yield from _taken(f"{place}.name", app.get("name"), names)
        yield from _host_problems(f"{place}.hosts", app.get("hosts"), hosts)
        yield from _directory_problems(f"{place}.directory", app.get("directory"))
        if "import_roots" in app:
            yield from _import_roots_problems(f"{place}.import_roots", app["import_roots"])
        if ASGI not in app:
            yield from _object_problems(f"{place}.wsgi", app.get(WSGI), "WSGI")
        else:
            yield from _object_problems(f"{place}.asgi", app[ASGI], "ASGI")
            if WSGI in app:
                yield f"{place}.wsgi: {_show(app[WSGI])} is one too many: an app has wsgi, or asgi"
        yield from _environment_problems(f"{place}.environment", app.get("environment", {}))
        yield from _warm_up_problems(f"{place}.warm_up", app.get("warm_up", ()))
        yield from _request_timeout_problems(place, app)
        yield from _isolation_problems(place, app)


def _request_timeout_problems(place: str, table: Mapping[str, object]) -> Iterator[str]:
    if REQUEST_TIMEOUT in table:
        value = table[REQUEST_TIMEOUT]
        yield from _number_problems(f"{place}.{REQUEST_TIMEOUT}", value, SECONDS, ", 0 for never")


def _warm_up_problems(place: str, paths: object) -> Iterator[str]:
    if not _is_array(paths):
        yield f"{place}: {_wrong(paths)} a list of paths"
        return
    for path in _array(paths):
        if not isinstance(path, str) or not WARM_UP_PATH.fullmatch(path):
            yield f'{place}: {_wrong(path)} a path (as a browser sends it: "/", "/page?number=2")'


def _isolation_problems(place: str, app: Mapping[str, object]) -> Iterator[str]:
    isolation = app.get("isolation", AUTO)
    if isolation not in ISOLATIONS:
        yield f'{place}.isolation: {_wrong(isolation)} "{AUTO}", "{SHARED}" or "{PROCESS}"'
        return
    if is_isolated(app):
        if app.get("isolation") == SHARED:
            yield (
                f'{place}.isolation: "{SHARED}" can\'t be: an app that speaks ASGI has an event'
                " loop, and so a process, of its own"
            )
        if ASGI in app and "threads" in app:
            yield (
                f"{place}.threads: {_show(app['threads'])} can't be: an app that speaks ASGI has"
                " an event loop, which answers as many at once as come"
            )
    else:
        for key in (IDLE, *COUNTS):
            if key in app:
                yield (
                    f"{place}.{key}: {_show(app[key])} can't be the app's own: it shares the"
                    f' pool\'s workers (isolation = "{PROCESS}" gives it its own)'
                )
        return
    yield from _counts_problems(place, app)
    if IDLE in app:
        yield from _number_problems(f"{place}.{IDLE}", app[IDLE], SECONDS, ", 0 for never")


def _unknown(place: str, table: Mapping[str, object], allowed: tuple[str, ...]) -> Iterator[str]:
    for key in table:
        if key not in allowed:
            yield f"{place}{key}: unknown key (allowed: {', '.join(allowed)})"


def _name_problems(place: str, name: object) -> Iterator[str]:
    if not isinstance(name, str) or not NAME.fullmatch(name):
        yield (
            f"{place}: {_wrong(name)} a name"
            ' (a letter, then up to 23 of letters, digits and "-", all lower case)'
        )


def _taken(place: str, value: object, seen: dict[str, str]) -> Iterator[str]:
    if not isinstance(value, str):
        return
    if value in seen:
        yield f"{place}: {_show(value)} is taken by {seen[value]}"
    seen.setdefault(value, place)


def _number_problems(place: str, value: object, allowed: range, note: str) -> Iterator[str]:
    if not isinstance(value, int) or isinstance(value, bool) or value not in allowed:
        yield f"{place}: {_wrong(value)} a whole number from {allowed[0]} to {allowed[-1]}{note}"


def _host_problems(place: str, hosts: object, seen: dict[str, str]) -> Iterator[str]:
    if not _is_array(hosts) or not hosts:
        yield f"{place}: {_wrong(hosts)} a list of at least one host name"
        return
    for host in _array(hosts):
        known = site(host) if isinstance(host, str) else None
        if known is None:
            yield (
                f'{place}: {_show(host)} is not a host ("name", "*.name", or "*" for all that no'
                ' other app has; each may go on with a path, as in "name/wiki")'
            )
        else:
            yield from _taken(place, str(known), seen)


def _directory_problems(place: str, directory: object) -> Iterator[str]:
    if not isinstance(directory, str) or not directory or "\0" in directory:
        yield (
            f"{place}: {_wrong(directory)} a directory"
            " (absolute, or relative to the pool file's folder)"
        )


def _import_roots_problems(place: str, roots: object) -> Iterator[str]:
    if not _is_array(roots) or not roots:
        yield f"{place}: {_wrong(roots)} a list of at least one directory"
        return
    for root in _array(roots):
        path = Path(root) if isinstance(root, str) and root and "\0" not in root else None
        if path is None or path.is_absolute() or ".." in path.parts:
            yield f'{place}: {_show(root)} is not a path inside the app\'s directory ("." is that)'


def _object_problems(place: str, value: object, kind: str) -> Iterator[str]:
    halves = value.split(":") if isinstance(value, str) else []
    if len(halves) != len(("module", "object")) or not all(map(_is_dotted_name, halves)):
        yield f'{place}: {_wrong(value)} a module and its {kind} object ("package.module:object")'


def _is_dotted_name(text: str) -> bool:
    return all(part.isidentifier() and not keyword.iskeyword(part) for part in text.split("."))


def _environment_problems(place: str, environment: object) -> Iterator[str]:
    if not isinstance(environment, Mapping):
        yield f'{place}: {_wrong(environment)} a table of strings ({{ NAME = "value" }})'
        return
    for key, value in environment.items():
        if not isinstance(key, str) or not VARIABLE.fullmatch(key):
            yield f'{place}: {_show(key)} is not a variable\'s name (letters, digits and "_")'
        elif key in RESERVED_VARIABLES:
            yield f"{place}.{key}: is set by the super-daemon, an app can't have its own"
        elif not isinstance(value, str) or "\0" in value:
            yield f'{place}.{key}: {_wrong(value)} a string (write "…" around it)'


def _wrong(value: object) -> str:
    return "is missing, and must be" if value is None else f"{_show(value)} is not"


def _number(value: object) -> int:
    assert isinstance(value, int)
    return int(value)


def _show(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def _is_array(value: object) -> bool:
    return isinstance(value, list | tuple)


def _array(value: object) -> list[object]:
    assert isinstance(value, list | tuple)
    return list(value)


def _table(value: object) -> Mapping[str, object]:
    assert isinstance(value, Mapping)
    return value
