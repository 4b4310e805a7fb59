"""Outcomes: a label is a feature of the future, joined with units by one pure function (semantics.md, "Label")."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from mainspring.definitions import Exclude, LabelDef
from mainspring.events.versions import UNTIL_KNOWN_AT

Hold = tuple[int, int | None]
"""An incident on the label's source: opened and, unless it is still open, closed, in microseconds."""

Bad = tuple[int, int | None, int | None]
"""What became known from the first moment until the second was wrong, and stood so until the third; None for ever."""

_NEVER = np.iinfo(np.int64).max


def outcomes(
    label: LabelDef,
    units: pl.DataFrame,
    events: pl.DataFrame,
    now_us: int,
    holds: Sequence[Hold] = (),
    bad: Sequence[Bad] = (),
) -> pl.DataFrame:
    """What became of each unit, as far as it may be said at ``now_us``.

    The outcome is the first event on the unit's key with ``t <= time < t + within`` that was known before the label
    matured, as it was then: of an event that is corrected, the version of that moment counts. A label matures at
    ``t + within + late``; when that moment lies inside a hold, at the hold's end, and never while it is open. A unit
    without an outcome is ``otherwise``; an outcome whose value is null counts as excluded.

    Args:
        label: The definition.
        units: ``_t`` (int64 microseconds) and ``unit`` (the key), one row a unit, any order.
        events: Of the label's source: its columns, ``_time``, ``_known_at``, ``_offset`` and, if it is corrected,
            ``_until_known_at``.
        now_us: As of when. A label is mature once its moment has come.
        holds: Incidents on the label's source; they may overlap.
        bad: Spans of knowing whose outcomes are wrong: a unit with such an outcome is excluded, unless the span had
            been mended when its label matured.

    Returns:
        One row a unit, in order: ``matured`` (bool), ``mature_at_us`` (int64, null while held by an open incident),
        ``y`` (float64, null when immature or excluded), ``known`` (bool: an outcome was found), ``event_offset`` (of
        that outcome, null without one).
    """
    moments = units["_t"].to_numpy().astype(np.int64)
    mature_at = held_until(moments + label.horizon_us, holds)
    matured = mature_at <= now_us
    events = _in_order(label, events)
    found = _first(units, events, moments, label.within_us, mature_at)
    known = (found >= 0) & matured
    values = events["_y"].to_numpy() if len(events) else np.empty(0)
    y = np.full(len(units), np.nan)
    y[known] = values[found[known]]
    if bad and len(events):
        said_at = events["_known_at"].to_numpy()[found]
        for since, until, mended in bad:
            is_within = (said_at >= since) & (said_at < (_NEVER if until is None else until))
            y[known & is_within & (mature_at < (_NEVER if mended is None else mended))] = np.nan
    if not isinstance(label.otherwise, Exclude):
        y[matured & ~known] = float(label.otherwise)
    offsets = np.full(len(units), -1, np.int64)
    offsets[known] = events["_offset"].to_numpy()[found[known]] if len(events) else -1
    return pl.DataFrame(
        {
            "matured": matured,
            "mature_at_us": pl.Series(mature_at).replace(_NEVER, None),
            "y": pl.Series(y).fill_nan(None),
            "known": known,
            "event_offset": pl.Series(offsets).replace(-1, None),
        }
    )


def held_until(mature_at: npt.NDArray[np.int64], holds: Sequence[Hold]) -> npt.NDArray[np.int64]:
    """When labels due at ``mature_at`` (int64[n]) mature: at the end of what holds them, int64 max while open."""
    merged: list[list[int]] = []
    for opened, closed in sorted((o, _NEVER if c is None else c) for o, c in holds):
        if merged and opened <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], closed)
        elif closed > opened:
            merged.append([opened, closed])
    out = mature_at.copy()
    for opened, closed in merged:
        out[(mature_at >= opened) & (mature_at < closed)] = closed
    return out


def _in_order(label: LabelDef, events: pl.DataFrame) -> pl.DataFrame:
    """Key, instants and value of each event, in the order (time, known_at, offset)."""
    instant = pl.Datetime("us")
    until = pl.col(UNTIL_KNOWN_AT) if UNTIL_KNOWN_AT in events.columns else pl.lit(None, instant)
    return events.select(
        pl.col(label.on).alias("unit"),
        pl.col("_time").cast(instant).cast(pl.Int64),
        pl.col("_known_at").cast(instant).cast(pl.Int64),
        pl.col("_offset").cast(pl.Int64),
        until.cast(instant).cast(pl.Int64).fill_null(_NEVER).alias("_until"),
        label.value.expr.cast(pl.Float64).alias("_y"),
    ).sort("_time", "_known_at", "_offset")


def _first(
    units: pl.DataFrame,
    events: pl.DataFrame,
    moments: npt.NDArray[np.int64],
    within_us: int,
    mature_at: npt.NDArray[np.int64],
) -> npt.NDArray[np.int64]:
    """Row in ``events`` of each unit's outcome, −1 for none: int64[n]."""
    keys = events["unit"].unique(maintain_order=True).drop_nulls()
    codes = {
        "unit": keys,
        "code": np.arange(len(keys), dtype=np.int64),
    }
    coded = pl.DataFrame(codes)
    asked = units.select(pl.col("unit").cast(keys.dtype)).join(coded, on="unit", how="left", maintain_order="left")
    of_unit = asked["code"].fill_null(-1).to_numpy()
    of_event = (
        events.select("unit").join(coded, on="unit", how="left", maintain_order="left")["code"].fill_null(-1).to_numpy()
    )
    order = np.argsort(of_event, kind="stable")  # key after key, each in time
    keyed, times, known, until = (
        of_event[order],
        *(events[c].to_numpy()[order] for c in ("_time", "_known_at", "_until")),
    )
    starts = np.searchsorted(keyed, np.arange(len(keys) + 1))
    at = _not_before(of_unit, moments, starts, times)
    end = np.where(of_unit >= 0, starts[of_unit + 1] if len(keys) else 0, 0)
    found = np.full(len(moments), -1, np.int64)
    open_ = np.flatnonzero((of_unit >= 0) & (at < end))
    while len(open_):  # one step for each event that came too late to be known, or was no longer as it says
        here = at[open_]
        inside = times[here] < moments[open_] + within_us
        timely = inside & (known[here] < mature_at[open_]) & (until[here] >= mature_at[open_])
        found[open_[timely]] = order[here[timely]]
        open_ = open_[inside & ~timely]
        at[open_] += 1
        open_ = open_[at[open_] < end[open_]]
    return found


def _not_before(
    codes: npt.NDArray[np.int64],
    moments: npt.NDArray[np.int64],
    starts: npt.NDArray[np.int64],
    times: npt.NDArray[np.int64],
) -> npt.NDArray[np.int64]:
    """For each (code, moment) the first place in the code's run of ``times`` that is not before it: bisection."""
    low = np.where(codes >= 0, starts[codes], 0)
    high = np.where(codes >= 0, starts[codes + 1] if len(starts) > 1 else 0, 0)
    while True:
        open_ = np.flatnonzero(low < high)
        if not len(open_):
            return low
        middle = (low[open_] + high[open_]) // 2
        before = times[middle] < moments[open_]
        low[open_[before]] = middle[before] + 1
        high[open_[~before]] = middle[~before]
