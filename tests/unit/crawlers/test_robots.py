import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor_py.crawlers import known, robots
from supervisor_py.crawlers.robots import explain, parse

BLOG = b"""\
# a blog's
User-agent: Googlebot
Disallow: /google/

User-agent: *
Disallow: /private/
Allow: /private/shown/
Crawl-delay: 10

User-agent: GPTBot
User-agent: Google-Extended
Disallow: /
"""


def allowed(content: bytes, agent: str, path: str) -> bool:
    return explain(parse(content), agent, path).allowed


def group(content: bytes, agent: str) -> str | None:
    found = robots.obeyed(parse(content), agent)
    return found.name.lower() if found else None


def test_applebot_obeys_googlebots_group_when_none_names_it() -> None:
    found = explain(parse(BLOG), "Applebot", "/google/1")
    assert not found.allowed
    assert found.obeyed is not None
    assert found.obeyed.name == "Googlebot"
    assert found.rule is not None
    assert found.rule.line == 3
    assert found.reasons == (
        "no group names Applebot",
        "so it obeys the group of Googlebot (line 2), as its operator says",
        "line 3 decides: Disallow: /google/ (the longest rule that matches wins)",
    )
    assert found.sources == ("https://support.apple.com/119829",)
    assert allowed(BLOG, "Applebot", "/private/"), "which the group for all others disallows"


def test_applebot_obeys_its_own_group_when_there_is_one() -> None:
    assert group(BLOG + b"User-agent: applebot\nDisallow: /a\n", "Applebot") == "applebot"


def test_applebot_obeys_the_group_for_all_when_googlebot_has_none_either() -> None:
    assert group(b"User-agent: *\nDisallow: /a\n", "Applebot") == "*"


@pytest.mark.parametrize(
    ("agent", "wanted"),
    [
        ("Googlebot", "googlebot"), ("googlebot", "googlebot"), ("Googlebot-Image", "googlebot"),
        ("GPTBot", "gptbot"), ("Google-Extended", "google-extended"), ("Applebot-Extended", "*"),
        ("bingbot", "*"), ("Goo", "*"), ("Googlebot-Unheard-Of", "*"), ("AdsBot-Google", None),
        ("ChatGPT-User", None), ("OAI-SearchBot", "*"), ("YandexBot", "*"),
    ],
)  # fmt: skip
def test_the_group_is_the_one_that_a_crawler_really_obeys(agent: str, wanted: str | None) -> None:
    assert group(BLOG, agent) == wanted


def test_yandex_robots_obey_the_group_of_all_of_them() -> None:
    content = b"User-agent: *\nDisallow: /\nUser-agent: Yandex\nDisallow: /y\n"
    assert group(content, "YandexBot") == "yandex"
    assert group(content + b"User-agent: YandexBot\nAllow: /\n", "YandexBot") == "yandexbot"


def test_an_opt_out_is_told_from_a_visit() -> None:
    found = explain(parse(BLOG), "google-extended", "/")
    assert found.agent == "Google-Extended"
    assert not found.allowed
    assert found.opt_out == "the training of AI models"
    assert found.reasons[0].startswith("nobody visits as Google-Extended")


def test_who_ignores_the_group_for_all_is_said_to() -> None:
    found = explain(parse(BLOG), "AdsBot-Google", "/private/")
    assert found.allowed
    assert "AdsBot-Google ignores the group for *, as its operator says" in found.reasons


@pytest.mark.parametrize(
    ("agent", "reason"),
    [
        ("Amazonbot", "which it does not honour"), ("ClaudeBot", "which it honours"),
        ("bingbot", "which it honours"), ("Googlebot", ""),
        ("DuckDuckBot", "whether it honours that, its operator does not say"),
    ],
)  # fmt: skip
def test_a_crawl_delay_is_told_with_whether_it_helps(agent: str, reason: str) -> None:
    found = explain(parse(BLOG), agent, "/")
    assert (found.delay, found.delay_reason) == (10.0 if reason else None, reason)


