"""What the front end is told of an app: paths that lead out, no pairs of files, and shadows."""

import copy
from pathlib import Path

import pytest
import yaml

from ansible_collections.kechi.vps.plugins.plugin_utils import pool_plan, pool_problems, pools
from ansible_collections.kechi.vps.plugins.plugin_utils.site_problems import problems, shadowed

from .test_certificates import make_pair

REPOSITORY = Path(__file__).parents[3]
LOCAL = REPOSITORY / "inventory" / "local"
SPECS = REPOSITORY / "roles" / "vhost_app" / "meta" / "argument_specs.yml"


@pytest.fixture
def local():
    variables = yaml.safe_load((LOCAL / "group_vars" / "all.yml").read_text())
    return copy.deepcopy(variables["vhost_app_pools"])


def sentences(entry, inventory=Path("/"), *, absolute=False):
    return list(problems("app", entry, inventory, absolute=absolute))


def static(**changes):
    return {"static": [{"url": "/static/", "directory": "static", **changes}]}


@pytest.mark.parametrize(
    "url",
    ["/", "static/", "/static", "/../", "/a/../b/", "/.git/", "/a b/", "/a;b/", "//", "/{x}/"],
)
def test_a_url_that_is_no_path_of_files_is_refused(url):
    (sentence,) = sentences(static(url=url))
    assert sentence.startswith(f'app.static[0].url: "{url}" is no path of files')


@pytest.mark.parametrize("url", ["/static/", "/a/b-c/", "/~x/1.2/"])
def test_a_url_of_files_is_taken(url):
    assert sentences(static(url=url)) == []


@pytest.mark.parametrize(
    "directory", ["", ".", "..", "../shared", "a/../..", "/etc", "a/", ".git", "a;b"]
)
def test_a_directory_that_leads_out_of_the_app_is_refused(directory):
    (sentence,) = sentences(static(directory=directory))
    assert sentence.startswith(f'app.static[0].directory: "{directory}" is no such directory')


@pytest.mark.parametrize("directory", ["srv", "/", "/srv/../etc", "/srv/", "/srv/a b"])
def test_a_sites_directory_is_absolute_and_goes_straight_there(directory):
    (sentence,) = sentences(static(directory=directory), absolute=True)
    assert sentence.startswith(f'app.static[0].directory: "{directory}" is no such directory')
    assert sentences(static(directory="/srv/www/a/current/static"), absolute=True) == []


@pytest.mark.parametrize("below", ["/srv/www/b", "/srv/www/a/shared/media/x", "/srv/www/a/share"])
def test_what_is_said_to_be_untrusted_has_the_directory_in_it(below):
    media = static(directory="/srv/www/a/shared/media", untrusted_below=below)
    (sentence,) = sentences(media, absolute=True)
    assert sentence.startswith(
        f'app.static[0].untrusted_below: "{below}" is not above /srv/www/a/shared/media'
    )


@pytest.mark.parametrize("below", ["/srv/www/a/shared/media", "/srv/www/a/shared", "/"])
def test_a_directory_or_one_above_it_may_be_untrusted(below):
    media = static(directory="/srv/www/a/shared/media", untrusted_below=below)
    assert sentences(media, absolute=True) == []


@pytest.mark.parametrize("key", ["client_max_body_mb", "requests_per_second"])
def test_a_limit_of_nothing_is_refused(key):
    (sentence,) = sentences({key: 0})
    assert sentence.startswith(f"app.{key}: 0 is too small")


def test_a_certificate_without_its_key_is_found_on_the_control_machine(tmp_path):
    make_pair(tmp_path / "a", ["a.example"])
    make_pair(tmp_path / "b", ["a.example"])
    right = {"chain": "a/fullchain.pem", "key": str(tmp_path / "a/privkey.pem")}
    assert sentences({"certificate": right}, tmp_path) == []
    (sentence,) = sentences({"certificate": {**right, "key": "b/privkey.pem"}}, tmp_path)
    assert "are no certificate and its key" in sentence
    (sentence,) = sentences({"certificate": {**right, "chain": "nowhere"}}, tmp_path)
    assert sentence.startswith('app.certificate.chain: "nowhere" is no file on the control machine')
    (tmp_path / "vaulted").write_text("$ANSIBLE_VAULT;1.1;AES256\n00\n")
    assert sentences({"certificate": {**right, "key": "vaulted"}}, tmp_path) == []


