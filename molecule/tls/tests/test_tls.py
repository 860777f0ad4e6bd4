"""A machine that is asked over TLS: before there is an ACME server, with one, and at a renewal.

The tests build on one another in this order: `trust` has the ACME server started.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import ssl
import time
from pathlib import Path

import pytest
from cryptography import x509

from harness.load import Target, TlsConnection, load
from shared.inventory import Inventory
from shared.vps import WAIT_SECONDS, Answer, Vps

NAMES = ("motd.example", "www.motd.example", "echo.example", "limited.example")
LOAD = [
    Target("new", "motd.example"),
    Target("new", "echo.example"),
    Target("keep-alive", "motd.example"),
    Target("keep-alive", "echo.example"),
    Target("slow", "motd.example", "/slow?seconds=3"),
]
TIMER = "/run/systemd/system/kechi-certificates.timer.d"
LATER = r"[Timer]\nOnBootSec=\nOnBootSec=1d\n"
YEAR = "max-age=31536000"
HSTS = "max-age=86400"


class Visitor(Vps):
    """Asks a machine over TLS; `tls` is where its port 443 is reached."""

    def __init__(self, host, address, tls):
        super().__init__(host, address)
        self.tls = tls

    def connect(self, name, context=None):
        return TlsConnection(self.tls, name, context or unverified())

    def ask(self, site, path="/", *, context=None, headers=None, **request):
        connection = self.connect(site, context)
        request = {"method": "GET", "headers": {"Host": site, **(headers or {})}, **request}
        try:
            connection.request(url=path, **request)
            response = connection.getresponse()
            text = response.read().decode("utf-8", "replace")
            return Answer(response.status, response.headers, text)
        finally:
            connection.close()

    def certificate(self, name):
        connection = self.connect(name)
        connection.connect()
        try:
            return x509.load_der_x509_certificate(connection.sock.getpeercert(binary_form=True))
        finally:
            connection.close()

    def reloads(self):
        """How often nginx has been reloaded."""
        journal = self.host.check_output("journalctl --no-pager --output=cat --unit=nginx.service")
        return journal.count("Reloaded nginx")


def unverified():
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def trusting(pem):
    context = ssl.create_default_context(cadata=pem)
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # which pebble's authority does not meet
    return context


@pytest.fixture
def vps(host, address):
    return Visitor(host, address(host), address(host, 443))


@pytest.fixture(scope="module")
def started():
    """The authorities of the ACME servers that have been started, by machine."""
    return {}


@pytest.fixture
def trust(host, started):
    """A context that trusts the ACME server's certificates alone; the sites have theirs."""
    name = host.backend.name
    if name not in started:
        # its first turn comes five minutes after the boot: among what the tests count, or not
        host.check_output(f"mkdir -p {TIMER} && printf '{LATER}' >{TIMER}/later.conf")
        host.check_output("systemctl daemon-reload && systemctl restart kechi-certificates.timer")
        host.check_output("systemctl start pebble.service")
        host.check_output("curl -sk --retry 20 --retry-connrefused https://localhost:14000/dir")
        host.check_output("systemctl start kechi-certificates.service")
        started[name] = host.check_output("curl -sk https://localhost:15000/roots/0")
    return trusting(started[name])


def test_without_an_acme_server_every_site_serves_self_signed(vps):
    for name in (*NAMES, "lost.example", "any.wild.example"):
        assert vps.ask(name, "/").status == 200
        certificate = vps.certificate(name)
        assert certificate.issuer == certificate.subject
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        asked = name if "wild" not in name else "*.wild.example"
        assert asked in names.get_values_for_type(x509.DNSName)


def test_it_says_why_a_site_has_no_certificate_and_tries_again_by_itself(host):
    said = host.run("kechi-certificates").stderr
    assert "motd.example, www.motd.example (motd) has no certificate yet and is self-sig" in said
    assert "the ACME server https://localhost:14000/dir can't be reached" in said
    assert "*.wild.example: served self-signed: a wildcard can't be had by HTTP-01" in said
    for timer in ("kechi-certificates", "certbot"):
        assert host.service(f"{timer}.timer").is_running
        assert host.service(f"{timer}.timer").is_enabled


def test_a_given_certificate_is_served_with_or_without_an_acme_server(vps, host):
    files = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / str(host.backend.name)
    context = trusting((files / "authority.pem").read_text())
    assert vps.ask("any.given.example", context=context).status == 200


