"""What the roles' variables must fulfil beyond their types: one file, and one function, a role.

Each takes the role's values (defaults filled in) and what is known of the machine, and returns
every problem as a sentence. Nothing here touches a host.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from .backup import backup
from .common import Machine, Values
from .crawlers import crawlers
from .frontend import frontend
from .host import host
from .supervisor import supervisor
from .swap import planned_swap_mb, swap
from .vhost_app import pools_budget, vhost_app

__all__ = ["BY_ROLE", "Machine", "planned_swap_mb", "pools_budget", "vhost_app"]

BY_ROLE: Mapping[str, Callable[[Values, Machine], Iterator[str]]] = {
    "host": host,
    "swap": swap,
    "supervisor": supervisor,
    "vhost_app": vhost_app,
    "frontend": frontend,
    "crawlers": crawlers,
    "backup": backup,
}
