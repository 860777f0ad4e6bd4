"""What crawlers are told, and who is limited: by real requests, and names of a real DNS server."""

from __future__ import annotations

import json
import platform
import shlex
import subprocess
import sys
import time

import pytest
import yaml

from shared.inventory import REPOSITORY, Inventory
from shared.vps import Vps

DEFAULTS = yaml.safe_load((REPOSITORY / "roles/crawlers/defaults/main.yml").read_text())
MACHINE = "kechi-crawlers-debian13"
LOG = "/var/log/nginx/kechi-access.log"
LIMITS = "kechi-crawler-limits.service"
MAP = "/etc/nginx/kechi.d/limited/crawlers.map"
REPORTS = "/var/lib/kechi-crawlers/reports"
GOOGLEBOT = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
CHROME = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/142.0.0.0 Safari/537.36"
FIREFOX = 'Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0 "quoted"'
VERIFIED, IMPOSTOR, FRIEND = "66.249.66.1", "198.51.100.7", "198.51.100.99"
UNDECLARED, PERSON = "203.0.113.9", "203.0.113.5"
NAMES = {
    VERIFIED: "crawl-66-249-66-1.googlebot.com",
    IMPOSTOR: "host7.isp.example",
    FRIEND: "host99.isp.example",
    UNDECLARED: "host9.isp.example",
    PERSON: "host5.isp.example",
}
# what each has done, by its truth
VISITS = {
    (VERIFIED, GOOGLEBOT): ["/robots.txt", *[f"/page/{number}" for number in range(20)]],
    (IMPOSTOR, GOOGLEBOT): [f"/page/{number}" for number in range(9)],
    (FRIEND, GOOGLEBOT): [f"/page/{number}" for number in range(8)],
    (UNDECLARED, FIREFOX): ["/robots.txt", "/a", "/b", "/c"],
    (PERSON, CHROME): ["/", "/style.css", "/a"],
    (IMPOSTOR, CHROME): ["/", "/style.css"],  # a person, at the impostor's address
}
LIMITED = {(IMPOSTOR, GOOGLEBOT), (UNDECLARED, FIREFOX)}
ASK = """
import http.client, json, sys
for address, agent, path, times in json.load(sys.stdin):
    said = []
    for _ in range(times):
        visitor = http.client.HTTPConnection("127.0.0.1", 80, source_address=(address, 0))
        visitor.request("GET", path, headers={"Host": "motd.example", "User-Agent": agent})
        said.append(visitor.getresponse().status)
        visitor.close()
    print(json.dumps(said))
"""


@pytest.fixture
def inventory():
    changed = Inventory(MACHINE, "crawlers")
    yield changed
    changed.restore()


@pytest.fixture(scope="module", autouse=True)
def world(node):
    """The DNS, the visitors' addresses, and a log of what they have done."""
    host = node(MACHINE)
    records = " ".join(f"--host-record={name},{address}" for address, name in NAMES.items())
    local = "--no-resolv --no-hosts --local=/example/ --local=/googlebot.com/"
    host.run("systemctl stop test-dns.service")  # of a run before on the same machine
    host.check_output(
        "systemd-run --quiet --collect --unit=test-dns dnsmasq --keep-in-foreground --port=5353"
        f" --listen-address=127.0.0.1 --bind-interfaces --user=root {local} {records}"
    )
    for address in NAMES:
        host.check_output(f"ip address replace {address}/32 dev lo")
    now = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(time.time() - 60))
    lines = [
        json.dumps(
            {
                "time": now, "host": "motd.example", "address": address, "method": "GET",
                "uri": path, "protocol": "HTTP/1.1", "status": 200, "bytes": 9, "seconds": 0.1,
                "app_seconds": "0.1", "referer": "", "agent": agent,
            }
        )
        for (address, agent), paths in VISITS.items()
        for path in paths
    ]  # fmt: skip
    write(host, LOG, "\n".join([*lines, ""]), append=True)


def write(host, path, text, *, append=False):
    """Write into a file that is there as it is, owner and all."""
    mode = "a" if append else "w"
    script = f"import sys; open({path!r}, {mode!r}).write(sys.stdin.read())"
    feed(host, script, text)


def feed(host, script, text):
    """Run Python on the machine, with something to read."""
    done = host.run(f"printf %s {shlex.quote(text)} | python3 -c {shlex.quote(script)}")
    assert done.rc == 0, done.stderr
    return done.stdout


def statuses(host, times=4, path="/"):
    """What each visitor is answered, one request after the other."""
    asked = [(address, agent, path, times) for address, agent in VISITS]
    said = feed(host, ASK, json.dumps(asked)).splitlines()
    return {client: json.loads(line) for client, line in zip(VISITS, said, strict=True)}


