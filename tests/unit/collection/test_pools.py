"""The pools of an inventory: what is refused, and what the roles' tasks are given."""

import copy
import json
import tomllib
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import jinja2
import pytest
import yaml

from ansible_collections.kechi.vps.plugins.filter import pools as filters
from ansible_collections.kechi.vps.plugins.filter.pools import pool_plan
from ansible_collections.kechi.vps.plugins.module_utils import release_sets
from ansible_collections.kechi.vps.plugins.modules import release_sets as release_sets_module
from ansible_collections.kechi.vps.plugins.plugin_utils import pool_plan as plans
from ansible_collections.kechi.vps.plugins.plugin_utils import pool_problems, pools
from ansible_collections.kechi.vps.supervisor_py.vhost import pool as pool_file

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
    assert pools.socket(local[0], local[0]["apps"][1]).endswith("/motd.sock"), "one of its own"
    del local[0]["apps"][1]["asgi"]
    (sentence,) = problems_of(local)
    assert sentence.startswith("vhost_app_pools[0].apps[1].wsgi: is missing, and must be a module")


def test_the_front_end_is_told_which_apps_speak_websockets(local):
    first, second = local[0]["apps"][:2]
    second.update(wsgi=None, asgi="motd:app")
    told = {site["name"]: site.get("websockets", False) for site in pools.sites(local)}
    assert [told[first["name"]], told[second["name"]]] == [False, True]
    first["websockets"], second["websockets"] = True, False
    told = {site["name"]: site.get("websockets", False) for site in pools.sites(local)}
    assert [told[first["name"]], told[second["name"]]] == [True, False]


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
    local[0].update(workers=3, max_private_mb=50, body_timeout_seconds=9, **memory)
    local[0]["request_timeout_seconds"] = 30
    local[0]["apps"][0]["request_timeout_seconds"] = 5
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
    assert document["pool"]["request_timeout_seconds"] == 30
    assert document["apps"][0]["request_timeout_seconds"] == 5


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
    assert pools.document(plan["pools"][0])["pool"] == {
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
    assert plan["states"][0]["generation_paths"] == [
        "/etc/kechi/env",
        "/usr/local/lib/kechi/current",
    ]
    releases = {tree["destination"]: "1" for tree in plan["trees"]}
    assert plans.virtualenvs(plan, releases) == [
        {
            "folder": "/srv/kechi/main/venvs",
            "group": "kechi-main",
            "hidden": [
                "/srv/kechi/main/sets",
                *(f"/srv/www/{app}/shared" for app in ("blog", "motd", "notes", "team")),
            ],
            "requirements": ["gunicorn"],
            "releases": [f"/srv/www/{app}/releases/1" for app in ("blog", "motd", "notes", "team")],
        }
    ]
    main, clock = plans.release_sets(plan, releases, {"/srv/kechi/main/venvs": "/venv"})
    assert main["virtualenv"] == "/venv"
    (pool_file,) = [file for file in main["files"] if file["path"] == "pool.toml"]
    assert pool_file["item"]["document"]["apps"][1]["directory"] == "/srv/www/motd/releases/1"
    assert clock["virtualenv"] == ""
    assert [file["path"] for file in clock["files"]] == ["units/pool.conf", "units/environment"]
    assert clock["files"][1]["mode"] == "0600"


def test_one_app_is_deployed_alone_and_its_pools_others_keep_their_release(local):
    plan = pool_plan(local, str(LOCAL), [], "motd")
    assert [pool["name"] for pool in plan["pools"]] == ["main"]
    sources = {Path(tree["destination"]).name: tree for tree in plan["trees"]}
    assert sources["motd"]["source"].endswith("/examples/motd")
    assert [sources[name]["release"] for name in ("blog", "notes", "team")] == ["current"] * 3
    assert {tree.get("source") for name, tree in sources.items() if name != "motd"} == {None}


def test_a_rollback_takes_a_release_that_is_there_and_runs_no_hook(local):
    local[0]["apps"][1]["before_switch"] = [["true"]]
    assert pool_plan(local, str(LOCAL), [])["states"][0]["hooks"] == [
        {"app": "motd", "commands": [["true"]], "environment": {}}
    ]
    plan = pool_plan(local, str(LOCAL), [], "motd", "previous")
    (motd,) = [tree for tree in plan["trees"] if tree["destination"] == "/srv/www/motd"]
    assert (motd["release"], motd.get("source")) == ("previous", None)
    assert plan["states"][0]["hooks"] == []


def test_code_is_read_by_its_pool_and_only_what_nginx_serves_of_it_by_all(local):
    local[0]["apps"][0]["static"] = [
        {"url": "/static/", "directory": "web/static"},
        {"url": "/media/", "directory": "media", "inside": "shared"},
    ]
    trees = pool_plan(local, str(LOCAL), [])["trees"]
    readers = {Path(tree["destination"]).name: (tree["group"], tree["public"]) for tree in trees}
    assert readers["blog"] == ("kechi-main", ["web/static"])
    assert readers["motd"] == ("kechi-main", [])
    assert readers["clock"] == ("kechi-clock", [])


def test_temporary_files_fit_into_a_pools_memory_and_a_change_of_that_restarts_nothing(local):
    def set_files():
        plan = pool_plan(local, str(LOCAL), [])
        releases = {tree["destination"]: "1" for tree in plan["trees"]}
        (main, _) = plans.release_sets(plan, releases, {})
        (unit,) = [file for file in main["files"] if file["path"] == "units/pool.conf"]
        template = REPOSITORY / "roles" / "vhost_app" / "templates" / unit["template"]
        return jinja2.Template(template.read_text()).render(item=unit["item"])

    before = set_files()
    assert "TemporaryFileSystem=/dev/shm:size=32M," in before
    local[0]["memory_max_mb"] = 400
    assert set_files() == before
    local[0]["temporary_max_mb"] = 133
    assert "TemporaryFileSystem=/tmp:size=133M," in set_files()
    assert problems_of(local) == []
    local[0]["temporary_max_mb"] = 134
    (sentence,) = problems_of(local)
    assert sentence.startswith(
        "vhost_app_pools[0].temporary_max_mb: 134 is out of range; allowed: 1 to 133"
    )


def test_no_pool_is_called_as_the_user_of_builds(local):
    local[1]["name"] = "build"
    (sentence,) = problems_of(local)
    assert sentence.startswith(
        'vhost_app_pools[1].name: "build" would be kechi-build, the user of all pools\' builds'
    )


def test_a_pool_and_an_app_go_when_they_are_said_to_be_absent_and_stay_known(local):
    local[1]["state"] = "absent"
    local[0]["apps"][0].update(state="absent", source="/gone")
    local[0]["apps"][1]["hosts"].append("blog.example")
    assert problems_of(local) == [], "what an absent one had is free"
    plan = pool_plan(local, str(LOCAL), [])
    assert plan["states"][0] == {"name": "clock", "state": "absent"}
    assert [pool["name"] for pool in plan["pools"]] == ["main"]
    assert "blog" not in [app["name"] for app in plan["pools"][0]["apps"]]
    assert {"blog", "clock"} <= set(plan["known"])
    assert {site["name"] for site in pools.sites(local)} == {"motd", "notes", "team"}
    local[0]["apps"][2]["hosts"] = []
    (sentence,) = problems_of(local)
    assert sentence.startswith("vhost_app_pools[0].apps[2].hosts: [] is not a list")
    for app in local[0]["apps"]:
        app["state"] = "absent"
    assert "are all absent" in problems_of(local)[-1]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"source": None}, "source: is missing; one of source, git, archive, wheel is required"),
        ({"archive": "a.tgz"}, 'archive: "a.tgz" is one source too many, beside source'),
        ({"version": "main"}, 'version: "main" is for git; allowed with source: none'),
        ({"source": None, "git": "x"}, "version: is missing; a branch, tag or commit of git is"),
        ({"source": None, "git": "--upload-pack=x", "version": "1"}, 'git: "--upload-pack=x"'),
        ({"source": None, "archive": "a.tgz"}, 'archive: "a.tgz" is no file on the control'),
        ({"source": None, "wheel": "hosts.yml"}, 'wheel: "hosts.yml" is no wheel'),
        ({"health_path": "healthz"}, 'health_path: "healthz" is no path'),
        ({"health_statuses": [99]}, "health_statuses[0]: 99 is outside 100 to 599"),
        ({"before_switch": ["migrate"]}, 'before_switch[0]: "migrate" is not a command as a list'),
    ],
)
def test_a_wrong_source_gate_or_hook_is_refused(local, changes, sentence):
    local[0]["apps"][1].update(changes)
    local[0]["apps"][0]["state"] = "absent"
    (found,) = problems_of(local)
    assert found.startswith(f"vhost_app_pools[0].apps[1].{sentence}")


