from collections.abc import Callable
from typing import Any

import pytest

from supervisor_py.vhost import warmup
from supervisor_py.vhost.hosts import Site


@pytest.mark.parametrize(
    ("site", "path", "line", "host"),
    [
        (Site("site.test"), "/", b"GET / HTTP/1.1", b"site.test"),
        (Site("site.test", "/wiki"), "/page?n=2", b"GET /wiki/page?n=2 HTTP/1.1", b"site.test"),
        (Site("*.site.test"), "/", b"GET / HTTP/1.1", b"www.site.test"),
        (Site("*"), "/", b"GET / HTTP/1.1", b"localhost"),
    ],
)
def test_a_warm_up_asks_for_a_path_of_the_apps_first_site(
    site: Site, path: str, line: bytes, host: bytes
) -> None:
    lines = warmup.request(site, path).split(b"\r\n")
    assert lines[0] == line
    assert b"Host: " + host in lines
    assert b"X-Forwarded-Proto: https" in lines
    assert lines[-2:] == [b"", b""]


def test_an_app_below_a_path_finds_it_in_script_name() -> None:
    seen: list[dict[str, Any]] = []

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        seen.append(environ)
        start_response("200 OK", [])
        return []

    app = warmup.Served(Site("site.test", "/wiki"), application)
    assert warmup.warm(app, ["/", "/b%C3%BCcher?n=2"], forks=False) == []
    keys = ("SCRIPT_NAME", "PATH_INFO", "QUERY_STRING", "HTTP_HOST", "wsgi.url_scheme")
    assert [[environ[key] for key in keys] for environ in seen] == [
        ["/wiki", "/", "", "site.test", "https"],
        ["/wiki", "/b\u00c3\u00bccher", "n=2", "site.test", "https"],
    ]


def test_without_a_fork_to_come_an_app_is_asked_in_this_process() -> None:
    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        raise LookupError("no such table")

    with pytest.raises(warmup.WarmUpError, match="LookupError: no such table"):
        warmup.warm(warmup.Served(Site("site.test"), application), ["/"], forks=False)