def test_once_the_acme_server_answers_each_site_has_its_own_certificate(vps, host, trust):
    for name in NAMES:
        assert vps.ask(name, context=trust).status == 200
    assert vps.certificate("motd.example") == vps.certificate("www.motd.example")
    assert vps.certificate("motd.example") != vps.certificate("echo.example")
    with pytest.raises(ssl.SSLCertVerificationError):
        vps.ask("lost.example", context=trust)
    assert vps.ask("lost.example").status == 200
    journal = host.check_output("journalctl --no-pager --output=cat -u kechi-certificates.service")
    assert "lost.example (lost) has no certificate yet and is self-signed: the name do" in journal
    assert host.file("/etc/letsencrypt/live/kechi-lost").exists is False


def test_another_run_changes_and_orders_nothing(vps, host, trust):
    ordered = "journalctl --no-pager --output=cat -u pebble.service | grep -c 'POST /order-plz'"
    before = vps.certificate("motd.example"), vps.reloads(), host.check_output(ordered)
    said = Inventory(host.backend.name, "frontend").apply()
    assert "changed=0 " in said
    assert "lost.example (lost) has no certificate yet" in said
    after = vps.certificate("motd.example"), vps.reloads(), host.check_output(ordered)
    assert after == before


def test_status_tells_what_each_site_is_served_with_and_for_how_long(host):
    said = Inventory(host.backend.name).apply(playbook="status")
    for name, served in (("echo", "acme"), ("lost", "self-signed"), ("given", "given")):
        assert re.search(rf"{name} +{served} +\d+", said), said
    assert "site lost: is served self-signed" in said
    assert "site wild.any" not in said, "it is what is wanted"


def test_a_renewal_by_the_timers_service_is_served_and_no_request_fails(vps, host, trust):
    before = {name: vps.certificate(name) for name in NAMES}
    reloads = vps.reloads()
    due = "s/^# renew_before_expiry.*/renew_before_expiry = 3000 days/"
    host.check_output(f"sed -i '{due}' /etc/letsencrypt/renewal/kechi-*.conf")
    try:
        with load(vps.tls, LOAD, front_end_reloads=True, tls=trust) as report:
            host.check_output("systemctl start certbot.service")
            time.sleep(1)  # for requests to the new workers; nginx tells nobody that it has them
    finally:
        back = "s/^renew_before_expiry.*/# renew_before_expiry = 30 days/"
        host.check_output(f"sed -i '{back}' /etc/letsencrypt/renewal/kechi-*.conf")
    print(report)
    assert report.failures == [], str(report)
    for name, old in before.items():
        assert vps.certificate(name) != old, name
        assert vps.ask(name, context=trust).status == 200
    assert vps.reloads() == reloads + 1, "one reload for all that were renewed"


def test_a_reload_cuts_neither_an_upload_nor_an_answer_that_are_under_way(vps, host, trust):
    half = b"x" * 300_000
    upload = vps.connect("echo.example", trust)
    upload.putrequest("POST", "/", skip_host=True)
    upload.putheader("Host", "echo.example")
    upload.putheader("Content-Length", str(2 * len(half)))
    upload.endheaders(half)
    answer = vps.connect("motd.example", trust)
    answer.request("GET", "/slow?seconds=6", headers={"Host": "motd.example"})
    workers = "pgrep -f 'nginx: worker process$'"
    before = host.check_output(workers)
    host.check_output("systemctl reload nginx.service")
    vps.wait_until(lambda: host.run(workers).stdout.strip() not in ("", before), "new workers")
    time.sleep(1)  # the old ones have been told to end, and no event tells that they go on
    upload.send(half)
    said = json.loads(upload.getresponse().read())
    assert said["body"] == str(2 * len(half))
    assert answer.getresponse().read().endswith(b"done\n")


def test_plain_http_leads_to_https_but_for_the_acme_servers_questions(vps):
    answer = vps.get("motd.example", "/a?b=c")
    assert (answer.status, answer.headers["Location"]) == (301, "https://motd.example/a?b=c")
    assert vps.get("motd.example", "/.well-known/acme-challenge/none").status == 404


