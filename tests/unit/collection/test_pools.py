"""The pools of an inventory: what is refused, and what the roles' tasks are given."""

import copy
import json
import tomllib
from pathlib import Path

import jinja2
import pytest
import yaml

from ansible_collections.kechi.vps.plugins.filter.pools import pool_plan
from ansible_collections.kechi.vps.plugins.plugin_utils import pool_problems, pools

REPOSITORY = Path(__file__).parents[3]
TEMPLATE = REPOSITORY / "roles" / "vhost_app" / "templates" / "pool.toml.j2"
LOCAL = REPOSITORY / "inventory" / "local"


@pytest.fixture
def local():
    variables = yaml.safe_load((LOCAL / "group_vars" / "all.yml").read_text())
    return copy.deepcopy(variables["vhost_app_pools"])


def problems_of(found, memory_mb=1024):
    return list(pool_problems.problems(found, memory_mb=memory_mb, inventory=LOCAL))


def test_the_inventory_of_the_demo_has_no_problem(local):
    assert problems_of(local) == []


def test_an_app_without_hosts_is_refused(local):
    local[0]["apps"][1]["hosts"] = []
    (sentence,) = problems_of(local)
    assert sentence.startswith("vhost_app_pools[0].apps[1].hosts: [] is not a list of at least one")


@pytest.mark.parametrize("host", ["motd.example", "MOTD.example", "motd.example."])
def test_one_host_in_two_apps_is_refused_across_pools(local, host):
    local[1]["apps"][0]["hosts"] = [host]
    (sentence,) = problems_of(local)
    assert sentence.startswith(f'vhost_app_pools[1].apps[0].hosts[0]: "{host}" is taken')
    assert "vhost_app_pools[0].apps[1].hosts[0]" in sentence


def test_one_host_may_have_apps_of_two_pools_under_different_paths(local):
    local[1]["apps"][0]["hosts"] = ["motd.example/clock"]
    assert problems_of(local) == []
    local[0]["apps"][1]["hosts"].append("MOTD.example/clock/")
    (sentence,) = problems_of(local)
    assert sentence.startswith('vhost_app_pools[1].apps[0].hosts[0]: "motd.example/clock" is taken')


def test_a_host_in_unicode_is_the_same_as_in_its_wire_form(local):
    local[0]["apps"][1]["hosts"] = ["bücher.example"]
    local[1]["apps"][0]["hosts"] = ["xn--bcher-kva.example"]
    (sentence,) = problems_of(local)
    assert "vhost_app_pools[0].apps[1].hosts[0]" in sentence


def test_an_asgi_app_reaches_the_pool_file_as_one(local):
    local[0]["apps"][1].update(wsgi=None, asgi="motd:app")
    assert problems_of(local) == []
    motd = pools.document(local[0])["apps"][1]
    assert (motd["asgi"], "wsgi" in motd) == ("motd:app", False)
    del local[0]["apps"][1]["asgi"]
    (sentence,) = problems_of(local)
    assert sentence.startswith("vhost_app_pools[0].apps[1].wsgi: is missing, and must be a module")


def test_import_roots_reach_the_pool_file(local):
    local[0]["apps"][0]["import_roots"] = ["lib"]
    blog, motd, *_ = pools.document(local[0])["apps"]
    assert blog["import_roots"] == ["lib"]
    assert "import_roots" not in motd
    local[0]["apps"][0]["import_roots"] = ["/lib"]
    (sentence,) = problems_of(local)
    assert sentence.startswith('vhost_app_pools[0].apps[0].import_roots: "/lib" is not a path')


