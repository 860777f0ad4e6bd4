"""The front end's server blocks: what nginx is told of hosts, paths and sockets."""

import re
from pathlib import Path

import jinja2
import yaml
from ansible.plugins.filter import core

from ansible_collections.kechi.vps.plugins.plugin_utils.server_blocks import (
    certificate_files,
    certificates,
    server_blocks,
)

ROLE = Path(__file__).parents[3] / "roles" / "frontend"
SITES = [
    {"name": "shop", "hosts": ["shop.example", "WWW.Shop.example."], "socket": "/run/a.sock"},
    {"name": "wiki", "hosts": ["shop.example/wiki", "*.bücher.example"], "socket": "/run/b.sock"},
    {"name": "old", "hosts": ["shop.example/wiki/old/"], "socket": "/run/a.sock"},
    {"name": "tool", "hosts": ["tool.example/x"], "socket": "/run/b.sock"},
]


def test_a_host_that_apps_share_is_one_block_with_the_longest_path_first():
    shop, www, *_ = server_blocks(SITES)
    site_of = {site["name"]: site for site in SITES}
    assert shop == {
        "apps": ["old", "wiki", "shop"],
        "default": False,
        "names": ["shop.example"],
        "certificate": "shop",
        "locations": [
            {"path": "/wiki/old", "site": site_of["old"]},
            {"path": "/wiki", "site": site_of["wiki"]},
            {"path": "", "site": site_of["shop"]},
        ],
        "static": [],
    }
    assert www["names"] == ["www.shop.example"]


def test_hosts_of_one_app_share_a_block_in_the_form_that_nginx_compares():
    hosts = ["Bücher.example", "*.x.example", "x.example", "*.y.example"]
    named, wild = server_blocks([{"name": "a", "hosts": hosts, "socket": "/s"}])
    assert named["names"] == ["xn--bcher-kva.example", "x.example"]
    assert wild["names"] == ["*.x.example", "*.y.example"]


def test_the_default_app_has_the_default_server_alone():
    sites = [{"name": "a", "hosts": ["a.example", "*"], "socket": "/s"}]
    named, default = server_blocks(sites)
    assert (named["default"], named["names"]) == (False, ["a.example"])
    assert (default["default"], default["names"], default["apps"]) == (True, ["_"], ["a"])


def configuration(sites, **variables):
    environment = jinja2.Environment(
        trim_blocks=True, keep_trailing_newline=True, undefined=jinja2.StrictUndefined
    )
    ansibles = core.FilterModule().filters()
    environment.filters |= {name: ansibles[name] for name in ("bool", "flatten", "hash")}
    environment.filters["kechi.vps.server_blocks"] = server_blocks
    role = {
        **yaml.safe_load((ROLE / "defaults" / "main.yml").read_text()),
        **yaml.safe_load((ROLE / "vars" / "main.yml").read_text()),
        "_frontend_tls": False,
        "_frontend_http2_directive": True,
        "_frontend_machine": {"ipv6": True},
    }
    template = environment.from_string((ROLE / "templates" / "kechi.conf.j2").read_text())
    return template.render({**role, "frontend_sites": sites, **variables})


def test_nginx_lets_through_the_longest_request_line_and_field_that_an_app_takes():
    assert "large_client_header_buffers" not in configuration(SITES), "nginx's own 8k"
    for key, value, size in (
        ("limit_request_line", 8191, 9),
        ("limit_request_field_size", 16382, 16),
        ("limit_request_line", 256, None),
    ):
        sites = [*SITES[:3], {**SITES[3], key: value}]
        text = f"large_client_header_buffers 4 {size}k;"
        for block in servers(sites):
            assert (text in block) == (size is not None), "in each: nginx reads it before the host"


def test_an_upgrade_is_passed_on_where_an_app_speaks_websockets_alone():
    assert "upgrade" not in configuration(SITES).lower()
    speaks = {**SITES[3], "socket": "/run/ws.sock", "websockets": True}
    text = configuration([*SITES[:3], speaks])
    locations = re.findall(r"^    location [^{]*\{$.*?^    \}$", text, re.DOTALL | re.MULTILINE)
    theirs = [one for one in locations if "set $kechi_websockets 1;" in one]
    assert theirs
    assert theirs == [one for one in locations if f"unix:{speaks['socket']}:" in one]


def servers(sites, **variables):
    """The server blocks but the one for this machine alone, as they are in the file."""
    text = configuration(sites, **variables)
    *found, _own = re.findall(r"^server \{$(.*?)^\}$", text, re.DOTALL | re.MULTILINE)
    return found


