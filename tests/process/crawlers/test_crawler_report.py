"""crawler_report as it is run, with a DNS server of ours on loopback."""

import gzip
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks import access_log
from supervisor_py.crawlers import names
from supervisor_py.crawlers.cache import KEPT_SECONDS, Cache
from supervisor_py.crawlers.names import Names, Server

from .dns_server import BROKEN, SILENT, DnsServer

GOOGLEBOT = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
CHROME = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/142.0.0.0 Safari/537.36"
REVERSE: dict[str, str | list[str]] = {
    "192.0.2.1": "crawl-192-0-2-1.googlebot.com",
    "192.0.2.2": "crawl-192-0-2-1.googlebot.com",  # says so, and is another address
    "192.0.2.3": "host.example",
    "192.0.2.5": "Target.MicroAd.JP",
    "192.0.2.6": SILENT,
    "192.0.2.7": BROKEN,
    "192.0.2.8": ["other.example", "crawl-192-0-2-8.googlebot.com"],
    "192.0.2.9": "gone.googlebot.com",
    "192.0.2.10": "198-51-100-10.isp.example",
    "2001:db8::1": "six.googlebot.com",
}
FORWARD: dict[str, str | list[str]] = {
    "crawl-192-0-2-1.googlebot.com": ["198.51.100.1", "192.0.2.1"],
    "host.example": "192.0.2.3",
    "target.microad.jp": "192.0.2.5",
    "other.example": "198.51.100.8",
    "crawl-192-0-2-8.googlebot.com": "192.0.2.8",
    "six.googlebot.com": "2001:db8::1",
}


@pytest.fixture
def server() -> Iterator[DnsServer]:
    with DnsServer(REVERSE, FORWARD) as one:
        yield one


def line(address: str, agent: str, path: str = "/", vhost: str = "example.org") -> str:
    return (
        f'{vhost} {address} - - [25/Nov/2026:12:00:00 +0000] "GET {path} HTTP/1.1" 200 5'
        f' "-" "{agent}"\n'
    )


def run(
    directory: Path, *words: str, code: int = 0, input_: bytes | None = None
) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-c", "from supervisor_py.crawlers.cli import main; main()", *words]
    environ = os.environ | {"XDG_CACHE_HOME": str(directory / "cache")}
    done = subprocess.run(
        command, capture_output=True, check=False, cwd=directory, env=environ, input=input_
    )
    assert done.returncode == code, done.stderr.decode()
    return done


def report(directory: Path, *words: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(directory, "--json", *words).stdout)
    return found


def groups(found: dict[str, Any]) -> dict[str, str]:
    return {one["address"]: one["group"] for one in found["clients"]}


def test_who_claims_to_be_a_crawler_is_checked_by_the_names_of_his_address(
    tmp_path: Path, server: DnsServer
) -> None:
    addresses = [*REVERSE, "192.0.2.4"]
    (tmp_path / "log").write_text("".join(line(address, GOOGLEBOT) for address in addresses))
    found = report(tmp_path, f"--resolver=127.0.0.1:{server.port}", "log")
    assert groups(found) == {
        "192.0.2.1": "verified",
        "192.0.2.2": "impostor",
        "192.0.2.3": "impostor",
        "192.0.2.4": "impostor",
        "192.0.2.5": "impostor",
        "192.0.2.6": "unverified",
        "192.0.2.7": "unverified",
        "192.0.2.8": "verified",
        "192.0.2.9": "impostor",
        "192.0.2.10": "impostor",
        "2001:db8::1": "verified",
    }


def test_a_browser_that_only_its_name_gives_away_is_an_undeclared_bot(
    tmp_path: Path, server: DnsServer
) -> None:
    resolver = f"--resolver=127.0.0.1:{server.port}"
    busy = "".join(line(one, CHROME, "/a.css") for one in ("192.0.2.5", "192.0.2.10")) * 10
    (tmp_path / "log").write_text(busy + line("192.0.2.3", CHROME))
    (client,) = report(tmp_path, resolver, "log")["clients"]
    assert client["address"] == "192.0.2.5"
    assert client["address_names"] == ["target.microad.jp"]
    assert client["name"] == "MicroAd, an advertising network"
    asked = {name for name, _ in server.asked}
    assert "3.2.0.192.in-addr.arpa." not in asked, "a person with one request is left alone"