@pytest.mark.parametrize("memory", [{}, {"memory": {"freeze": False}}])
def test_what_the_inventory_says_of_a_pool_is_what_its_file_says(local, memory):
    local[0].update(workers=3, max_private_mb=50, **memory)
    local[0]["apps"][2].update(threads=2, max_age_seconds=60, warm_up=["/", '/ü?a="b"'])
    environment = jinja2.Environment(trim_blocks=True, undefined=jinja2.StrictUndefined)
    environment.filters["to_json"] = json.dumps
    template = environment.from_string(TEMPLATE.read_text())
    document = pools.document(local[0])
    assert tomllib.loads(template.render(item={"document": document})) == {
        "pool": document["pool"],
        "apps": [{key: value for key, value in app.items() if value} for app in document["apps"]],
    }
    assert document["pool"].get("memory") == memory.get("memory")
    assert document["apps"][2]["max_age_seconds"] == 60


def test_one_host_in_two_apps_of_a_pool_is_refused_once(local):
    local[0]["apps"][1]["hosts"] = ["blog.example"]
    (sentence,) = problems_of(local)
    assert sentence.startswith("vhost_app_pools[0].apps[1].hosts")


def test_one_app_name_in_two_pools_is_refused(local):
    local[1]["apps"][0]["name"] = "blog"
    (sentence,) = problems_of(local)
    assert sentence.startswith('vhost_app_pools[1].apps[0].name: "blog" is taken')


def test_a_limit_over_the_machines_memory_is_refused(local):
    local[0]["memory_max_mb"] = 2048
    (sentence,) = problems_of(local)
    assert sentence.startswith(
        "vhost_app_pools[0].memory_max_mb: 2048 is over the machine's memory"
    )
    assert "1024" in sentence


def test_a_high_mark_over_the_limit_is_refused(local):
    local[0]["memory_high_mb"] = 400
    (sentence,) = problems_of(local)
    assert sentence.startswith("vhost_app_pools[0].memory_high_mb: 400 is not from 1 to")


def test_a_source_that_is_not_there_is_refused(local):
    local[0]["apps"][0]["source"] = "nowhere"
    (sentence,) = problems_of(local)
    assert sentence.startswith('vhost_app_pools[0].apps[0].source: "nowhere" is no directory')


@pytest.mark.parametrize("word", ["a b", 'a"b', "a$b", "a%b", ""])
def test_a_command_that_systemd_would_change_is_refused(local, word):
    local[1]["command"] = ["/usr/bin/node", word]
    (sentence,) = problems_of(local)
    assert sentence.startswith("vhost_app_pools[1].command[1]:")


def test_a_command_pool_holds_one_app_and_no_wsgi_object(local):
    local[1]["apps"][0]["wsgi"] = "a:b"
    (sentence,) = problems_of(local)
    assert sentence.startswith("vhost_app_pools[1].apps[0].wsgi")
    local[1]["apps"] = [{**local[1]["apps"][0], "wsgi": None, "name": n, "hosts": [f"{n}.example"]}
                        for n in ("one", "two")]  # fmt: skip
    (sentence,) = problems_of(local)
    assert sentence.startswith('vhost_app_pools[1].apps: ["one", "two"] are too many or too few')


def test_each_app_has_a_site_on_its_pools_socket_or_its_own(local):
    assert pools.sites(local) == [
        {
            "name": "blog",
            "hosts": ["blog.example", "www.blog.example"],
            "socket": "/run/kechi/main.sock",
        },
        {"name": "motd", "hosts": ["motd.example"], "socket": "/run/kechi/main.sock"},
        {"name": "notes", "hosts": ["notes.example"], "socket": "/run/kechi/main/notes.sock"},
        {"name": "team", "hosts": ["team.example"], "socket": "/run/kechi/main/team.sock"},
        {"name": "clock", "hosts": ["clock.example"], "socket": "/run/kechi/clock.sock"},
    ]


