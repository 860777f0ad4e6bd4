"""What the role `host` asks of its lists."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..module_utils import sandbox
from ..plugin_utils import open_ports


def firewall_sandbox(_value: str) -> str:
    """``'' | kechi.vps.firewall_sandbox``: the directives that confine the firewall's unit."""
    return sandbox.unit_lines(sandbox.FIREWALL)


class FilterModule:
    """What the role's files call, each as ``kechi.vps.NAME``."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """The filters of this file."""
        return {"closed_ports": open_ports.closed, "firewall_sandbox": firewall_sandbox}
