"""What the role `host` asks of its lists."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..plugin_utils import open_ports


class FilterModule:
    """What the role's files call, each as ``kechi.vps.NAME``."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """The filters of this file."""
        return {"closed_ports": open_ports.closed}
