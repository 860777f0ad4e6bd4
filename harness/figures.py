"""A run as a picture: the time of each request, and under it the memory of each generation."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from .results import Request, Run

# Each of these can be read on white and on black.
GRAY = "#7d8590"
RED = "#e5484d"
COLORS = {
    "new": "#2f81f7",
    "keep-alive": "#2da44e",
    "slow": "#d4a72c",
    "upload": "#a371f7",
    "rare": "#db61a2",
}
GENERATIONS = ("#2f81f7", "#e8703a", "#2da44e", "#a371f7")
WIDE_INCHES = 10.0
NARROW_INCHES = 4.4
_REQUESTS_INCHES = 3.4
_POOL_INCHES = 1.5
_INKS = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
_FASTEST_SECONDS = 0.001
_KB_PER_MB = 1024
_NAMED_EVENTS = 8  # more of them would be written over each other
_NAME_CHARACTERS = 24  # longer ones would leave the picture
_KIND_CHARACTERS = 12  # the same in the legend
_SETTINGS: Any = {
    **dict.fromkeys(_INKS, GRAY),
    "font.size": 9,
    "svg.fonttype": "none",
    "text.parse_math": False,  # names and labels are text, whatever is in them
}


def draw(run: Run, inches: float = WIDE_INCHES) -> str:
    """Draw a run as SVG; the same run is the same text."""
    pools = list(run.generations)
    # two pictures of one page must not have ids in common: the hidden one's patterns draw nothing
    salted: Any = {"svg.hashsalt": "kechi" if inches == WIDE_INCHES else f"kechi {inches:g}"}
    with mpl.rc_context({**_SETTINGS, **salted}):
        heights = [_REQUESTS_INCHES, *[_POOL_INCHES] * len(pools)]
        figure = Figure(figsize=(inches, sum(heights) + 0.3), layout="constrained")
        grid = figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)
        panels: list[Axes] = list(grid[:, 0])
        _draw_requests(panels[0], run)
        for axes, pool in zip(panels[1:], pools, strict=True):
            _draw_memory(axes, run, pool)
        for axes in panels:
            _draw_failures(axes, run)
            axes.grid(color=GRAY, alpha=0.2, linewidth=0.5, axis="y")
            axes.patch.set_alpha(0)
            axes.spines[["top", "right"]].set_visible(False)
        panels[-1].set_xlabel("seconds since the load began", color=GRAY)
        panels[0].set_xlim(0, max(run.ended - run.began, 1.0))
        handles, labels = panels[0].get_legend_handles_labels()
        columns = 8 if inches > NARROW_INCHES else 2
        legend = figure.legend(
            handles, labels, frameon=False, loc="outside upper center", ncols=columns
        )
        for handle in legend.legend_handles:
            if isinstance(handle, PathCollection):
                handle.set_sizes([40])
                handle.set_alpha(1)
        written = io.StringIO()
        dated: Any = {"Date": None}
        figure.savefig(written, format="svg", transparent=True, dpi=100, metadata=dated)
    text = written.getvalue()
    return text[text.index("<svg") :]


def _draw_requests(axes: Axes, run: Run) -> None:
    for kind in (kind.name for kind in run.kinds):
        found = [one for one in run.requests if one.client.kind == kind and not one.error]
        axes.scatter(
            [one.started - run.began for one in found],
            [max(one.seconds, _FASTEST_SECONDS) for one in found],
            s=4 if kind in ("new", "keep-alive") else 14,
            color=COLORS.get(kind, GRAY),
            linewidths=0,
            alpha=0.6,
            rasterized=True,  # they are thousands
            label=_short(kind, _KIND_CHARACTERS),
        )
    for number, event in enumerate(run.events):
        at = event.at - run.began
        label = f"restarts and the like ({len(run.events)})" if number == 0 else None
        axes.axvline(at, color=GRAY, linewidth=0.8, linestyle=(0, (4, 3)), label=label, zorder=0)
        if len(run.events) <= _NAMED_EVENTS:
            axes.text(
                at,
                1.0,
                f" {_short(event.label)}",
                transform=axes.get_xaxis_transform(),
                rotation=90,
                va="top",
                ha="left",
                fontsize=7,
            )
    for number, silence in enumerate(run.silences):
        axes.axvspan(
            silence.began - run.began,
            silence.ended - run.began,
            facecolor="none",
            edgecolor=GRAY,
            alpha=0.35,
            hatch="///",
            linewidth=0,
            label="nothing asked" if number == 0 else None,
        )
    axes.set_yscale("log")
    slowest = max((one.seconds for one in run.requests), default=1.0)
    axes.set_ylim(_FASTEST_SECONDS, max(slowest * 5, 1.0))
    axes.yaxis.set_major_locator(LogLocator(base=10))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(_duration))
    axes.set_title("time of each request", color=GRAY, fontsize=9, loc="left")


def _draw_failures(axes: Axes, run: Run) -> None:
    """Through all panels, so that they can't be missed: from when each was asked to its end."""
    for failed in run.failures:
        began, ended = failed.started - run.began, failed.ended - run.began
        axes.axvspan(began, ended, color=RED, alpha=0.12, linewidth=0)
    if axes.get_yscale() == "log" and run.failures:
        _cross(axes, run, run.failures, RED, "failed")
    if axes.get_yscale() == "log" and run.lost:
        _cross(axes, run, run.lost, GRAY, "lost with a killed process")


def _cross(axes: Axes, run: Run, failed: Sequence[Request], color: str, how: str) -> None:
    axes.scatter(
        [one.started - run.began for one in failed],
        [max(one.seconds, _FASTEST_SECONDS) for one in failed],
        marker="x",
        s=60,
        color=color,
        linewidths=2,
        label=f"{how} ({len(failed)})",
        zorder=5,
        clip_on=False,
    )


def _draw_memory(axes: Axes, run: Run, pool: str) -> None:
    samples = [one for one in run.samples if one.pool == pool]
    for number in run.generations[pool]:
        points = [
            (sample.at - run.began, generation)
            for sample in samples
            for generation in sample.generations
            if generation.number == number
        ]
        times = [at for at, _ in points]
        color = GENERATIONS[number % len(GENERATIONS)]
        whole = [generation.pss_kb / _KB_PER_MB for _, generation in points]
        private = [generation.private_kb / _KB_PER_MB for _, generation in points]
        axes.plot(times, whole, color=color, linewidth=1.6, marker=".", markersize=3)
        axes.fill_between(times, private, color=color, alpha=0.25, linewidth=0)
    totals = [
        (sample.at - run.began, sum(one.pss_kb for one in sample.generations) / _KB_PER_MB)
        for sample in samples
        if sample.generations
    ]
    axes.plot(*zip(*totals, strict=True), color=GRAY, linewidth=1, linestyle=":")
    axes.set_ylim(bottom=0)
    axes.locator_params(axis="y", nbins=4)
    axes.set_title(
        f"{_short(pool)}: memory of each generation, MB", color=GRAY, fontsize=9, loc="left"
    )


def _short(name: str, characters: int = _NAME_CHARACTERS) -> str:
    return name if len(name) <= characters else f"{name[: characters - 1]}…"


def _duration(seconds: float, _position: int = 0) -> str:
    return f"{seconds * 1000:g} ms" if seconds < 1 else f"{seconds:g} s"
