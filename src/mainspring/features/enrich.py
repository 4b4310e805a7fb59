"""Features of features: each event of a view that uses others carries their features, as they were at that event.

At an event with time t that became known at k, a used view answers the moment (t, k): its events before t that were
known before k. An event more than the grace late (t < k − 1 h) has none of them: live the used view would answer
``unavailable``, so history says null too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from mainspring.definitions.expressions import UTC_US
from mainspring.features.layout import GRACE_US

if TYPE_CHECKING:
    from mainspring.definitions import ViewDef

FrameOf = Callable[[str], pl.DataFrame]
"""History of a source by its name."""


def with_features(view: ViewDef, events: pl.DataFrame, frame_of: FrameOf) -> pl.DataFrame:
    """``events`` with the features of the views that ``view`` uses, replayed at each event.

    Args:
        view: Whose ``using``.
        events: Of the view's sources: their columns, ``_time``, ``_known_at``.
        frame_of: History of a source by its name.
    """
    from mainspring.features.history import instants

    times, knowns = instants(events["_time"]), instants(events["_known_at"])
    return events.with_columns(replayed_columns(view.using, events, times, knowns, frame_of))


def replayed_columns(
    views: Sequence[ViewDef],
    events: pl.DataFrame,
    times: np.ndarray,
    knowns: np.ndarray,
    frame_of: FrameOf,
) -> list[pl.Series]:
    """What used views answered at each event, from history; those of the same events by one replay.

    Args:
        views: The used views.
        events: Their entities' columns are read.
        times: int64[n], microseconds: the events' times.
        knowns: int64[n], when they became known.
        frame_of: History of a source by its name.
    """
    from mainspring.features.history import stream
    from mainspring.features.replay import replay
    from mainspring.features.shares import events_read
    from mainspring.features.together import together

    columns: list[pl.Series] = []
    for group in together(views, events_read(views, frame_of)):
        whole = group.view
        values, _ = replay(whole, stream(whole, frame_of), events.select(whole.entity), times, known_us=knowns)
        for view, own in group.parts:
            columns += answered_columns(view, values[:, own], times, knowns)
    return columns


def answered_columns(view: ViewDef, values: np.ndarray, times: np.ndarray, knowns: np.ndarray) -> list[pl.Series]:
    """What a used view answers as columns of the events that asked: null where it has no answer; texts are left out.

    Args:
        view: The used view.
        values: float64[n, S], NaN for null.
        times: int64[n], microseconds: the events' times.
        knowns: int64[n], when they became known.
    """
    late = times < knowns - GRACE_US
    columns = []
    for name, kind, answers in zip(view.column_names, view.kinds, values.T, strict=True):
        if kind == "str":
            continue
        column = pl.Series(name, np.where(late, np.nan, answers)).fill_nan(None)
        columns.append(column.cast(pl.Int64).cast(UTC_US) if kind == "datetime" else column)
    return columns