def test_names_are_kept_on_disk_and_offline_only_those_are_known(
    tmp_path: Path, server: DnsServer
) -> None:
    (tmp_path / "log").write_text(line("192.0.2.1", GOOGLEBOT) + line("192.0.2.6", GOOGLEBOT))
    resolver = f"--resolver=127.0.0.1:{server.port}"
    assert groups(report(tmp_path, "--offline", resolver, "log")) == {
        "192.0.2.1": "unverified", "192.0.2.6": "unverified",
    }  # fmt: skip
    assert server.asked == [], "offline"
    report(tmp_path, resolver, "log")
    server.asked.clear()
    assert groups(report(tmp_path, "--offline", resolver, "log"))["192.0.2.1"] == "verified"
    assert server.asked == []
    report(tmp_path, resolver, "log")
    assert {name for name, _ in server.asked} == {"6.2.0.192.in-addr.arpa."}, "not learnt is asked"


def test_what_is_kept_expires(tmp_path: Path) -> None:
    file = tmp_path / "cache" / "names"
    cache = Cache(file)
    cache.put("192.0.2.1", (("a.example",), ()), now=1000.0)
    cache.put("192.0.2.2", ((), ()), now=1000.0)
    cache.close(1000.0)
    for now, known in ((1001.0, True), (1000.0 + KEPT_SECONDS, False), (500.0, False)):
        again = Cache(file)
        assert again.get("192.0.2.1", now) == ((("a.example",), ()) if known else None), now
        again.close(1000.0)
    assert Cache(file).get("192.0.2.2", 1000.0 + 2 * 86400) is None, "nameless: for a day"


def test_a_cache_that_cant_be_used_is_told_and_done_without(
    tmp_path: Path, server: DnsServer
) -> None:
    (tmp_path / "broken").write_bytes(b"no database" * 100)
    (tmp_path / "log").write_text(line("192.0.2.1", GOOGLEBOT))
    done = run(tmp_path, "--json", f"--resolver=127.0.0.1:{server.port}", "--cache=broken", "log")
    assert b"broken: not used as a cache: file is not a database" in done.stderr
    assert groups(json.loads(done.stdout)) == {"192.0.2.1": "verified"}
    assert (tmp_path / "broken").read_bytes() == b"no database" * 100


def test_silent_servers_take_no_more_time_than_they_are_given() -> None:
    many = [f"198.51.{third}.{fourth}" for third in range(4) for fourth in range(256)]
    with DnsServer(dict.fromkeys(many, SILENT), {}) as server:
        began = time.monotonic()
        found = names.look_up(many, Cache(None), Server("127.0.0.1", server.port), 1.0)
        # the promise is one second for all, and not for each
        assert time.monotonic() - began < 10
    assert found == dict.fromkeys(many)


def test_no_more_addresses_are_looked_up_than_asked_for(tmp_path: Path, server: DnsServer) -> None:
    lines = line("192.0.2.1", GOOGLEBOT) * 2 + line("192.0.2.3", GOOGLEBOT)
    (tmp_path / "log").write_text(lines)
    found = report(tmp_path, f"--resolver=127.0.0.1:{server.port}", "--lookups=1", "log")
    assert groups(found) == {"192.0.2.1": "verified", "192.0.2.3": "unverified"}


def test_a_generated_log_is_told_as_it_was_made(tmp_path: Path) -> None:
    made = list(access_log.requests(4000))
    half = len(made) // 2
    (tmp_path / "a.json").write_text("".join(map(access_log.as_json, made[:half])))
    packed = "".join(map(access_log.as_json, made[half:])).encode()
    (tmp_path / "b.json.gz").write_bytes(gzip.compress(packed))
    called = {one.address: access_log.name(one.address, one.kind) for one in made}
    reverse = {address: name for address, name in called.items() if name}
    with DnsServer(reverse, {name: address for address, name in reverse.items()}) as server:
        found = report(tmp_path, f"--resolver=127.0.0.1:{server.port}", "a.json", "b.json.gz")
    assert found["lines"] == 4000
    assert found["unread_lines"] == 0
    wanted: dict[str, int] = {}
    for one in made:
        group = access_log.GROUPS[one.kind]
        wanted[group] = wanted.get(group, 0) + 1
    assert {one["group"]: one["figures"]["requests"] for one in found["groups"]} == wanted
    seconds = sum(one.app_seconds or 0 for one in made)
    told = sum(one["figures"]["app_seconds"] for one in found["groups"])
    assert told == pytest.approx(seconds, abs=0.01)
    sites = {one["vhost"]: one["figures"]["requests"] for one in found["sites"]}
    assert sites == {
        vhost: sum(one.vhost == vhost for one in made) for vhost in {one.vhost for one in made}
    }
    read_robots = {
        one["group"]: one["figures"]["robots_txt_fetched"] > 0 for one in found["groups"]
    }
    assert read_robots["verified"]
    assert not read_robots["person"]


