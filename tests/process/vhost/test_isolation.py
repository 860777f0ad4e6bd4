"""Who decides what may live in one interpreter: the plan of `isolation = "auto"`, and its file."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from .grouped import GroupSockets, ask, processes, status, write_pool
from .harness import COMMAND, ROOT, get, running
from .test_broken import check
from .test_groups import ENVIRONMENT, ISOLATED, django_pool
from .test_start import GOOD_APP, write

SHARED: dict[str, Any] = {"isolation": "shared"}
# What any neighbour would feel: code of an app, and what the reason has of it.
FELT = {
    "timeout": ("import socket; socket.setdefaulttimeout(3)", "the time-out of all sockets"),
    "context": (
        "import ssl\nssl._create_default_https_context = ssl._create_unverified_context",
        "how certificates are checked",
    ),
    "errors": ("import warnings; warnings.simplefilter('error')", "which warnings are errors"),
    "silence": ("import logging; logging.disable(logging.CRITICAL)", "(logging.disable)"),
    "rootfile": ("import logging; logging.basicConfig(filename='app.log')", "the root logger"),
    "recursion": ("import sys; sys.setrecursionlimit(1500)", "the limit of recursion"),
    "stdout": ("import sys; sys.stdout = open('out.txt', 'w')", "sys.stdout"),
    "gettext": ("import gettext; gettext.install('app')", "builtins"),
    "opened": ("import builtins; builtins.open = lambda *a, **k: None", "builtins"),
    "decimals": ("import decimal; decimal.DefaultContext.prec = 4", "decimal.DefaultContext"),
    "spawning": ("import multiprocessing as m; m.set_start_method('spawn')", "start method"),
    "policy": (
        "import asyncio\nclass P(asyncio.DefaultEventLoopPolicy): pass\n"
        "asyncio.set_event_loop_policy(P())",
        "the policy of event loops",
    ),
    "tempdir": ("import tempfile; tempfile.tempdir = '/elsewhere'", "tempfile.tempdir"),
    "signals": ("import signal; signal.signal(signal.SIGUSR1, print)", "signal.signal"),
    "tracing": ("import threading; threading.settrace(lambda *_: None)", "sys.settrace"),
    "profiling": ("import threading; threading.setprofile(lambda *_: None)", "sys.settrace"),
    "files": (
        "import resource as r; r.setrlimit(r.RLIMIT_NOFILE, (200, r.getrlimit(7)[1]))",
        "resource.setrlimit",
    ),
    "stack": ("import threading; threading.stack_size(262144)", "threading.stack_size"),
    "csvs": ("import csv; csv.field_size_limit(9)", "csv.field_size_limit"),
    "opener": (
        "import urllib.request as u\nu.install_opener(u.build_opener(u.HTTPCookieProcessor()))",
        "urllib.request.install_opener",
    ),
    "patches": ("import json\ndef mine(*_): return '!'\njson.dumps = mine", "json.dumps"),
    "methods": (
        "import http.client\ndef mine(*_): raise OSError\n"
        "http.client.HTTPConnection.connect = mine",
        "http.client.HTTPConnection.connect",
    ),
    "hooked": ("import sys; sys.excepthook = lambda *_: None", "sys.excepthook"),
    "records": (
        "import logging; logging.setLogRecordFactory(lambda *a, **k: logging.LogRecord(*a, **k))",
        "logging",
    ),
    "late": ("from gevent import monkey; monkey.patch_all()", "threads and sockets (gevent"),
    "sentry": ("import sentry_sdk; sentry_sdk.init('https://one@sentry.test/1')", "sentry_sdk"),
    "relic": ("import newrelic.config; newrelic.config.initialize()", "New Relic"),
    "tracer": ("import ddtrace._monkey as m; m.patch_all()", "ddtrace"),
}
# What nobody feels: these share.
UNFELT = {
    "plain": "",
    "flask": "import flask; flask.Flask(__name__).logger.warning('loaded')",
    "own": "import decimal, os, tempfile\ndecimal.getcontext().prec = 4\nos.umask(0)\n"
    "os.chdir('/')\nos.environ['X'] = '1'\ntempfile.mkdtemp()",
    "library": "import flask\nflask.sessions.SecureCookieSession.note = 1",
    "lines": "import logging; logging.basicConfig()",
    "same": "import logging; logging.basicConfig()",
    "null": "import logging; logging.getLogger('json').addHandler(logging.NullHandler())",
    "urlopen": "import urllib.request, contextlib\n"
    "with contextlib.suppress(OSError):\n    urllib.request.urlopen('file:///nowhere')",
}
LIBRARIES = {
    "gevent/monkey.py": "saved = {}\ndef patch_all(): saved['socket'] = {}\n",
    "sentry_sdk.py": "class C:\n    active = False\n    def is_active(self): return C.active\n"
    "def get_client(): return C()\ndef init(_): C.active = True\n",
    "newrelic/config.py": "_configuration_done = False\ndef initialize():\n"
    "    global _configuration_done\n    _configuration_done = True\n",
    "ddtrace/_monkey.py": "_PATCHED_MODULES = set()\n"
    "def patch_all(): _PATCHED_MODULES.add('flask')\n",
    "opentelemetry/trace.py": "_TRACER_PROVIDER = None\ndef set_tracer_provider(one):\n"
    "    global _TRACER_PROVIDER\n    _TRACER_PROVIDER = one\n",
    "celery/_state.py": "_apps = []\n",
    "prometheus_client/registry.py": "class R:\n    def __init__(self):\n"
    "        self._names_to_collectors = {'python_info': 1}\n    def add(self, name):\n"
    "        if name in self._names_to_collectors: raise ValueError('Duplicated ' + name)\n"
    "        self._names_to_collectors[name] = 1\nREGISTRY = R()\n",
    "shelves.py": "class Shelf:\n    def get(self): return 'a book'\n",
}
LOGGER = "import logging\nlogging.getLogger('{}').addHandler({})\n"
TRACER = "import opentelemetry.trace as t; t.set_tracer_provider(object())"
METRIC = "from prometheus_client.registry import REGISTRY; REGISTRY.add('{}')"
CELERY = "import celery._state as s; s._apps.append('app')"
# Two apps of which the second one is isolated, and what the reason has.
PAIRS = {
    "levels": (
        "import logging; logging.basicConfig(level=10)",
        "import logging; logging.basicConfig(level=30)",
        "it sets up the root logger, as does the app one, in another way",
    ),
    "lines": (
        LOGGER.format("orders", "logging.FileHandler('orders.log')"),
        LOGGER.format("orders.paid", "logging.NullHandler()"),
        'the logger "orders" is the app one\'s, too',
    ),
    "files": (
        LOGGER.format("app", "logging.NullHandler()"),
        LOGGER.format("app", "logging.FileHandler('app.log')"),
        'the logger "app" is the app one\'s, too',
    ),
    "tracers": (TRACER, TRACER, "OpenTelemetry"),
    "celeries": (CELERY, CELERY, "Celery"),
    "metrics": (METRIC.format("requests"), METRIC.format("requests"), "prometheus_client"),
    "patched": (
        "import shelves",
        "import shelves\ndef get(self): return 'nothing'\nshelves.Shelf.get = get",
        "shelves.Shelf.get would be replaced for both it and the app one",
    ),
    "taken": (
        "import shelves\nassert not hasattr(shelves, 'mine')\nshelves.mine = 1",
        "import shelves\nassert not hasattr(shelves, 'mine')\nshelves.mine = 1",
        "it can't be loaded beside one, though it can alone",
    ),
}
BESIDE = {
    "tracer": (TRACER, "import opentelemetry.trace"),
    "metrics": (METRIC.format("asked"), METRIC.format("answered")),
    "loggers": (
        LOGGER.format("one", "logging.FileHandler('1.log')"),
        LOGGER.format("two", "logging.FileHandler('2.log')"),
    ),
    "patched": ("", "import shelves\ndef get(self): return 'nothing'\nshelves.Shelf.get = get"),
}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return PYTHONPATH with libraries that are too heavy to be installed for this."""
    folder = tmp_path_factory.mktemp("libraries")
    write(folder, LIBRARIES)
    return f"{ROOT}:{folder}"


