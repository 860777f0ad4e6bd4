"""Which certificate a site gets, and when one is ordered; certbot's part is played."""

import datetime
import json
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ansible_collections.kechi.vps.plugins.module_utils import certificates as ours
from ansible_collections.kechi.vps.plugins.module_utils.certificates import (
    DAY,
    HOUR,
    CertificateError,
    Certificates,
    Failure,
    Machine,
    Pair,
    Site,
)

SERVER = "https://acme.example/dir"
NOW = 1_800_000_000.0
ACME = {"server": SERVER, "email": "me@example.org", "probe": True}


def make_pair(directory, names, days=90):
    """A certificate of these names, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.fromtimestamp(NOW, datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(n) for n in names]), False)
        .sign(key, hashes.SHA256())
    )
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "fullchain.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (directory / "privkey.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )


class World(Machine):  # type: ignore[misc]  # which mypy sees under another name
    """A machine of files; the ACME server, the names and nginx are played."""

    def __init__(self, root: Path) -> None:
        self.time = NOW
        super().__init__(root, lambda: self.time)
        for directory in (self.failures.parent, self.tls):
            directory.mkdir(parents=True, exist_ok=True)
        self.silent = ""
        self.strays: dict[str, str] = {}
        self.refuses: dict[str, str] = {}
        self.leaves_out: set[str] = set()
        self.orders: list[tuple[str, tuple[str, ...]]] = []

    def answers(self, server, ca_file):
        return self.silent

    def probe(self, names):
        return {name: self.strays.get(name, "") for name in names}

    def order(self, site, names, acme):
        self.orders.append((site.name, tuple(names)))
        if site.name in self.refuses:
            return self.refuses[site.name]
        make_pair(self.directory(site, "acme"), [n for n in names if n not in self.leaves_out])
        renewal = self.letsencrypt / "renewal" / f"kechi-{site.name}.conf"
        renewal.parent.mkdir(parents=True, exist_ok=True)
        renewal.write_text(f"version = 2\n\n[renewalparams]\nserver = {acme['server']}\n")
        return ""


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def wanted(world, *sites, acme=ACME, act=True):
    settings = {"sites": list(sites), "acme": acme, "ports": {"http": 80, "https": 443}}
    return Certificates(settings, world, act=act)


def run(world, *sites, now=False, **settings):
    """One whole run; what it said, and which sites have another certificate."""
    certificates = wanted(world, *sites, **settings)
    changed = certificates.choose()
    changed += certificates.obtain(now=now)
    changed += certificates.choose()
    return certificates.problems, changed


def served(world, name):
    return world.pair(world.tls / "current" / name).names


BLOG = {"name": "blog", "hosts": ["blog.example", "www.blog.example"]}
SHOP = {"name": "shop", "hosts": ["shop.example"]}


def test_a_site_is_self_signed_until_the_acme_server_answers_and_then_has_its_certificate(world):
    world.silent = "Connection refused"
    problems, changed = run(world, BLOG)
    assert changed == ["blog"]
    (problem,) = problems
    assert problem == (
        "blog.example, www.blog.example (blog) has no certificate yet and is self-signed: the "
        f"ACME server {SERVER} can't be reached: Connection refused"
    )
    link = world.tls / "current" / "blog"
    assert link.resolve() == (world.tls / "self-signed" / "blog").resolve()
    assert served(world, "blog") == {"blog.example", "www.blog.example"}
    assert run(world, BLOG)[1] == []
    world.silent = ""
    problems, changed = run(world, BLOG)
    assert (problems, changed) == ([], ["blog", "blog"])
    assert link.resolve() == (world.letsencrypt / "live" / "kechi-blog").resolve()
    assert run(world, BLOG) == ([], [])
    assert len(world.orders) == 1


def test_a_name_that_leads_elsewhere_is_not_ordered_and_holds_up_no_other(world):
    world.strays = {"www.blog.example": "the name does not resolve", "shop.example": "it is not us"}
    problems, _ = run(world, BLOG, SHOP)
    assert world.orders == [("blog", ("blog.example",))]
    assert problems == [
        "www.blog.example (blog) has no certificate yet and is self-signed: the name does not "
        "resolve",
        "shop.example (shop) has no certificate yet and is self-signed: it is not us",
    ]
    run(world, BLOG, SHOP)
    assert len(world.orders) == 1, "the names that there are have a certificate"
    world.strays = {}
    run(world, BLOG, SHOP)
    assert world.orders[1:] == [
        ("blog", ("blog.example", "www.blog.example")),
        ("shop", ("shop.example",)),
    ]


def test_a_failed_order_is_not_repeated_at_once_and_each_time_later(world):
    world.refuses = {"blog": "  Detail: no such thing\n"}
    problems, changed = run(world, BLOG)
    assert "no such thing" in problems[0]
    assert changed == ["blog"], "it is served self-signed"
    waits = []
    for _ in range(6):
        problems, _ = run(world, BLOG)
        assert "no such thing (1 min ago); next try in " in problems[0]
        began, orders = world.time, len(world.orders)
        while len(world.orders) == orders:
            world.time += HOUR
            run(world, BLOG)
        waits.append((world.time - began) / HOUR)
    assert waits == [1, 2, 4, 8, 16, 24]
    run(world, BLOG)
    run(world, BLOG, now=True)
    assert len(world.orders) == 8


def test_other_names_are_another_order_which_nothing_holds_up(world):
    world.refuses = {"blog": "Detail: no"}
    run(world, BLOG)
    run(world, {**BLOG, "hosts": ["blog.example"]})
    assert [names for _, names in world.orders] == [
        ("blog.example", "www.blog.example"),
        ("blog.example",),
    ]


def test_a_server_over_its_limit_is_left_alone_with_all_orders(world):
    world.refuses = {"blog": "urn:ietf:params:acme:error:rateLimited :: too many\nDetail: too many"}
    problems, _ = run(world, BLOG, SHOP)
    assert world.orders == [("blog", ("blog.example", "www.blog.example"))]
    assert "shop.example (shop) has no certificate yet" in problems[1]
    assert "over a limit; next try in 6 hours" in problems[1]
    world.refuses = {}
    world.time += 7 * HOUR
    assert run(world, BLOG, SHOP)[0] == []


def test_what_the_server_leaves_out_is_served_without_and_asked_for_a_week_later(world):
    world.leaves_out = {"www.blog.example"}
    problems, _ = run(world, BLOG)
    assert problems[0].startswith("www.blog.example (blog) has no certificate yet")
    assert served(world, "blog") == {"blog.example"}
    world.leaves_out = set()
    world.time += 6 * DAY
    run(world, BLOG)
    assert len(world.orders) == 1
    world.time += 1 * DAY
    assert run(world, BLOG)[0] == []
    assert len(world.orders) == 2


def test_check_mode_orders_nothing_and_writes_nothing(world, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    problems, changed = run(world, BLOG, act=False)
    assert changed == ["blog", "blog"]
    assert problems == [
        "blog.example, www.blog.example (blog) has no certificate yet and is self-signed: check "
        "mode orders nothing"
    ]
    assert world.orders == []
    assert sorted(tmp_path.rglob("*")) == before


def test_another_acme_server_gives_another_certificate(world):
    run(world, BLOG)
    run(world, BLOG, acme={**ACME, "server": "https://other.example/dir"})
    assert len(world.orders) == 2


def test_a_wildcard_is_never_ordered(world):
    problems, _ = run(world, {"name": "a.any", "hosts": ["*.a.example"]})
    assert world.orders == []
    certificates = wanted(world, {"name": "a.any", "hosts": ["*.a.example"]})
    certificates.look()
    assert "can't be had by HTTP-01" in certificates.problems[0]
    assert problems == []


def test_a_given_certificate_is_served_and_a_broken_one_is_told_and_not_served(world, tmp_path):
    make_pair(tmp_path / "mine", ["*.a.example"])
    site = {"name": "a", "hosts": ["x.a.example", "a.example"],
            "chain": str(tmp_path / "mine/fullchain.pem"),
            "key": str(tmp_path / "mine/privkey.pem")}  # fmt: skip
    assert run(world, site) == ([], ["a"])
    assert run(world, site) == ([], [])
    assert served(world, "a") == {"*.a.example"}
    certificates = wanted(world, site)
    certificates.look()
    assert certificates.problems == [f"a: {site['chain']} is not for a.example"]
    make_pair(tmp_path / "other", ["*.a.example"])
    site["key"] = str(tmp_path / "other/privkey.pem")
    assert run(world, site)[1] == ["a"]
    assert served(world, "a") == {"x.a.example", "a.example"}
    certificates = wanted(world, site)
    certificates.look()
    assert "are no certificate and its key, so it is served self-signed" in certificates.problems[0]


def test_a_certificate_that_nobody_renews_is_told(world):
    run(world, SHOP)
    world.time += 80 * DAY
    certificates = wanted(world, SHOP)
    (row,) = certificates.look()
    assert (row["served"], row["days"]) == ("acme", 10)
    assert certificates.problems == ["shop: its certificate ends in 10 days"]


def test_a_self_signed_one_that_ends_soon_is_made_anew(world):
    make_pair(world.tls / "self-signed" / "a.any", ["*.a.example"], days=3)
    assert run(world, {"name": "a.any", "hosts": ["*.a.example"]})[1] == ["a.any"]
    assert world.pair(world.tls / "self-signed" / "a.any").ends > NOW + 100 * DAY


def test_what_was_a_sites_once_is_kept_and_no_longer_renewed_until_it_is_one_again(world):
    run(world, BLOG, SHOP)
    file = world.letsencrypt / "renewal" / "kechi-blog.conf"
    before = file.read_text()
    run(world, SHOP)
    assert "[renewalparams]\nautorenew = False\n" in file.read_text()
    assert (world.letsencrypt / "live" / "kechi-blog" / "privkey.pem").exists()
    assert run(world, BLOG, SHOP)[0] == []
    assert file.read_text() == before
    assert len(world.orders) == 2
    run(world, acme={})
    assert "autorenew = False" in file.read_text()


@pytest.mark.parametrize(
    ("names", "host", "covered"),
    [
        ({"a.example"}, "a.example", True),
        ({"a.example"}, "b.a.example", False),
        ({"*.a.example"}, "b.a.example", True),
        ({"*.a.example"}, "c.b.a.example", False),
        ({"*.a.example"}, "a.example", False),
        ({"*.a.example"}, "*.a.example", True),
        ({"b.a.example"}, "*.a.example", False),
    ],
)
def test_a_certificate_covers_what_clients_take_it_for(names, host, covered):
    assert Pair(Path("/"), frozenset(names), NOW).covers(host) is covered


@pytest.mark.parametrize(
    ("output", "line"),
    [
        ("Saving debug log\n Domain: a\n Type: dns\n Detail: no A\n Detail: no A\n", "no A"),
        ("Detail: one\nDetail: two: three\n", "one / two: three"),
        ("An unexpected error occurred:\nfull disk\nAsk for help or search\n", "full disk"),
        ("", "certbot said nothing"),
    ],
)
def test_why_an_order_failed_is_one_line(output, line):
    assert ours.reason(output) == line


def test_an_error_that_certbot_hides_is_found_in_its_log():
    output = "An unexpected error occurred:\nAttributeError: can't set attribute\n"
    log = "acme.messages.Error: an old one\nacme.messages.Error: urn:x:rateLimited :: too many\nx\n"
    assert ours.reason(ours.unmasked(output, log)) == "urn:x:rateLimited :: too many"
    assert ours.unmasked("Detail: another", log) == "Detail: another"
    assert ours.unmasked(output, "") == output


def test_what_was_remembered_of_failures_may_be_damaged(world):
    failure = Failure("order", 2, NOW, "why")
    world.remember({"a": failure}, 5.0)
    assert world.remembered() == ({"a": failure}, 5.0)
    for text in ("", "{", "[]", '{"orders": {"a": {}}, "limited_until": 0}'):
        world.failures.write_text(text)
        assert world.remembered() == ({}, 0.0)


@pytest.mark.parametrize(
    ("hosts", "name"),
    [
        (("a.example",), "a.example"),
        (("*.a.example",), "kechi-probe.a.example"),
        (("*",), "kechi-probe.invalid"),
    ],
)
def test_nginx_is_asked_for_a_certificate_by_a_name_that_leads_to_it(hosts, name):
    assert Site("a", hosts).asked_by() == name


def test_a_machine_without_openssl_says_so(world, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(CertificateError, match="there is no openssl"):
        run(world, SHOP)


@pytest.mark.parametrize(
    ("before", "why"),
    [
        ({}, "none was ordered yet: the timer will, or `"),
        ({"strays": {"shop.example": "the name leads to another machine"}},
         "shop.example: the name leads to another machine"),
        ({"silent": "timed out"}, "can't be reached: timed out"),
    ],
    ids=["not yet", "stray", "silent"],
)  # fmt: skip
def test_the_list_says_why_a_site_is_self_signed(world, capsys, before, why):
    settings = {"sites": [SHOP], "acme": ACME, "ports": {"http": 80}}
    world.settings.write_text(json.dumps(settings))
    for name, value in before.items():
        setattr(world, name, value)
    if before:
        run(world, SHOP)
    else:
        wanted(world, SHOP).choose()
    assert ours.main(["--list"], world) == 0
    *_, nothing, last = capsys.readouterr().out.splitlines()
    assert nothing == ""
    assert last.startswith("shop is self-signed: ")
    assert why in last


def test_a_reason_is_forgotten_once_there_is_a_certificate(world, capsys):
    world.settings.write_text(json.dumps({"sites": [SHOP], "acme": ACME, "ports": {"http": 80}}))
    world.silent = "timed out"
    run(world, SHOP)
    world.silent = ""
    run(world, SHOP)
    assert world.explained() == {}
    assert ours.main(["--list"], world) == 0
    assert "self-signed" not in capsys.readouterr().out


def test_what_certificates_and_authorities_say_does_nothing_on_a_terminal():
    said = "\x1b]0;x\x07\x1b[2J\u202e\r\nshop is fine"
    row = {"name": "blog", "served": f"acme{said}", "days": 3, "hosts": [f"*{said}"], "why": said}
    lines = ours.table([row]).split("\n")
    assert len(lines) == 4, "a row, and the reason"
    assert all(line.isprintable() for line in lines)
    assert r"\x1b]0;x\x07\x1b[2J\u202e\r\nshop is fine" in lines[-1]
    assert len(ours.table([row | {"why": "x" * 10**6}])) < 10_000


def test_the_command_lists_what_there_is(world, capsys):
    run(world, SHOP)
    world.settings.write_text(json.dumps({"sites": [SHOP], "acme": ACME, "ports": {"http": 80}}))
    assert ours.main(["--list"], world) == 0
    assert capsys.readouterr().out.splitlines() == [
        "SITE  SERVED  DAYS  HOSTS",
        "shop  acme    90    shop.example",
    ]
    assert ours.main(["--json"], world) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["wanted"], row["served"], row["uncovered"]) == ("acme", "acme", [])
