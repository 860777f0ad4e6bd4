import copy
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor_py.vhost import pool
from supervisor_py.vhost.hosts import Site

GOOD = """
[pool]
name = "main"
workers = 3
threads = 5
max_requests = 500
max_private_mb = 60
max_age_seconds = 7200
header_timeout_seconds = 5
send_timeout_seconds = 30
request_timeout_seconds = 30
preload = ["django", "sqlalchemy.orm"]
memory = { gc_at_load = true, freeze = false }

[[apps]]
name = "blog"
hosts = ["blog.example", "WWW.Blog.Example./b/"]
directory = "/srv/www/blog/current"
wsgi = "blog.wsgi:application"
import_roots = ["lib", "."]
environment = { BLOG_TITLE = "Blog" }
warm_up = ["/", "/b/page?number=2"]
request_timeout_seconds = 0

[[apps]]
name = "motd"
hosts = ["motd.example"]
directory = "motd"
wsgi = "motd:application"

[[apps]]
name = "shop"
hosts = ["shop.example"]
directory = "shop"
wsgi = "shop:application"
isolation = "process"
idle_seconds = 600
threads = 2
max_private_mb = 0
"""


def good() -> dict[str, Any]:
    return copy.deepcopy(tomllib.loads(GOOD))


def test_the_documented_format_is_read_in_full() -> None:
    parsed = pool.parse(good(), Path("/etc/kechi/pools"))
    blog = pool.App(
        name="blog",
        sites=(Site("blog.example"), Site("www.blog.example", "/b")),
        directory=Path("/srv/www/blog/current"),
        module="blog.wsgi",
        attribute="application",
        environment={"BLOG_TITLE": "Blog"},
        import_roots=(Path("lib"), Path()),
        warm_up=("/", "/b/page?number=2"),
        request_timeout_seconds=0,
    )
    motd = pool.App(
        name="motd",
        sites=(Site("motd.example"),),
        directory=Path("/etc/kechi/pools/motd"),
        module="motd",
        attribute="application",
        request_timeout_seconds=30,
    )
    shop = pool.App(
        name="shop",
        sites=(Site("shop.example"),),
        directory=Path("/etc/kechi/pools/shop"),
        module="shop",
        attribute="application",
        isolation="process",
        own=pool.Workers(
            count=1, threads=2, max_requests=500, max_private_mb=0, max_age_seconds=7200
        ),
        idle_seconds=600,
        request_timeout_seconds=30,
    )
    assert parsed == pool.Pool(
        "main",
        (blog, motd, shop),
        shared=pool.Workers(3, 5, max_requests=500, max_private_mb=60, max_age_seconds=7200),
        preload=("django", "sqlalchemy.orm"),
        memory=pool.Memory(gc_at_load=True, freeze=False),
        timeouts=pool.Timeouts(5, 20, 30),
    )


def test_an_app_may_speak_asgi_instead() -> None:
    document = good()
    change(document, "apps.1.wsgi", MISSING)
    change(document, "apps.1.asgi", "motd:api.app")
    motd = pool.parse(document).apps[1]
    assert (motd.interface, motd.module, motd.attribute) == ("asgi", "motd", "api.app")
    assert motd.own == pool.Workers(1, 5, max_requests=500, max_private_mb=60, max_age_seconds=7200)
    change(document, "apps.1.isolation", "shared")
    change(document, "apps.1.threads", 4)
    assert pool.problems(document) == [
        'apps[1].isolation: "shared" can\'t be: an app that speaks ASGI has an event loop, and so a'
        " process, of its own",
        "apps[1].threads: 4 can't be: an app that speaks ASGI has an event loop, which answers as"
        " many at once as come",
    ]
    change(document, "apps.1.isolation", MISSING)
    change(document, "apps.1.threads", MISSING)
    change(document, "apps.1.asgi", "motd")
    assert pool.problems(document) == [
        'apps[1].asgi: "motd" is not a module and its ASGI object ("package.module:object")'
    ]


def test_counts_left_out_have_their_documented_defaults() -> None:
    document = good()
    document["pool"] = {"name": "main"}
    parsed = pool.parse(document)
    assert parsed.shared == pool.Workers(0, 0, 0, 0, 0), "0: by the machine, and no limit"
    assert (parsed.preload, parsed.memory) == ((), pool.Memory())
    assert [app.request_timeout_seconds for app in parsed.apps] == [0, 60, 60]


MISSING = object()

