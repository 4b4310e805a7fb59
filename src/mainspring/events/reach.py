"""From when to when the files of a table of the lake reach."""

from __future__ import annotations

from pathlib import Path

import polars as pl
from deltalake import DeltaTable

from mainspring.definitions.expressions import UTC_US

_ENDS = ("min._time", "max._time")


def rows_and_reach(table: DeltaTable, folder: Path) -> list[tuple[int, int, int]]:
    """Of each file that has rows: how many, and the first and the last event time in it.

    The table's log says so; only of files of releases that did not have it said is the column read.
    """
    files = pl.DataFrame(table.get_add_actions(flatten=True))
    absent = [pl.lit(None, UTC_US).alias(name) for name in _ENDS if name not in files.columns]
    ends = files.with_columns(absent).select("path", "num_records", pl.col(_ENDS).cast(UTC_US).cast(pl.Int64))
    return [
        (n, *(_read(folder / path) if low is None or high is None else (low, high)))
        for path, n, low, high in ends.iter_rows()
        if n
    ]


def _read(path: Path) -> tuple[int, int]:
    times = pl.read_parquet(path, columns=["_time"], glob=False, hive_partitioning=False)["_time"].cast(UTC_US)
    return tuple(times.to_physical().sort()[[0, -1]].to_list())
