"""robots as it is run, with an HTTP server of ours on loopback."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

BLOG = b"User-agent: Googlebot\nDisallow: /google/\nUser-agent: *\nDisallow: /all/\n"


class Site(BaseHTTPRequestHandler):
    """Answers with what its server has for a path: a status, and a content or a place."""

    def do_GET(self) -> None:
        assert isinstance(self.server, Server)
        status, content = self.server.answers.get(self.path, (404, b""))
        self.send_response(status)
        if status // 100 == 3:
            self.send_header("Location", content.decode())
        self.end_headers()
        if status // 100 == 2:
            try:
                self.wfile.write(content)
            except ConnectionError:  # who has read enough
                self.server.left_early = True

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Server(ThreadingHTTPServer):
    answers: dict[str, tuple[int, bytes]]
    left_early = False


@pytest.fixture
def site() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Site) as server:
        server.answers = {"/robots.txt": (200, BLOG)}
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def run(*words: str, code: int = 0) -> str:
    program = "from supervisor_py.crawlers.robots_cli import main; main()"
    command = [sys.executable, "-c", program, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    return done.stderr if code else done.stdout


def host(site: Server) -> str:
    return f"http://127.0.0.1:{site.server_port}"


def test_the_group_that_a_crawler_really_obeys_is_explained(site: Server) -> None:
    assert run("explain", host(site), "--agent=Applebot", "/google/1").splitlines() == [
        "Applebot may not fetch /google/1",
        "  no group names Applebot",
        "  so it obeys the group of Googlebot (line 1), as its operator says",
        "  line 2 decides: Disallow: /google/ (the longest rule that matches wins)",
        f"robots.txt: {host(site)}/robots.txt",
        "see https://support.apple.com/119829",
    ]


def test_a_file_is_explained_without_a_host(tmp_path: Path) -> None:
    (tmp_path / "robots.txt").write_bytes(BLOG)
    file = f"--file={tmp_path}/robots.txt"
    found = json.loads(run("explain", file, "--agent", "bingbot", "/all/1", "--json"))
    assert (found["allowed"], found["group"], found["rule_line"]) == (False, "*", 4)
    assert json.loads(run("explain", file, "--agent", "bingbot", "--json"))["path"] == "/"


@pytest.mark.parametrize(
    ("status", "verdict", "section"),
    [
        (404, "may fetch", "2.3.1.3"),
        (403, "may fetch", "2.3.1.3"),
        (503, "may not fetch", "2.3.1.4"),
    ],
)
def test_an_answer_without_a_file_has_the_meaning_that_crawlers_give_it(
    site: Server, status: int, verdict: str, section: str
) -> None:
    site.answers["/robots.txt"] = (status, b"")
    told = run("explain", host(site), "--agent=x", "/google/1")
    assert told.startswith(f"x {verdict} /google/1\n")
    assert f"answered with {status}" in told
    assert section in told


def test_a_few_redirects_are_followed_and_not_for_ever(site: Server) -> None:
    site.answers |= {
        "/robots.txt": (301, b"/1"), "/1": (302, b"/2"), "/2": (307, b"/3"), "/3": (200, BLOG),
    }  # fmt: skip
    told = run("explain", host(site), "--agent=Googlebot", "/google/1")
    assert told.startswith("Googlebot may not fetch")
    assert f"robots.txt: {host(site)}/3" in told
    site.answers["/3"] = (302, b"/1")
    assert "is sent on (302) too often" in run(
        "explain", host(site), "--agent=Googlebot", "/google/1"
    )


@pytest.mark.parametrize("place", [b"file:///etc/passwd", b"ftp://127.0.0.1/x", b"gopher://x/"])
def test_no_redirect_leads_out_of_http(site: Server, place: bytes) -> None:
    site.answers["/robots.txt"] = (302, place)
    told = run("explain", host(site), "--agent=x")
    assert "is sent on (302) too often, or to what is neither http nor https" in told


def test_no_more_is_read_than_crawlers_look_at(site: Server) -> None:
    site.answers["/robots.txt"] = (200, BLOG + b"#" * (50 << 20))
    told = run("explain", host(site), "--agent=Googlebot", "/google/1")
    assert told.startswith("Googlebot may not fetch")
    assert "only the first 500 KiB count" in told
    assert site.left_early


def test_what_a_robots_txt_has_in_it_does_nothing_to_a_terminal(site: Server) -> None:
    site.answers["/robots.txt"] = (200, "User-agent: *\nDisallow: /*\x1b[2J\u202e\n".encode())
    told = run("explain", host(site), "--agent=x", "/\x1b[2J\u202e")
    assert told.startswith("x may not fetch /\\x1b[2J\\u{202e}\n")
    assert told.replace("\n", "").isprintable()
    assert told.isascii()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "nothing is not allowed: explain"),
        (("tell", "x"), "tell is not allowed: explain"),
        (("explain", "--agent=x"), "no host given"),
        (("explain", "h"), "no --agent given"),
        (("explain", "h", "a/b", "--agent=x"), "a/b is not allowed: a path, which begins with /"),
        (("explain", "h", "/a", "/b", "--agent=x"), "/b is not allowed: one path"),
        (("explain", "h", "--agent=Mozilla/5.0 (x)"), "not a whole User-Agent"),
        (("explain", "ftp://h", "--agent=x"), "ftp://h is not allowed: a host"),
        (("explain", "file:///etc/passwd", "--agent=x"), "file:///etc/passwd is not allowed"),
        (("explain", "u:p@h", "--agent=x"), "u:p@h is not allowed"),
        (("explain", "h/a", "--agent=x"), "h/a is not allowed"),
        (("explain", "h:x", "--agent=x"), "h:x is not allowed"),
        (("explain", "h h", "--agent=x"), "h h is not allowed"),
        (("explain", "--file=no/such", "--agent=x"), "no/such: No such file or directory"),
        (("explain", "http://127.0.0.1:1", "--agent=x"), "could not be fetched: [Errno 111]"),
    ],
)
def test_wrong_words_are_refused_with_what_is_allowed(words: tuple[str, ...], message: str) -> None:
    assert message in run(*words, code=1)
