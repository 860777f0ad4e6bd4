"""The certificate that nginx serves each site with: given, from an ACME server, or self-signed.

The role's module runs this code, and the machine's own timer does: it is installed there as the
command ``kechi-certificates``, with `locks` beside it. What there is on the machine decides what is
done, so a run after an interrupted one finishes its work, and one that finds everything in place
does nothing.

nginx reads ``/etc/kechi/tls/current/NAME``, a link to a directory with ``fullchain.pem`` and
``privkey.pem``. certbot renews by its own timer, and then calls ``kechi-certificates --reload``.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import http.client
import json
import os
import re
import secrets
import shutil
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import locks

NAME = "kechi-certificates"
COMMAND = f"/usr/local/sbin/{NAME}"
GIVEN, ACME, SELF_SIGNED = "given", "acme", "self-signed"
CONFIGURATION_HOST = "kechi-configuration.invalid"  # answers this machine alone, with the digest
CHALLENGES = ".well-known/acme-challenge"

HOUR = 3600.0
DAY = 24 * HOUR
SELF_SIGNED_DAYS = 3650
# Let's Encrypt takes 5 failed validations of a name an hour, and gives 5 equal certificates a week
FIRST_WAIT, LONGEST_WAIT = HOUR, DAY
PARTIAL_WAIT = 7 * DAY
LIMITED_WAIT = 6 * HOUR
LIMITED = "the ACME server is over a limit"
LATE_DAYS = 14  # certbot renews 30 days before the end
TIMEOUT_SECONDS = 5.0
ORDER_SECONDS = 300
RELOAD_SECONDS = 20.0
POLL_SECONDS = 0.1
PROBES_AT_ONCE = 16
LOG_TAIL = 65536
SHOWN_CHARACTERS = 4000


class CertificateError(Exception):
    """What can't be done; the message says why, for a person."""


@dataclass(frozen=True)
class Site:
    """One certificate that is wanted."""

    name: str
    hosts: tuple[str, ...]  # as nginx compares them; "*" for all others
    chain: str = ""  # files of the administrator's, or ""
    key: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """What a certificate can say."""
        return tuple(host for host in self.hosts if host != "*")

    def source(self, acme: bool) -> str:
        """Where its certificate is to come from; a wildcard can't be had by HTTP-01."""
        if self.chain:
            return GIVEN
        return ACME if acme and not any("*" in host for host in self.hosts) else SELF_SIGNED

    def asked_by(self) -> str:
        """A name that a client would ask for to get this certificate."""
        host = self.hosts[0]
        return "kechi-probe.invalid" if host == "*" else host.replace("*", "kechi-probe", 1)


@dataclass(frozen=True)
class Pair:
    """A certificate with its key, as found in a directory."""

    directory: Path
    names: frozenset[str]
    ends: float  # seconds since 1970

    def covers(self, host: str) -> bool:
        """Whether a client that asks for this host (or wildcard) will take it."""
        return host in self.names or f"*.{host.partition('.')[2]}" in self.names


@dataclass(frozen=True)
class Failure:
    """The last order of one certificate, which has not brought all that was asked for."""

    order: str  # its digest: another order is not held up
    times: int
    at: float
    why: str
    partial: bool = False

    def next_at(self) -> float:
        """When it may be tried again."""
        wait = min(FIRST_WAIT * 2 ** (self.times - 1), LONGEST_WAIT)
        return self.at + (PARTIAL_WAIT if self.partial else wait)


def best(site: Site, pairs: Mapping[str, Pair | None], source: str) -> str:
    """Which of the pairs that there are a site is served with."""
    found = pairs.get(source)
    fits = found and (source == GIVEN or any(found.covers(host) for host in site.names))
    return source if fits else SELF_SIGNED


def to_order(site: Site, found: Pair | None, reachable: Iterable[str]) -> tuple[str, ...]:
    """The names to order a certificate for; none where it would bring nothing new."""
    reached = set(reachable)
    kept = {name for name in site.names if found and found.covers(name)}
    if reached <= kept:
        return ()
    return tuple(name for name in site.names if name in reached | kept)


