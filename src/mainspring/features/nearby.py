"""The part of history that a few moments can see: a sample is replayed without grouping years of other keys' events."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import polars as pl

from mainspring.definitions.features import MOMENT

if TYPE_CHECKING:
    from mainspring.definitions import ModelDef, ViewDef

FrameOf = Callable[[str], pl.DataFrame]
_INSTANT = pl.Datetime("us")


def nearby(model: ModelDef, requests: pl.DataFrame, earliest_us: int, frame_of: FrameOf) -> FrameOf:
    """History of the keys that ``requests`` name, as far back as the model's views look; all else is left out.

    A source is given whole where a view uses others: what enriches its events is of other keys than those asked about.

    Args:
        model: Whose views.
        requests: The request's columns, one row a moment.
        earliest_us: The earliest moment.
        frame_of: History of a source by its name, such as ``History.frame``.
    """
    views = {view.name: view for view in model.views}
    if any(view.using for view in views.values()):
        return frame_of
    keys = {name: requests.select(view.entity).drop_nulls().unique() for name, view in views.items()}
    kept: dict[str, pl.DataFrame] = {}

    def near(source: str) -> pl.DataFrame:
        if source not in kept:
            frame = frame_of(source)
            readers = [v for v in views.values() if source in {s.name for s in v.sources}]
            seen = pl.repeat(False, frame.height, dtype=pl.Boolean, eager=True)
            for view in readers:
                seen = seen | _seen(frame, view, keys[view.name], earliest_us)
            kept[source] = frame.filter(seen)
        return kept[source]

    return near


def _seen(frame: pl.DataFrame, view: ViewDef, keys: pl.DataFrame, earliest_us: int) -> pl.Series:
    """Which rows are of a key, and not older than the view looks back from the earliest moment."""
    known = keys.with_columns(pl.lit(True).alias(MOMENT))
    asked = frame.select(pl.col(name).cast(dtype) for name, dtype in keys.schema.items())
    seen = asked.join(known, on=keys.columns, how="left", maintain_order="left")[MOMENT].fill_null(value=False)
    if view.retention_us is None:
        return seen
    hop_us = view.hop_us or 0
    return seen & (frame["_time"].cast(_INSTANT).cast(pl.Int64) >= earliest_us - view.retention_us - hop_us)
