"""The plots of the demo's report, as SVG text that goes into the page."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence

import matplotlib as mpl
from matplotlib import dates as mdates
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mainspring.catalog import Decision, Incident
from mainspring.definitions.values import DAY_US
from mainspring.demo.scoreboard import Month

WHOLE_MONTH = 5_000
"""Flights; a month with fewer has only been begun, and would draw a trend that is none."""
INK, MUTED, GRID = "#1b1f24", "#6a737d", "#e4e7eb"
COLOURS = {"served": "#0b6e99", "frozen": "#d97a06", "static": "#8a8f98", "baseline": "#8a8f98"}
MARKS = {
    "promote": ("#1a7f4b", "promoted"),
    "rollback": ("#c2362b", "rolled back"),
    "retrain": ("#6b4fbb", "retrained"),
}


def by_month(months: Sequence[Month], metric: str, title: str) -> str:
    """One line a contender; ``metric`` is ``roc_auc`` or ``log_loss``."""
    figure, axes = _figure(4.9, 2.9)
    months = [month for month in months if month.rows >= WHOLE_MONTH] or months
    ticks = list(range(len(months)))
    for name in ("static", "served", "frozen"):
        values = [getattr(m, metric)[name] for m in months]
        pairs = [(x, v) for x, v in zip(ticks, values, strict=True) if v is not None]
        axes.plot(
            [x for x, _ in pairs],
            [v for _, v in pairs],
            color=COLOURS[name],
            linewidth=2,
            linestyle="--" if name == "frozen" else "-",
            marker="o",
            markersize=4,
            label=name,
        )
    axes.set_xticks(ticks, [m.month[5:] for m in months])
    axes.set_xlabel("month of 2013", color=MUTED)
    axes.set_title(title, loc="left", color=INK, fontsize=11, fontweight="bold")
    axes.legend(frameon=False, ncols=3, fontsize=9, loc="best")
    return _svg(figure)


def timeline(decisions: Sequence[Decision], incidents: Sequence[Incident]) -> str:
    """Daily advantage over the baseline, with what happened: incidents as spans, decisions as lines."""
    figure, axes = _figure(10.2, 3.6)
    daily = [d for d in decisions if d.kind == "performance" and "baseline_log_loss" in d.numbers]
    axes.plot(
        [_at(d.at_us) for d in daily],
        [d.numbers["baseline_log_loss"] - d.numbers["log_loss"] for d in daily],
        color=COLOURS["served"],
        linewidth=1.4,
        label="advantage over the baseline, each day's mature labels",
    )
    axes.axhline(0.0, color=MUTED, linewidth=0.8)
    low, high = axes.get_ylim()
    for incident in incidents:
        if incident.kind == "contract":
            end_us = incident.closed_us or decisions[-1].at_us
            axes.axvspan(
                _at(incident.opened_us),
                _at(end_us),
                color="#f6c6c1",
                alpha=0.8,
                linewidth=0,
                label="feed broken, labels held",
            )
    drifts = [d for d in decisions if d.kind == "drift"]
    axes.plot(
        [_at(d.at_us) for d in drifts], [low] * len(drifts), "|", color="#d97a06", markersize=9, label="inputs drifted"
    )
    for kind, (colour, label) in MARKS.items():
        for decision in (d for d in decisions if d.kind == kind):
            axes.axvline(
                _at(decision.at_us),
                color=colour,
                linewidth=1.5,
                linestyle="--" if kind == "retrain" else "-",
                label=label,
            )
    axes.set_ylim(low, high)
    axes.xaxis.set_major_locator(mdates.MonthLocator())  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_formatter(mdates.DateFormatter("%b"))  # type: ignore[no-untyped-call]
    axes.set_title("What happened, and what it did to the model", loc="left", color=INK, fontsize=11, fontweight="bold")
    handles, labels = axes.get_legend_handles_labels()
    once = dict(zip(labels, handles, strict=True))
    axes.legend(
        once.values(), once.keys(), frameon=False, ncols=3, fontsize=8.5, loc="upper center", bbox_to_anchor=(0.5, -0.1)
    )
    return _svg(figure)


def latencies(latencies_ms: Sequence[float]) -> str:
    """Histogram of answers by time, on a logarithmic axis."""
    figure, axes = _figure(4.9, 2.6)
    edges = [0.2 * 1.25**i for i in range(36)]
    axes.hist(latencies_ms, bins=edges, color=COLOURS["served"])
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
    axes.set_xlabel("milliseconds, requests of half an hour sent at once", color=MUTED)
    axes.set_title("Time to answer", loc="left", color=INK, fontsize=11, fontweight="bold")
    return _svg(figure)


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(GRID)
    axes.tick_params(colors=MUTED, labelsize=9)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    return figure, axes


def _at(time_us: int) -> float:
    """Days since 1970: matplotlib's own number of an instant."""
    return time_us / DAY_US


def _svg(figure: Figure) -> str:
    """The figure without XML prologue, scaling with the page."""
    buffer = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "font.family": "sans-serif", "svg.hashsalt": "mainspring"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    return re.sub(r'<svg ([^>]*?)width="[^"]*" height="[^"]*"', r"<svg \1", text, count=1)