def test_http_2_is_spoken(vps, host):
    context = unverified()
    context.set_alpn_protocols(["h2", "http/1.1"])
    connection = vps.connect("echo.example", context)
    connection.connect()
    assert connection.sock.selected_alpn_protocol() == "h2"
    connection.close()
    asked = host.check_output("curl -sk --http2 -w ' %{http_version}' https://echo.example/a")
    text, version = asked.rsplit(" ", 1)
    assert version == "2"
    assert json.loads(text)["HTTP_HOST"] == "echo.example"


def test_an_unknown_host_is_refused_without_a_certificate_of_ours(vps):
    for name in ("other.example", "a.b.example"):
        with pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"):
            vps.certificate(name)
        assert vps.get(name).status == 421
    assert vps.ask("echo.example", headers={"Host": "other.example"}).status == 421
    assert vps.get("kechi-configuration.invalid").status == 421, "that is for the machine itself"


def test_what_a_visitor_forges_reaches_no_app(vps):
    forged = {
        "X-Forwarded-For": "203.0.113.7",
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Proto": "gopher",
        "X-Forwarded-Port": "1",
        "X-Forwarded-Prefix": "/evil",
        "X-Forwarded-Ssl": "on",
        "X-Forwarded_For": "203.0.113.7",
        "X-Real-IP": "203.0.113.7",
        "Forwarded": "for=203.0.113.7",
        "Proxy": "http://evil.example",
    }
    said = json.loads(vps.ask("echo.example", headers=forged).text)
    passed = {key for key in said if "FORWARDED" in key or key in ("HTTP_X_REAL_IP", "HTTP_PROXY")}
    assert passed == {"HTTP_X_FORWARDED_FOR", "HTTP_X_FORWARDED_HOST", "HTTP_X_FORWARDED_PROTO",
                      "HTTP_X_REAL_IP"}  # fmt: skip
    assert said["HTTP_X_FORWARDED_FOR"] == said["HTTP_X_REAL_IP"] != "203.0.113.7"
    assert said["HTTP_X_FORWARDED_HOST"] == "echo.example"
    assert said["HTTP_X_FORWARDED_PROTO"] == said["wsgi.url_scheme"] == "https"


def test_a_trusted_proxy_alone_is_believed_who_the_visitor_is(vps, host):
    def told(chain):
        said = json.loads(vps.ask("echo.example", headers={"X-Forwarded-For": chain}).text)
        assert said["HTTP_X_FORWARDED_FOR"] == said["HTTP_X_REAL_IP"]
        return said["HTTP_X_REAL_IP"]

    own = told("203.0.113.7")
    assert own != "203.0.113.7"
    changed = Inventory(host.backend.name, "frontend")
    changed.apply(frontend_trusted_proxies=[own, "192.0.2.0/24"])
    assert told("203.0.113.7") == "203.0.113.7"
    # what a visitor makes up comes before what the proxies have added
    assert told("127.0.0.1, 203.0.113.7, 192.0.2.1") == "203.0.113.7"
    log = host.check_output("tail -n 1 /var/log/nginx/kechi-access.log")
    assert json.loads(log)["address"] == "203.0.113.7"
    stranger = host.check_output("hostname -I").split()[0]
    asked = f"--resolve echo.example:443:{stranger} https://echo.example/"
    said = json.loads(host.check_output(f"curl -sk -H 'X-Forwarded-For: 203.0.113.7' {asked}"))
    assert said["HTTP_X_REAL_IP"] == stranger
    changed.restore()
    assert told("203.0.113.7") == own


def test_static_files_are_nginxs_with_their_age_and_nothing_else_is_reached(vps, host):
    answer = vps.ask("echo.example", "/static/style.css")
    assert (answer.status, answer.text) == (200, "body { color: black }\n")
    assert answer.headers["Cache-Control"] == YEAR
    assert answer.headers["Content-Type"] == "text/css"
    assert answer.headers["Strict-Transport-Security"] == HSTS
    for path in ("/static/.hidden", "/static/%2ehidden", "/static/none", "/static/"):
        found = vps.ask("echo.example", path)
        assert found.status in (403, 404), path
        assert "secret" not in found.text
    for path in ("/static../echo.py", "/static/..%2fecho.py", "/static/../echo.py", "/static.."):
        assert "def application" not in vps.ask("echo.example", path).text
    as_the_app = "setpriv --reuid=kechi-main --regid=kechi-main --clear-groups sh -c"
    media = "/srv/www/echo/shared/media"
    host.check_output(f"{as_the_app} 'umask 027; mkdir -p {media}/a; echo up > {media}/a/f.txt'")
    host.check_output(f"{as_the_app} 'ln -sf /etc/passwd {media}/users.txt'")
    host.check_output(f"{as_the_app} 'umask 027; echo secret > {media}/../private.txt'")
    assert vps.ask("echo.example", "/media/a/f.txt").text == "up\n"
    assert vps.ask("echo.example", "/media/users.txt").status == 403
    assert "secret" not in vps.ask("echo.example", "/media/../private.txt").text
    others = "setpriv --reuid=nobody --regid=nogroup --clear-groups cat"
    assert host.run(f"{others} {media}/a/f.txt").rc != 0