def test_rules_broken_are_those_of_the_group_that_the_crawler_obeys(tmp_path: Path) -> None:
    (tmp_path / "robots").mkdir()
    (tmp_path / "robots" / "Example.org.txt").write_text(
        "User-agent: Googlebot\nDisallow: /g/\nUser-agent: *\nDisallow: /all/\n"
    )
    paths = ("/g/1", "/all/1", "/")
    applebot = "Mozilla/5.0 (Macintosh) (Applebot/0.1)"
    agents = {"Applebot": applebot, "DotBot": "DotBot/1.2", "": CHROME}
    log = "".join(line("17.22.237.1", agent, path) for agent in agents.values() for path in paths)
    (tmp_path / "log").write_text(log + line("192.0.2.1", applebot, "/g/", vhost="other.example"))
    found = report(tmp_path, "--offline", "--robots=robots", "log")
    sites = {site["vhost"]: site for site in found["sites"]}
    broken = {
        named["name"]: named["figures"]["rules_broken"]
        for group in sites["example.org"]["groups"]
        for named in group["names"]
    }
    assert broken == {"Applebot": 1, "DotBot": 1, "": None}
    assert sites["other.example"]["figures"]["rules_broken"] is None


def test_since_leaves_out_what_is_older(tmp_path: Path) -> None:
    (tmp_path / "log").write_text(
        line("192.0.2.3", CHROME).replace("25/", "24/") + line("a", CHROME)
    )
    found = report(tmp_path, "--offline", "--since=2026-11-25", "log")
    assert (found["lines"], found["older_lines"]) == (2, 1)
    assert found["groups"][0]["figures"]["requests"] == 1


def test_a_log_comes_from_a_pipe_too_and_a_line_without_end_takes_no_memory(
    tmp_path: Path,
) -> None:
    endless = b"x" * (1 << 20)
    log = line("192.0.2.3", CHROME).encode() + endless + b"\n" + line("b", CHROME).encode()
    for data in (log, gzip.compress(log)):
        done = run(tmp_path, "--offline", "--json", "-", input_=data)
        found = json.loads(done.stdout)
        assert (found["lines"], found["unread_lines"]) == (3, 1)
        assert done.stderr == b"", "a bar is for terminals"


def test_a_progress_bar_is_shown_where_it_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "log").write_text(line("192.0.2.3", CHROME))
    assert b"%" in run(tmp_path, "--offline", "--progress", "log").stderr


def test_a_damaged_file_is_told_and_all_else_reported(tmp_path: Path) -> None:
    (tmp_path / "a").write_text(line("192.0.2.3", CHROME))
    (tmp_path / "b.gz").write_bytes(gzip.compress(line("b", CHROME).encode() * 1000)[:-20])
    done = run(tmp_path, "--offline", "b.gz", "a", code=1)
    assert b"b.gz: is damaged" in done.stderr
    assert b"people" in done.stdout


def test_a_file_that_was_last_written_before_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "log.1").write_text(line("192.0.2.3", CHROME))
    (tmp_path / "log").write_text(line("192.0.2.4", CHROME))
    os.utime(tmp_path / "log.1", (1, 1))
    found = report(tmp_path, "--offline", "--since=2026-11-25", "log", "log.1")
    assert (found["lines"], found["older_lines"]) == (1, 0)


def test_several_files_are_written_each_as_its_name_ends(tmp_path: Path) -> None:
    (tmp_path / "log").write_text(line("192.0.2.3", CHROME))
    outputs = [f"--output=out.{ending}" for ending in ("html", "json", "txt")]
    assert run(tmp_path, "--offline", *outputs, "log").stdout == b""
    assert (tmp_path / "out.html").read_text().startswith("<!doctype html>")
    assert json.loads((tmp_path / "out.json").read_text())["lines"] == 1
    assert (tmp_path / "out.txt").read_text().startswith("1 requests from ")


