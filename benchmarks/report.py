"""What is said with every table: on what it was measured, and the same figures as JSON."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

KSM = Path("/sys/kernel/mm/ksm/run")


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Return rows, of which the first is the header, as a Markdown table."""
    head, *rest = rows
    lines = [head, ["---", *("---:" for _ in head[1:])], *rest]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


class Circumstances:
    """The machine, and what else it did meanwhile."""

    def __init__(self, versions: Mapping[str, str]) -> None:
        self._began = time.monotonic()
        self._versions = dict(versions)
        self._loads: list[float] = []

    def look(self) -> None:
        """Note how busy the machine is now."""
        self._loads.append(os.getloadavg()[0])

    def found(self) -> dict[str, object]:
        """Return all that is to be known of a run that ends now."""
        self.look()
        return {
            "date": datetime.now(UTC).isoformat(timespec="minutes"),
            "versions": self._versions,
            "kernel": platform.release(),
            "cores": os.cpu_count(),
            "memory_mb": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20,
            "same_page_merging": KSM.exists() and KSM.read_text().strip() == "1",
            "load_average": [min(self._loads), max(self._loads)],
            "seconds": round(time.monotonic() - self._began),
        }

    def sentence(self) -> str:
        """Say it below a table."""
        now = self.found()
        packages = ", ".join(f"{name} {version}" for name, version in self._versions.items())
        merging = "on" if now["same_page_merging"] else "off"
        low, high = min(self._loads), max(self._loads)
        return (
            f"{packages}; Linux {now['kernel']}, {now['cores']} cores, {now['memory_mb']:,} MB, the"
            f" kernel's merging of equal pages {merging}; load average {low:.1f} to {high:.1f}."
            f" {now['date']}, took {now['seconds']} s."
        )


def write_json(path: str, circumstances: Circumstances, measured: object) -> None:
    """Write a run into a file, when one was asked for."""
    if path:
        document = {"run": circumstances.found(), "measured": measured}
        Path(path).write_text(json.dumps(document, indent=2) + "\n")
