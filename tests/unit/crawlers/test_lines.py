import json

import pytest

from supervisor_py.crawlers.lines import Hit, reader, when

NOON = 1795608000.0  # 2026-11-25 12:00 UTC
COMBINED = (
    '192.0.2.7 - - [25/Nov/2026:12:00:00 +0000] "GET /a?b=1 HTTP/1.1" 200 5123'
    ' "https://example.org/" "Mozilla/5.0 (X11)"\n'
)
HIT = Hit(
    "-", "192.0.2.7", NOON, "GET", "/a?b=1", 200, 5123, "https://example.org/", "Mozilla/5.0 (X11)",
    None,
)  # fmt: skip
OURS = {
    "time": "2026-11-25T12:00:00+00:00", "host": "example.org", "address": "192.0.2.7",
    "method": "GET", "uri": "/a?b=1", "protocol": "HTTP/1.1", "status": 200, "bytes": 5123,
    "seconds": 0.25, "app_seconds": "0.200", "referer": "https://example.org/",
    "agent": "Mozilla/5.0 (X11)",
}  # fmt: skip
NGINX = {
    "time_iso8601": "2026-11-25T12:00:00+00:00", "server_name": "example.org",
    "remote_addr": "192.0.2.7", "request": "GET /a?b=1 HTTP/1.1", "status": "200",
    "body_bytes_sent": "5123", "upstream_response_time": "0.200", "request_time": "0.250",
    "http_referer": "https://example.org/", "http_user_agent": "Mozilla/5.0 (X11)",
}  # fmt: skip


def read(line: str, vhost: str = "") -> Hit | None:
    return reader(vhost)(line)


def test_a_line_of_the_combined_log_is_read() -> None:
    assert read(COMBINED) == HIT


def test_a_vhost_is_the_lines_own_or_the_one_that_was_given() -> None:
    assert read(COMBINED, "given.example") == HIT._replace(vhost="given.example")
    assert read(f"Example.ORG:443 {COMBINED}", "given.example") == HIT._replace(vhost="example.org")
    assert read(f"- {COMBINED}", "given.example") == HIT._replace(vhost="given.example")


@pytest.mark.parametrize("keys", [OURS, NGINX], ids=["ours", "nginx's names"])
def test_a_json_line_has_the_vhost_and_the_apps_time(keys: dict[str, object]) -> None:
    wanted = HIT._replace(vhost="example.org", app_seconds=0.2)
    assert read(json.dumps(keys)) == wanted


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("0.1, 0.2", 0.3), ("0.1 : 0.2", 0.3), ("-", 0.0), ("", 0.0), (0.5, 0.5), ("x, 0.1", 0.1)],
)
def test_the_apps_time_is_the_sum_of_all_tries_and_0_where_nginx_answered(
    value: object, seconds: float
) -> None:
    hit = read(json.dumps(OURS | {"app_seconds": value}))
    assert hit is not None
    assert hit.app_seconds == pytest.approx(seconds)


def test_the_whole_time_stands_for_the_apps_where_the_log_has_no_other() -> None:
    hit = read(json.dumps({key: OURS[key] for key in OURS if key != "app_seconds"}))
    assert hit is not None
    assert hit.app_seconds == 0.25


@pytest.mark.parametrize(
    ("request_", "method", "uri"),
    [
        (r"\x16\x03\x01", "", ""), ("-", "", ""), ("", "", ""), ("get / HTTP/1.1", "", ""),
        ("GET", "", ""),
        ("PROPFIND /x HTTP/1.1", "PROPFIND", "/x"), (r"GET /\x22 x", "GET", r"/\x22"),
    ],
)  # fmt: skip
def test_what_is_no_http_counts_as_a_request_without_an_address(
    request_: str, method: str, uri: str
) -> None:
    hit = read(COMBINED.replace("GET /a?b=1 HTTP/1.1", request_))
    assert hit == HIT._replace(method=method, uri=uri)


def test_a_users_name_with_spaces_and_quotes_of_other_servers_are_read() -> None:
    line = COMBINED.replace("- - [", "- a b [c] [").replace("(X11)", r"\"(X11)")
    hit = read(line)
    assert hit is not None
    assert hit.agent == r"Mozilla/5.0 \"(X11)"


@pytest.mark.parametrize(
    "line",
    [
        "", "\n", "junk", "{", "{}", "[]", "null", "{" * 100_000, '{"a":' * 100_000, "[" * 100_000,
        COMBINED[:60], COMBINED.replace("Nov", "Foo"), COMBINED.replace("25/", "45/"),
        json.dumps(OURS | {"time": "soon"}), json.dumps(OURS | {"address": 7}),
        json.dumps(OURS | {"status": float("nan")}), json.dumps(OURS | {"status": -1}),
        json.dumps(OURS | {"time": float("inf")}), json.dumps(OURS | {"time": None}),
        json.dumps([OURS]), json.dumps(OURS | {"status": True}), "1" * 5000,
        '{"time":' + "9" * 5000,
    ],
)  # fmt: skip
def test_what_is_no_line_of_an_access_log_is_told_apart(line: str) -> None:
    assert read(line) is None


def test_what_visitors_choose_is_cut() -> None:
    long = "x" * 100_000
    hit = read(json.dumps(dict.fromkeys(OURS, long) | {"time": NOON, "status": 200}))
    assert hit is not None
    assert max(len(value) for value in hit if isinstance(value, str)) <= 2048
    assert len(hit.agent) == 256


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("25/Nov/2026:13:00:00 +0100", NOON), ("2026-11-25T12:00:00Z", NOON),
        ("2026-11-25T07:00:00-05:00", NOON), ("2026-11-25 12:00:00", NOON),
        ("1795608000.000", NOON), ("25/Nov/2026:24:00:00 +0000", None), ("1e999", None),
        ("9999-12-31T23:59:59-23:59", 253402387139.0), ("", None), ("-1", None),
    ],
)  # fmt: skip
def test_times_are_read_as_nginx_writes_them(text: str, moment: float | None) -> None:
    assert when(text) == moment
