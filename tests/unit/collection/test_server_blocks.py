"""The front end's server blocks: what nginx is told of hosts, paths and sockets."""

import re
from pathlib import Path

import jinja2

from ansible_collections.kechi.vps.plugins.plugin_utils.server_blocks import server_blocks

TEMPLATE = Path(__file__).parents[3] / "roles" / "frontend" / "templates" / "kechi.conf.j2"
SITES = [
    {"name": "shop", "hosts": ["shop.example", "WWW.Shop.example."], "socket": "/run/a.sock"},
    {"name": "wiki", "hosts": ["shop.example/wiki", "*.bücher.example"], "socket": "/run/b.sock"},
    {"name": "old", "hosts": ["shop.example/wiki/old/"], "socket": "/run/a.sock"},
    {"name": "tool", "hosts": ["tool.example/x"], "socket": "/run/b.sock"},
]


def test_a_host_that_apps_share_is_one_block_with_the_longest_path_first():
    shop, www, *_ = server_blocks(SITES)
    assert shop == {
        "apps": ["old", "wiki", "shop"],
        "default": False,
        "names": ["shop.example"],
        "locations": [
            {"path": "/wiki/old", "socket": "/run/a.sock"},
            {"path": "/wiki", "socket": "/run/b.sock"},
            {"path": "", "socket": "/run/a.sock"},
        ],
    }
    assert www["names"] == ["www.shop.example"]


def test_hosts_of_one_app_share_a_block_in_the_form_that_nginx_compares():
    sites = [{"name": "a", "hosts": ["Bücher.example", "*.x.example"], "socket": "/s"}]
    (block,) = server_blocks(sites)
    assert block["names"] == ["xn--bcher-kva.example", "*.x.example"]


def test_the_default_app_has_the_default_server_alone():
    sites = [{"name": "a", "hosts": ["a.example", "*"], "socket": "/s"}]
    named, default = server_blocks(sites)
    assert (named["default"], named["names"]) == (False, ["a.example"])
    assert (default["default"], default["names"], default["apps"]) == (True, ["_"], ["a"])


def configuration(sites):
    environment = jinja2.Environment(
        trim_blocks=True, keep_trailing_newline=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["kechi.vps.server_blocks"] = server_blocks
    return environment.from_string(TEMPLATE.read_text()).render(
        frontend_sites=sites,
        frontend_port=80,
        frontend_client_max_body_mb=10,
        frontend_proxy_read_timeout_seconds=60,
        __frontend_ipv6={"stat": {"exists": True}},
    )


def rendered(sites):
    text = configuration(sites)
    blocks = re.findall(r"^server \{$(.*?)^\}$", text, re.DOTALL | re.MULTILINE)
    return {re.findall("server_name (.*);", block)[0]: block for block in blocks}


def locations(block):
    return re.findall(r"location (\S+(?: \S+)?) \{\s+(?:proxy_pass http://)?(.*?);", block)


def test_each_path_has_its_location_at_whole_segments_and_the_rest_of_a_host_is_nobodys():
    blocks = rendered(SITES)
    assert list(blocks) == [
        "_", "shop.example", "www.shop.example", "*.xn--bcher-kva.example", "tool.example"
    ]  # fmt: skip
    assert "return 421" in blocks["_"]
    assert "listen 80 default_server;" in blocks["_"]
    assert "listen [::]:80 default_server;" in blocks["_"]
    assert "default_server" not in blocks["shop.example"]
    assert locations(blocks["shop.example"]) == [
        ("= /wiki/old", "unix:/run/a.sock:"),
        ("/wiki/old/", "unix:/run/a.sock:"),
        ("= /wiki", "unix:/run/b.sock:"),
        ("/wiki/", "unix:/run/b.sock:"),
        ("/", "unix:/run/a.sock:"),
    ]
    assert locations(blocks["tool.example"])[-1] == ("/", "return 404")


def test_with_a_default_app_nothing_is_misdirected():
    blocks = rendered([{"name": "a", "hosts": ["*"], "socket": "/run/a.sock"}])
    assert list(blocks) == ["_"]
    assert "listen 80 default_server;" in blocks["_"]
    assert locations(blocks["_"]) == [("/", "unix:/run/a.sock:")]


def test_without_sites_every_host_is_misdirected():
    assert "return 421" in rendered([])["_"]


def test_an_app_is_told_of_the_port_that_the_visitor_has_asked_for():
    text = configuration(SITES)
    assert text.count("proxy_set_header Host $host$kechi_port;") == 4
    (pattern,) = re.findall(r'"~(.*)\$" \$kechi_asked;', text)
    asked = re.compile(pattern.replace("?<", "?P<") + "$")
    assert asked.findall("a.example:8080") == [":8080"]
    assert asked.findall("[::1]:8080") == [":8080"]
    assert asked.findall("a.example") == asked.findall("[::1]") == []