def test_while_its_pool_is_down_a_site_says_so_and_its_files_are_there(vps, host):
    units = "kechi@main.service kechi@main.socket"
    host.check_output(f"systemctl stop {units}")
    try:
        for method in ("GET", "POST"):
            answer = vps.ask("echo.example", "/", method=method)
            assert (answer.status, answer.headers["Retry-After"]) == (503, "30")
            assert "Back in a moment" in answer.text
            assert answer.headers["Cache-Control"] == "no-store"
            assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
            assert answer.headers["Strict-Transport-Security"] == HSTS
        assert vps.ask("echo.example", "/static/style.css").status == 200
    finally:
        host.check_output(f"systemctl start {units}")
    assert vps.ask("echo.example").status == 200


@pytest.mark.parametrize(
    "uri", ["/.kechi-down", "/static/style.css", "/?bytes=1", "/.well-known/acme-challenge/x"]
)
def test_an_answer_is_no_order_to_nginx_to_show_something_else(vps, uri):
    for order in (f"X-Accel-Redirect={uri}", "X-Accel-Limit-Rate=1", "X-Accel-Charset=koi8-r"):
        answer = vps.ask("echo.example", f"/own?{order.replace('?', '%3F')}")
        assert answer.status == 200, order
        assert json.loads(answer.text)["PATH_INFO"] == "/own", order
        assert not [name for name in answer.headers if name.startswith("X-Accel")]


@pytest.mark.parametrize("status", ["503 Busy", "502 Other", "504 Late", "404 None"])
def test_what_an_app_answers_goes_through_whatever_its_status(vps, status):
    answer = vps.ask("echo.example", f"/?status={status.replace(' ', '+')}")
    assert answer.status == int(status[:3])
    assert json.loads(answer.text)["SERVER_PROTOCOL"]
    assert answer.headers["Retry-After"] is None


def test_an_address_that_asks_too_often_is_told_and_others_and_this_machine_are_not(vps, host):
    connection = vps.connect("limited.example")
    seen = []
    for _ in range(30):
        connection.request("GET", "/", headers={"Host": "limited.example"})
        response = connection.getresponse()
        response.read()
        seen.append(response.status)
    connection.close()
    assert seen[:10] == [200] * 10
    assert set(seen) == {200, 429}
    assert vps.ask("echo.example").status == 200
    urls = "https://limited.example/?[1-30]"
    asked = host.check_output(f"curl -sk -o /dev/null -w '%{{http_code}} ' '{urls}'")
    assert asked.split() == ["200"] * 30


def test_a_body_over_the_limit_of_an_app_is_refused(vps):
    body = b"x" * (1024 * 1024 + 1)
    assert vps.ask("echo.example", method="POST", body=body[:-1]).status == 200
    assert vps.ask("echo.example", method="POST", body=body).status == 413
    assert vps.ask("lost.example", method="POST", body=body).status == 200


def test_answers_are_compressed_for_those_who_take_it(vps):
    for accepted, coding in (("gzip", "gzip"), ("identity", None)):
        headers = {"Accept-Encoding": accepted}
        answer = vps.ask("echo.example", "/?bytes=5000", headers=headers)
        assert answer.headers["Content-Encoding"] == coding
        assert "Accept-Encoding" in answer.headers["Vary"]


