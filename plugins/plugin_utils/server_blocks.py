"""nginx's view of the sites: it picks a server block by host first, then a location in that.

An app may have several hosts, and a host several apps under paths of their own, so the blocks are
made by host. What a host or path looks like is the vhost server's own rule.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...supervisor_py.vhost.hosts import ALL, site

CATCH_ALL = "_"  # no host's name; of the default server


def server_blocks(sites: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One block for all hosts that the same apps share in the same way.

    Args:
        sites: ``frontend_sites``, checked.

    Returns:
        Blocks of ``apps`` (for a comment), ``default`` (takes what no other one has), ``names``
        as nginx takes them, and ``locations``: each a ``path`` ("" is the whole host) and a
        ``socket``, the longest path first.
    """
    mounts: dict[str, list[tuple[str, str, str]]] = {}
    for entry in sites:
        for text in entry["hosts"]:
            known = site(str(text))
            assert known is not None
            mount = (known.prefix, str(entry["socket"]), str(entry["name"]))
            mounts.setdefault(known.host, []).append(mount)
    names: dict[tuple[tuple[str, str, str], ...], list[str]] = {}
    for host, found in mounts.items():
        key = tuple(sorted(found, key=lambda mount: (-len(mount[0]), mount)))
        # the default server is a block of its own: nginx has it from `listen`, not by its name
        names.setdefault((*key, ("", "", ALL)) if host == ALL else key, []).append(host)
    return [
        {
            "apps": list(dict.fromkeys(app for _, socket, app in key if socket)),
            "default": hosts == [ALL],
            "names": [CATCH_ALL if host == ALL else host for host in hosts],
            "locations": [{"path": path, "socket": socket} for path, socket, _ in key if socket],
        }
        for key, hosts in names.items()
    ]
