import pytest

from supervisor_py.vhost import hosts

SITES = {"blog.example": "blog", "motd.example": "motd", "127.0.0.1": "motd"}


def router(sites: dict[str, str]) -> hosts.Router[str]:
    parsed = {hosts.site(text): app for text, app in sites.items()}
    return hosts.Router({site: app for site, app in parsed.items() if site})


def pick(header: str | None, target: str = "/", path: str = "/") -> str:
    return router(SITES).pick(header, target, path)[0]


@pytest.mark.parametrize(
    "header",
    ["blog.example", "BLOG.Example", "blog.example:8080", "blog.example.", "Blog.Example.:80",
     "blog.example:"],
)  # fmt: skip
def test_case_port_and_trailing_dot_do_not_hide_an_app(header: str) -> None:
    assert pick(header) == "blog"


def test_every_name_finds_its_own_app() -> None:
    assert [pick(h) for h in ("blog.example", "motd.example", "127.0.0.1:80")] == [
        "blog",
        "motd",
        "motd",
    ]


@pytest.mark.parametrize(
    "header",
    ["other.example", "example", "www.blog.example", "blog.example.org", "xblog.example",
     "[::1]:8080", "127.0.0.2"],
)  # fmt: skip
def test_an_unknown_host_never_reaches_a_neighbour(header: str) -> None:
    with pytest.raises(hosts.UnknownHostError):
        pick(header)


@pytest.mark.parametrize(
    "header",
    [None, "", " ", "blog.example,motd.example", "blog.example, motd.example", "blog.example:80:80",
     "blog.example:http", "blog.example:123456", "blog example", "blog.example/",
     "user@blog.example",
     "http://blog.example", ".blog.example", "blog..example", "blog.example..", "-blog.example",
     "a" * 64 + ".example", "a." * 127 + "ab", "blög.example", "blog.example\n", "blog.example\0",
     "[::1", "::1", "[not-ipv6]", "*.example", "blog.example:\u0660"],
)  # fmt: skip
def test_a_missing_doubled_or_absurd_host_reaches_no_app(header: str | None) -> None:
    with pytest.raises(hosts.BadHostError):
        pick(header)


@pytest.mark.parametrize(
    "target", ["/", "*", "//motd.example/", "http://blog.example:80/a", "/?u=a"]
)
def test_a_target_that_agrees_with_the_header_is_fine(target: str) -> None:
    assert pick("blog.example", target) == "blog"


@pytest.mark.parametrize(
    "target",
    ["http://motd.example/", "motd.example:443", "http:///", "", "http://[::1/", "blog.example"],
)
def test_a_target_for_another_host_than_the_headers_reaches_no_app(target: str) -> None:
    with pytest.raises(hosts.BadHostError):
        pick("blog.example", target)


WILD = {
    "example.org": "bare",
    "www.example.org": "www",
    "*.example.org": "any",
    "*.deep.example.org": "deep",
    "*": "rest",
}


@pytest.mark.parametrize(
    ("header", "app"),
    [
        ("example.org", "bare"),
        ("WWW.example.org.:80", "www"),
        ("api.example.org", "any"),
        ("a.b.example.org", "any"),
        ("deep.example.org", "any"),
        ("a.deep.example.org", "deep"),
        ("notexample.org", "rest"),
        ("org", "rest"),
        ("[::1]:8080", "rest"),
    ],
)
def test_the_nearest_name_wins_exact_before_wildcard_before_the_default(
    header: str, app: str
) -> None:
    assert router(WILD).pick(header, "/", "/") == (app, "", "/")


def test_a_wildcard_is_not_for_the_bare_name() -> None:
    with pytest.raises(hosts.UnknownHostError):
        router({"*.example.org": "any"}).pick("example.org", "/", "/")


def test_a_default_app_gets_no_bad_host() -> None:
    for header in (None, "a b", "a,b"):
        with pytest.raises(hosts.BadHostError):
            router(WILD).pick(header, "/", "/")


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ("bücher.example", "xn--bcher-kva.example"),
        ("BÜCHER.Example.", "XN--BCHER-KVA.example"),
        ("bu\u0308cher.example", "xn--bcher-kva.example"),
        ("straße.example", "xn--strae-oqa.example"),
        ("ΒΌΛΟΣ.com", "xn--nxasmq6b.com"),
        ("βόλος.com", "xn--nxasmm1c.com"),
        ("日本語。jp", "xn--wgv71a119e.jp"),
        ("\uff45xample\uff0eorg", "example.org"),
        ("*.bücher.example", "www.xn--bcher-kva.example"),
        ("XN--bcher-kva.example", "xn--bcher-kva.example"),
        ("l·l.cat", "xn--ll-0ea.cat"),
    ],
)
def test_a_name_written_in_unicode_is_matched_in_the_form_that_browsers_send(
    written: str, sent: str
) -> None:
    assert router({written: "app"}).pick(sent, "/", "/")[0] == "app"


@pytest.mark.parametrize(
    "text",
    ["", "*", "a..b", "a b.org", "a\u200b.org", "☃.net", "a:80", "x/y z", "x/..", "x/.hid", "x//y",
     "x/%41", "x/a/../b", "x/é", "*x.org", "a.*.org", "*.", "**", "-a.org", "x?y", "http://x", "/y",
     "*.*"],
)  # fmt: skip
def test_what_is_no_site_is_none(text: str) -> None:
    assert (hosts.site(text) is None) == (text != "*")


MOUNTS = {
    "example.org": "root",
    "example.org/wiki": "wiki",
    "example.org/wiki/archive/": "archive",
    "tools.example.org/a": "a",
    "*/status": "status",
}


@pytest.mark.parametrize(
    ("host", "path", "expected"),
    [
        ("example.org", "/", ("root", "")),
        ("example.org", "", ("root", "")),
        ("example.org", "/wikipedia", ("root", "")),
        ("example.org", "/Wiki", ("root", "")),
        ("example.org", "//wikis//", ("root", "")),
        ("example.org", "//wiki//a", ("wiki", "/wiki")),
        ("example.org", "/wiki", ("wiki", "/wiki")),
        ("example.org", "/wiki/", ("wiki", "/wiki")),
        ("example.org", "/wiki/a/wiki", ("wiki", "/wiki")),
        ("example.org", "/wiki/archived", ("wiki", "/wiki")),
        ("example.org", "/wiki/archive/2", ("archive", "/wiki/archive")),
        ("tools.example.org", "/a/b", ("a", "/a")),
        ("other.org", "/status", ("status", "/status")),
    ],
)
def test_the_longest_path_prefix_wins_at_whole_segments(
    host: str, path: str, expected: tuple[str, str]
) -> None:
    *found, rest = router(MOUNTS).pick(host, "/", path)
    assert tuple(found) == expected
    assert rest == (path.replace("//", "/").removeprefix(found[1]) if found[1] else path)


def test_a_path_that_nobody_has_on_a_known_host_is_no_neighbours() -> None:
    for host, path in (("tools.example.org", "/status"), ("other.org", "/"), ("other.org", "/a")):
        with pytest.raises(hosts.UnknownPathError):
            router(MOUNTS).pick(host, "/", path)


@pytest.mark.parametrize("path", ["/wiki/../secret", "/wiki/.", "/..", "/./wiki", "/wiki/.."])
def test_a_path_that_front_end_and_server_could_read_differently_reaches_no_app(path: str) -> None:
    with pytest.raises(hosts.BadHostError):
        router(MOUNTS).pick("example.org", "/", path)
    assert router(SITES).pick("blog.example", "/", path) == ("blog", "", path)
