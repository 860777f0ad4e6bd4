"""What commands print for people: columns, ages, and the answer to --status."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_KB_PER_MB = 1024
_COLUMNS = ("GENERATION", "PHASE", "PID", "AGE", "READY AFTER", "PROCESSES", "MEMORY", "SHARED")


def aligned(rows: Sequence[Sequence[str]], *, left: int = 0) -> str:
    """Return rows of cells as columns, all but the first `left` of them aligned to the right."""
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if at < left else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )


def age(seconds: float) -> str:
    """Put a time span in words of two units at most: `7.2 s`, `3 min 20 s`, `2 d 5 h`."""
    if round(seconds, 1) < _MINUTE:
        return f"{seconds:.1f} s"
    whole = int(max(seconds, _MINUTE))
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE} s"
    if whole < _DAY:
        return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE} min"
    return f"{whole // _DAY} d {whole % _DAY // _HOUR} h"


def of_status(known: dict[str, Any]) -> str:
    """Return the answer to --status as a table of generations, and lines about the rest."""
    lines = [
        f"start_server {known['version']}, pid {known['pid']}, up {age(known['uptime_seconds'])}"
    ]
    if known["sockets"]:
        lines.append(f"listens on {', '.join(known['sockets'])}")
    if known["stopping"]:
        lines.append("is stopping")
    lines.append("")
    rows = [_COLUMNS, *(_row(one) for one in known["generations"])]
    lines.append(aligned(rows) if known["generations"] else "no generation is alive")
    lines += [
        f"generation {one['number']} says: {one['status']}"
        for one in known["generations"]
        if one["status"]
    ]
    lines.append("")
    counts = ", ".join(f"{count} for {reason}" for reason, count in known["restarts"].items())
    lines.append(f"generations that became ready: {counts or 'none'}")
    if known["failed_attempts"]:
        lines.append(f"failed attempts: {known['failed_attempts']}")
    if known["trouble"]:
        lines.append(f"trouble: {known['trouble']}")
    restart = known["restart"]
    if restart:
        lines.append(_under_way(restart))
    if known["next_timed_restart_seconds"] is not None:
        lines.append(f"next timed restart in {age(known['next_timed_restart_seconds'])}")
    return "\n".join(lines)


def _under_way(restart: dict[str, Any]) -> str:
    text = f"a restart is under way ({restart['reason']})"
    if restart["generation"]:
        return f"{text}: generation {restart['generation']}"
    if restart["waits_for_memory"]:
        return f"{text}: it waits for memory"
    if restart["next_attempt_seconds"] is not None:
        return f"{text}: next attempt in {age(restart['next_attempt_seconds'])}"
    return text


def _row(one: dict[str, Any]) -> tuple[str, ...]:
    ready, shared = one["ready_after_seconds"], one["shared_percent"]
    return (
        str(one["number"]),
        f"{one['phase']}, main process gone" if one["main_process_gone"] else one["phase"],
        str(one["pid"]),
        age(one["age_seconds"]),
        "-" if ready is None else age(ready),
        str(one["processes"] or "-"),
        f"{one['pss_kb'] / _KB_PER_MB:.1f} MB" if one["pss_kb"] else "-",
        "-" if shared is None else f"{shared:.0f} %",
    )
