"""What --probe takes, and what it refuses before anything is started."""

from pathlib import Path

import pytest

from supervisor_py import probe
from supervisor_py.errors import FatalError
from supervisor_py.probe import Target


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tcp:127.0.0.1:9000", ("tcp", "127.0.0.1", 9000, "", "")),
        ("TCP:[::1]:9000", ("tcp", "::1", 9000, "", "")),
        ("unix:/run/app.sock", ("unix", "", 0, "/run/app.sock", "")),
        ("unix:relative", ("unix", "", 0, "relative", "")),
        ("http://127.0.0.1:9000/up?a=1", ("http", "127.0.0.1", 9000, "", "/up?a=1")),
        ("http://localhost", ("http", "localhost", 80, "", "/")),
        ("http://[::1]/up", ("http", "::1", 80, "", "/up")),
        ("http+unix:/run/a:/up?at=x:/y", ("http+unix", "", 0, "/run/a", "/up?at=x:/y")),
    ],
)
def test_a_probe_asks_a_port_or_a_path_with_or_without_http(
    text: str, expected: tuple[str, str, int, str, str]
) -> None:
    one = probe.parse(text, ())
    assert (one.kind, one.host, one.port, one.path, one.url) == expected
    assert not one.own


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is not a probe (allowed: tcp:HOST:PORT, unix:PATH, http://"),
        ("8080", "is not a probe"),
        ("https://127.0.0.1/", "is not a probe"),
        ("tcp:8080", 'has no host that can be asked: ""'),
        ("tcp:127.0.0.1", "has no port"),
        ("tcp:127.0.0.1:0", 'has no port that can be asked: "0" (allowed: 1 to 65535)'),
        ("tcp:127.0.0.1:65536", 'has no port that can be asked: "65536"'),
        ("tcp:127.0.0.1:{generation}", "has no port"),
        ("tcp:127.0.0.1:http", "has no port"),
        ("tcp:::1:80", "has an IPv6 address that is not in brackets"),
        ("tcp:[::1:80", "has an IPv6 address that is not in brackets"),
        ("tcp:[x:y]:80", 'has no host that can be asked: "x:y"'),
        ("tcp:no..host:80", "failed to resolve host:no..host"),  # no server is asked for that
        ("tcp:127.0.0.1 :80", "has characters that are not allowed there"),
        ("http://bücher.example/", "has characters that are not allowed there"),
        ("http:127.0.0.1:80/", "is not http://HOST:PORT/PATH"),
        ("http://me@127.0.0.1/", "is not http://HOST:PORT/PATH"),
        ("http://127.0.0.1/#top", "is not http://HOST:PORT/PATH"),
        ("http://127.0.0.1:x/", 'has no port that can be asked: "x"'),
        ("unix:", "has no path of a socket"),
        ("unix:/run/\n", "has characters that are not allowed there"),
        ("unix:/run/{gen}", "has braces that stand for nothing (allowed: {generation} and {pid})"),
        (f"unix:/{'x' * 107}", "has too long a path (allowed: 107 bytes)"),
        (f"unix:/{'x' * 100}{{pid}}", "has too long a path"),
        ("http+unix:/run/app.sock", "is not http+unix:SOCKET:/PATH"),
        ("http+unix::/up", "has no path of a socket"),
        ("http+unix:/run/app.sock:/a b", "is not http+unix:SOCKET:/PATH"),
    ],
)
def test_a_wrong_probe_is_refused_with_what_is_allowed(text: str, words: str) -> None:
    with pytest.raises(FatalError) as refusal:
        probe.parse(text, ())
    assert f'--probe: "{text}" {words}' in str(refusal.value)
    assert refusal.value.code == 1


@pytest.mark.parametrize(
    ("text", "own"),
    [
        ("tcp:127.0.0.1:8080", "8080"),
        ("tcp:0.0.0.0:8080", "8080"),
        ("tcp:localhost:8080", "127.0.0.1:8080"),
        ("tcp:127.0.0.1:8080", "localhost:8080"),
        ("tcp:127.0.0.2:8080", "0.0.0.0:8080"),
        ("tcp:[::ffff:127.0.0.1]:8080", "127.0.0.1:8080"),
        ("tcp:[::1]:8080", "[::1]:8080"),
    ],
)
def test_a_connection_to_our_own_listener_proves_nothing_and_is_refused(
    text: str, own: str
) -> None:
    with pytest.raises(FatalError) as refusal:
        probe.parse(text, ("9", "/run/x", own))
    assert "a connection succeeds before any generation is ready" in str(refusal.value)
    assert "Server-Starter-Generation" in str(refusal.value)
    address = text.removeprefix("tcp:")
    assert f"http://{address}/…" in str(refusal.value)
    assert probe.parse(f"http://{address}/", (own,)).own


@pytest.mark.parametrize(
    ("text", "own"),
    [
        ("tcp:127.0.0.1:8081", "8080"),
        ("tcp:192.0.2.1:8080", "8080"),  # another machine
        ("tcp:127.0.0.2:8080", "127.0.0.1:8080"),
        ("tcp:127.0.0.1:8080", "/run/8080"),
        ("unix:/run/other", "/run/app.sock"),
    ],
)
def test_other_addresses_than_our_own_may_be_probed(text: str, own: str) -> None:
    assert not probe.parse(text, (own,)).own


def test_a_unix_socket_of_our_own_is_known_by_any_of_its_names(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path)
    own = (str(tmp_path / "app.sock"),)
    for path in (own[0], f"{link}/app.sock", f"{tmp_path}/./app.sock"):
        with pytest.raises(FatalError, match="before any generation is ready"):
            probe.parse(f"unix:{path}", own)
        assert probe.parse(f"http+unix:{path}:/up", own).own


def test_the_generation_and_its_process_are_filled_in() -> None:
    target = Target(number=7, pid=1234, alone=True, limit=1)
    one = probe.parse("http+unix:/run/{generation}.sock:/up?{pid}-{generation}", ()).filled(target)
    assert (one.path, one.url) == ("/run/7.sock", "/up?1234-7")
    assert one.text == "http+unix:/run/7.sock:/up?1234-7"
