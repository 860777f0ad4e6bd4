"""vhost_server --check of a pool with isolated apps: what they cost, and what isolation would."""

import re
from pathlib import Path
from typing import Any

from .grouped import write_pool
from .test_broken import check
from .test_groups import BROKEN, ISOLATED, django_pool


def rows(output: str) -> dict[str, list[str]]:
    return {line.split()[0]: line.split()[1:] for line in output.splitlines() if line.split()}


def test_check_loads_isolated_apps_each_in_a_process_of_its_own(tmp_path: Path) -> None:
    kept = "KEPT = bytes(range(256)) * 40_000"
    apps: dict[str, Any] = {
        "one": {},
        "own": ISOLATED | {"top": kept},
        "flask": ISOLATED | {"top": "import sys; assert 'wsgi_own' not in sys.modules"},
    }
    done = check(write_pool(tmp_path, apps))
    assert (done.returncode, done.stderr) == (0, "")
    assert "isolated" in rows(done.stdout)["own"]
    assert "isolated" not in rows(done.stdout)["one"]
    assert 9 < float(rows(done.stdout)["own"][1]) < 20
    assert done.stdout.splitlines()[-1] == "All 3 apps can be served."


def test_check_names_a_broken_isolated_app_and_fails(tmp_path: Path) -> None:
    apps = {"one": {}, "own": ISOLATED | {"source": BROKEN}, "dead": ISOLATED | {
        "source": "import os; os.kill(os.getpid(), 9)"
    }}  # fmt: skip
    done = check(write_pool(tmp_path, apps))
    assert done.returncode == 1
    assert re.search(r"test.toml:\d+: the app own can't be loaded: import of wsgi_own", done.stdout)
    assert "the app dead: its process has died" in done.stdout
    assert "one" in rows(done.stdout)


def test_check_says_what_must_be_isolated_and_what_that_costs(tmp_path: Path) -> None:
    pool = django_pool(tmp_path)
    both = re.sub(r"(?m)^(environment\.MINE = .*)$", r'\1\nisolation = "shared"', pool.read_text())
    pool.write_text(both)
    done = check(pool)
    assert done.returncode == 1
    assert "the app shop can't be loaded: it is a Django project (project.settings)" in done.stdout
    cost = re.search(
        r"Isolated, it loads in [\d.]+ s, and its process has ([\d.]+) MB for itself: "
        r'isolation = "process"',
        done.stdout,
    )
    assert cost is not None
    assert 0.5 < float(cost[1]) < 60


def test_check_says_when_isolation_would_not_help_either(tmp_path: Path) -> None:
    """A module that is preloaded is in every interpreter."""
    pool = write_pool(tmp_path, {"one": {}, "own": {"top": "import flask"}}, 'preload = ["flask"]')
    (tmp_path / "own" / "flask.py").write_text("")
    done = check(pool)
    assert done.returncode == 1
    assert "rename it: the server has loaded that one before the apps" in done.stdout
    assert "Isolated, " not in done.stdout


def test_check_measures_what_isolated_apps_could_have_in_common(tmp_path: Path) -> None:
    pool = django_pool(tmp_path)
    text = pool.read_text().replace("environment.MINE", 'isolation = "process"\nenvironment.MINE')
    pool.write_text(text.replace('preload = ["django"]', ""))
    done = check(pool)
    assert done.returncode == 0
    told = re.search(
        r"The isolated apps blog, shop import (\d+) modules that pool.preload misses. They would"
        r' share ([\d.]+) MB with\npreload = \["django"',
        done.stdout,
    )
    assert told is not None
    assert int(told[1]) > 100
    assert 5 < float(told[2]) < 60
    pool.write_text(text)
    done = check(pool)
    assert done.returncode == 0
    assert "preload" not in done.stdout, "there is nothing left to say"


def test_check_refuses_a_preload_that_fails(tmp_path: Path) -> None:
    done = check(write_pool(tmp_path, {"one": {}}, 'preload = ["no_such_library"]'))
    assert done.returncode == 1
    assert "test.toml:5: pool.preload: import of no_such_library failed" in done.stderr