def test_no_log_takes_much_memory(tmp_path: Path) -> None:
    """Each line another bot, on another host, with a long User-Agent of pictures."""
    (tmp_path / "robots").mkdir()
    (tmp_path / "robots" / "h0.example.txt").write_text("User-agent: *\nDisallow: /x\n" * 200)
    with (tmp_path / "log").open("w") as log:
        for number in range(45_000):
            agent = f"B{number}bot/1 {chr(0x1F600) * 300}"
            host = "h0.example" if number % 2 else f"h{number}.{'y' * 200}.example"
            address = f"198.18.{number >> 8 & 255}.{number & 255}"
            log.write(line(address, agent, f"/{number}/{'x' * 1500}", host))
    program = """
import re
from supervisor_py.crawlers import cli
try:
    cli.main()
except SystemExit as end:
    print(end.code, re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1])
"""
    words = ("--offline", "--cache=c", "--robots=robots", "--output=o.json", "--output=o.html")
    command = [sys.executable, "-c", program, *words, "log"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=True)
    code, peak_kb = map(int, done.stdout.split())
    assert code == 0
    assert peak_kb < 130_000


def test_a_report_in_a_file_is_replaced_whole(tmp_path: Path) -> None:
    (tmp_path / "log").write_text(line("192.0.2.3", CHROME))
    (tmp_path / "out.html").write_text("old")
    assert run(tmp_path, "--offline", "--html", "--output=out.html", "log").stdout == b""
    assert (tmp_path / "out.html").read_text().startswith("<!doctype html>")
    assert sorted(one.name for one in tmp_path.iterdir() if one.name != "cache") == [
        "log", "out.html",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "no access log given; try --help"),
        (["--since=soon", "log"], "--since=soon is not allowed: a span"),
        (["--json", "--html", "log"], "--json does not go with --html"),
        (["missing"], "missing: No such file or directory"),
        (["--resolver=dns.example", "log"], "--resolver=dns.example is not allowed: an address"),
        (["--resolver=127.0.0.1:0", "log"], "--resolver=127.0.0.1:0 is not allowed"),
        (["--ranges=Foo=x", "log"], "--ranges=Foo=x is not allowed: CRAWLER=FILE, with one of"),
        (["--ranges=GPTBot=log", "log"], "log: is no list of address ranges"),
        (["--robots=.", "log"], ".: has no VHOST.txt"),
        (["-", "-"], "- (standard input) can be read only once"),
        (["--output=no/where", "--offline", "log"], "no/where: No such file or directory"),
    ],
)
def test_wrong_words_are_refused_with_what_is_allowed(
    tmp_path: Path, words: list[str], message: str
) -> None:
    (tmp_path / "log").write_text(line("192.0.2.3", CHROME))
    assert message in run(tmp_path, *words, code=1).stderr.decode()


def test_ranges_that_the_administrator_fetched_prove_both_ways(tmp_path: Path) -> None:
    agent = "Mozilla/5.0 (compatible; GPTBot/1.3; +https://openai.com/gptbot)"
    (tmp_path / "log").write_text(line("198.51.100.7", agent) + line("192.0.2.3", agent))
    prefixes = [{"ipv4Prefix": "198.51.100.0/24"}, {"ipv6Prefix": "2001:db8::/32"}]
    document = {"creationTime": "2026-11-25T00:00:00", "prefixes": prefixes}
    (tmp_path / "gptbot.json").write_text(json.dumps(document))
    found = report(tmp_path, "--offline", "--ranges=gptbot=gptbot.json", "log")
    assert groups(found) == {"198.51.100.7": "verified", "192.0.2.3": "impostor"}


def test_names_of_one_address_are_bounded() -> None:
    many = [f"{number}.example" for number in range(100)]
    with DnsServer({"192.0.2.1": many}, dict.fromkeys(many, "192.0.2.1")) as server:
        found = names.look_up(["192.0.2.1"], Cache(None), Server("127.0.0.1", server.port), 20.0)
        assert len(server.asked) <= 6
    assert found["192.0.2.1"] is None or isinstance(found["192.0.2.1"], Names)
