"""What crawlers' operators say of them, each with its source: data, and nothing else.

A row is added only with a page of the operator that says it. What the general list of crawlers
(the crawler-user-agents package) knows, names and kinds, is not repeated here.
"""

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network

_GOOGLE = "https://developers.google.com/crawling/docs/crawlers-fetchers"
_GOOGLE_VERIFY = f"{_GOOGLE}/verify-google-requests"
_GOOGLE_COMMON = f"{_GOOGLE}/google-common-crawlers"
_GOOGLE_SPECIAL = f"{_GOOGLE}/google-special-case-crawlers"
_GOOGLE_ROBOTS = "https://developers.google.com/crawling/docs/robots-txt/robots-txt-spec"
_APPLE = "https://support.apple.com/119829"
_OPENAI = "https://developers.openai.com/api/docs/bots"
_ANTHROPIC = (
    "https://support.claude.com/en/articles/8896518"
    "-does-anthropic-crawl-data-from-the-web-and-how-can-site-owners-block-the-crawler"
)
_AMAZON = "https://developer.amazon.com/amazonbot"
_BING = "https://www.bing.com/webmaster/help/how-to-verify-bingbot-3905dc26"
_YANDEX = "https://yandex.com/support/webmaster/robot-workings/check-yandex-robots.html"
_YANDEX_ROBOTS = "https://yandex.com/support/webmaster/en/robot-workings/user-agent"
_YANDEX_DELAY = "https://yandex.com/support/webmaster/en/robot-workings/crawl-delay"
_BAIDU = "https://www.baidu.com/search/spider.html"
_SEZNAM = "https://napoveda.seznam.cz/en/seznambot-crawler"
_AHREFS = "https://ahrefs.com/robot/"
_BING_DELAY = "https://blogs.bing.com/webmaster/2009/08/10/crawl-delay-and-the-bing-crawler-msnbot"
_COMMON_CRAWL = "https://commoncrawl.org/faq"
_META = "https://developers.facebook.com/docs/sharing/webmasters/web-crawlers/"
_MISTRAL = "https://docs.mistral.ai/en/robots"


@dataclass(frozen=True, slots=True)
class Ranges:
    """Address ranges that an operator has published, as they were on a date.

    They prove who somebody is, and never who he isn't: lists grow, and this one is as old as its
    date.
    """

    networks: tuple[IPv4Network | IPv6Network, ...]
    date: str
    source: str


@dataclass(frozen=True, slots=True)
class Crawler:
    """A crawler that can be checked: `agent` is what its User-Agent has in it, in small letters.

    `domains` are those that the names of its addresses end in, and that lead back to them.
    """

    name: str
    agent: str
    domains: tuple[str, ...]
    source: str
    ranges: Ranges | None = None


@dataclass(frozen=True, slots=True)
class Network:
    """A domain of machines that only crawl: no person browses from there."""

    domain: str
    operator: str
    source: str


@dataclass(frozen=True, slots=True)
class Manners:
    """What a crawler does beside or against RFC 9309, as its operator says.

    `also` are the names whose groups it obeys when none names it, in order. `opt_out` marks a name
    that nobody visits with: it says what `crawled_by` may use its pages for. `delay` tells whether
    it honours Crawl-delay, None that its operator says nothing of it.
    """

    name: str
    source: str
    also: tuple[str, ...] = ()
    ignores_star: bool = False
    opt_out: str = ""
    crawled_by: str = ""
    ignores_all: bool = False
    delay: bool | None = None
    delay_source: str = ""


def _ranges(date: str, source: str, *networks: str) -> Ranges:
    return Ranges(tuple(ip_network(one) for one in networks), date, source)


def _google(name: str, *also: str) -> Manners:
    # "other fields such as crawl-delay aren't supported", as the page says of 2026-08-31
    return Manners(name, _GOOGLE_COMMON, also, delay=False, delay_source=_GOOGLE_ROBOTS)


def _google_special(name: str) -> Manners:
    # "The global user agent (*) is ignored", as the page says of each
    return Manners(
        name, _GOOGLE_SPECIAL, ignores_star=True, delay=False, delay_source=_GOOGLE_ROBOTS
    )


_APPLEBOT_RANGES = _ranges(
    "2026-05-15",
    "search.developer.apple.com/applebot.json",
    "17.22.237.0/24", "17.22.245.0/24", "17.22.253.0/24", "17.241.75.0/24", "17.241.193.160/27",
    "17.241.200.160/27", "17.241.208.160/27", "17.241.219.0/24", "17.241.227.0/24",
    "17.246.15.0/24", "17.246.19.0/24", "17.246.23.0/24",
)  # fmt: skip
_GPTBOT_RANGES = _ranges(
    "2026-10-05",
    "openai.com/gptbot.json",
    "4.227.36.0/25", "20.125.66.80/28", "20.171.206.0/23", "52.230.152.0/24", "74.7.175.128/25",
    "74.7.227.0/24", "74.7.228.0/25", "74.7.230.0/25", "74.7.241.0/24", "74.7.242.0/25",
    "74.7.243.128/25", "74.7.244.0/25", "132.196.86.0/24", "172.182.202.0/25", "172.182.207.0/25",
)  # fmt: skip