def rendered(sites, **variables):
    found = servers(sites, **variables)
    return {re.findall("server_name (.*);", block)[0]: block for block in found}


def locations(block):
    found = re.findall(r"location (\S+(?: \S+)?) \{\s+(?:proxy_pass http://)?(.*?);", block)
    return found[1:]  # the first one is the page of an app that is down


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


def test_an_app_has_one_certificate_and_another_for_what_no_acme_server_certifies():
    sites = [
        {"name": "shop", "hosts": ["shop.example", "*.shop.example", "*"], "socket": "/s"},
        {"name": "wiki", "hosts": ["shop.example/wiki", "wiki.example"], "socket": "/s"},
    ]
    assert certificates(sites) == [
        {"name": "shop", "hosts": ["shop.example"]},
        {"name": "shop.any", "hosts": ["*.shop.example", "*"]},
        {"name": "wiki", "hosts": ["wiki.example"]},
    ]
    blocks = server_blocks(sites)
    assert {name: block["certificate"] for block in blocks for name in block["names"]} == {
        "shop.example": "shop",
        "*.shop.example": "shop.any",
        "_": "shop.any",
        "wiki.example": "wiki",
    }


def test_a_given_certificate_is_for_all_hosts_and_copied_where_the_target_has_it_not():
    given = {"chain": "tls/a.pem", "key": "/keys/a.key"}
    remote = {"chain": "/etc/a.pem", "key": "/etc/a.key", "remote": True}
    sites = [
        {"name": "a", "hosts": ["a.example", "*.a.example"], "socket": "/s", "certificate": given},
        {"name": "b", "hosts": ["*.b.example"], "socket": "/s", "certificate": remote},
    ]
    copies = ["/etc/kechi/tls/copies/a.chain.pem", "/etc/kechi/tls/copies/a.key.pem"]
    assert certificates(sites) == [
        {"name": "a", "hosts": ["a.example", "*.a.example"], "chain": copies[0], "key": copies[1]},
        {"name": "b", "hosts": ["*.b.example"], "chain": "/etc/a.pem", "key": "/etc/a.key"},
    ]
    assert certificate_files(sites, Path("/inventory")) == [
        {"src": "/inventory/tls/a.pem", "dest": copies[0]},
        {"src": "/keys/a.key", "dest": copies[1]},
    ]


def test_static_files_are_under_each_path_of_their_app_and_both_ends_are_slashes():
    static = [{"url": "/static/", "directory": "/srv/www/wiki/current/static"}]
    sites = [{"name": "wiki", "hosts": ["a.example/wiki"], "socket": "/s", "static": static}]
    block = rendered(sites)["a.example"]
    found = re.findall(r"location \^~ (\S+) \{\s+alias (\S+);\s+expires (\d+)s;", block)
    assert found == [("/wiki/static/", "/srv/www/wiki/current/static/", "3600")]
    assert "disable_symlinks" not in block


def test_a_directory_that_an_app_could_replace_is_itself_no_way_out():
    static = {"url": "/media/", "directory": "/srv/www/wiki/shared/media"}
    static["untrusted_below"] = "/srv/www/wiki/shared"
    sites = [{"name": "wiki", "hosts": ["a.example"], "socket": "/s", "static": [static]}]
    careful = "disable_symlinks if_not_owner from=/srv/www/wiki/shared;"
    assert careful in rendered(sites)["a.example"]


def test_no_answer_of_an_app_is_an_order_to_nginx():
    for block in rendered(SITES).values():
        if "proxy_pass" in block:
            (ignored,) = re.findall(r"proxy_ignore_headers (.*);", block)
            assert {"X-Accel-Redirect", "X-Accel-Expires"} <= set(ignored.split())


def test_over_tls_an_unknown_host_is_refused_before_a_certificate_and_http_leads_to_https():
    plain, refused, redirect, *sites = servers(SITES, _frontend_tls=True)
    assert "listen 80 default_server;" in plain
    assert "return 421;" in plain
    assert "listen 443 ssl default_server;" in refused
    assert "ssl_reject_handshake on;" in refused
    assert "server_name shop.example www.shop.example" in redirect
    assert "location ^~ /.well-known/acme-challenge/ {" in redirect
    assert "return 301 https://$host$request_uri;" in redirect
    assert len(sites) == 4
    for block in sites:
        assert "listen 443 ssl;" in block
        assert "http2 on;" in block
        assert "listen 80" not in block
        assert "ssl_certificate /etc/kechi/tls/current/" in block
    older = servers(SITES, _frontend_tls=True, _frontend_http2_directive=False)
    assert "listen 443 ssl http2;" in older[-1]
    assert "http2 on" not in older[-1]