def limited(host, **words):
    """Who has been refused, and not everything."""
    found = statuses(host, **words)
    assert {status for said in found.values() for status in said} <= {200, 429}
    return {client for client, said in found.items() if 429 in said}


def wait_until_limited(host, clients):
    """Until the workers that nginx has started last are the ones that answer."""
    Vps.wait_until(lambda: limited(host) == clients, f"limited are {clients}")


def group_of_applebot(host):
    file = "--file=/var/lib/kechi/robots/motd.example.txt"
    said = host.check_output(f"robots explain {file} --agent=Applebot /google --json")
    return json.loads(said)["group"]


def apply(host):
    host.check_output(f"systemctl start {LIMITS}")


def test_robots_txt_is_served_while_its_app_sleeps_on(vps):
    vps.wait_until_asleep("main", "sleeper")
    for name in ("sleeper.example", "any.sleeper.example"):
        answer = vps.get(name, "/robots.txt")
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
        assert answer.text == (
            "# by the role kechi.vps.crawlers\n"
            "User-agent: *\nDisallow: /private\nCrawl-delay: 10\n\n"
            "User-agent: Applebot-Extended\nUser-agent: Google-Extended\nUser-agent: GPTBot\n"
            "User-agent: ClaudeBot\nUser-agent: meta-externalagent\n"
            "User-agent: MistralAI-Training\nDisallow: /\n\n"
            "Sitemap: https://sleeper.example/sitemap.xml\n"
        )
    assert "kechi:sleeper" not in vps.commands("main")
    assert vps.get("sleeper.example", "/").status == 200
    assert "kechi:sleeper" in vps.commands("main"), "the test would have seen it wake"


def test_each_host_has_its_own_and_one_without_a_policy_asks_its_app(vps):
    assert "Disallow: /google" in vps.get("motd.example", "/robots.txt").text
    for name in ("www.motd.example", "free.example"):
        assert "kechi.vps.crawlers" not in vps.get(name, "/robots.txt").text
    assert vps.get("motd.example", "/.kechi-robots").status == 404, "is not asked for by its name"


def test_robots_explains_what_is_served(host):
    assert group_of_applebot(host) == "Googlebot"


def test_an_impostor_and_an_undeclared_bot_are_limited_and_nobody_else(host):
    host.check_output("kechi-crawler-limits clear")  # of a run before on the same machine
    assert limited(host) == set(), "before the report nobody is"
    apply(host)
    wait_until_limited(host, LIMITED)
    assert limited(host, path="/robots.txt") == set(), "nginx alone answers that"


def test_the_same_clients_again_change_nothing(host):
    apply(host)
    before = host.check_output(f"stat --format=%Y.%i {MAP}")
    reloaded = "systemctl show --property=StateChangeTimestampMonotonic nginx"
    since = host.check_output(reloaded)
    apply(host)
    assert host.check_output(f"stat --format=%Y.%i {MAP}") == before
    assert host.check_output(reloaded) == since


def test_a_map_that_nginx_refuses_is_put_back(host):
    before = host.file(MAP).content_string
    broken = "/etc/nginx/conf.d/zz-broken.conf"
    host.check_output(f"kechi-crawler-limits clear && echo nonsense >{broken}")
    try:
        empty = host.file(MAP).content_string
        done = host.run(f"systemctl start {LIMITS}")
        assert done.rc != 0
        assert host.file(MAP).content_string == empty
        journal = host.check_output("journalctl --no-pager -o cat -u kechi-crawler-limits -n 20")
        assert "nginx does not take the new map, which was put back" in journal
        assert host.service("nginx").is_running
    finally:
        host.check_output(f"rm {broken}")
    apply(host)
    assert host.file(MAP).content_string == before


def test_nobody_is_limited_once_it_is_cleared(host):
    host.check_output("kechi-crawler-limits clear")
    wait_until_limited(host, set())


def test_a_report_is_written_with_everybody_in_his_group(host):
    host.check_output("systemctl start kechi-crawler-report.service")
    (page,) = host.check_output(f"ls {REPORTS}/*.html").splitlines()
    assert "Visitors" in host.file(page).content_string
    assert host.file(page).mode == 0o640
    found = json.loads(host.check_output(f"cat {REPORTS}/*.json"))
    groups = {(one["address"], one["agent"]): one["group"] for one in found["clients"]}
    assert groups[VERIFIED, GOOGLEBOT] == "verified"
    assert groups[IMPOSTOR, GOOGLEBOT] == "impostor"
    assert groups[UNDECLARED, FIREFOX] == "undeclared"
    assert (PERSON, CHROME) not in groups
    site = next(one for one in found["sites"] if one["vhost"] == "motd.example")
    assert site["figures"]["rules_broken"] == 0, "its robots.txt is known"