@pytest.mark.parametrize(
    ("changes", "asked"),
    [
        ({}, ("motd.example", "/")),
        ({"hosts": ["*", "bücher.example/wiki"]}, ("xn--bcher-kva.example", "/wiki/")),
        ({"hosts": ["*.motd.example"], "health_path": "/up"}, ("kechi-health.motd.example", "/up")),
        ({"hosts": ["*"]}, ("kechi-health.test", "/")),
        ({"health_path": ""}, None),
        ({"idle_seconds": 60}, None),
        ({"idle_seconds": 60, "health_path": "/up"}, ("motd.example", "/up")),
    ],
)
def test_an_app_is_asked_for_its_page_and_a_sleeper_only_where_that_is_wanted(
    local, changes, asked
):
    found = pools.check(local[0], {**local[0]["apps"][1], **changes})
    assert (found and (found["host"], found["path"])) == asked


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
    releases = {tree["destination"]: "1" for tree in plan["trees"]}
    main, _clock = plans.release_sets(plan, releases, {})
    assert [f"units/{unit}" for unit in units] == [
        file["path"] for file in main["files"] if file["path"].endswith(".socket")
    ]


def test_the_pool_file_of_an_app_that_speaks_asgi_is_one_that_is_served(local):
    app = local[0]["apps"][0]
    app["asgi"] = app.pop("wsgi")
    document = pools.document(pool_plan(local, str(LOCAL), [])["pools"][0])
    assert pool_file.problems(document) == []
    app["isolation"] = "shared"
    document = pools.document(pool_plan(local, str(LOCAL), [])["pools"][0])
    assert [sentence.partition(":")[0] for sentence in pool_file.problems(document)] == [
        "apps[0].isolation"
    ]


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
    releases = {tree["destination"]: "1" for tree in plan["trees"]}
    _, clock = plans.release_sets(plan, releases, {"/srv/kechi/main/venvs": "/venv"})
    (file,) = [file for file in clock["files"] if file["path"] == "units/environment"]
    assert file["content"] == 'GREETING="say \\"hi\\" 100%\\\\n"\n'


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


