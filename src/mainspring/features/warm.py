"""Everything that a first request would otherwise wait for."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import polars as pl

from mainspring.definitions import Aggregate, Field, SourceDef, ViewDef
from mainspring.definitions.expressions import expression
from mainspring.definitions.features import AGGREGATES
from mainspring.features.replay import replay


def warm_up() -> None:
    """Load or compile every kernel, and let polars and the thread pool start.

    That takes about a second with a cache, and half a minute of a core without.

    Kernels are compiled for declared types when their module is imported, and refuse all others, so nothing compiles
    later.
    """
    source = SourceDef("warm", (Field("k", "str"), Field("x", "float"), Field("at", "datetime")), time="at")
    x = expression("x", source.schema, of="source warm", where=__file__)
    features = tuple(
        Aggregate(f"{name}_{window}", name, x if function.takes else None, window, q=0.5, half_life_us=10, per_us=10)
        for name, function in AGGREGATES.items()
        for window in (10, None)
        if window or name != "rate"
    )
    features += (Aggregate("text", "last", expression("k", source.schema, of="source warm", where=__file__)),)
    at = pl.Series([datetime(1970, 1, 1, tzinfo=UTC)] * 3, dtype=pl.Datetime("us", "UTC"))
    frame = pl.DataFrame({"k": ["a", "a", "b"], "x": [1.0, 2.0, 0.1], "at": at}).with_columns(
        pl.col("at").alias("_time"), pl.col("at").alias("_known_at"), pl.int_range(1, 4).alias("_offset")
    )
    view = ViewDef("warm", (source,), ("k",), features)
    replay(view, frame, frame.select("k"), np.full(3, 5), known_offset=3)