BAD: list[tuple[str, object, str]] = [
    ("pols", {}, "pols: unknown key (allowed: pool, apps)"),
    ("pool", MISSING, "pool: is missing, and must be a table ([pool], with name, workers, threads"),
    ("pool", 3, "pool: 3 is not a table"),
    ("pool.nmae", "x", "pool.nmae: unknown key (allowed: name, workers, threads, max_requests,"),
    ("pool.name", MISSING, "pool.name: is missing, and must be a name"),
    ("pool.name", "Main", 'pool.name: "Main" is not a name (a letter, then up to 23 of'),
    ("pool.name", "a" * 25, f'pool.name: "{"a" * 25}" is not a name'),
    ("pool.name", "main\n", 'pool.name: "main\\n" is not a name'),
    ("pool.workers", "two", 'pool.workers: "two" is not a whole number from 1 to 64'),
    ("pool.workers", 0, "pool.workers: 0 is not a whole number from 1 to 64"),
    ("pool.workers", True, "pool.workers: true is not a whole number from 1 to 64"),
    ("pool.threads", 65, "pool.threads: 65 is not a whole number from 1 to 64"),
    ("pool.threads", 4.0, "pool.threads: 4.0 is not a whole number from 1 to 64"),
    (
        "pool.max_requests",
        -1,
        "pool.max_requests: -1 is not a whole number from 0 to 1000000000, 0",
    ),
    ("pool.max_private_mb", "60", 'pool.max_private_mb: "60" is not a whole number from 0 to 100'),
    ("pool.request_timeout_seconds", -1, "pool.request_timeout_seconds: -1 is not a whole number"),
    ("apps.1.request_timeout_seconds", "1", 'apps[1].request_timeout_seconds: "1" is not a whole'),
    ("pool.limit_request_line", 0, "pool.limit_request_line: 0 is not a whole number from 256 to"),
    ("pool.limit_request_fields", 9, "pool.limit_request_fields: 9 is not a whole number from 20"),
    ("apps.2.limit_request_field_size", 99999, "apps[2].limit_request_field_size: 99999 is not"),
    ("apps.1.limit_request_line", 9000, "apps[1].limit_request_line: 9000 can't be the app's own"),
    ("pool.max_age_seconds", 0.5, "pool.max_age_seconds: 0.5 is not a whole number from 0 to 10"),
    (
        "pool.header_timeout_seconds",
        0,
        "pool.header_timeout_seconds: 0 is not a whole number from 1",
    ),
    ("pool.body_timeout_seconds", 3601, "pool.body_timeout_seconds: 3601 is not a whole number fr"),
    ("pool.send_timeout_seconds", "9", 'pool.send_timeout_seconds: "9" is not a whole number fro'),
    ("pool.preload", "django", 'pool.preload: "django" is not a list of modules'),
    ("pool.preload", ["a b"], 'pool.preload: "a b" is not a module ("package" or "package.mod'),
    ("pool.preload", [1], "pool.preload: 1 is not a module"),
    ("pool.memory", True, "pool.memory: true is not a table ([pool.memory], with gc_at_load, "),
    ("pool.memory.frees", True, "pool.memory.frees: unknown key (allowed: gc_at_load, warm_up"),
    ("pool.memory.freeze", 1, "pool.memory.freeze: 1 is not true or false"),
    ("apps", MISSING, "apps: is missing, and must be a list of at least one app ([[apps]])"),
    ("apps", [], "apps: [] is not a list of at least one app"),
    ("apps.1", "motd", 'apps[1]: "motd" is not a table'),
    (
        "apps.1.host",
        [],
        "apps[1].host: unknown key (allowed: name, hosts, directory, import_roots, wsgi, as",
    ),
    ("apps.1.name", "blog", 'apps[1].name: "blog" is taken by apps[0].name'),
    ("apps.1.name", 7, "apps[1].name: 7 is not a name"),
    ("apps.1.hosts", MISSING, "apps[1].hosts: is missing, and must be a list of at least one"),
    ("apps.1.hosts", [], "apps[1].hosts: [] is not a list of at least one host name"),
    ("apps.1.hosts", "motd.example", 'apps[1].hosts: "motd.example" is not a list'),
    (
        "apps.1.hosts",
        ["Blog Example"],
        'apps[1].hosts: "Blog Example" is not a host ("name", "*.name", or "*" for all that no',
    ),
    ("apps.1.hosts", ["a.example:80"], 'apps[1].hosts: "a.example:80" is not a host ('),
    ("apps.1.hosts", [1], "apps[1].hosts: 1 is not a host ("),
    ("apps.1.hosts", ["BLOG.example."], 'apps[1].hosts: "blog.example" is taken by apps[0].hosts'),
    ("apps.1.hosts", ["m.x", "M.x"], 'apps[1].hosts: "m.x" is taken by apps[1].hosts'),
    ("apps.1.hosts", ["m.x/a", "m.x/a/"], 'apps[1].hosts: "m.x/a" is taken by apps[1].hosts'),
    ("apps.1.hosts", ["bü.x", "xn--b-eha.x"], 'apps[1].hosts: "xn--b-eha.x" is taken by apps[1]'),
    ("apps.1.directory", MISSING, "apps[1].directory: is missing, and must be a directory"),
    ("apps.1.directory", "", 'apps[1].directory: "" is not a directory'),
    ("apps.1.import_roots", [], "apps[1].import_roots: [] is not a list of at least one directory"),
    ("apps.1.import_roots", ["/a"], 'apps[1].import_roots: "/a" is not a path inside the app\'s'),
    ("apps.1.import_roots", [".."], 'apps[1].import_roots: ".." is not a path inside the app\'s'),
    ("apps.1.wsgi", MISSING, "apps[1].wsgi: is missing, and must be a module and its WSGI object"),
    ("apps.1.wsgi", "motd", 'apps[1].wsgi: "motd" is not a module and its WSGI object'),
    ("apps.1.wsgi", "a:b:c", 'apps[1].wsgi: "a:b:c" is not'),
    ("apps.1.wsgi", "a b:c", 'apps[1].wsgi: "a b:c" is not'),
    ("apps.1.wsgi", "class:c", 'apps[1].wsgi: "class:c" is not'),
    ("apps.1.asgi", "a:b", 'apps[1].wsgi: "motd:application" is one too many: an app has wsgi, or'),
    ("apps.1.warm_up", "/", 'apps[1].warm_up: "/" is not a list of paths'),
    ("apps.1.warm_up", ["a"], 'apps[1].warm_up: "a" is not a path (as a browser sends it: "/"'),
    ("apps.1.warm_up", ["/ü"], 'apps[1].warm_up: "/ü" is not a path'),
    ("apps.1.isolation", "yes", 'apps[1].isolation: "yes" is not "auto", "shared" or "process"'),
    ("apps.1.idle_seconds", 9, "apps[1].idle_seconds: 9 can't be the app's own: it shares the po"),
    ("apps.1.workers", 2, "apps[1].workers: 2 can't be the app's own: it shares the pool's wor"),
    ("apps.2.workers", 0, "apps[2].workers: 0 is not a whole number from 1 to 64"),
    ("apps.2.max_private_mb", -1, "apps[2].max_private_mb: -1 is not a whole number from 0 to 1"),
    ("apps.2.idle_seconds", -1, "apps[2].idle_seconds: -1 is not a whole number from 0 to 10000"),
    ("apps.1.environment", "A=1", 'apps[1].environment: "A=1" is not a table of strings'),
    ("apps.1.environment", {"A B": "1"}, 'apps[1].environment: "A B" is not a variable\'s name'),
    ("apps.1.environment", {"A": 1}, "apps[1].environment.A: 1 is not a string (write "),
    ("apps.1.environment", {"A": "\0"}, 'apps[1].environment.A: "\\u0000" is not a string'),
    ("apps.1.environment", {"LISTEN_FDS": "1"}, "apps[1].environment.LISTEN_FDS: is set by the"),
]