def made_plan(pool: Path, path: str = str(ROOT)) -> dict[str, dict[str, str]]:
    """Make the plan of a pool, and its file; returns the apps' part."""
    done = subprocess.run(
        [*COMMAND, "--plan", pool],
        env=ENVIRONMENT | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    pool.with_suffix(".isolation.json").write_text(done.stdout)
    apps: dict[str, dict[str, str]] = json.loads(done.stdout)["apps"]
    return apps


def isolated(plan: dict[str, dict[str, str]]) -> list[str]:
    return [name for name, one in plan.items() if one["isolation"] == "process"]


@pytest.fixture(scope="module")
def plan_of_all(path: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    apps = {name: {"top": code} for name, code in UNFELT.items()}
    apps |= {name: {"top": code} for name, (code, _) in FELT.items()}
    return made_plan(write_pool(tmp_path_factory.mktemp("all"), apps), path)


@pytest.mark.parametrize("case", FELT)
def test_what_neighbours_would_feel_isolates_an_app_with_the_reason(
    plan_of_all: dict[str, dict[str, str]], case: str
) -> None:
    assert plan_of_all[case]["isolation"] == "process"
    assert FELT[case][1] in plan_of_all[case]["reason"]


@pytest.mark.parametrize("case", UNFELT)
def test_what_nobody_feels_isolates_nobody(
    plan_of_all: dict[str, dict[str, str]], case: str
) -> None:
    assert plan_of_all[case] == {"isolation": "shared", "reason": ""}


@pytest.mark.parametrize("case", PAIRS)
def test_of_two_apps_that_can_t_be_one_beside_the_other_the_second_is_isolated(
    tmp_path: Path, path: str, case: str
) -> None:
    one, two, reason = PAIRS[case]
    plan = made_plan(write_pool(tmp_path, {"one": {"top": one}, "two": {"top": two}}), path)
    assert isolated(plan) == ["two"]
    assert reason in plan["two"]["reason"]


@pytest.mark.parametrize("case", BESIDE)
def test_what_meets_nothing_of_the_neighbours_isolates_nobody(
    tmp_path: Path, path: str, case: str
) -> None:
    one, two = BESIDE[case]
    plan = made_plan(write_pool(tmp_path, {"one": {"top": one}, "two": {"top": two}}), path)
    assert isolated(plan) == []


def test_modules_that_clash_isolate_the_app_that_has_them(tmp_path: Path) -> None:
    flask = "import flask\n" + GOOD_APP
    pool = write_pool(tmp_path, {"hides": {"source": flask}, "uses": {"source": flask}})
    (tmp_path / "hides" / "flask.py").write_text("")
    plan = made_plan(pool)
    assert isolated(plan) == ["hides"]
    assert "flask" in plan["hides"]["reason"]
    assert "give the app" not in plan["hides"]["reason"], "that is what has been done"


@pytest.mark.skipif(not Path("/usr/share/zoneinfo").is_dir(), reason="needs time zones")
def test_an_app_with_a_time_zone_of_its_own_is_isolated(tmp_path: Path) -> None:
    django: dict[str, Any] = {
        "top": "from django.conf import settings; settings.DEBUG",
        "environment": {"DJANGO_SETTINGS_MODULE": "project"},
    }
    zone = {"environment": {"TZ": "Asia/Tokyo"}}
    pool = write_pool(tmp_path, {"one": {}, "two": zone, "three": django})
    settings = "SECRET_KEY = 'x'\nTIME_ZONE = 'Asia/Tokyo'\nUSE_TZ = {}\n"
    (tmp_path / "three" / "project.py").write_text(settings.format(False))
    assert isolated(made_plan(pool)) == ["two", "three"]
    (tmp_path / "three" / "project.py").write_text(settings.format(True))
    assert isolated(made_plan(pool)) == ["two"], "such a Django stores the right times anyway"


def test_two_django_projects_are_served_by_a_plan_and_the_status_has_the_reason(
    tmp_path: Path,
) -> None:
    pool = django_pool(tmp_path)
    plan = made_plan(pool)
    assert isolated(plan) == ["shop"]
    reason = (
        "it is a Django project (project.settings), as is the app blog (project.settings), and an"
        " interpreter can hold one Django settings"
    )
    assert plan["shop"]["reason"] == reason
    with GroupSockets(tmp_path, ["shop"]) as sockets, running(pool, sockets) as server:
        for name in ("blog", "shop"):
            assert get(sockets.of(name), f"{name}.test").status == 200
        assert f"isolated: shop serves ({reason})" in status(server)


def test_check_decides_as_a_deploy_does_and_says_why(tmp_path: Path) -> None:
    pool = django_pool(tmp_path)
    done = check(pool)
    assert done.returncode == 0
    assert "\nshop is isolated: it is a Django project (project.settings), as is" in done.stdout
    made_plan(pool)
    again = check(pool)
    assert [line for line in again.stdout.splitlines() if " is isolated: " in line] == [
        line for line in done.stdout.splitlines() if " is isolated: " in line
    ]


def test_who_insists_on_sharing_does_before_those_that_do_not(tmp_path: Path) -> None:
    pool = django_pool(tmp_path, isolation='"shared"')
    assert isolated(made_plan(pool)) == ["blog"]
    felt = {"top": FELT["timeout"][0]}
    pool = write_pool(tmp_path, {"one": {}, "felt": felt | SHARED, "own": felt | ISOLATED})
    assert isolated(made_plan(pool)) == [], "nor is there a decision about those that have a say"
    assert list(made_plan(pool)) == ["one"]


def test_a_start_takes_the_decisions_of_the_plan_and_makes_none(tmp_path: Path) -> None:
    pool = write_pool(tmp_path, {"one": {}, "two": {}, "new": {"top": FELT["timeout"][0]}})
    plan = {"apps": {"one": {"isolation": "shared"}, "two": {"isolation": "process"}}}
    pool.with_suffix(".isolation.json").write_text(json.dumps(plan))
    with GroupSockets(tmp_path, ["two"]) as sockets, running(pool, sockets) as server:
        seen = {name: ask(sockets, name)["pid"] for name in ("one", "two", "new")}
        assert seen["one"] == seen["new"] != seen["two"]
        assert set(processes(server)) == {"kechi:shared", "kechi:two"}
    pool.with_suffix(".isolation.json").unlink()
    (tmp_path / "again").mkdir()
    with GroupSockets(tmp_path / "again", ["two"]) as sockets, running(pool, sockets):
        assert get(sockets.path, "two.test").status == 200, "as it was before there was a plan"


def test_a_shared_app_is_served_on_a_socket_of_its_own_too(tmp_path: Path) -> None:
    """So a change of the decision is nothing to the front end."""
    pool = write_pool(tmp_path, {"one": {}, "two": {}, "own": ISOLATED})
    with GroupSockets(tmp_path, ["one", "two", "own"]) as sockets, running(pool, sockets):
        assert ask(sockets, "one")["pid"] == ask(sockets, "two")["pid"]
        assert get(sockets.path, "one.test").status == 200


@pytest.mark.parametrize(
    "text", ["", "[]", '{"apps": {"one": {"isolation": "apart"}}}', '{"apps": {"one": 3}}']
)
def test_a_file_that_is_no_plan_is_refused_with_its_name(tmp_path: Path, text: str) -> None:
    pool = write_pool(tmp_path, {"one": {}})
    pool.with_suffix(".isolation.json").write_text(text)
    done = check(pool)
    assert done.returncode == 1
    assert f"{tmp_path}/test.isolation.json: is not a plan (" in done.stderr
    assert "vhost_server --plan" in done.stderr


def test_a_plan_names_what_could_not_be_looked_at_and_an_app_s_output_is_none_of_it(
    tmp_path: Path,
) -> None:
    apps = {
        "loud": {"top": "import os; print('{'); os.write(1, b'{')"},
        "exits": {"source": "raise SystemExit('usage: manage.py')"},
        "dies": {"source": "import os; os.kill(os.getpid(), 9)"},
        "ends": {"source": "import os; os._exit(0)"},
    }
    pool = write_pool(tmp_path, apps)
    assert isolated(made_plan(pool)) == []
    failed = json.loads(pool.with_suffix(".isolation.json").read_text())["failed"]
    assert failed["dies"] == failed["ends"] == "its process has died while it was loaded"
    assert failed["exits"].endswith("SystemExit: usage: manage.py")
    assert list(failed) == ["exits", "dies", "ends"]


def test_an_app_without_neighbours_is_not_even_looked_at(tmp_path: Path) -> None:
    pool = write_pool(tmp_path, {"one": {"top": "open('was-loaded', 'w')"}, "own": ISOLATED})
    assert isolated(made_plan(pool)) == []
    assert not (tmp_path / "one" / "was-loaded").exists()