# The first whose `agent` is in a User-Agent is what it claims to be: the special ones come first.
_GOOGLES = ("googlebot.com", "google.com")
CRAWLERS = (
    Crawler("AdsBot-Google", "adsbot-google", _GOOGLES, _GOOGLE_VERIFY),
    Crawler("Mediapartners-Google", "mediapartners-google", _GOOGLES, _GOOGLE_VERIFY),
    Crawler("APIs-Google", "apis-google", _GOOGLES, _GOOGLE_VERIFY),
    Crawler("Storebot-Google", "storebot-google", _GOOGLES, _GOOGLE_VERIFY),
    Crawler("Google-InspectionTool", "google-inspectiontool", _GOOGLES, _GOOGLE_VERIFY),
    Crawler("GoogleOther", "googleother", _GOOGLES, _GOOGLE_VERIFY),
    Crawler("Googlebot-Image", "googlebot-image", _GOOGLES, _GOOGLE_VERIFY),
    Crawler("Googlebot-Video", "googlebot-video", _GOOGLES, _GOOGLE_VERIFY),
    Crawler("Googlebot-News", "googlebot-news", _GOOGLES, _GOOGLE_VERIFY),
    Crawler("Googlebot", "googlebot", _GOOGLES, _GOOGLE_VERIFY),
    Crawler("Applebot", "applebot", ("applebot.apple.com",), _APPLE, _APPLEBOT_RANGES),
    Crawler("bingbot", "bingbot", ("search.msn.com",), _BING),
    Crawler("msnbot", "msnbot", ("search.msn.com",), _BING),
    # what all its robots say, and its browser and app don't
    Crawler("YandexBot", "yandex.com/bots", ("yandex.ru", "yandex.net", "yandex.com"), _YANDEX),
    Crawler("Baiduspider", "baiduspider", ("baidu.com", "baidu.jp"), _BAIDU),
    Crawler("SeznamBot", "seznambot", ("seznam.cz",), _SEZNAM),
    Crawler("Amazonbot", "amazonbot", ("crawl.amazonbot.amazon",), _AMAZON),
    Crawler("AhrefsBot", "ahrefsbot", ("ahrefs.com", "ahrefs.net"), _AHREFS),
    Crawler("AhrefsSiteAudit", "ahrefssiteaudit", ("ahrefs.com", "ahrefs.net"), _AHREFS),
    Crawler("GPTBot", "gptbot", (), _OPENAI, _GPTBOT_RANGES),
)

# Those of a machine's own network: who comes through a proxy there hides in its address.
OWN = (
    "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "127.0.0.0/8", "169.254.0.0/16",
    "100.64.0.0/10", "::1/128", "fc00::/7", "fe80::/10",
)  # fmt: skip

# Where a browser's User-Agent comes from one of these, it is no browser of a person.
NETWORKS = (
    Network("googlebot.com", "Google", _GOOGLE_VERIFY),
    Network("applebot.apple.com", "Apple", _APPLE),
    Network("search.msn.com", "Bing", _BING),
    Network("crawl.baidu.com", "Baidu", _BAIDU),
    Network("crawl.baidu.jp", "Baidu", _BAIDU),
    Network("crawl.amazonbot.amazon", "Amazon", _AMAZON),
    # an advertising network's crawler (target.microad.jp), seen with a browser's User-Agent
    Network("microad.jp", "MicroAd, an advertising network", "seen in a blogger's access log"),
)

_TRAINING = "the training of AI models"
MANNERS = (
    Manners("Applebot", _APPLE, also=("Googlebot",)),
    Manners("Applebot-Extended", _APPLE, opt_out=_TRAINING, crawled_by="Applebot"),
    _google("Googlebot"),
    _google("Googlebot-Image", "Googlebot"),
    _google("Googlebot-Video", "Googlebot"),
    _google("Googlebot-News", "Googlebot"),
    Manners("Google-Extended", _GOOGLE_COMMON, opt_out=_TRAINING, crawled_by="Googlebot"),
    _google_special("AdsBot-Google"),
    _google_special("AdsBot-Google-Mobile"),
    _google_special("APIs-Google"),
    _google_special("Mediapartners-Google"),
    Manners("Google-Safety", _GOOGLE_SPECIAL, ignores_all=True),
    Manners("GPTBot", _OPENAI),
    Manners("OAI-SearchBot", _OPENAI),
    Manners("ChatGPT-User", _OPENAI, ignores_all=True),
    Manners("ClaudeBot", _ANTHROPIC, delay=True, delay_source=_ANTHROPIC),
    Manners("Claude-User", _ANTHROPIC, delay=True, delay_source=_ANTHROPIC),
    Manners("Claude-SearchBot", _ANTHROPIC, delay=True, delay_source=_ANTHROPIC),
    Manners("Amazonbot", _AMAZON, delay=False, delay_source=_AMAZON),
    Manners("Yandex", _YANDEX_ROBOTS, delay=False, delay_source=_YANDEX_DELAY),
    Manners("YandexBot", _YANDEX_ROBOTS, ("Yandex",), delay=False, delay_source=_YANDEX_DELAY),
    Manners("AhrefsBot", _AHREFS, delay=True, delay_source=_AHREFS),
    Manners("bingbot", _BING, delay=True, delay_source=_BING_DELAY),
    Manners("msnbot", _BING, delay=True, delay_source=_BING_DELAY),
    Manners("CCBot", _COMMON_CRAWL, delay=True, delay_source=_COMMON_CRAWL),
    Manners("meta-externalagent", _META),
    Manners("MistralAI-Training", _MISTRAL),
)
# Pages of these are used to train models, by what their operators say: who opts out names them.
TRAINING = (
    "Applebot-Extended", "Google-Extended", "GPTBot", "ClaudeBot", "meta-externalagent",
    "MistralAI-Training",
)  # fmt: skip
