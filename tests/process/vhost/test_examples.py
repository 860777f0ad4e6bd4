"""The examples as a newcomer runs them: under start_server, from a copy of the folder."""

import contextlib
import html
import http.client
import re
import shutil
import signal
import sqlite3
import subprocess
import threading
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest

from .harness import COMMAND, EXAMPLES, Connection, free_port, get, start_server, wait_until

BLOG = "blog.localhost"
MOTD = "motd.localhost"


def answers(port: int, host: str, generation: str) -> bool:
    with contextlib.suppress(OSError, http.client.HTTPException):
        return get(port, host, "/healthz").headers["X-Generation"] == generation
    return False


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = tmp_path_factory.mktemp("checkout") / "examples"
    shutil.copytree(EXAMPLES, copy, ignore=shutil.ignore_patterns("*.sqlite3*"))
    return copy


@pytest.fixture(scope="module")
def port(folder: Path) -> Iterator[int]:
    number = free_port()
    with start_server(number, folder, *COMMAND, "pool.toml"):
        wait_until(lambda: answers(number, BLOG, "1"))
        yield number


def post(port: int, headline: str, text: str) -> http.client.HTTPResponse:
    with contextlib.closing(Connection(port)) as connection:
        form = urllib.parse.urlencode({"headline": headline, "text": text})
        headers = {"Host": BLOG, "Content-Type": "application/x-www-form-urlencoded"}
        connection.request("POST", "/posts", form, headers)
        response = connection.getresponse()
        response.read()
        return response


def page(port: int) -> str:
    return html.unescape(get(port, BLOG).body.decode())


def test_the_blog_loses_no_post_of_many_at_once_on_a_fresh_database(
    port: int, folder: Path
) -> None:
    statuses: list[int] = []

    def write(writer: int) -> None:
        for number in range(5):
            statuses.append(post(port, f"post {writer}.{number}", "text").status)

    writers = [threading.Thread(target=write, args=(writer,)) for writer in range(10)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert statuses == [303] * 50
    assert get(port, BLOG, "/healthz").body == b"ok, 50 posts\n"
    with contextlib.closing(sqlite3.connect(folder / "blog.sqlite3")) as database:
        assert database.execute("pragma journal_mode").fetchone() == ("wal",)


def test_the_blog_shows_its_title_its_newest_posts_and_who_serves(port: int) -> None:
    answer = post(port, "Hello <b>", "a text & more")
    assert (answer.status, answer.headers["Location"]) == (303, "/")
    raw = get(port, BLOG)
    assert b"Hello &lt;b&gt;" in raw.body
    shown = page(port)
    assert "<h1>A blog</h1>" in shown
    assert re.search(r"<h2>Hello <b></h2>.*a text & more", shown, re.DOTALL)
    assert re.search(r"Generation 1, process \d+", shown)
    assert raw.headers["X-Generation"] == "1"


@pytest.mark.parametrize(
    ("headline", "text"), [("", "text"), (" ", "text"), ("title", ""), ("a" * 201, "text")]
)
def test_the_blog_refuses_an_empty_or_overlong_post(port: int, headline: str, text: str) -> None:
    before = get(port, BLOG, "/healthz").body
    assert post(port, headline, text).status == 400
    assert get(port, BLOG, "/healthz").body == before


def test_the_motd_reads_a_file_of_its_directory_in_each_request(port: int, folder: Path) -> None:
    reply = get(port, MOTD)
    assert reply.body.decode().strip() in (folder / "motd" / "quotes.txt").read_text()
    assert reply.headers["X-Directory"] == str(folder / "motd")
    (folder / "motd" / "quotes.txt").write_text("a new one\n")
    assert get(port, MOTD).body == b"a new one\n"


def test_the_motd_streams_slowly_within_limits(port: int, folder: Path) -> None:
    began = time.monotonic()
    lines = get(port, MOTD, "/slow?seconds=0.5").body.decode().splitlines()
    assert time.monotonic() - began >= 0.5
    assert len(lines) > 3
    assert all(f"left in {folder}/motd, quotes.txt has" in line for line in lines[:-1])
    assert lines[-1] == "done"
    for wrong in ("31", "-1", "nan", "soon"):
        assert get(port, MOTD, f"/slow?seconds={wrong}").status == 400
    assert get(port, MOTD, "/none").status == 404


def test_a_hup_brings_a_second_generation(folder: Path) -> None:
    port = free_port()
    with start_server(port, folder, *COMMAND, "pool.toml") as server:
        wait_until(lambda: answers(port, MOTD, "1"))
        server.send_signal(signal.SIGHUP)
        wait_until(lambda: answers(port, MOTD, "2"))


def test_the_clock_runs_under_start_server(folder: Path) -> None:
    port = free_port()
    with start_server(port, folder, "node", "clock/server.js"):
        wait_until(lambda: answers(port, "clock.localhost", "1"))
        time_line, who = get(port, "clock.localhost").body.decode().splitlines()
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", time_line)
        assert re.fullmatch(r"generation 1, process \d+", who)
        assert get(port, "clock.localhost", "/slow?seconds=31").status == 400


def test_the_clock_that_ends_closes_no_connection_that_was_answered_just_now(folder: Path) -> None:
    """As long as it is idle for less than the time that its clients are told."""
    port = free_port()
    with (
        start_server(port, folder, "node", "clock/server.js") as server,
        contextlib.closing(Connection(port)) as kept,
        contextlib.closing(Connection(port)) as silent,
    ):
        wait_until(lambda: answers(port, "clock.localhost", "1"))
        silent.connect()
        kept.request("GET", "/slow?seconds=4", headers={"Host": "clock.localhost"})
        response = kept.getresponse()  # its head, which promises to keep the connection
        assert response.headers["Keep-Alive"] == "timeout=5"
        server.send_signal(signal.SIGHUP)
        assert response.read().endswith(b"done\n")
        time.sleep(2)  # idle for less than the time that it was promised
        answer = kept.ask("clock.localhost")
        assert (answer.status, answer.headers["Connection"]) == (200, "close")
        assert answer.headers["X-Generation"] == "1"
        assert silent.sock.recv(1) == b"", "who has never asked is not waited for"


def test_the_clock_says_what_it_needs() -> None:
    done = subprocess.run(
        ["node", EXAMPLES / "clock" / "server.js"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "run it as start_server --port=8080 -- node server.js" in done.stderr