def change(document: dict[str, Any], path: str, value: object) -> None:
    *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    place: Any = document
    for part in parents:
        place = place[part]
    if value is MISSING:
        del place[last]
    else:
        place[last] = value


@pytest.mark.parametrize(("path", "value", "message"), BAD)
def test_bad_input_is_named_with_its_place_value_and_what_is_allowed(
    path: str, value: object, message: str
) -> None:
    document = good()
    change(document, path, value)
    found = pool.problems(document)
    assert len(found) == 1
    assert found[0].startswith(message)
    with pytest.raises(pool.PoolError) as caught:
        pool.parse(document)
    assert caught.value.problems == found


def test_all_problems_are_told_at_once() -> None:
    document = good()
    change(document, "pool.workers", 0)
    change(document, "apps.0.wsgi", "blog")
    change(document, "apps.1.hosts", [])
    assert [p.split(":")[0] for p in pool.problems(document)] == [
        "pool.workers",
        "apps[0].wsgi",
        "apps[1].hosts",
    ]


SCALARS = st.none() | st.booleans() | st.integers() | st.text() | st.floats()
ANYTHING = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8
)


@given(st.sampled_from([path for path, _, _ in BAD]), ANYTHING)
def test_nonsense_anywhere_is_a_problem_or_a_pool_and_never_a_crash(path: str, value: Any) -> None:
    document = good()
    change(document, path, value)
    if pool.problems(document):
        with pytest.raises(pool.PoolError):
            pool.parse(document)
    else:
        assert isinstance(pool.parse(document), pool.Pool)


def test_a_file_is_read_with_its_folder_as_the_start_of_relative_directories(
    tmp_path: Path,
) -> None:
    file = tmp_path / "main.toml"
    file.write_text(GOOD)
    assert pool.read(file).apps[1].directory == tmp_path / "motd"


def test_a_file_that_is_missing_or_no_toml_is_named(tmp_path: Path) -> None:
    file = tmp_path / "main.toml"
    with pytest.raises(pool.PoolError, match=rf"{file}: cannot be read: No such file"):
        pool.read(file)
    file.write_text("[pool\n")
    with pytest.raises(pool.PoolError, match=rf"{file}: is not TOML: .*line 1"):
        pool.read(file)
    file.write_bytes(b"\xff")
    with pytest.raises(pool.PoolError, match=rf"{file}: is not TOML"):
        pool.read(file)
    file.write_text(GOOD.replace("workers = 3", "workers = 0"))
    with pytest.raises(pool.PoolError, match=rf"^{file}:4: pool\.workers: 0 is not"):
        pool.read(file)