def renewed_by_itself(text: str, wanted: bool) -> str:
    """Certbot's file of one certificate, with renewal by the timer switched on or off."""
    lines = [line for line in text.splitlines() if not line.startswith("autorenew")]
    if not wanted:
        place = lines.index("[renewalparams]") if "[renewalparams]" in lines else len(lines) - 1
        lines.insert(place + 1, "autorenew = False")
    return "\n".join(lines) + "\n"


def reason(output: str) -> str:
    """What an ACME server had against an order, from certbot's output, in one line."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    details = [line.partition(":")[2].strip() for line in lines if line.startswith("Detail:")]
    noise = ("Ask for help", "Some challenges", "Saving debug log", "Hint:")
    rest = [line for line in lines if not line.startswith(noise)]
    return " / ".join(dict.fromkeys(details)) or (rest[-1] if rest else "certbot said nothing")


def unmasked(output: str, log: str) -> str:
    """Certbot's output, with what its log has of an error that Debian 12's hides.

    Before 2.2 it ends with "can't set attribute" instead (certbot's issue 9539).
    """
    found = re.findall(r"^acme\.messages\.Error: (.*)$", log, re.M)
    hidden = "AttributeError: can't set attribute" in output and found
    return f"{output}\nDetail: {found[-1]}\n" if hidden else output


def age(seconds: float) -> str:
    """A span of time for people."""
    for unit, length in (("days", DAY), ("hours", HOUR)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(seconds, 60) / 60:.0f} min"


def _say(text: str) -> None:
    print(visible(f"{NAME}: {text}"), file=sys.stderr, flush=True)


class Machine:
    """The effects: files, openssl, certbot and nginx. `root` is "/" but in tests.

    `tell` hears what is waited for.
    """

    def __init__(
        self,
        root: Path = Path("/"),
        now: Callable[[], float] = time.time,
        tell: Callable[[str], None] = _say,
    ) -> None:
        self.now = now
        self.tell = tell
        self.tls = root / "etc/kechi/tls"
        self.settings = root / "etc/kechi/certificates.json"
        self.letsencrypt = root / "etc/letsencrypt"
        self.configuration = root / "etc/nginx/conf.d/kechi.conf"
        self.webroot = root / "var/lib/kechi/acme"
        self.failures = root / "var/lib/kechi/certificates.json"
        self.reasons = root / "var/lib/kechi/certificate-reasons.json"
        self.log = root / "var/log/letsencrypt/letsencrypt.log"
        self.certbots_lock = self.letsencrypt / ".certbot.lock"

    def directory(self, site: Site, source: str) -> Path:
        """Where a site's pair from this source lies."""
        if source == ACME:
            return self.letsencrypt / "live" / f"kechi-{site.name}"
        return self.tls / source / site.name

    def pair(self, directory: Path) -> Pair | None:
        """The certificate and key of a directory; None where nginx could not use them."""
        chain, key = directory / "fullchain.pem", directory / "privkey.pem"
        try:
            # a password: or it would be asked for
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(chain, key, password="")
        except (OSError, ValueError):  # ssl.SSLError is an OSError
            return None
        shown = _run(["openssl", "x509", "-in", str(chain), "-noout", "-enddate",
                      "-ext", "subjectAltName"])  # fmt: skip
        ends = re.search(r"notAfter=(.*)", shown.stdout)
        return Pair(
            directory,
            frozenset(re.findall(r"DNS:([^,\s]+)", shown.stdout)),
            ssl.cert_time_to_seconds(ends[1]) if ends else 0.0,
        )

    def server_of(self, site: Site) -> str:
        """The ACME server that a certificate has come from, "" where there is none."""
        file = self._renewal(site.name)
        found = re.search(r"^server = (.*)$", file.read_text(), re.M) if file.is_file() else None
        return found[1].strip() if found else ""

    def sign(self, site: Site) -> None:
        """Make a self-signed pair. Raises CertificateError."""
        directory = self.directory(site, SELF_SIGNED)
        new = directory.with_name(f".{site.name}.new")
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(mode=0o700, parents=True)
        command = ["openssl", "req", "-x509", "-nodes", "-days", str(SELF_SIGNED_DAYS),
                   "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-subj",
                   f"/CN={site.name}", "-keyout", str(new / "privkey.pem"),
                   "-out", str(new / "fullchain.pem")]  # fmt: skip
        if site.names:
            command += ["-addext", f"subjectAltName={','.join(f'DNS:{n}' for n in site.names)}"]
        done = _run(command)
        if done.returncode:
            raise CertificateError(
                f"openssl can't make a certificate of {site.name}: {done.stderr}"
            )
        shutil.rmtree(directory, ignore_errors=True)
        new.rename(directory)

    def take_given(self, site: Site) -> bool:
        """Point at the administrator's files; whether that changed something."""
        directory = self.directory(site, GIVEN)
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        chain = _link(directory / "fullchain.pem", site.chain)
        return _link(directory / "privkey.pem", site.key) or chain

    def serve(self, site: Site, source: str) -> bool:
        """Point nginx's name for a site's pair at one; whether that changed something."""
        link = self.tls / "current" / site.name
        link.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return _link(link, str(self.directory(site, source)))

    def is_served(self, site: Site, source: str) -> bool:
        """Whether nginx's name points there already."""
        link = self.tls / "current" / site.name
        return link.is_symlink() and link.readlink() == self.directory(site, source)

    def remembered(self) -> tuple[dict[str, Failure], float]:
        """The orders that failed, and until when the server wants to be left alone."""
        try:
            found = json.loads(self.failures.read_text())
            failed = {name: Failure(**failure) for name, failure in found["orders"].items()}
            return failed, float(found["limited_until"])
        except (OSError, ValueError, KeyError, TypeError):
            return {}, 0.0

    def remember(self, failed: Mapping[str, Failure], limited_until: float) -> None:
        """Write that down."""
        orders = {name: vars(failure) for name, failure in failed.items()}
        new = self.failures.with_suffix(".new")
        new.write_text(json.dumps({"orders": orders, "limited_until": limited_until}, indent=1))
        new.replace(self.failures)

    def explained(self) -> dict[str, str]:
        """Why sites had no certificate when one was last asked for."""
        try:
            found = json.loads(self.reasons.read_text())
            return {str(name): str(why) for name, why in found.items()}
        except (OSError, ValueError, AttributeError):
            return {}

    def explain(self, reasons: Mapping[str, str]) -> None:
        """Write that down."""
        if reasons != self.explained():
            new = self.reasons.with_suffix(".new")
            new.write_text(json.dumps(reasons, indent=1))
            new.replace(self.reasons)

    def answers(self, server: str, ca_file: str) -> str:
        """Why an ACME server does not answer; "" where it does."""
        try:
            context = ssl.create_default_context(cafile=ca_file or None)
            context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # as certbot sees it
            asked = urllib.request.urlopen(server, timeout=TIMEOUT_SECONDS, context=context)  # noqa: S310
            with asked as reply:
                json.load(reply)["newOrder"]
        except urllib.error.URLError as error:
            return str(error.reason)
        except (OSError, ValueError, KeyError, http.client.HTTPException) as error:
            return f"{type(error).__name__}: {error}"
        return ""

    def probe(self, names: Sequence[str]) -> dict[str, str]:
        """Why each name does not lead to this machine's nginx, as an ACME server would find it."""
        token = f"kechi-{secrets.token_hex(16)}"
        file = self.webroot / CHALLENGES / token
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(token)
        try:
            with ThreadPoolExecutor(PROBES_AT_ONCE) as pool:
                return dict(
                    zip(names, pool.map(lambda name: _ask(name, token), names), strict=True)
                )
        finally:
            file.unlink()

    def order(self, site: Site, names: Sequence[str], acme: Mapping[str, Any]) -> str:
        """Ask for a certificate of these names; what certbot said where it failed, else ""."""
        email = str(acme.get("email") or "")
        command = ["certbot", "certonly", "--non-interactive", "--agree-tos", "--webroot",
                   f"--webroot-path={self.webroot}", f"--server={acme['server']}",
                   f"--cert-name=kechi-{site.name}", f"--domains={','.join(names)}",
                   "--key-type=ecdsa", "--renew-with-new-domains", "--force-renewal",
                   # a name that has gone elsewhere must not keep the others from being renewed
                   "--allow-subset-of-names",
                   # once for all that are renewed together
                   f"--post-hook={COMMAND} --reload"]  # fmt: skip
        command += ["--no-eff-email", f"--email={email}"] if email else [
            "--register-unsafely-without-email"
        ]  # fmt: skip
        ca_file = str(acme.get("ca_file") or "")
        done = _run(command, ORDER_SECONDS, {"REQUESTS_CA_BUNDLE": ca_file} if ca_file else {})
        if not done.returncode:
            return ""
        log = self.log.read_text(errors="replace")[-LOG_TAIL:] if self.log.is_file() else ""
        return unmasked(f"{done.stdout}\n{done.stderr}", log)

    def renew_only(self, names: Iterable[str]) -> None:
        """Let certbot's timer renew what sites have, and leave alone what was a site's once."""
        wanted = {f"kechi-{name}.conf" for name in names}
        files = list((self.letsencrypt / "renewal").glob("kechi-*.conf"))
        if all(_is_renewed(file, file.name in wanted) for file in files):
            return
        with self._without_certbot():
            for file in files:
                if not _is_renewed(file, file.name in wanted):
                    part = file.with_suffix(".new")
                    part.write_text(renewed_by_itself(file.read_text(), file.name in wanted))
                    part.replace(file)

    @contextlib.contextmanager
    def _without_certbot(self) -> Iterator[None]:
        """Run while certbot does not: after a renewal it writes what it has read before."""
        deadline = time.monotonic() + ORDER_SECONDS
        told = False
        while True:
            with self.certbots_lock.open("a") as file:
                try:
                    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    pass
                else:
                    # certbot removes its file before it unlocks it
                    if _is_same(self.certbots_lock, file.fileno()):
                        yield
                        return
            if time.monotonic() > deadline:
                raise CertificateError(
                    f"certbot still runs after {ORDER_SECONDS} s, so nothing was changed of what it"
                    " renews: see systemctl status certbot"
                )
            if not told:
                self.tell("waiting for the end of certbot")
                told = True
            time.sleep(POLL_SECONDS)

    def loaded(self, sites: Sequence[Site], ports: Mapping[str, int]) -> bool:
        """Whether nginx runs the configuration and the certificates that its files hold."""
        text = self.configuration.read_text() if self.configuration.is_file() else ""
        digest = re.search(r'return 200 "([0-9a-f]{64})', text)
        if digest is None or _configuration(ports["http"]) != digest[1]:
            return False
        for site in sites if ports.get("https") else ():
            chain = self.tls / "current" / site.name / "fullchain.pem"
            if not chain.is_file() or _leaf(chain.read_text()) != _served(
                ports["https"], site.asked_by()
            ):
                return False
        return True

    def reload(self, sites: Sequence[Site], ports: Mapping[str, int]) -> bool:
        """Have nginx run what its files hold; whether that needed a reload.

        Raises CertificateError where nginx refuses, and then goes on as before.
        """
        if _run(["systemctl", "is-active", "--quiet", "nginx.service"]).returncode:
            raise CertificateError("nginx does not run: see journalctl -u nginx")
        if self.loaded(sites, ports):
            return False
        for command in (["nginx", "-t", "-q"], ["systemctl", "reload", "nginx.service"]):
            done = _run(command)
            if done.returncode:
                raise CertificateError(
                    f"{' '.join(command)}: {(done.stderr or done.stdout).strip()}"
                )
        deadline = time.monotonic() + RELOAD_SECONDS
        while not self.loaded(sites, ports):
            if time.monotonic() > deadline:
                raise CertificateError(
                    f"nginx was reloaded, and {RELOAD_SECONDS:g} s later does not serve what its "
                    "files hold: see journalctl -u nginx and /var/log/nginx/error.log"
                )
            time.sleep(POLL_SECONDS)
        return True

    def _renewal(self, name: str) -> Path:
        return self.letsencrypt / "renewal" / f"kechi-{name}.conf"


class Certificates:
    """What the settings want of a machine."""

    def __init__(self, settings: Mapping[str, Any], machine: Machine, *, act: bool = True) -> None:
        self.machine = machine
        self.acme: Mapping[str, Any] = settings.get("acme") or {}
        self.ports: Mapping[str, int] = settings["ports"]
        self.sites = [
            Site(site["name"], tuple(site["hosts"]), site.get("chain", ""), site.get("key", ""))
            for site in settings["sites"]
        ]
        self.act = act
        self.problems: list[str] = []
        self._reasons: dict[str, str] = {}

    def source(self, site: Site) -> str:
        """Where a site's certificate is to come from."""
        return site.source(bool(self.acme))

    def choose(self) -> list[str]:
        """Have a pair for each site in place for nginx; the sites for which that changed.

        Raises CertificateError where not even a self-signed one can be made.
        """
        changed = []
        for site in self.sites:
            wanted = self.source(site)
            given = wanted == GIVEN and self.act and self.machine.take_given(site)
            found = {wanted: self.machine.pair(self.machine.directory(site, wanted))}
            chosen = best(site, found, wanted)
            signed = chosen == SELF_SIGNED and not self._has_signed(site)
            if self.act and signed:
                self.machine.sign(site)
            pointed = not self.machine.is_served(site, chosen)
            if self.act and pointed:
                self.machine.serve(site, chosen)
            if given or signed or pointed:
                changed.append(site.name)
        return changed

    def obtain(self, *, now: bool = False) -> list[str]:
        """Order what is missing and may be ordered; the sites for which that changed something.

        `now`: also what has failed a moment ago.
        """
        wanted = [site for site in self.sites if self.source(site) == ACME]
        if self.act:
            self.machine.renew_only(site.name for site in wanted)
        missing = [site for site in wanted if self._missing(site)]
        if not self.act:
            for site in missing:
                self._wait(site, self._missing(site), "check mode orders nothing")
            return []
        ordered = self._obtain(missing, now=now)
        self.machine.explain(self._reasons)
        return ordered

    def _obtain(self, missing: Sequence[Site], *, now: bool) -> list[str]:
        if not missing:
            return []
        server = str(self.acme["server"])
        if silent := self.machine.answers(server, str(self.acme.get("ca_file") or "")):
            for site in missing:
                why = f"the ACME server {server} can't be reached: {silent}"
                self._wait(site, self._missing(site), why)
            return []
        strays = self._strays(missing)
        ordered = []
        for site in missing:
            lost = {name: strays[name] for name in self._missing(site) if strays.get(name)}
            for name, why in lost.items():
                self._wait(site, [name], why)
            reachable = [name for name in self._missing(site) if name not in lost]
            names = to_order(site, self._current(site), reachable)
            if names and self._order(site, names, reachable, now=now):
                ordered.append(site.name)
        return ordered

    def _order(
        self, site: Site, names: Sequence[str], reachable: Sequence[str], *, now: bool
    ) -> bool:
        """Order one certificate where that is due; whether it came, with all names or some."""
        failed, limited_until = self.machine.remembered()
        order = json.dumps([self.acme["server"], *names])
        order = hashlib.sha256(order.encode()).hexdigest()[:16]
        last = failed.get(site.name)
        if last and last.order != order:
            last = None
        held = max(limited_until, last.next_at() if last else 0.0)
        if held > self.machine.now() and not now:
            lasting = last.why if last else LIMITED
            self._wait(site, reachable, self._held(last, held), lasting)
            return False
        said = self.machine.order(site, names, self.acme)
        if "Another instance of Certbot" in said:
            self._wait(site, reachable, "certbot runs already")
            return False
        left = [name for name in reachable if name in self._missing(site)]
        if left:
            times = last.times + 1 if last else 1
            why = reason(said) if said else "the ACME server did not find it here"
            failed[site.name] = Failure(order, times, self.machine.now(), why, not said)
            if "rateLimited" in said or "too many" in said:
                limited_until = self.machine.now() + LIMITED_WAIT
            self._wait(site, left, why)
        else:
            failed.pop(site.name, None)
        self.machine.remember(failed, limited_until)
        return not said

    def reload(self) -> bool:
        """Have nginx serve them; see `Machine.reload`."""
        return self.machine.reload(self.sites, self.ports)

    def loaded(self) -> bool:
        """Whether nginx runs what its files hold."""
        return self.machine.loaded(self.sites, self.ports)

    def look(self) -> list[dict[str, Any]]:
        """Each site's certificate as it is; adds what is wrong with one to `problems`."""
        found = []
        for site in self.sites:
            source = self.source(site)
            pair = self.machine.pair(self.machine.tls / "current" / site.name)
            now = next((s for s in (GIVEN, ACME) if self.machine.is_served(site, s)), SELF_SIGNED)
            days = int((pair.ends - self.machine.now()) // DAY) if pair else 0
            uncovered = [host for host in site.names if pair and not pair.covers(host)]
            why = self._why_self_signed(site)
            found.append({"name": site.name, "hosts": list(site.hosts), "wanted": source,
                          "served": now, "days": days, "uncovered": uncovered,
                          "why": why if now == SELF_SIGNED else ""})  # fmt: skip
            if source == GIVEN and now != GIVEN:
                self.problems.append(f"{site.name}: {why}, so it is served self-signed")
            elif source == GIVEN and uncovered:
                self.problems.append(f"{site.name}: {site.chain} is not for {', '.join(uncovered)}")
            elif source == SELF_SIGNED and self.acme:
                self.problems.append(f"{', '.join(site.hosts)}: served self-signed: {why}")
            if now != SELF_SIGNED and days < LATE_DAYS:
                self.problems.append(f"{site.name}: its certificate ends in {days} days")
        return found

    def _has_signed(self, site: Site) -> bool:
        pair = self.machine.pair(self.machine.directory(site, SELF_SIGNED))
        soon = self.machine.now() + LATE_DAYS * DAY
        return pair is not None and pair.names == set(site.names) and pair.ends > soon

    def _current(self, site: Site) -> Pair | None:
        """The pair that an ACME server has given, where it is the server that is wanted."""
        if self.machine.server_of(site) != str(self.acme["server"]):
            return None
        return self.machine.pair(self.machine.directory(site, ACME))

    def _missing(self, site: Site) -> list[str]:
        found = self._current(site)
        return [name for name in site.names if not (found and found.covers(name))]

    def _strays(self, sites: Sequence[Site]) -> dict[str, str]:
        if not self.acme.get("probe", True):
            return {}
        return self.machine.probe([name for site in sites for name in self._missing(site)])

    def _held(self, last: Failure | None, until: float) -> str:
        now = self.machine.now()
        why = f"{last.why} ({age(now - last.at)} ago)" if last else LIMITED
        return f"{why}; next try in {age(until - now)}, or by `{COMMAND} --now`"

    def _wait(self, site: Site, names: Iterable[str], why: str, lasting: str = "") -> None:
        """Note why a site has no certificate; `lasting` is what of that is true later, too."""
        listed = ", ".join(names)
        self._reasons[site.name] = "; ".join(
            [*filter(None, [self._reasons.get(site.name)]), f"{listed}: {lasting or why}"]
        )
        self.problems.append(
            f"{listed} ({site.name}) has no certificate yet and is self-signed: {why}"
        )

    def _why_self_signed(self, site: Site) -> str:
        source = self.source(site)
        if source == GIVEN:
            return f"{site.chain} and {site.key} are no certificate and its key"
        if source == ACME:
            told = self.machine.explained().get(site.name)
            return told or f"none was ordered yet: the timer will, or `{COMMAND}`"
        if self.acme:
            return "a wildcard can't be had by HTTP-01; give the app a `certificate`"
        return "frontend_acme_email is not set"


def _run(
    command: Sequence[str], seconds: float = 60, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command,
            env={**os.environ, "LC_ALL": "C.UTF-8", **(environment or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=seconds,
        )
    except FileNotFoundError:
        return subprocess.CompletedProcess(command, 127, "", f"there is no {command[0]}")
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 124, "", f"not done after {seconds:g} s")


def _is_renewed(file: Path, wanted: bool) -> bool:
    """Whether certbot's file of a certificate says so already."""
    text = file.read_text()
    return text == renewed_by_itself(text, wanted)


def _is_same(path: Path, handle: int) -> bool:
    """Whether a path still leads to a file that was opened by it."""
    try:
        return os.path.samestat(path.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False


def _link(link: Path, target: str) -> bool:
    if link.is_symlink() and link.readlink() == Path(target):
        return False
    new = link.with_name(f".{link.name}.new")
    new.unlink(missing_ok=True)
    new.symlink_to(target)
    new.replace(link)
    return True


def _ask(name: str, token: str) -> str:
    """Why a name does not lead here; redirections are followed, as ACME servers do."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
    )
    try:
        with opener.open(f"http://{name}/{CHALLENGES}/{token}", timeout=TIMEOUT_SECONDS) as reply:
            ours = reply.read(len(token) + 1).strip() == token.encode()
    except urllib.error.HTTPError as error:
        return f"the name leads to another machine, which answers {error.code}"
    except urllib.error.URLError as error:
        if isinstance(error.reason, socket.gaierror):
            return "the name does not resolve"
        return f"the name does not lead here: {error.reason}"
    except (OSError, http.client.HTTPException) as error:
        return f"the name does not lead here: {error}"
    return "" if ours else "the name leads to another machine"


def _configuration(port: int) -> str:
    """The digest of the configuration that nginx runs."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS)
    try:
        connection.request("GET", "/", headers={"Host": CONFIGURATION_HOST})
        return connection.getresponse().read(100).decode("ascii", "replace").strip()
    except (OSError, http.client.HTTPException):
        return ""
    finally:
        connection.close()


def _leaf(chain: str) -> bytes:
    end = "-----END CERTIFICATE-----"
    return ssl.PEM_cert_to_DER_cert(
        chain[chain.index("-----BEGIN") :].split(end, maxsplit=1)[0] + end
    )


def _served(port: int, name: str) -> bytes | None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_SECONDS) as plain,
            context.wrap_socket(plain, server_hostname=name) as connection,
        ):
            return connection.getpeercert(binary_form=True)
    except OSError:
        return None


def visible(text: str) -> str:
    """A text for a terminal: certificates, authorities and other machines may have had a say."""
    cut = text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in cut)


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The sites' certificates for people, and below them why some are self-signed."""
    lines = [("SITE", "SERVED", "DAYS", "HOSTS")]
    lines += [
        (visible(r["name"]), visible(r["served"]), str(r["days"]), visible(" ".join(r["hosts"])))
        for r in rows
    ]
    wide = [max(len(line[column]) for line in lines) for column in range(3)]
    listed = [
        "  ".join([*(cell.ljust(width) for cell, width in zip(line, wide, strict=False)), line[3]])
        for line in lines
    ]
    reasons = [visible(f"{r['name']} is self-signed: {r['why']}") for r in rows if r["why"]]
    return "\n".join([*listed, *([""] if reasons else []), *reasons])


def main(arguments: Sequence[str] | None = None, machine: Machine | None = None) -> int:
    """Run as the command ``kechi-certificates``."""
    parser = argparse.ArgumentParser(
        description="Have a certificate for each site: order what is missing, and have nginx serve "
        "it. Without an option: what the timer does."
    )
    modes = parser.add_mutually_exclusive_group()
    modes.add_argument("--now", action="store_true", help="also what has failed a moment ago")
    modes.add_argument(
        "--reload", action="store_true", help="only reload nginx, where it serves an older one"
    )
    modes.add_argument("--list", action="store_true", help="only say what there is")
    modes.add_argument("--json", action="store_true", help="the same for programs")
    chosen = parser.parse_args(arguments)
    machine = machine or Machine()

    def wanted() -> Certificates:
        return Certificates(json.loads(machine.settings.read_text()), machine)

    try:
        if chosen.list or chosen.json:
            rows = wanted().look()
            print(json.dumps(rows) if chosen.json else table(rows))
            return 0
        if chosen.reload:  # by certbot, which `obtain` may be waiting for
            wanted().reload()
            return 0
        with locks.held(locks.CERTIFICATES, NAME, tell=_say):
            certificates = wanted()  # not before: a play may have held the lock, and changed them
            certificates.choose()
            certificates.obtain(now=chosen.now)
            certificates.choose()
            certificates.reload()
        certificates.look()
    except (CertificateError, OSError, ValueError) as error:
        _say(str(error))
        return 1
    for problem in certificates.problems:
        _say(problem)
    return 0