def test_the_plan_fills_defaults_and_names_every_file_a_generation_is_made_of(local):
    plan = pool_plan(local, str(LOCAL), ["gunicorn"])
    assert plan["pools"][0]["document"]["pool"] == {
        "name": "main",
        "max_requests": 500,
        "preload": ["django.core.handlers.wsgi", "django.db.backends.sqlite3.base"],
    }, "the server itself knows how many workers suit"
    assert plan["packages"] == ["python3-venv", "nodejs"]
    assert [tree["destination"] for tree in plan["trees"]] == [
        "/srv/www/blog",
        "/srv/www/motd",
        "/srv/www/notes",
        "/srv/www/team",
        "/srv/www/clock",
    ]
    (virtualenv,) = plan["virtualenvs"]
    assert virtualenv == {
        "path": "/srv/kechi/main/venv",
        "requirements": ["gunicorn"],
        "files": [
            "/srv/www/blog/current/requirements.txt",
            "/srv/www/notes/current/requirements.txt",
            "/srv/www/team/current/requirements.txt",
        ],
    }
    assert plan["states"][0]["generation_paths"] == [
        "/etc/kechi/env",
        "/etc/kechi/pools/main.toml",
        "/srv/kechi/main/venv/kechi-requirements.digest",
        "/usr/local/lib/kechi/current",
        "/srv/www/blog/current",
        "/srv/www/motd/current",
        "/srv/www/notes/current",
        "/srv/www/team/current",
    ]


def test_an_isolated_apps_socket_is_a_unit_that_its_pool_is_started_with(local):
    plan = pool_plan(local, str(LOCAL), [])
    notes, _team = plan["pools"][0]["sockets"]
    assert notes == {
        "unit": "kechi@main.notes.socket",
        "path": "/run/kechi/main/notes.sock",
        "pool": "main",
        "app": "notes",
    }
    units = ["kechi@main.notes.socket", "kechi@main.team.socket"]
    assert plan["states"][0]["sockets"] == units
    written = [file["path"] for file in plan["files"]]
    assert [f"/etc/systemd/system/{unit}" for unit in units] == [
        path for path in written if path.endswith(".socket")
    ]
    assert plan["states"][1]["sockets"] == []


def test_an_isolated_app_with_its_pools_name_is_refused(local):
    local[0]["apps"][2]["name"] = "main"
    (sentence,) = problems_of(local)
    assert sentence.startswith('vhost_app_pools[0].apps[2].name: "main" is the pool\'s name, too')
    del local[0]["apps"][2]["isolation"]
    assert problems_of(local) == []


@pytest.mark.parametrize(
    ("place", "key", "value"),
    [
        ("", "workers", 2),
        ("", "preload", ["django"]),
        ("", "memory", {"freeze": True}),
        (".apps[0]", "isolation", "process"),
        (".apps[0]", "warm_up", ["/"]),
    ],
)
def test_what_a_command_can_not_know_is_refused(local, place, key, value):
    (local[1]["apps"][0] if place else local[1])[key] = value
    (sentence,) = problems_of(local)
    assert sentence.startswith(f"vhost_app_pools[1]{place}.{key}: ")
    assert "has no meaning in a pool with `command`" in sentence


def test_what_a_shared_app_can_not_have_of_its_own_is_refused(local):
    local[0]["apps"][1]["idle_seconds"] = 60
    (sentence,) = problems_of(local)
    assert sentence.startswith("vhost_app_pools[0].apps[1].idle_seconds: 60 can't be the app's own")


def test_an_environment_reaches_a_unit_unchanged(local):
    local[1]["apps"][0]["environment"] = {"GREETING": 'say "hi" 100%\\n'}
    plan = pool_plan(local, str(LOCAL), [])
    assert plan["pools"][1]["unit_environment"] == ['"GREETING=say \\"hi\\" 100%%\\\\n"']


def test_the_persistent_files_of_each_app_are_backed_up(local):
    found = pools.backups(local)
    assert [app["name"] for app in found] == ["blog", "motd", "notes", "team", "clock"]
    assert found[0] == {
        "name": "blog",
        "directory": "/srv/www/blog/shared",
        "unit": "kechi@main.service",
    }
    assert {
        "path": found[0]["directory"],
        "owner": "kechi-main",
        "group": "kechi-main",
        "mode": "0750",
    } in (pool_plan(local, str(LOCAL), [])["directories"]), "where the apps have them"
