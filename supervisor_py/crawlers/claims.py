"""What a User-Agent says of itself."""

import re
from dataclasses import dataclass
from functools import cache, lru_cache

from crawleruseragents import CRAWLER_USER_AGENTS_DATA

from . import known
from .known import Crawler
from .visits import MOST_CLIENTS

BROWSER, NOTHING, CRAWLER, FEED_READER, MONITOR, PROGRAM = (
    "browser", "nothing", "crawler", "feed reader", "monitor", "program",
)  # fmt: skip
_TAGS = {"feed-reader": FEED_READER, "monitoring": MONITOR, "http-library": PROGRAM}
_CHUNK = 25  # patterns at a time: one search tells that none of them is in there
_MOST_NAME = 40
# Those that only they have in it who say what they are; browsers have none of them.
_BOT = re.compile(r"bot\b|crawl|spider|https?://|\w@\w", re.IGNORECASE)
_FEED = re.compile(r"\bfeed|\brss|\batom\b", re.IGNORECASE)
_PRODUCT = re.compile(r"[^\s/;()]+")


@dataclass(frozen=True, slots=True)
class Claim:
    """Of which kind somebody says to be, under which name; `crawler` where that can be checked."""

    kind: str
    name: str
    crawler: Crawler | None = None


# as many as there are clients to look into: each User-Agent costs a thousand patterns
@lru_cache(MOST_CLIENTS)
def claim(agent: str) -> Claim:
    """Tell what a User-Agent says of itself."""
    if not agent:
        return Claim(NOTHING, "")
    small = agent.lower()
    for crawler in known.CRAWLERS:
        if crawler.agent in small:
            return Claim(CRAWLER, crawler.name, crawler)
    listed = _listed(agent)
    if listed is not None:
        return listed
    browser = agent.startswith(("Mozilla/", "Opera/"))
    if browser and not _BOT.search(agent):
        return Claim(BROWSER, "")
    kind = FEED_READER if _FEED.search(agent) else CRAWLER if _BOT.search(agent) else PROGRAM
    return Claim(kind, _name(agent))


def _listed(agent: str) -> Claim | None:
    """Return what the general list of crawlers has of it."""
    for chunk, entries in _patterns():
        if not chunk.search(agent):
            continue
        for pattern, kind in entries:
            found = pattern.search(agent)
            if found:
                return Claim(kind, _word(agent, found.start(), found.end()))
    return None


@cache
def _patterns() -> list[tuple[re.Pattern[str], list[tuple[re.Pattern[str], str]]]]:
    entries = [
        (
            entry["pattern"],
            next((_TAGS[tag] for tag in entry["tags"] if tag in _TAGS), CRAWLER),
        )
        for entry in CRAWLER_USER_AGENTS_DATA
    ]
    chunks = [entries[at : at + _CHUNK] for at in range(0, len(entries), _CHUNK)]
    return [
        (
            re.compile("|".join(pattern for pattern, _ in chunk)),
            [(re.compile(pattern), kind) for pattern, kind in chunk],
        )
        for chunk in chunks
    ]


def _word(agent: str, start: int, end: int) -> str:
    """Return the whole word that was found a part of, as it is written first: DotBot of dotbot."""
    while start > 0 and (agent[start - 1].isalnum() or agent[start - 1] in "-_."):
        start -= 1
    word = agent[start:end].strip(" /;(")
    written = (one for one in _PRODUCT.findall(agent) if one.lower() == word.lower())
    return next(written, word)[:_MOST_NAME]


def _name(agent: str) -> str:
    """Return the most telling word: one with bot, crawl or spider in it, else the first."""
    words = _PRODUCT.findall(agent)
    telling = [word for word in words if re.search("bot|crawl|spider", word, re.IGNORECASE)]
    name: str = (telling or words or [agent])[0]
    return name[:_MOST_NAME]
