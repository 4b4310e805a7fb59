"""What a model or composite has answered in a stretch of time."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from mainspring.definitions.expressions import UTC_US
from mainspring.events.history import History
from mainspring.events.system import PREDICTION


def answered(history: History, name: str, columns: Sequence[str], after_us: int, until_us: int) -> pl.DataFrame:
    """Rows of ``_prediction`` whose moment lies in ``(after_us, until_us]``.

    Args:
        history: Caught up.
        name: Of the model or composite.
        columns: Those that are wanted; the moment and the name are there besides.
        after_us: The boundary before, in microseconds.
        until_us: The boundary.
    """
    after, until = (pl.lit(t).cast(UTC_US) for t in (after_us, until_us))
    return history.frame(PREDICTION.name, (*columns, "_time", "model")).filter(
        (pl.col("_time") > after) & (pl.col("_time") <= until) & (pl.col("model") == name)
    )