def test_it_runs_by_itself_small_and_locked_in(host):
    for name in ("kechi-crawler-report", "kechi-crawler-limits"):
        assert host.service(f"{name}.timer").is_running
        assert host.service(f"{name}.timer").is_enabled
        said = host.check_output(f"systemd-analyze security --no-pager {name}.service | tail -1")
        assert float(said.split(": ")[1].split()[0]) < 3.0, said
        show = f"systemctl show --value --property=MemoryMax,User {name}.service"
        assert sorted(host.check_output(show).split()) == ["167772160", "crawler-report"]


def test_other_requirements_come_from_a_wheel_house_alone_and_old_virtualenvs_go(
    host, inventory, tmp_path
):
    folder, old, house = "/var/lib/kechi/crawlers/venvs", "0" * 12, tmp_path / "house"
    interpreter = "head -1 /usr/local/bin/crawler_report"
    before = host.check_output(interpreter)
    host.check_output(f"mkdir {folder}/{old} && touch --date=2020-01-01 {folder}/{old}")
    wanted = [*DEFAULTS["crawlers_requirements"], "six==1.17.0"]
    # the house need not be of this machine's Python
    of_it = ["--python-version=3.13", f"--platform=manylinux2014_{platform.machine()}"]
    download = ["download", "--quiet", "--only-binary=:all:", *of_it, f"--dest={house}"]
    subprocess.run([sys.executable, "-m", "pip", *download, *wanted], check=True)
    host.check_output("touch /etc/pip.conf && mv /etc/pip.conf /etc/pip.conf.away")
    host.check_output("printf '[global]\\nindex-url = http://127.0.0.1:9/\\n' >/etc/pip.conf")
    try:
        inventory.apply(crawlers_requirements=wanted, crawlers_wheel_house=str(house))
    finally:
        host.check_output("mv /etc/pip.conf.away /etc/pip.conf")
    assert host.check_output(interpreter) != before
    assert group_of_applebot(host) == "Googlebot"
    assert len(host.check_output(f"ls {folder}").split()) == 2
    assert not host.file(f"{folder}/{old}").exists
    inventory.restore()
    assert host.check_output(interpreter) == before


def test_switched_off_all_of_it_goes_and_comes_back(host, inventory, vps):
    apply(host)
    wait_until_limited(host, LIMITED)
    services = ("kechi-crawler-report.service", "kechi-crawler-limits.service")
    for service in services:  # both are under way, and do not end by themselves
        drop_in = f"/run/systemd/system/{service}.d"
        endless = "[Service]\\nExecStart=\\nExecStart=/bin/sleep infinity\\n"
        host.check_output(f"mkdir -p {drop_in} && printf '{endless}' > {drop_in}/endless.conf")
        host.check_output(f"systemctl daemon-reload && systemctl start --no-block {service}")
    inventory.apply(crawlers_limit_groups=[], crawlers_report_enabled=False, crawlers_robots=[])
    for service in services:
        show = f"systemctl show --value --property=ActiveState {service}"
        assert host.check_output(show) == "inactive", "it was ended, and has not failed"
        host.check_output(f"rm -r /run/systemd/system/{service}.d")
    host.check_output("systemctl daemon-reload")
    wait_until_limited(host, set())
    assert "kechi.vps.crawlers" not in vps.get("sleeper.example", "/robots.txt").text
    left = "ls /etc/systemd/system /etc/nginx/conf.d /etc/nginx/kechi.d/* /var/lib/kechi/robots"
    assert "crawler" not in host.check_output(left)
    assert ".txt" not in host.check_output("ls /var/lib/kechi/robots")
    assert not host.service("kechi-crawler-limits.timer").is_running
    said = inventory.apply(
        crawlers_limit_groups=[], crawlers_report_enabled=False, crawlers_robots=[]
    )
    assert "changed=0" in said


def test_a_policy_for_a_host_that_nobody_has_is_refused(host, inventory):
    said = inventory.refuse(crawlers_robots=[{"hosts": ["moved.example"], "disallow": ["/"]}])
    assert host.file("/run/kechi/locks/play").size == 0, "no play has the machine any more"
    assert 'crawlers_robots[0].hosts[0]: "moved.example" is no site\'s host; allowed: ' in said