def test_a_line_of_the_log_is_json_whatever_a_visitor_sends(vps, host):
    hostile = [b'a"b\\', b"\xff\xfe", b'"},{"x":"', b"\x1b[2J\t", "ケ".encode()]
    for number, agent in enumerate(hostile):
        name, port = vps.tls.split(":")
        with (
            socket.create_connection((name, int(port)), timeout=WAIT_SECONDS) as plain,
            unverified().wrap_socket(plain, server_hostname="echo.example") as connection,
        ):
            connection.sendall(
                b"GET /hostile%d%s HTTP/1.1\r\nHost: echo.example\r\nUser-Agent: %s\r\n"
                b"Connection: close\r\n\r\n" % (number, b"\xff" if number == 1 else b"", agent)
            )
            while connection.recv(65536):
                pass
    raw = host.run("tail -n 5 /var/log/nginx/kechi-access.log").stdout_bytes
    lines = [json.loads(line) for line in raw.decode("utf-8").splitlines()]
    found = {line["uri"]: line for line in lines}
    assert found["/hostile0"]["agent"] == 'a"b\\'
    assert found["/hostile2"]["agent"] == '"},{"x":"'
    assert found["/hostile4"]["agent"] == "ケ"
    assert found["/hostile0"]["host"] == "echo.example"
    assert isinstance(found["/hostile0"]["status"], int)
    assert "(not UTF-8)" in found
    assert found["(not UTF-8)"]["agent"] == "(not UTF-8)"


def test_the_distributions_logrotate_rotates_the_log_and_nginx_writes_on(vps, host):
    log = host.file("/var/log/nginx/kechi-access.log")
    assert log.size > 0
    host.check_output("logrotate --force /etc/logrotate.d/nginx")
    vps.wait_until(lambda: log.exists and log.size == 0, "a new log")
    vps.ask("echo.example", "/after")
    vps.wait_until(lambda: "/after" in log.content_string, "a line in the new log")
    assert host.file("/var/log/nginx/kechi-access.log.1").size > 0
    assert oct(log.mode) == "0o640"


def test_others_learn_how_the_sites_are_reached_from_the_machine(host):
    said = json.loads(host.file("/etc/kechi/frontend.json").content_string)
    assert said == {"scheme": "https", "port": 443}


def test_no_private_key_is_for_others_than_root(host):
    keys = "find -L /etc/kechi/tls /etc/letsencrypt/live -name '*key*.pem' -perm /077 ! -path '*/x'"
    seen = host.check_output("find -L /etc/kechi/tls -name privkey.pem | wc -l")
    assert int(seen) >= len(NAMES)
    assert host.check_output("stat -c %a /etc/kechi/tls") == "700"
    loose = host.check_output(keys).splitlines()
    others = [
        f"setpriv --reuid=www-data --regid=www-data --clear-groups cat {key}" for key in loose
    ]
    assert [host.run(command).rc for command in others if host.run(command).rc == 0] == []


def test_nginx_is_not_reloaded_with_what_it_would_refuse_and_serves_on(vps, host, trust):
    before = vps.certificate("any.wild.example")
    host.check_output("echo 'nonsense;' > /etc/nginx/conf.d/zz-foreign.conf")
    host.check_output("rm -r /etc/kechi/tls/self-signed/wild.any")  # there is something to reload
    try:
        done = host.run("kechi-certificates")
        assert done.rc == 1
        assert 'unknown directive "nonsense"' in done.stderr
        assert vps.ask("motd.example", context=trust).status == 200
        assert vps.certificate("any.wild.example") == before
    finally:
        host.check_output("rm /etc/nginx/conf.d/zz-foreign.conf")
    host.check_output("kechi-certificates")
    assert vps.certificate("any.wild.example") != before, "the next run finishes it"


def test_tls_can_be_switched_off_again(vps, host):
    """The last one here: nothing puts TLS back."""
    Inventory(host.backend.name, "frontend").apply(frontend_acme_email="")
    assert vps.get("motd.example").status == 200
    assert vps.get("other.example").status == 421
    with pytest.raises((OSError, http.client.HTTPException)):
        vps.certificate("motd.example")
    said = json.loads(host.file("/etc/kechi/frontend.json").content_string)
    assert said == {"scheme": "http", "port": 80}
    off = "grep -L 'autorenew = False' /etc/letsencrypt/renewal/kechi-*.conf"
    assert host.run(off).stdout == ""
    # nor does what the timer starts, which is off itself
    assert host.run("systemctl is-active kechi-certificates.timer").stdout.strip() == "inactive"
    host.check_output("systemctl start kechi-certificates.service")
    assert host.run(off).stdout == ""
    assert vps.get("motd.example").status == 200
    assert "changed=0 " in Inventory(host.backend.name, "frontend").apply(frontend_acme_email="")