# RFC 9309, sections 2.2.1 to 2.2.4 and 5: the group, the rule, and what is passed over.
RULES = b"""\
User-agent: a
Disallow: *.gif$
Disallow: /example/
Allow: /publications/

User-Agent: b
Disallow: /example/page/
Allow: /example/page/disallowed.gif
Disallow: /equal
Allow: /equal
Disallow: /path%2Ffile
Disallow: /caf%C3%A9
Disallow: /a b
"""


@pytest.mark.parametrize(
    ("agent", "path", "wanted"),
    [
        ("a", "/x/y.gif", False), ("a", "/x/y.gif?z", True), ("a", "/example/", False),
        ("a", "/Example/", True), ("a", "/publications/", True), ("b", "/example/page/x", False),
        ("b", "/example/page/disallowed.gif", True), ("b", "/equal", True),
        ("b", "/path/file", True), ("b", "/path%2ffile", False), ("b", "/café", False),
        ("b", "/caf%c3%a9", False), ("b", "/a%20b", False), ("c", "/example/", True),
        ("b", "/robots.txt", True),
    ],
)  # fmt: skip
def test_the_longest_rule_wins_and_allow_a_tie(agent: str, path: str, wanted: bool) -> None:
    assert allowed(RULES, agent, path) is wanted


@pytest.mark.parametrize(
    "content",
    [
        b"User-agent: x\nDisallow: /a\nUser-agent: y\nDisallow: /b\nUser-agent: X\nDisallow: /c\n",
        b"user-AGENT:x/1.0 # me\rDISALLOW : /a\r\nAllow: /b # not /a\nDisallow: /c",
        b"\xef\xbb\xbfUser-agent: x\nUser-agent: y\nUnknown: 1\nDisallow: /a\nDisallow: /c\n",
        b"Disallow: /b\nUser-agent: x\nsitemap: /s\nDisallow: /a\n\n\nDisallow: /c\n",
        b"User-agent: x\nDisallow: /a\nDisallow:\nDisallow: /c\nUser-agent: *\nDisallow: /b",
    ],
)
def test_groups_are_read_as_rfc_9309_says(content: bytes) -> None:
    assert [allowed(content, "x", path) for path in ("/a", "/b", "/c")] == [False, True, False]


def test_what_is_beyond_500_kib_is_not_read() -> None:
    filler = b"#" * robots.MOST_BYTES + b"\n"
    file = parse(filler + b"User-agent: *\nDisallow: /\n")
    assert file.cut
    assert explain(file, "x", "/").allowed


LINES = st.lists(
    st.one_of(
        st.sampled_from(
            [b"User-agent: x", b"User-agent: *", b"Disallow: /a", b"Allow: /a/index.html", b""]
        ),
        st.builds(
            lambda key, value: f"{key}: {value}".encode(),
            st.sampled_from(["Allow", "Disallow"]),
            st.text("/ab*$%\u2028\x0bé #", max_size=8),
        ),
        st.binary(max_size=20),
    ),
    max_size=8,
)


@settings(max_examples=100)
@given(LINES, st.text("/ab*$%é?=", max_size=6) | st.just("a/"))
def test_the_rule_that_is_named_agrees_with_the_verdict(lines: list[bytes], path: str) -> None:
    found = explain(parse(b"\n".join(lines)), "x", f"/{path}")
    if found.rule is not None:
        assert (found.rule.kind == "allow") is found.allowed
        assert found.obeyed is not None
        assert found.rule in found.obeyed.rules
    else:
        assert found.allowed
        rules = found.obeyed.rules if found.obeyed else ()
        assert not [rule for rule in rules if robots.matches(rule, found.path)]


def test_the_names_of_the_table_are_product_tokens() -> None:
    assert all(robots.is_token(one.name) for one in known.MANNERS)