def test_a_certificate_that_the_target_has_is_named_absolutely():
    remote = {"chain": "/etc/a.pem", "key": "a.key", "remote": True}
    (sentence,) = sentences({"certificate": remote})
    assert sentence.startswith('app.certificate.key: "a.key" is not an absolute path on the target')


def site(name, *hosts, url=None):
    files = [{"url": url, "directory": "/srv"}] if url else []
    return {"name": name, "hosts": list(hosts), "socket": "/s", "static": files}


def test_static_files_that_cover_another_app_are_found():
    shop = site("shop", "a.example", url="/wiki/")
    wiki = site("wiki", "a.example/wiki", url="/static/")
    assert list(shadowed([shop, wiki])) == [(0, 0, "a.example/wiki/, which is wiki's")]
    assert list(shadowed([site("shop", "a.example", url="/wiki/static/"), wiki])) == [
        (0, 0, "a.example/wiki/static/, which is wiki's")
    ]
    assert list(shadowed([site("shop", "a.example", url="/static/"), wiki])) == []
    twice = {**shop, "static": [*shop["static"], {"url": "/wiki/", "directory": "/other"}]}
    assert list(shadowed([twice])) == [(0, 1, "a.example/wiki/, which is shop's")]


def test_an_app_of_the_inventory_is_held_to_it_with_its_place(local):
    local[0]["apps"][0].update(static(directory="../.."))
    (sentence,) = pool_problems.problems(local, memory_mb=1024, inventory=LOCAL)
    assert sentence.startswith("vhost_app_pools[0].apps[0].static[0].directory:")
    local[0]["apps"][0].update(static(url="/clock/"))
    local[1]["apps"][0]["hosts"].append("blog.example/clock")
    (sentence,) = pool_problems.problems(local, memory_mb=1024, inventory=LOCAL)
    assert sentence.startswith(
        'vhost_app_pools[0].apps[0].static[0].url: "/clock/" covers blog.example/clock/, which is '
        "clock's"
    )


def test_an_apps_site_has_its_files_as_absolute_paths_and_its_limits(local):
    local[0]["apps"][0].update(
        client_max_body_mb=3,
        static=[
            {"url": "/static/", "directory": "static", "max_age_seconds": 5},
            {"url": "/media/", "directory": "media", "inside": "shared"},
        ],
    )
    assert pools.sites(local)[0] == {
        "name": "blog",
        "hosts": ["blog.example", "www.blog.example"],
        "socket": "/run/kechi/main.sock",
        "client_max_body_mb": 3,
        "static": [
            {"url": "/static/", "directory": "/srv/www/blog/current/static",
             "max_age_seconds": 5},
            {"url": "/media/", "directory": "/srv/www/blog/shared/media",
             "untrusted_below": "/srv/www/blog/shared"},
        ],
    }  # fmt: skip


def test_nginx_gets_through_shared_only_where_it_serves_files_of_it(local):
    local[0]["apps"][0].update(static(inside="shared", directory="a/media"))
    options = yaml.safe_load(SPECS.read_text())["argument_specs"]["main"]["options"]
    spec = options["vhost_app_pools"]["options"]
    everything = pool_plan.Choice()
    plan = pool_plan.plan(
        local, spec=spec, inventory=LOCAL, server_requirements=[], choice=everything
    )
    found = {entry["path"]: entry for entry in plan["directories"]}
    modes = {
        path: (found[path]["owner"], found[path]["group"], found[path]["mode"])
        for path in found
        if path.startswith(("/srv/www/blog/", "/srv/www/motd/"))
    }
    assert modes == {
        "/srv/www/blog/shared": ("kechi-main", "www-data", "0710"),
        "/srv/www/blog/shared/a": ("kechi-main", "www-data", "2750"),
        "/srv/www/blog/shared/a/media": ("kechi-main", "www-data", "2750"),
        "/srv/www/motd/shared": ("kechi-main", "kechi-main", "0750"),
    }
