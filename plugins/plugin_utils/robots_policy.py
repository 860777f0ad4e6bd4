"""The robots.txt of each host, from the policies of an inventory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ...supervisor_py.crawlers.known import TRAINING
from ...supervisor_py.vhost.hosts import ALL, site
from .server_blocks import hosts

Policy = Mapping[str, Any]
DEFAULT = "_"  # of the host that gets what no other one has: no host's name
MARK = "# by the role kechi.vps.crawlers"


def host(text: str) -> str | None:
    """A host as the sites have it, without a path; None where it is none."""
    known = site(text)
    return known.host if known and not known.prefix else None


def robots_files(
    sites: Sequence[Mapping[str, Any]], policies: Sequence[Policy]
) -> list[dict[str, str]]:
    """The robots.txt of each host that a policy is for, checked ones.

    Returns:
        Each the ``host``, as nginx's map has it, the ``name`` of its file, and the ``content``.
    """
    named = {host(str(text)): policy for policy in policies for text in policy.get("hosts") or []}
    others = next((policy for policy in policies if not policy.get("hosts")), None)
    found = ((one, named.get(one, others)) for one in hosts(sites))
    return [
        {
            "host": "default" if one == ALL else one,
            "name": f"{one.replace(ALL, DEFAULT)}.txt",
            "content": text(policy),
        }
        for one, policy in found
        if policy is not None
    ]


def robots_texts(files: Sequence[Mapping[str, str]], folder: str) -> list[dict[str, str]]:
    """What the module `files` has to write, of `robots_files`."""
    return [{"path": f"{folder}/{one['name']}", "content": one["content"]} for one in files]


def text(policy: Policy) -> str:
    """A policy as a robots.txt."""
    parts = ["\n".join(_group(["*"], policy))]
    parts += ["\n".join(_group(entry["names"], entry)) for entry in policy.get("agents") or []]
    if not policy.get("ai_training", True):
        parts.append("\n".join(_group(TRAINING, {"disallow": ["/"]})))
    sitemaps = policy.get("sitemaps") or []
    parts += ["\n".join(f"Sitemap: {one}" for one in sitemaps)] if sitemaps else []
    return f"{MARK}\n" + "\n\n".join(parts) + "\n"


def _group(names: Sequence[str], rules: Mapping[str, Any]) -> Iterator[str]:
    yield from (f"User-agent: {name}" for name in names)
    allowed, disallowed = rules.get("allow") or [], rules.get("disallow") or []
    yield from (f"Allow: {path}" for path in allowed)
    yield from (f"Disallow: {path}" for path in disallowed)
    if not allowed and not disallowed:
        yield "Disallow:"  # nothing: a group has to have a rule
    # of no use to those that do not honour it, and no harm
    if rules.get("crawl_delay_seconds"):
        yield f"Crawl-delay: {rules['crawl_delay_seconds']}"
