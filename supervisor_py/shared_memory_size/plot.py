"""Histories as a picture, by matplotlib, which is an optional dependency."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import FatalError
from .history import Point

KINDS = (".svg", ".png")
# Each of these can be read on white and on black.
_GRAY = "#7d8590"
_INKS = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
_COLORS = ("#2f81f7", "#e8703a", "#2da44e", "#a371f7", "#d4a72c", "#db61a2")
_INCHES = (8.0, 3.4)
_KB_PER_MB = 1024


def draw(file: Path, series: Mapping[str, Sequence[Point]]) -> None:
    """Draw each series: its shared share, and what all processes cost, over requests.

    Raises FatalError when the file's kind is unknown or it can't be written, or without matplotlib.
    """
    if file.suffix not in KINDS:
        raise FatalError(f"{file}: can't be drawn: its name ends in none of {', '.join(KINDS)}")
    try:
        import matplotlib as mpl  # noqa: PLC0415  # optional, and large
        from matplotlib.figure import Figure  # noqa: PLC0415
    except ImportError as error:
        raise FatalError(
            f"--plot needs matplotlib ({error}): pip install 'kechi-vps[plot]'"
        ) from None
    settings: Any = {
        **dict.fromkeys(_INKS, _GRAY),
        "font.size": 9,
        "svg.fonttype": "none",
        "svg.hashsalt": "kechi",
    }
    with mpl.rc_context(settings):
        figure = Figure(figsize=_INCHES, layout="constrained")
        shares, costs = figure.subplots(1, 2)
        for color, (label, points) in zip(_cycle(len(series)), series.items(), strict=True):
            requests = [point.requests for point in points]
            style: Any = {"color": color, "label": label, "linewidth": 2}
            shares.plot(requests, [point.shared_percent for point in points], **style)
            costs.plot(requests, [point.pss_kb / _KB_PER_MB for point in points], **style)
        shares.set_title("memory that the workers share, %", color=_GRAY, fontsize=9)
        shares.set_ylim(0, 100)
        costs.set_title("memory of all processes (PSS), MB", color=_GRAY, fontsize=9)
        costs.set_ylim(bottom=0)
        for axes in (shares, costs):
            axes.set_xlim(left=0)
            axes.set_xlabel("requests")
            axes.grid(color=_GRAY, alpha=0.25, linewidth=0.5)
            axes.patch.set_alpha(0)
            axes.spines[["top", "right"]].set_visible(False)
            axes.xaxis.set_major_formatter("{x:,.0f}")
            axes.locator_params(axis="x", nbins=5)
        if len(series) > 1:
            handles, labels = shares.get_legend_handles_labels()
            figure.legend(handles, labels, frameon=False, loc="outside lower center", ncols=3)
        try:
            # Without a date, the same history is the same file.
            dated: Any = {"Date": None} if file.suffix == ".svg" else {}
            figure.savefig(file, transparent=True, dpi=150, metadata=dated)
        except OSError as error:
            raise FatalError(f"{file}: can't be written: {error.strerror}") from None


def _cycle(count: int) -> list[str]:
    return [_COLORS[at % len(_COLORS)] for at in range(count)]
