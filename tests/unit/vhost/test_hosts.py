import pytest

from supervisor_py.vhost import hosts

ROUTER = hosts.Router({"blog.example": "blog", "motd.example": "motd", "127.0.0.1": "motd"})


@pytest.mark.parametrize(
    "header",
    ["blog.example", "BLOG.Example", "blog.example:8080", "blog.example.", "Blog.Example.:80",
     "blog.example:"],
)  # fmt: skip
def test_case_port_and_trailing_dot_do_not_hide_an_app(header: str) -> None:
    assert ROUTER.pick(header) == "blog"


def test_every_name_finds_its_own_app() -> None:
    assert [ROUTER.pick(h) for h in ("blog.example", "motd.example", "127.0.0.1:80")] == [
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
        ROUTER.pick(header)


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
        ROUTER.pick(header)


@pytest.mark.parametrize(
    "target", ["/", "*", "//motd.example/", "http://blog.example:80/a", "/?u=a"]
)
def test_a_target_that_agrees_with_the_header_is_fine(target: str) -> None:
    assert ROUTER.pick("blog.example", target) == "blog"


@pytest.mark.parametrize(
    "target",
    ["http://motd.example/", "motd.example:443", "http:///", "", "http://[::1/", "blog.example"],
)
def test_a_target_for_another_host_than_the_headers_reaches_no_app(target: str) -> None:
    with pytest.raises(hosts.BadHostError):
        ROUTER.pick("blog.example", target)
