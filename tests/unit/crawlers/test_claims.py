import pytest

from supervisor_py.crawlers import claims
from supervisor_py.crawlers.claims import claim

CHROME = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko)"
    " Chrome/142.0.0.0 Safari/537.36"
)


GOOGLE = "+http://www.google.com/bot.html"


@pytest.mark.parametrize(
    ("agent", "kind", "name"),
    [
        (CHROME, claims.BROWSER, ""),
        ("Mozilla/5.0 (X11; Linux; rv:140.0) Gecko/20100101 Firefox/140.0", claims.BROWSER, ""),
        ("Mozilla/5.0 (iPhone; CPU iPhone OS 19_0) AppleWebKit/605.1.15", claims.BROWSER, ""),
        (f"{CHROME} YaBrowser/25.8 YandexSearch/25.8", claims.BROWSER, ""),
        ("", claims.NOTHING, ""),
        (f"Mozilla/5.0 (compatible; Googlebot/2.1; {GOOGLE})", claims.CRAWLER, "Googlebot"),
        ("Googlebot-Image/1.0", claims.CRAWLER, "Googlebot-Image"),
        (f"{CHROME} (compatible; GOOGLEBOT)", claims.CRAWLER, "Googlebot"),
        ("Mozilla/5.0 (Macintosh) (Applebot/0.1)", claims.CRAWLER, "Applebot"),
        ("YandexImages/3.0 (+http://yandex.com/bots)", claims.CRAWLER, "YandexBot"),
        ("DotBot/1.2 (+https://opensiteexplorer.org/dotbot)", claims.CRAWLER, "DotBot"),
        ("Feedly/1.0 (+http://www.feedly.com/; 3 subscribers)", claims.FEED_READER, "Feedly"),
        ("MyOwn RSS/1.0", claims.FEED_READER, "MyOwn"),
        ("Mozilla/5.0+(compatible; UptimeRobot/2.0)", claims.MONITOR, "UptimeRobot"),
        ("curl/8.14.1", claims.PROGRAM, "curl"),
        ("python-requests/2.32", claims.PROGRAM, "python-requests"),
        ("SomeApp/7 (Android)", claims.PROGRAM, "SomeApp"),
        ("Mozilla/5.0 (compatible; unheard-of-crawler/1.0)", claims.CRAWLER, "unheard-of-crawler"),
        ("Mozilla/5.0 me@example.org", claims.CRAWLER, "Mozilla"),
        ("/;()", claims.PROGRAM, "/;()"),
    ],
)  # fmt: skip
def test_a_user_agent_says_what_it_is(agent: str, kind: str, name: str) -> None:
    found = claim(agent)
    assert (found.kind, found.name) == (kind, name)


def test_only_what_an_operator_has_said_how_to_check_can_be_checked() -> None:
    assert claim("Mozilla/5.0 (compatible; bingbot/2.0)").crawler is not None
    assert claim("Mozilla/5.0 (compatible; DotBot/1.2)").crawler is None
