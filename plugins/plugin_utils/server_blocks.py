"""nginx's view of the sites: it picks a server block by host first, then a location in that.

An app may have several hosts, and a host several apps under paths of their own, so the blocks are
made by host. What a host or path looks like is the vhost server's own rule.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...supervisor_py.vhost.hosts import ALL, Site, site

CATCH_ALL = "_"  # no host's name; of the default server
MAX_AGE_SECONDS = 3600  # of static files that say nothing else
COPIES = "/etc/kechi/tls/copies"  # of certificates that the control machine has
WILD = ".any"  # what goes behind a site's name for its hosts that no ACME server certifies

Mount = tuple[str, int]  # a path, and the number of the site that has it


def server_blocks(sites: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One block for all hosts that the same apps share in the same way, and one certificate.

    Args:
        sites: ``frontend_sites``, checked.

    Returns:
        Blocks of ``apps`` (for a comment), ``default`` (takes what no other one has), ``names``
        as nginx takes them, ``certificate`` (its name), ``locations``: each a ``path`` ("" is the
        whole host) and a ``site``, the longest path first; and ``static``: each a ``url`` with its
        ``directory``, ``max_age_seconds``, ``untrusted_below`` (None where it is root's), and whose
        it is (``app``, ``number``).
    """
    names: dict[tuple[tuple[Mount, ...], str, bool], list[str]] = {}
    for host, found in _mounts(sites).items():
        key = tuple(sorted(found, key=lambda mount: (-len(mount[0]), mount)))
        # the default server is a block of its own: nginx has it from `listen`, not by its name
        names.setdefault((key, _certificate(sites, host, found), host == ALL), []).append(host)
    return [
        {
            "apps": list(dict.fromkeys(str(sites[number]["name"]) for _, number in key)),
            "default": default,
            "names": [CATCH_ALL] if default else hosts,
            "certificate": certificate,
            "locations": [{"path": path, "site": sites[number]} for path, number in key],
            "static": [static for path, number in key for static in _static(path, sites[number])],
        }
        for (key, certificate, default), hosts in names.items()
    ]


def certificates(sites: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The certificates that the blocks need: one a site, and one for its hosts with a "*".

    Args:
        sites: ``frontend_sites``, checked.

    Returns:
        Each a ``name``, its ``hosts``, and ``chain`` and ``key``, the target's files, where the
        administrator gives them.
    """
    hosts: dict[str, list[str]] = {}
    for host, found in _mounts(sites).items():
        hosts.setdefault(_certificate(sites, host, found), []).append(host)
    given = {str(entry["name"]): _given(entry) for entry in sites if entry.get("certificate")}
    return [{"name": name, "hosts": found, **given.get(name, {})} for name, found in hosts.items()]


def certificate_files(sites: Sequence[Mapping[str, Any]], inventory: Path) -> list[dict[str, str]]:
    """The certificates and keys to copy from the control machine, each a ``src`` and a ``dest``."""
    return [
        {
            "src": str((inventory / Path(entry["certificate"][key]).expanduser()).resolve()),
            "dest": dest,
        }
        for entry in sites
        if entry.get("certificate") and not entry["certificate"].get("remote")
        for key, dest in _given(entry).items()
    ]


def hosts(sites: Sequence[Mapping[str, Any]]) -> list[str]:
    """All hosts that some site has, each once, as nginx compares them."""
    return list(_mounts(sites))


def _given(entry: Mapping[str, Any]) -> dict[str, str]:
    kinds = ("chain", "key")
    if entry["certificate"].get("remote"):
        return {kind: str(entry["certificate"][kind]) for kind in kinds}
    return {kind: f"{COPIES}/{entry['name']}.{kind}.pem" for kind in kinds}


def _mounts(sites: Sequence[Mapping[str, Any]]) -> dict[str, list[Mount]]:
    mounts: dict[str, list[Mount]] = {}
    for number, entry in enumerate(sites):
        for known in _sites(entry):
            mounts.setdefault(known.host, []).append((known.prefix, number))
    return mounts


def _static(path: str, entry: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "max_age_seconds": MAX_AGE_SECONDS,
            "untrusted_below": None,
            **static,
            "url": f"{path}{static['url']}",
            "app": entry["name"],
            "number": number,
        }
        for number, static in enumerate(entry.get("static") or [])
    ]


def _sites(entry: Mapping[str, Any]) -> list[Site]:
    found = [site(str(text)) for text in entry["hosts"]]
    return [known for known in found if known is not None]


def _certificate(sites: Sequence[Mapping[str, Any]], host: str, mounts: Sequence[Mount]) -> str:
    """A host that several apps share has the certificate of the one with the shortest path."""
    _, number = min(mounts, key=lambda mount: (len(mount[0]), mount))
    given = bool(sites[number].get("certificate"))
    return f"{sites[number]['name']}{WILD if ALL in host and not given else ''}"