STATIC = {"url": "/static/", "directory": "static"}
WITH_STATIC: dict[str, Any] = {
    "name": "main",
    "apps": [
        {"name": "a", "hosts": ["a.example"], "static": [STATIC, STATIC | {"url": "/also/"}]},
        {"name": "b", "hosts": ["b.example"]},
    ],
}
HOSTS, FILES = "other hosts or sockets", "other directories of static files"


def changed(*, app=None, pool=None):
    first, second = WITH_STATIC["apps"]
    return [{**WITH_STATIC, "apps": [{**first, **(app or {})}, second], **(pool or {})}]


@pytest.mark.parametrize(
    ("wanted", "behind"),
    [
        (changed(), []),
        (changed(app={"hosts": ["c.example"]}), [f"main ({HOSTS})"]),
        (changed(app={"isolation": "process"}), [f"main ({HOSTS})"]),
        (changed(app={"name": "c", "static": []}), [f"main (other apps, {FILES})"]),
        (changed(app={"state": "absent"}), [f"main (other apps, {HOSTS}, {FILES})"]),
        (changed(pool={"state": "absent"}), ["main (still on the machine)"]),
        (changed(pool={"name": "new"}), ["new (not on the machine)"]),
        (changed(pool={"name": "new", "state": "absent"}), []),
        (changed(app={"static": [STATIC | {"directory": "public"}]}), [f"main ({FILES})"]),
        (changed(app={"static": [STATIC | {"inside": "shared"}]}), [f"main ({FILES})"]),
        (changed(app={"static": []}), [f"main ({FILES})"]),
        # nginx alone has these
        (changed(app={"static": [STATIC | {"url": "/s/", "max_age_seconds": 5}]}), []),
        (changed(app={"client_max_body_mb": 5, "requests_per_second": 7}), []),
    ],
)
def test_pools_are_behind_of_which_other_roles_would_be_told_what_the_machine_does_not_have(
    wanted, behind
):
    (deployed,) = plans.release_sets(
        pool_plan(changed(pool={"apps": [{**app, "source": "x"} for app in WITH_STATIC["apps"]]}),
                  "/", []),
        {"/srv/www/a": "1", "/srv/www/b": "1"},
        {},
    )  # fmt: skip
    on_machine = {"main": deployed | {"apps": sorted(deployed["apps"])}, "of another": {}}
    assert filters.pools_behind(wanted, on_machine) == behind
    assert filters.pools_behind(wanted, on_machine, wanted[0]["apps"][0]["name"]) == behind
    assert filters.pools_behind(wanted, on_machine, "of another pool") == []


def test_other_static_files_are_noted_in_a_pools_set_and_restart_nothing(tmp_path):
    (deployed,) = plans.release_sets(
        pool_plan([{**WITH_STATIC, "apps": [{**WITH_STATIC["apps"][0], "source": "x"}]}], "/", []),
        {"/srv/www/a": "1"},
        {},
    )
    deployed |= {"files": [], "virtualenv": ""}
    other = deployed | {"static": {"a": ["/srv/www/a/shared/static"]}}
    assert deployed["static"] == {"a": ["/srv/www/a/current/static"]}
    assert release_sets_module.identity(deployed) == release_sets_module.identity(other)
    name = release_sets_module.identity(deployed)
    sets = release_sets.Sets("main", root=tmp_path)
    for wanted in (deployed, other):
        assert not release_sets_module.is_written(sets, name, wanted)
        release_sets_module.write(MagicMock(), sets, name, wanted)
        assert sets.about(name)["static"] == wanted["static"]
        assert release_sets_module.is_written(sets, name, wanted)


def test_what_an_older_version_has_deployed_without_a_note_of_static_files_is_behind():
    on_machine = {"main": {"apps": ["a", "b"], "routes": pools.routes(WITH_STATIC), "static": {}}}
    assert filters.pools_behind([WITH_STATIC], on_machine) == [f"main ({FILES})"]
    assert filters.pools_behind(changed(app={"static": []}), on_machine) == []