def test_with_a_default_app_tls_without_a_known_name_is_the_default_apps():
    sites = [{"name": "a", "hosts": ["*"], "socket": "/s"}]
    redirect, block = servers(sites, _frontend_tls=True, frontend_tls_port=8443)
    assert "listen 80 default_server;" in redirect
    assert "return 301 https://$host:8443$request_uri;" in redirect
    assert "listen 8443 ssl default_server;" in block
    assert "/etc/kechi/tls/current/a.any/fullchain.pem" in block


def test_hsts_is_said_wherever_nginx_would_not_inherit_it():
    static = [{"url": "/static/", "directory": "/s"}]
    sites = [{"name": "a", "hosts": ["a.example"], "socket": "/s", "static": static}]
    assert "Strict-Transport" not in configuration(sites, frontend_hsts_max_age_seconds=60)
    on = servers(sites, _frontend_tls=True, frontend_hsts_max_age_seconds=60)[-1]
    assert on.count('add_header Strict-Transport-Security "max-age=60" always;') == 3
    assert "proxy_hide_header Strict-Transport-Security;" in on


def test_limits_of_an_app_are_its_locations_and_those_of_all_everybodys():
    sites = [
        {"name": "a", "hosts": ["x.example"], "socket": "/s", "requests_per_second": 2,
         "client_max_body_mb": 3},
        {"name": "b", "hosts": ["x.example/b"], "socket": "/s"},
    ]  # fmt: skip
    text = configuration(sites, frontend_requests_per_second=7)
    assert "zone=kechi:2m rate=7r/s;" in text
    assert "zone=kechi-a:1m rate=2r/s;" in text
    (own,) = re.findall(r"location / \{(.*?)\}", text, re.DOTALL)
    (other,) = re.findall(r"location /b/ \{(.*?)\}", text, re.DOTALL)
    assert "client_max_body_size 3m;" in own
    assert "zone=kechi-a " in own
    assert "client_max_body_size" not in other
    assert "zone=kechi " in other
    assert "limit_req " not in configuration(sites[1:])


def test_a_line_of_the_log_takes_only_what_is_utf_8():
    (pattern, *_) = re.findall(r'"~(\^\(.*\$)" \$request_uri;', configuration(SITES))
    # what nginx is compared with is bytes, and possessive quantifiers came to Python with 3.11
    utf8 = re.compile(pattern.encode("ascii"))
    for text in ("", "/a", "/ü", "/ケ", "/😀", '"\\\n'):
        assert utf8.match(text.encode()), text
    for raw in (b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"a\x80", b"\xf5\x80\x80\x80", b"\xe3\x82"):
        assert not utf8.match(raw), raw


def test_another_configuration_has_another_digest():
    def digest(**variables):
        return re.findall('return 200 "([0-9a-f]{64})', configuration(SITES, **variables))

    assert digest() == digest() != digest(frontend_client_max_body_mb=11)
    assert len(digest()) == 1


def test_a_header_that_some_library_believes_is_set_or_dropped():
    for name in ("Forwarded", "X-Forwarded-Port", "X-Forwarded-Prefix", "X-Forwarded-Ssl", "Proxy"):
        assert f'proxy_set_header {name} "";' in rendered(SITES)["shop.example"]


def test_each_site_believes_the_trusted_proxies_and_this_machines_own_server_nobody():
    assert "real_ip" not in configuration(SITES)
    text = configuration(SITES, frontend_trusted_proxies=["192.0.2.1", "2001:db8::/32"])
    believed = (
        "    set_real_ip_from 192.0.2.1;\n    set_real_ip_from 2001:db8::/32;\n"
        "    real_ip_header X-Forwarded-For;\n    real_ip_recursive on;\n"
    )
    *sites, own = re.findall(r"^server \{$(.*?)^\}$", text, re.DOTALL | re.MULTILINE)
    assert [block.count(believed) for block in sites] == [1] * len(sites)
    assert "real_ip" not in own
    assert "real_ip" not in text.partition("server {")[0], "it would be believed by others' sites"


def test_other_roles_add_to_each_site_and_to_what_its_apps_answer():
    blocks = rendered(SITES, frontend_requests_per_second=5)
    assert blocks.pop("_")
    assert len(blocks) == len(SITES)
    for block in blocks.values():
        assert block.count("include /etc/nginx/kechi.d/server/*.conf;") == 1
        proxied = re.findall(r"proxy_pass [^}]*", block)
        assert proxied
        for location in proxied:
            assert "limit_req zone=kechi " in location, "a limit of another role comes beside ours"
            assert "include /etc/nginx/kechi.d/location/*.conf;" in location
