"""The role `supervisor`: delays and a share."""

from __future__ import annotations

from collections.abc import Iterator

from .common import Machine, Values, at_least, within


def supervisor(values: Values, _machine: Machine) -> Iterator[str]:
    """The delays; the unit's own time-outs are derived from them."""
    if values.get("supervisor_kill_old_delay_seconds") is not None:
        yield from at_least(values, "supervisor_kill_old_delay_seconds", 0, "seconds")
    yield from at_least(values, "supervisor_auto_restart_interval_seconds", 1, "seconds")
    yield from at_least(values, "supervisor_readiness_timeout_seconds", 1, "seconds")
    yield from at_least(values, "supervisor_min_restart_interval_seconds", 0, "seconds")
    yield from at_least(values, "supervisor_memory_wait_seconds", 0, "seconds (0: don't look)")
    yield from within(values, "supervisor_shared_floor_percent", 0, 99)
    yield from at_least(values, "supervisor_grace_seconds", 1, "seconds")
