"""Layouts of a lake's table: flat, or partitioned by a day: `python bench/lake.py [DAYS]`.

20,000 events a day in two commits, 0.5 % of them up to 14 days late, written as the lake writes them, each commit with
its application transaction. Printed for each layout: CPU time of an append (median), files and megabytes, and CPU time
of a query of one day by event time and by `_known_at`, and of the whole table (least of five); before and after
compaction. CPU time of all threads, so that others who work on the machine count little.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import duckdb
import numpy as np
import polars as pl
from deltalake import CommitProperties, DeltaTable, Transaction, WriterProperties, write_deltalake

from mainspring.definitions.expressions import UTC_US

DAY_US = 86_400_000_000
START_US = 1_700_006_400_000_000
PER_DAY, BATCHES, LATE = 20_000, 2, 0.005
AS_NOW = WriterProperties(compression="ZSTD", compression_level=3)
SMALL_GROUPS = WriterProperties(compression="ZSTD", compression_level=3, max_row_group_size=131_072)


def batch(rng: np.random.Generator, number: int) -> pl.DataFrame:
    """Half a day of events, known one after the other, some of which happened days before."""
    n, first = PER_DAY // BATCHES, number * (PER_DAY // BATCHES) + 1
    known = START_US + number * DAY_US // BATCHES + np.sort(rng.integers(0, DAY_US // BATCHES, n))
    time_us = known - np.where(rng.random(n) < LATE, rng.integers(DAY_US // 10, 14 * DAY_US, n), 0)
    frame = pl.DataFrame(
        {
            "key": rng.integers(0, 5_000, n),
            "a": rng.normal(size=n),
            "b": rng.normal(size=n),
            "carrier": rng.choice(["UA", "AA", "DL", "B6"], n),
            "_offset": np.arange(first, first + n),
            "_id": [f"f{i}" for i in range(first, first + n)],
            "_time": time_us,
            "_known_at": known,
            "_ingested_at": known,
        }
    )
    return frame.with_columns(pl.col("_time", "_known_at", "_ingested_at").cast(UTC_US))


def write(root: Path, days: int, by: str | None) -> tuple[DeltaTable, float]:
    """The table, and CPU milliseconds of an append."""
    rng, table, took = np.random.default_rng(1), None, []
    for number in range(days * BATCHES):
        rows = batch(rng, number)
        if by is not None:
            rows = rows.with_columns(_day=pl.col(by).dt.date())
        commit = CommitProperties(app_transactions=[Transaction("bench", number)], max_commit_retries=0)
        options: dict[str, Any] = {"mode": "append", "commit_properties": commit, "writer_properties": AS_NOW}
        began = time.process_time()
        if table is None:
            write_deltalake(str(root), rows, partition_by=None if by is None else ["_day"], **options)
            table = DeltaTable(str(root))
        else:
            table.update_incremental()
            write_deltalake(table, rows, **options)
        took.append(1e3 * (time.process_time() - began))
    assert table is not None
    return table, median(took)


def least(ask: Callable[[], object], n: int = 5) -> float:
    """CPU milliseconds."""
    took = []
    for _ in range(n):
        began = time.process_time()
        ask()
        took.append(1e3 * (time.process_time() - began))
    return min(took)


def look(name: str, root: Path, days: int, by: str | None, note: str) -> None:
    """Print what a table is and what it costs to read."""
    table = DeltaTable(str(root))
    low = START_US + days // 2 * DAY_US

    def query(where: str) -> Callable[[], object]:
        def ask() -> object:
            with duckdb.connect() as connection:
                connection.execute("SET TimeZone = 'UTC'")
                connection.register("t", table.to_pyarrow_dataset())
                return connection.sql(f"SELECT count(*), sum(a) FROM t WHERE {where}").fetchall()

        return ask

    def day(column: str) -> str:
        bounds = f"{column} >= make_timestamptz({low}) AND {column} < make_timestamptz({low + DAY_US})"
        date = f" AND _day = DATE '{datetime.fromtimestamp(low / 1e6, UTC):%Y-%m-%d}'"
        return bounds + (date if by == column else "")

    files = table.file_uris()
    size = sum(Path(file).stat().st_size for file in files) / 1e6
    costs = [least(query(where)) for where in (day("_time"), day("_known_at"), "true")]
    print(
        f"{name:24} {len(files):6} {size:8.1f}" + "".join(f"{cost:9.0f}" for cost in costs) + f"   {note}", flush=True
    )


def main() -> None:
    """Every layout, one after the other."""
    days = int(sys.argv[1]) if len(sys.argv) > 1 else 60
    print(f"{'':24} {'files':>6} {'MB':>8} {'day, ms':>8} {'known':>8} {'whole':>8}")
    with tempfile.TemporaryDirectory() as folder:
        for name, by in (("flat", None), ("by day of _known_at", "_known_at"), ("by day of _time", "_time")):
            root = Path(folder) / name.replace(" ", "_")
            table, append = write(root, days, by)
            look(name, root, days, by, f"append {append:.0f} ms")
            began = time.process_time()
            table.optimize.compact(writer_properties=AS_NOW)
            look("  compacted", root, days, by, f"compaction {time.process_time() - began:.1f} s")
        for name, sort in (("flat, small row groups", False), ("flat, sorted by _time", True)):
            root = Path(folder) / name.replace(" ", "_")
            table, _ = write(root, days, None)
            began = time.process_time()
            if sort:
                table.optimize.z_order(["_time"], writer_properties=SMALL_GROUPS)
            else:
                table.optimize.compact(writer_properties=SMALL_GROUPS)
            look(name, root, days, None, f"compaction {time.process_time() - began:.1f} s")


if __name__ == "__main__":
    main()
